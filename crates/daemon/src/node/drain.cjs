// Loaded into the workers of a cluster before their script (`node --require`); `drain_preload: false` leaves it out. Every ten
// seconds it tells what only the program itself knows: the delay of its event loop and its heap. Beyond that it does nothing until the daemon says, just before it tells the worker to disconnect, that the worker is about to be replaced. From then
// on every answer to a kept connection says `Connection: close`, and idle ones are cut only after a while: a client
// that is just sending is answered. Sessions of HTTP/2 are told to go away with their next answer, and what is under way is ended first.
'use strict';
(() => {
  // Children that the app forks load it only if they are workers too.
  const at = process.execArgv.indexOf(__filename);
  if (at > 0) process.execArgv.splice(at - 1, 2);
  if (typeof process.send !== 'function') return;
  const send = process.send.bind(process);
  const every = 10000;
  const resolution = 50; // ms between looks at the loop: what is measured beyond that is delay
  let loop = null;
  const watch = () => {
    try {
      loop = require('perf_hooks').monitorEventLoopDelay({ resolution });
      loop.enable();
    } catch { loop = null; }
    tell();
    const timer = setInterval(() => { if (!tell()) clearInterval(timer); }, every);
    timer.unref();
  };
  const tell = () => {
    if (!process.connected) { if (loop) loop.disable(); return false; }
    try {
      const heap = require('v8').getHeapStatistics();
      const message = { cmd: 'NODE_UPKEEP_FIGURES', heap_used: heap.used_heap_size, heap_total: heap.total_heap_size };
      if (loop && loop.mean > 0) {
        message.delay_us = Math.round(Math.max(0, loop.mean / 1000 - resolution * 1000));
        loop.reset();
      }
      send(message, undefined, undefined, () => {}); // who has hung up meanwhile is no error
    } catch { return false; }
    return true;
  };
  // Threads of a worker load this, too, and have no channel of their own. After a second the program has come up.
  if (require('worker_threads').isMainThread) setTimeout(watch, 1000).unref();
  process.on('internalMessage', (message) => {
    if (!message || message.cmd !== 'NODE_UPKEEP_DRAIN') return;
    const channel = require('diagnostics_channel').channel('http.server.request.start');
    channel.subscribe(({ response }) => { response.shouldKeepAlive = false; });
    for (const name of ['http', 'https']) {
      const { prototype } = require(name).Server;
      const close = prototype.closeIdleConnections;
      if (close) prototype.closeIdleConnections = function closeLater() { setTimeout(() => close.call(this), message.grace); };
    }
    // Newer Nodes end sessions of HTTP/2 by themselves when the server is closed.
    if (!process.moduleLoadList.some((name) => name.endsWith('internal/http2/core'))) return;
    const told = new WeakSet();
    const { prototype } = require('http2').Http2ServerResponse;
    const { end } = prototype;
    prototype.end = function endAndLeave(...args) {
      const session = this.stream && this.stream.session;
      if (session && !session.closed && !session.destroyed && !told.has(session)) {
        told.add(session);
        // First a notice that refuses nothing: what is on its way is answered.
        session.goaway(0, 2 ** 31 - 1);
        setTimeout(() => session.close(), message.grace);
      }
      return end.apply(this, args);
    };
  });
})();
