// The share API as the host uses it. The token lives in this object alone.

import { Line } from "./line.js";
import { Outbox } from "./outbox.js";
import { Retry } from "./retry.js";

const DAY = 86400;
const CROWD = 1000; // listeners at once with the link
const MOST_UNDERWAY = 8; // chunks of floats
const PATIENCE = 10000; // ms for an answer
const LONGEST_WAIT = 5000; // ms between tries: others wait for us

/** A refusal of the server. */
export class Refusal extends Error {
  /** @param {number} status */
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

export class Relay {
  /** @type {string | null} */
  session = null;
  #token;
  #on;
  /** @type {Line | null} */
  #line = null;
  #outbox = new Outbox();
  #retry = new Retry(() => this.#open(), LONGEST_WAIT);
  #opus = true;
  #welcomed = false;
  /** @type {string | null} */
  #secret = null; // with which the session's host comes back without the token
  #done = false;
  #underway = 0;

  /**
   * @param {string} token
   * @param {Record<string, (value?: any) => void>} on `state`, `ended`, and one per message: `welcome`, `count`, …
   */
  constructor(token, on) {
    this.#token = token.replace(/^Bearer /, "");
    this.#on = on;
  }

  /**
   * Begins a session; returns the link for listeners.
   * @param {string} wanted its id, empty where the server is to choose
   * @param {boolean} opus
   */
  async start(wanted, opus) {
    this.#opus = opus;
    const { sessionId } = await this.#post("/api/share/start", wanted ? { sessionId: wanted } : {});
    this.session = sessionId;
    const ticket = await this.#ticket({ count: CROWD, ttl: DAY });
    await this.#connect();
    return new URL(ticket.listen_url, location.href).href;
  }

  /**
   * Sends a frame, or a chunk of floats.
   * @param {Uint8Array} bytes
   * @param {{ sequence: number, rate: number }} label
   */
  send(bytes, label) {
    if (this.#opus) {
      this.#outbox.push(bytes);
      if (this.#welcomed) this.#outbox.flush(this.#line);
    } else if (this.session && this.#underway < MOST_UNDERWAY) {
      this.#chunk(bytes, label);
    }
  }

  /**
   * Sends a message; false where there is no line.
   * @param {object} message
   */
  say(message) {
    return this.#line?.say(message) ?? false;
  }

  /** Ends the session. */
  async stop() {
    this.#close();
    await this.#post(`/api/share/${this.session}/stop`, {});
  }

  #close() {
    this.#done = true;
    this.#retry.stop();
    this.#line?.close();
    this.#line = null;
  }

  /** @param {string} why */
  #end(why) {
    if (this.#done) return;
    this.#close();
    this.#on.ended(why);
  }

  async #connect() {
    // The session's secret is tried once. Then the token is asked, for a ticket of its own each time: the token itself
    // must not stand in an address.
    const secret = this.#secret;
    this.#secret = null;
    /** @type {Record<string, string>} */
    const shown = secret ? { resume: secret } : { ticket: (await this.#ticket({ role: "host" })).ticket };
    if (this.#done) return;
    const url = new URL(`/api/v1/share/${this.session}/ws`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = String(new URLSearchParams({ role: "host", ...shown }));
    this.#line = new Line(url, { message: (data) => this.#heard(String(data)), lost: (_, reason) => this.#lost(reason) });
  }

  async #open() {
    try {
      await this.#connect();
    } catch (error) {
      if (error instanceof Refusal && [401, 404].includes(error.status)) this.#end("ended");
      else if (!this.#done) this.#retry.later();
    }
  }

  /** @param {string} data */
  #heard(data) {
    const message = JSON.parse(data);
    if (message.type === "ended") return this.#end("ended");
    if (message.type === "welcome") {
      this.#retry.worked();
      this.#welcomed = true;
      this.#secret = message.resume ?? null;
      this.#on.state("sharing");
      this.#outbox.flush(this.#line);
    }
    this.#on[message.type]?.(message);
  }

  /** @param {string} reason */
  #lost(reason) {
    this.#line = null;
    if (reason === "ended" || reason === "replaced") return this.#end(reason);
    this.#on.state("reconnecting");
    if (!this.#welcomed) return this.#retry.later();
    // A line that worked is replaced at once.
    this.#welcomed = false;
    this.#outbox.broke();
    this.#open();
  }

  /**
   * @param {Uint8Array} body
   * @param {{ sequence: number, rate: number }} label
   */
  async #chunk(body, { sequence, rate }) {
    this.#underway += 1;
    const headers = {
      "Content-Type": "application/octet-stream",
      "X-Sample-Rate": String(rate),
      "X-Channels": "2",
      "X-Timestamp": String(Date.now()),
      "X-Sequence-Number": String(sequence),
    };
    try {
      await this.#call("POST", `/api/share/${this.session}/audio`, body, headers);
    } catch (error) {
      // One that did not arrive is missing.
      if (error instanceof Refusal && error.status === 404) this.#end("ended");
    } finally {
      this.#underway -= 1;
    }
  }

  /** @param {object} wanted */
  #ticket(wanted) {
    return this.#post(`/api/v1/share/${this.session}/tickets`, wanted);
  }

  /**
   * @param {string} path
   * @param {object} body
   */
  #post(path, body) {
    return this.#call("POST", path, JSON.stringify(body), { "Content-Type": "application/json" });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {string | Uint8Array} content
   * @param {Record<string, string>} others headers
   */
  async #call(method, path, content, others) {
    const headers = { ...others, Authorization: `Bearer ${this.#token}` };
    const signal = AbortSignal.timeout(PATIENCE);
    const body = /** @type {BodyInit} */ (content);
    const answer = await fetch(path, { method, body, headers, signal, cache: "no-store" });
    if (!answer.ok) throw new Refusal(answer.status);
    return answer.json();
  }
}
