// The connection to a session: opens, hands on what comes, notices silence, comes back after a break.

import { Clock, local } from "./clock.js";
import { read } from "./frame.js";

const ASK = 5000; // ms between questions for the time, which show that the line is alive too
const DEAD = 12000; // ms of silence after which it is not
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15000;
const CLOSED_FOR_GOOD = 1008; // RFC 6455 §7.4.1, policy: we did something wrong, and would again
const PROBLEMS = { 401: "denied", 404: "gone" };

/** Why a session cannot be opened, by asking for it in a way that shows the status; null where it may be tried again. */
export async function problem(events) {
  const stop = new AbortController();
  try {
    const answer = await fetch(events, { signal: stop.signal, cache: "no-store" });
    return PROBLEMS[answer.status] ?? null;
  } catch {
    return null;
  } finally {
    stop.abort();
  }
}

/** How long to wait before the `attempt`-th try, in ms: twice as long each time, and not all listeners at once. */
export const wait = (attempt) => Math.min(FIRST_WAIT * 2 ** attempt, LONGEST_WAIT) * (0.5 + Math.random() / 2);

export class Connection {
  clock = new Clock();
  /** How often the line broke. */
  breaks = 0;
  #urls;
  #on;
  #socket = null;
  #attempt = 0;
  #greeted = false;
  #done = false;
  #heard = 0;
  #timers = [];

  /**
   * @param {{ socket: string, events: string }} urls
   * @param {Record<string, (value?: any) => void>} on `state`, `frame`, and one per message: `hello`, `meta`, `count`, `gap`
   */
  constructor(urls, on) {
    this.#urls = urls;
    this.#on = on;
    addEventListener("online", () => this.#retryNow());
  }

  open() {
    this.#on.state(this.#greeted ? "reconnecting" : "connecting");
    const socket = new WebSocket(this.#urls.socket);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    this.#heard = performance.now();
    socket.onopen = () => this.#ask();
    socket.onmessage = ({ data }) => this.#message(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    this.#timers = [setInterval(() => this.#watch(), ASK)];
  }

  /** Closes it for good. */
  close() {
    this.#done = true;
    this.#release();
  }

  #release() {
    this.#timers.forEach((timer) => { clearInterval(timer); clearTimeout(timer); });
    this.#timers = [];
    if (!this.#socket) return;
    this.#socket.onclose = null;
    this.#socket.onmessage = null;
    this.#socket.close();
    this.#socket = null;
  }

  #ask() {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type: "time", t0: local() }));
  }

  #watch() {
    if (performance.now() - this.#heard > DEAD) this.#lost(0, "silent");
    else this.#ask();
  }

  #message(data) {
    this.#heard = performance.now();
    if (data instanceof ArrayBuffer) {
      const frame = read(data);
      if (frame) this.#on.frame(frame);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "time") return this.clock.learn(message.t0, message.t1, message.t2);
    if (message.type === "ended") return this.#end("ended");
    if (message.type === "hello") {
      this.#attempt = 0;
      this.#greeted = true;
    }
    this.#on[message.type]?.(message);
  }

  #end(state) {
    this.close();
    this.#on.state(state);
  }

  async #lost(code, reason) {
    this.#release();
    if (this.#done) return;
    if (code === CLOSED_FOR_GOOD) return this.#end("refused");
    if (reason === "ended") return this.#end("ended");
    this.#on.state(this.#greeted ? "reconnecting" : "connecting");
    this.breaks += 1;
    const why = await problem(this.#urls.events);
    if (this.#done || this.#socket) return;
    // Who has heard the session knows that it was there.
    if (why) return this.#end(why === "gone" && this.#greeted ? "ended" : why);
    this.#timers = [setTimeout(() => this.open(), wait(this.#attempt))];
    this.#attempt += 1;
  }

  #retryNow() {
    if (this.#done || this.#socket || this.#timers.length === 0) return;
    this.#release();
    this.open();
  }
}
