// The one way to the server: `/v1`, with a bearer token, and nothing else. The token goes into a header, never into an
// address. Streams are read with `fetch`, because `EventSource` cannot send headers.

/** An answer that is not a success, in the server's own words; or no answer at all (`status` 0). */
export class Refusal extends Error {
  constructor(status, body) {
    super(body.message);
    this.status = status;
    this.code = body.code;
    this.hint = body.hint;
    this.requestId = body.request_id;
  }

  /** Whether asking again later may help: nobody answered, or the server said that it is busy or ending. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Ordinary answers come within this time; actions may wait for apps to come to rest. */
const PATIENCE = 20_000;
const PATIENCE_OF_ACTIONS = 15 * 60_000;

/** Pauses between tries of a stream: doubled up to the longest, and a little by chance, so that not all come at once. */
const SHORTEST = 400;
const LONGEST = 15_000;

export function pauseAfter(failures, chance = Math.random()) {
  return Math.min(LONGEST, SHORTEST * 2 ** Math.min(failures, 10)) * (0.8 + 0.4 * chance);
}

export class Api {
  /** `base` ends with a slash; `v1/…` is below it. `onSignedOut` is told of a 401. `ended`: when the session is over; then
   * nothing is answered any more. */
  constructor(base, token, onSignedOut = () => {}, ended = new AbortController().signal) {
    this.base = base;
    this.token = token;
    this.onSignedOut = onSignedOut;
    this.ended = ended;
  }

  address(path, query = {}) {
    const url = new URL(path, this.base);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== null && value !== "" && value !== false) {
        url.searchParams.set(name, value);
      }
    }
    return url;
  }

  async ask(method, path, {query, body, signal, headers, patience} = {}) {
    const late = AbortSignal.timeout(patience ?? (method === "GET" ? PATIENCE : PATIENCE_OF_ACTIONS));
    let response;
    try {
      response = await fetch(this.address(path, query), {
        method,
        headers: {
          accept: "application/json",
          ...(this.token ? {authorization: `Bearer ${this.token}`} : {}),
          ...(body === undefined ? {} : {"content-type": "application/json"}),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.any([this.ended, late, ...(signal ? [signal] : [])]),
        credentials: "omit",
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
    } catch (error) {
      if (signal?.aborted || this.ended.aborted) throw error;
      throw new Refusal(0, {
        message: `no answer from ${this.base}`,
        code: "unreachable",
        hint: late.aborted
          ? "it took too long: is the machine overloaded?"
          : "is the daemon running, and does it allow this origin? `upkeep ping` and `web.origins` tell",
      });
    }
    if (!response.ok) throw await this.refusal(response);
    return response;
  }

  async refusal(response) {
    const text = await response.text().catch(() => "");
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      body = {};
    }
    const refusal = new Refusal(response.status, {
      code: "not_ours",
      hint: body.message ? undefined : "the answer is not one of Upkeep's: is this its address?",
      message: `${response.status} ${response.statusText}`,
      ...body,
    });
    this.ended.throwIfAborted();
    if (response.status === 401) this.onSignedOut(refusal);
    return refusal;
  }

  async json(method, path, options) {
    const response = await this.ask(method, path, options);
    if (response.status === 204) return null;
    try {
      const body = await response.json();
      this.ended.throwIfAborted();
      return body;
    } catch {
      if (options?.signal?.aborted || this.ended.aborted) throw new DOMException("aborted", "AbortError");
      throw new Refusal(response.status, {
        message: `the answer to ${method} ${path} is no JSON`,
        code: "not_ours",
        hint: "is this the address of a daemon of Upkeep?",
      });
    }
  }

  get(path, query, options) {
    return this.json("GET", path, {query, ...options});
  }

  post(path, body = {}, options) {
    return this.json("POST", path, {body, ...options});
  }

  /**
   * Follows a stream of server-sent events until `signal` ends it. A stream that breaks is asked for again, from the last
   * id that was seen. `onState` hears `open`, `lost` (with the time of the next try) and `refused` (for good).
   * A page that nobody looks at lets its streams go: browsers allow few connections to one server. With `place` it then
   * returns "hidden"; `place.last` keeps the id that a later call resumes from.
   */
  async follow(path, query, {signal: given, onEvent, onState = () => {}, place}) {
    const signal = AbortSignal.any([given, this.ended]);
    let last = place?.last ?? null;
    let failures = 0;
    let opened = false;
    while (!signal.aborted) {
      await visible(signal);
      if (signal.aborted) return;
      const rest = restWhenHidden(signal);
      const silence = watchSilence();
      try {
        const response = await this.ask("GET", path, {
          query: {...query, follow: true},
          headers: {accept: "text/event-stream", ...(last ? {"last-event-id": last} : {})},
          signal: AbortSignal.any([rest.signal, silence.signal]),
          patience: 2 ** 31 - 1,
        });
        onState({state: "open", resumed: last !== null, again: opened});
        opened = true;
        failures = 0;
        for await (const event of events(response.body, silence.heard)) {
          if (signal.aborted) return;
          if (event.id) last = event.id;
          if (place) place.last = last;
          if (event.data) onEvent(JSON.parse(event.data), event);
        }
        if (rest.resting() && place) return "hidden";
        if (rest.resting()) continue;
        throw new Refusal(0, {message: "the stream has ended", code: "unreachable"});
      } catch (error) {
        if (signal.aborted) return;
        if (rest.resting() && place) return "hidden";
        if (rest.resting()) continue;
        const refusal =
          error instanceof Refusal ? error : new Refusal(0, {
                message: silence.signal.aborted ? "nothing was heard any more" : String(error.message),
                code: "unreachable",
              });
        if (last && (refusal.status === 422 || refusal.status === 400)) {
          // An id that the server no longer understands: begin anew.
          last = null;
        } else if (!refusal.passing) {
          onState({state: "refused", refusal});
          return;
        }
        const pause = pauseAfter(failures++);
        onState({state: "lost", refusal, next: Date.now() + pause});
        await delay(pause, signal);
      } finally {
        silence.done();
        rest.done();
      }
    }
  }
}

/** Waits; ends early when the network or the person comes back, or with `signal`. */
export function delay(milliseconds, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      removeEventListener("upkeep-try-now", done);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    addEventListener("online", done);
    addEventListener("upkeep-try-now", done);
    signal?.addEventListener("abort", done);
    if (signal?.aborted) done();
  });
}

