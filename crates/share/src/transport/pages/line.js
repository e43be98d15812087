// One WebSocket, which is given up when it no longer answers: a browser learns only after minutes that a network is gone.

import { local } from "./clock.js";

const ASK = 5000; // ms between questions for the time, which show that the line is alive too
const DEAD = 7000; // ms without a word after a question
const LOOK = 1000;

/** The code of a line that was given up. */
export const SILENT = 0;

export class Line {
  #socket;
  #on;
  #timer;
  #asked = performance.now(); // opening is a question too
  #heard = false; // since then

  /**
   * @param {string | URL} url
   * @param {{ message: (data: string | ArrayBuffer) => void, lost: (code: number, reason: string) => void }} on
   */
  constructor(url, on) {
    this.#on = on;
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#ask();
    this.#socket.onmessage = ({ data }) => { this.#heard = true; on.message(data); };
    this.#socket.onclose = ({ code, reason }) => this.#over(code, reason);
    this.#timer = setInterval(() => this.#watch(), LOOK);
  }

  get open() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Bytes that are not on their way yet. */
  get waiting() {
    return this.#socket.bufferedAmount;
  }

  /**
   * Sends bytes, or a text.
   * @param {string | Uint8Array} data
   */
  send(data) {
    this.#socket.send(/** @type {string | Uint8Array<ArrayBuffer>} */ (data));
  }

  /**
   * Sends a message; false where the line is not open.
   * @param {object} message
   */
  say(message) {
    if (this.open) this.send(JSON.stringify(message));
    return this.open;
  }

  /** Closes it; nothing is heard of it any more. */
  close() {
    clearInterval(this.#timer);
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #over(code, reason) {
    this.close();
    this.#on.lost(code, reason);
  }

  // In a hidden page timers may come once a minute: what counts is the time since the question.
  #watch() {
    const since = performance.now() - this.#asked;
    if (!this.#heard && since > DEAD) this.#over(SILENT, "");
    else if (this.#heard && since > ASK) this.#ask();
  }

  #ask() {
    if (!this.say({ type: "time", t0: local() })) return;
    this.#asked = performance.now();
    this.#heard = false;
  }
}
