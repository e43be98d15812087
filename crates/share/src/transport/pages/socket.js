// The connection to a session: opens, hands on what comes, comes back after a break.

import { Clock } from "./clock.js";
import { read } from "./frame.js";
import { Line, SILENT } from "./line.js";
import { Retry } from "./retry.js";

const PATIENCE = 5000; // ms for the question below
const CLOSED_FOR_GOOD = 1008; // RFC 6455 §7.4.1, policy: we did something wrong, and would again
/** @type {Record<number, string>} */
const PROBLEMS = { 401: "denied", 404: "gone" };

/**
 * Why a session cannot be opened, by asking for it in a way that shows the status; null where it may be tried again.
 * @param {string} events address of the events
 */
export async function problem(events) {
  const stop = new AbortController();
  // A network that is away may leave the question without an answer for minutes.
  const late = setTimeout(() => stop.abort(), PATIENCE);
  try {
    const answer = await fetch(events, { signal: stop.signal, cache: "no-store" });
    return PROBLEMS[answer.status] ?? null;
  } catch {
    return null;
  } finally {
    clearTimeout(late);
    stop.abort();
  }
}

export class Connection {
  clock = new Clock();
  /** How often the line broke. */
  breaks = 0;
  #urls;
  #on;
  /** @type {Line | null} */
  #line = null;
  #retry = new Retry(() => this.open());
  #greeted = false;
  #done = false;

  /**
   * @param {{ socket: string, events: string }} urls
   * @param {Record<string, (value?: any) => void>} on `state`, `frame`, and one per message: `hello`, `meta`, `count`, …
   */
  constructor(urls, on) {
    this.#urls = urls;
    this.#on = on;
  }

  open() {
    this.#on.state(this.#greeted ? "reconnecting" : "connecting");
    /** @param {string | ArrayBuffer} data */
    const message = (data) => this.#message(data);
    this.#line = new Line(this.#urls.socket, { message, lost: (code, reason) => this.#lost(code, reason) });
  }

  /**
   * Sends a message; false where there is no line.
   * @param {object} message
   */
  say(message) {
    return this.#line?.say(message) ?? false;
  }

  /** @param {string | ArrayBuffer} data */
  #message(data) {
    if (data instanceof ArrayBuffer) {
      const frame = read(data);
      if (frame) this.#on.frame(frame);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "time") return this.clock.learn(message.t0, message.t1, message.t2);
    if (message.type === "ended") return this.#end("ended");
    if (message.type === "hello") {
      this.#retry.worked();
      this.#greeted = true;
    }
    this.#on[message.type]?.(message);
  }

  /** @param {string} state */
  #end(state) {
    this.#done = true;
    this.#retry.stop();
    this.#line?.close();
    this.#line = null;
    this.#on.state(state);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  async #lost(code, reason) {
    this.#line = null;
    if (code === CLOSED_FOR_GOOD) return this.#end("refused");
    if (reason === "ended") return this.#end("ended");
    this.#on.state(this.#greeted ? "reconnecting" : "connecting");
    this.breaks += 1;
    // A network without a word would have none for this either.
    const why = code === SILENT ? null : await problem(this.#urls.events);
    if (this.#done) return;
    // Who has heard the session knows that it was there.
    if (why) return this.#end(why === "gone" && this.#greeted ? "ended" : why);
    this.#retry.later();
  }
}