/** Waits until the page is looked at, or until `signal` ends the wait. */
export function visible(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal?.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal?.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal?.addEventListener("abort", look);
    look();
  });
}

/** The server says something at least every 15 s: after so much silence the connection is dead, whoever says otherwise. */
const SILENCE = 50_000;

function watchSilence() {
  const controller = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => controller.abort(), SILENCE);
  };
  return {signal: controller.signal, heard, done: () => clearTimeout(timer)};
}

/** How long a hidden page keeps its streams. */
const HIDDEN = 30_000;

function restWhenHidden(signal) {
  const controller = new AbortController();
  let timer = null;
  let resting = false;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(() => {
        resting = true;
        controller.abort();
      }, HIDDEN);
    }
  };
  document.addEventListener("visibilitychange", look);
  look();
  return {
    signal: AbortSignal.any([signal, controller.signal]),
    resting: () => resting,
    done() {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    },
  };
}

/** Server-sent events of a body: `id` and `data` of each; comments are passed over, but `heard` is told of them too. */
export async function* events(body, heard = () => {}) {
  heard();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      heard();
      rest += value;
      let end;
      while ((end = rest.indexOf("\n\n")) >= 0) {
        const event = {};
        for (const line of rest.slice(0, end).split("\n")) {
          const colon = line.indexOf(":");
          if (colon <= 0) continue;
          const name = line.slice(0, colon);
          const text = line.slice(colon + 1).replace(/^ /, "");
          event[name] = name === "data" && event.data !== undefined ? `${event.data}\n${text}` : text;
        }
        rest = rest.slice(end + 2);
        if (event.data !== undefined || event.id !== undefined) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Lines of JSON of a body. */
export async function* jsonLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const {value, done} = await reader.read();
      rest += value ?? "";
      const lines = rest.split("\n");
      rest = done ? "" : lines.pop();
      for (const line of lines) if (line.trim()) yield JSON.parse(line);
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
