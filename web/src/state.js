// States of instances: a word, a sign and a kind for each. Colour only repeats what sign and word say.

const STATES = {
  running: ["●", "good", "running"],
  starting: ["◐", "busy", "starting"],
  waiting: ["◔", "busy", "waiting"],
  stopping: ["◑", "busy", "stopping"],
  killing: ["◑", "bad", "killing"],
  backing_off: ["↻", "bad", "backing off"],
  completed: ["✓", "calm", "completed"],
  stopped: ["○", "calm", "stopped"],
  failed: ["✕", "bad", "failed"],
  gave_up: ["✕", "bad", "gave up"],
};

export function stateOf(actual, ready = true) {
  const [sign, kind, word] = STATES[actual] ?? ["?", "calm", String(actual)];
  if (actual === "running" && !ready) return {sign: "◒", kind: "busy", word: "not ready"};
  return {sign, kind, word};
}

/** Of a whole app: what is worst, and how many are so. */
const ORDER = ["gave_up", "failed", "backing_off", "killing", "waiting", "starting", "stopping", "running", "completed", "stopped"];

export function summary(app) {
  const {instances} = app;
  if (!instances.length) return {...stateOf("stopped"), word: "no instance", rank: 99};
  let worst = instances[0];
  let running = 0;
  const rank = (instance) =>
    instance.actual === "running" && !instance.ready ? 6.5 : ORDER.indexOf(instance.actual);
  for (const instance of instances) {
    if (rank(instance) < rank(worst)) worst = instance;
    if (instance.actual === "running" && instance.ready) running += 1;
  }
  const state = stateOf(worst.actual, worst.ready);
  const word = instances.length === 1 || running === instances.length ? state.word : `${state.word}`;
  return {...state, word, running, all: instances.length, rank: rank(worst)};
}

export function totals(app) {
  let cpu = null;
  let memory = null;
  let restarts = 0;
  let uptime = null;
  for (const instance of app.instances) {
    if (instance.cpu_percent !== null) cpu = (cpu ?? 0) + instance.cpu_percent;
    if (instance.memory_bytes !== null) memory = (memory ?? 0) + instance.memory_bytes;
    restarts += instance.restarts;
    if (instance.uptime_ms !== null) uptime = Math.min(uptime ?? Infinity, instance.uptime_ms);
  }
  return {cpu, memory, restarts, uptime};
}
