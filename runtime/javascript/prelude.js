// What a script finds around it: console, fetch, require, timers. Evaluated first in every fresh
// isolate; leaves the function `__step` by which the process around it starts the script and looks
// after it, by evaluating calls of it: each is one way there and back, where a call by handle takes
// one for each argument. A script may spoil what it likes here: it spoils its own run only.
(function () {
  "use strict";
  const { parse, stringify } = JSON;
  const { apply, deleteProperty, ownKeys } = Reflect;
  const { create, defineProperty, freeze } = Object;
  const then = Promise.prototype.then;
  const slice = String.prototype.slice;
  const NativePromise = Promise;
  const NativeError = Error;

  const LONGEST_OUTPUT = 262144;
  const MOST_LINES = 200;
  const LONGEST_LINE = 2000;
  const LONGEST_LOG = 32768;
  const MOST_TIMERS = 1000;

  let state = "pending";
  let output = "null";
  let failure = "";

  const cut = (text, longest) => (text.length > longest ? apply(slice, text, [0, longest]) : text);

  // --- console ---
  const lines = [];
  let logged = 0;
  let dropped = 0;
  const shown = (value) => {
    if (typeof value === "string") return value;
    if (value instanceof NativeError) return `${value.name}: ${value.message}`;
    if (typeof value === "object" && value !== null) return stringify(value) ?? "undefined";
    return String(value);
  };
  const log = (level) =>
    function (...values) {
      if (lines.length >= MOST_LINES || logged >= LONGEST_LOG) {
        dropped += 1;
        return;
      }
      let text = "";
      for (let n = 0; n < values.length && text.length < LONGEST_LINE; n++) {
        let part;
        try {
          part = shown(values[n]);
        } catch {
          part = "(cannot be shown)";
        }
        text += (n ? " " : "") + part;
      }
      text = cut(text, LONGEST_LINE);
      logged += text.length;
      lines[lines.length] = [level, text];
    };
  const console = { __proto__: null };
  for (const level of ["debug", "info", "log", "warn", "error"]) console[level] = log(level);
  freeze(console);
  const logs = () => {
    try {
      return stringify([lines, dropped]);
    } catch {
      return ""; // the script has spoilt what writes them
    }
  };

  // --- fetch ---
  const calls = [];
  const waiting = create(null);
  let call = 0;
  const headersOf = (given) => {
    const headers = create(null);
    if (given && typeof given[Symbol.iterator] === "function") {
      for (const [name, value] of given) headers[name] = String(value);
    } else if (given) {
      for (const name of ownKeys(given)) headers[name] = String(given[name]);
    }
    return headers;
  };
  const response = (answer) => {
    const headers = answer.headers;
    return {
      ok: answer.status >= 200 && answer.status < 300,
      status: answer.status,
      url: answer.url,
      headers: {
        get: (name) => headers[String(name).toLowerCase()] ?? null,
        has: (name) => String(name).toLowerCase() in headers,
      },
      text: async () => answer.body,
      json: async () => parse(answer.body),
    };
  };
  const fetch = (url, options) =>
    new NativePromise((resolve, reject) => {
      const { method = "GET", headers, body } = options ?? {};
      const id = ++call;
      calls[calls.length] = {
        __proto__: null,
        id,
        url: String(url),
        method: String(method).toUpperCase(),
        headers: headersOf(headers),
        body: body === undefined || body === null ? null : String(body),
      };
      waiting[id] = [resolve, reject];
    });

  // --- timers: they end with the run ---
  const timers = [];
  let timer = 0;
  let clock = 0;
  const setTimeout = (callback, delay, ...values) => {
    if (timers.length >= MOST_TIMERS) throw new RangeError("too many timers");
    const id = ++timer;
    timers[timers.length] = { id, due: clock + Math.max(0, Number(delay) || 0), callback, values };
    return id;
  };
  const clearTimeout = (id) => {
    const at = timers.findIndex((one) => one.id === id);
    if (at >= 0) timers.splice(at, 1);
  };

  // --- require: of what the process has put in ---
  const modules = create(null);
  const loaded = create(null);
  const require = (name) => {
    const wanted = String(name);
    if (wanted in loaded) return loaded[wanted];
    if (!(wanted in modules)) throw new NativeError(`module not permitted: ${cut(wanted, 100)}`);
    const module = { exports: {} };
    apply(modules[wanted], module.exports, [module, module.exports, require]);
    return (loaded[wanted] = module.exports);
  };

  for (const name of ["Atomics", "SharedArrayBuffer", "WebAssembly"]) {
    deleteProperty(globalThis, name);
  }
  // mini-racer's own timers would outlive nothing either, but they need what was just taken away.
  const around = { console, fetch, require, setTimeout, clearTimeout, __timer_manager: undefined };
  for (const name of ownKeys(around)) globalThis[name] = around[name];

  // --- the run ---
  const fail = (error) => {
    if (state !== "pending") return;
    let told;
    try {
      const isError = error instanceof NativeError;
      const name = isError ? cut(String(error.name), 100) : "";
      const message = cut(isError ? String(error.message) : shown(error), 500);
      told = { name, message, stack: isError ? cut(String(error.stack), 4000) : "" };
    } catch {
      told = { name: "", message: "(cannot be shown)", stack: "" };
    }
    failure = stringify({ __proto__: null, ...told });
    state = "failed";
  };
  const finish = (value) => {
    let text;
    try {
      text = value === undefined ? "null" : stringify(value);
    } catch (error) {
      return fail(error);
    }
    if (state !== "pending") return;
    if (text === undefined) {
      state = "not_json";
    } else if (text.length > LONGEST_OUTPUT) {
      state = "too_large";
    } else {
      output = text;
      state = "done";
    }
  };

  const step = function (op, first, second) {
    switch (op) {
      case "module":
        modules[first] = second;
        return "";
      case "check":
      case "begin": {
        // The code closes the function around it and opens another.
        if (arguments.length !== 3 || typeof second !== "function") return "unbalanced";
        if (op === "check") return "";
        const { contact, workflow, steps, trigger, account } = parse(first);
        const returned = second(contact, workflow, steps, trigger, account);
        // Not a promise when the code has closed the function around it and opened another.
        apply(then, new NativePromise((resolve) => resolve(returned)), [finish, fail]);
        return "";
      }
      case "ended": {
        // One way there and back instead of three: how it ended, with what, and the logs. JSON
        // holds no line break.
        if (state === "pending") return "";
        return `${state}\n${state === "done" ? output : failure}\n${logs()}`;
      }
      case "logs":
        return logs();
      case "calls": {
        const taken = stringify(calls);
        calls.length = 0;
        return taken;
      }
      case "answer": {
        const [resolve, reject] = waiting[first];
        delete waiting[first];
        const answer = parse(second);
        if (answer.error) reject(new TypeError(answer.error));
        else resolve(response(answer));
        return "";
      }
      case "next_timer": {
        clock = first;
        let next = -1;
        for (const one of timers) if (next < 0 || one.due < next) next = one.due;
        return next < 0 ? -1 : Math.max(0, next - clock);
      }
      case "fire": {
        clock = first;
        let at = -1;
        for (let n = 0; n < timers.length; n++) {
          if (timers[n].due <= clock && (at < 0 || timers[n].due < timers[at].due)) at = n;
        }
        if (at < 0) return "";
        const [due] = timers.splice(at, 1);
        try {
          apply(due.callback, undefined, due.values);
        } catch (error) {
          fail(error);
        }
        return "more";
      }
    }
  };
  // Neither written over nor taken away: what it says is always one of ours.
  defineProperty(globalThis, "__step", { __proto__: null, value: step });
})()
//# sourceURL=prelude.js
