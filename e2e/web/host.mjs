// A host that only serves files, as any does: the client under a path of its own.

import {createReadStream, existsSync} from "node:fs";
import {createServer} from "node:http";
import {extname, join, normalize} from "node:path";

const TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"};
export const PATH = "/panel/client/";

export function host(folder, port) {
  return new Promise((ready) => {
    const server = createServer((asked, answer) => {
      const path = new URL(asked.url, "http://x").pathname;
      const file = join(folder, normalize(path.slice(PATH.length) || "index.html"));
      if (!path.startsWith(PATH) || !existsSync(file)) {
        answer.writeHead(404, {"content-type": "text/html"});
        answer.end("<h1>nothing here</h1>");
        return;
      }
      answer.writeHead(200, {"content-type": TYPES[extname(file)] ?? "text/plain"});
      createReadStream(file).pipe(answer);
    });
    server.listen(port, "127.0.0.1", () => ready(server));
  });
}
