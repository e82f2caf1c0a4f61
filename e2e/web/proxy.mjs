// TCP on loopback before the daemon's own socket. Who sends no token sends one that nobody has: over TCP nobody is anybody.
import {createServer, request} from "node:http";
const server = createServer((asked, answer) => {
  const headers = {...asked.headers};
  if (asked.url.startsWith("/v1/")) headers.authorization ??= "Bearer none";
  const passed = request({socketPath: process.argv[2], path: asked.url, method: asked.method, headers}, (given) => {
    answer.writeHead(given.statusCode, given.headers);
    answer.flushHeaders();
    given.pipe(answer);
    given.on("error", () => answer.destroy());
  });
  passed.on("error", () => answer.destroy());
  answer.on("close", () => passed.destroy());
  asked.pipe(passed);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
