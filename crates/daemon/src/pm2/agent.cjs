// Loaded into the Node apps that `pm2` starts, before their script (`node --require`). It takes the place of a wrapper:
// the script stays `require.main` and `process.argv[1]`. It tells its Node's version, turns source maps on, sets
// the title, and unless `pmx` is off reports what dashboards of PM2 show: heap, event loop, handles, HTTP.
'use strict';
(() => {
  const env = process.env;
  // Children that the app forks must not do the same.
  for (let at = 0; at < process.execArgv.length - 1; at++) {
    if (process.execArgv[at] === '--require' && process.execArgv[at + 1] === __filename) {
      process.execArgv.splice(at, 2);
      break;
    }
  }
  if (env.pm_id === undefined || typeof process.send !== 'function') return;
  // Lets kept connections end in peace when a worker is replaced.
  if (env.exec_mode === 'cluster_mode') require('./drain.cjs');
  process.title = env.PROCESS_TITLE || `node ${env.pm_exec_path}`;
  if (env.disable_source_map_support !== 'true' && process.setSourceMapsEnabled) {
    process.setSourceMapsEnabled(true);
  }
  const send = (message) => {
    // The daemon may be changing hands, or the app may have hung up.
    try { if (process.connected) process.send(message, undefined, undefined, () => {}); } catch { /* nobody to tell */ }
  };
  send({ node_version: process.versions.node });
  if (env.pmx === 'false') return;

  const { performance, monitorEventLoopDelay } = require('perf_hooks');
  const actions = new Map();
  // `arity` as dashboards know it from PM2's own agent: 2 where an action may be given options.
  const announce = (name, run) => {
    actions.set(name, run);
    const arity = name.endsWith(':stop') ? 1 : 2;
    send({ type: 'axm:action', data: { action_name: name, action_type: 'internal', arity } });
  };
  const reply = (name, value) => send({ type: 'axm:reply', data: { return: value, action_name: name } });
  let settings = {};
  try { settings = JSON.parse(env[env.name] || '{}') || {}; } catch { /* a variable that happens to have the app's name */ }
  // All settings are texts; what is a number is told as one.
  for (const [key, value] of Object.entries(settings)) {
    if (typeof value === 'string' && value.trim() !== '' && !Number.isNaN(Number(value))) settings[key] = Number(value);
  }

  const stamp = () => new Date().toISOString().replace(/[:.]/g, '-');
  const place = (kind) => require('path').join(require('os').tmpdir(), `pm2-${env.pm_id}-${stamp()}.${kind}`);
  let session;
  const inspector = () => {
    if (!session) {
      session = new (require('inspector').Session)();
      session.connect();
    }
    return session;
  };
  const post = (method, then) => inspector().post(method, (error, result) => then(error, result));
  const save = (name, kind, value) => {
    const file = place(kind);
    require('fs').writeFile(file, JSON.stringify(value), (error) =>
      reply(name, error ? { success: false, err: error.message } : { success: true, dump_file: file }));
  };
  announce('km:heapdump', (name) => reply(name, { success: true, dump_file: require('v8').writeHeapSnapshot(place('heapsnapshot')) }));
  announce('km:cpu:profiling:start', (name) => post('Profiler.enable', () =>
    post('Profiler.start', (error) => reply(name, { success: !error }))));
  announce('km:cpu:profiling:stop', (name) => post('Profiler.stop', (error, result) =>
    error ? reply(name, { success: false, err: error.message }) : save(name, 'cpuprofile', result.profile)));
  announce('km:heap:sampling:start', (name) => post('HeapProfiler.startSampling', (error) => reply(name, { success: !error })));
  announce('km:heap:sampling:stop', (name) => post('HeapProfiler.stopSampling', (error, result) =>
    error ? reply(name, { success: false, err: error.message }) : save(name, 'heapprofile', result.profile)));
  // Last: who sees this has seen the actions.
  send({
    type: 'axm:option:configuration',
    data: {
      error: true, heapdump: true, 'feature.profiler.heapsnapshot': false, 'feature.profiler.heapsampling': true,
      'feature.profiler.cpu_js': true, latency: true, catchExceptions: true, profiling: true,
      metrics: { v8: true, network: false, eventLoop: true, runtime: true, http: true },
      standalone: false, tracing: { enabled: false, outbound: false }, module_conf: settings,
      apm: { type: 'node', version: '8.0.0' }, module_name: env.name, module_version: '7.0.4', ...settings,
    },
  });
  // Internal messages do not reach the app's own listeners, and listening to them does not keep the app alive.
  process.on('internalMessage', (message) => {
    if (!message || message.cmd !== 'NODE_PM2_ACTION') return;
    const run = actions.get(message.action);
    if (!run) return;
    try { run(message.action); } catch (error) { reply(message.action, { success: false, err: error.message }); }
  });

  const megabytes = (bytes) => (bytes / 1048576).toFixed(2);
  const delay = monitorEventLoopDelay ? monitorEventLoopDelay({ resolution: 20 }) : undefined;
  if (delay) delay.enable();
  const requests = { count: 0, times: [] };
  let http = false;
  try {
    require('diagnostics_channel').subscribe('http.server.request.start', ({ request, response }) => {
      http = true;
      const began = performance.now();
      response.once('close', () => {
        requests.count += 1;
        if (requests.times.length < 1000) requests.times.push(performance.now() - began);
      });
    });
  } catch { /* an old Node: no figures of HTTP */ }
  const quantile = (sorted, part) => (sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] : 0);
  const INTERVAL = 1000;
  const figure = (type, value, unit) => ({ historic: true, ...(unit ? { unit } : {}), type, value });
  const report = () => {
    const { heapTotal, heapUsed } = process.memoryUsage();
    const data = {
      'Heap Size': figure('internal/v8/heap/total', megabytes(heapTotal), 'MiB'),
      'Heap Usage': figure('internal/v8/heap/usage', Number(((heapUsed / heapTotal) * 100).toFixed(2)), '%'),
      'Used Heap Size': figure('internal/v8/heap/used', megabytes(heapUsed), 'MiB'),
      'Active requests': figure('internal/libuv/requests', process._getActiveRequests ? process._getActiveRequests().length : 0),
      'Active handles': figure('internal/libuv/handles', process._getActiveHandles ? process._getActiveHandles().length : 0),
    };
    if (delay) {
      // The histogram counts the pauses of its own timer too.
      const ms = (value) => Math.max(0, value / 1e6 - 20).toFixed(2);
      data['Event Loop Latency'] = figure('internal/libuv/latency/p50', ms(delay.percentile(50)), 'ms');
      data['Event Loop Latency p95'] = figure('internal/libuv/latency/p95', ms(delay.percentile(95)), 'ms');
      delay.reset();
    }
    if (http) {
      const sorted = requests.times.sort((one, other) => one - other);
      data.HTTP = figure('internal/http/builtin/reqs', requests.count * (60000 / INTERVAL), 'req/min');
      data['HTTP Mean Latency'] = figure('internal/http/builtin/latency/p50', Math.round(quantile(sorted, 0.5)), 'ms');
      data['HTTP P95 Latency'] = figure('internal/http/builtin/latency/p95', Math.round(quantile(sorted, 0.95)), 'ms');
      requests.count = 0;
      requests.times = [];
    }
    send({ type: 'axm:monitor', data });
  };
  setTimeout(report, 500).unref();
  setInterval(report, INTERVAL).unref();

  // Where an error was thrown, and the line that did it.
  const scene = (stack) => {
    const place = /\(?((?:file:\/\/)?\/[^():]+):(\d+):\d+\)?/.exec(stack);
    if (!place) return {};
    const file = place[1].replace('file://', '');
    try {
      const line = require('fs').readFileSync(file, 'utf8').split('\n')[place[2] - 1];
      return { context: line.trim(), callsite: `${file}:${place[2]}` };
    } catch { return { callsite: `${file}:${place[2]}` }; }
  };
  process.on('uncaughtExceptionMonitor', (error) => {
    const stack = String(error && error.stack);
    send({
      type: 'process:exception',
      data: { message: String(error && error.message), stack, name: error && error.name, ...scene(stack) },
    });
  });
})();
