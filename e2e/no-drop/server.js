// A server as most are written: no handler for signals, no word about being replaced.
if (process.env.EXIT_AT_ONCE === process.env.NODE_APP_INSTANCE) process.exit(3);
if (process.env.CRASH_AFTER_MS) setTimeout(() => process.abort(), Number(process.env.CRASH_AFTER_MS));
require('http')
  .createServer((request, answer) => answer.end(process.env.V))
  .listen(Number(process.env.PORT), '127.0.0.1');
