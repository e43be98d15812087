// Positions on their way to the server. The newest one that was not taken yet is kept, over a reload of the page too, and
// sent until it is: its time tells the server where it belongs.

import { Refusal } from "./api.js";
import { recall, remember } from "./memory.js";
import { Retry } from "./retry.js";

const LONGEST = 86400; // seconds that a position can be

/** @typedef {import("./api.js").Report} Report */

/**
 * Whether another try with the same report can be taken.
 * @param {unknown} error
 */
const mayPass = (error) => !(error instanceof Refusal) || error.status >= 500 || [401, 408, 429].includes(error.status);

export class Reports {
  #api;
  #film;
  #now;
  #on;
  #interval;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  /** @type {string | null} */
  #session = null;
  /** @type {Report | null} */
  #unsent = null;
  /** @type {string | null} */
  #user = null;
  #sending = false;
  #retry = new Retry(() => this.#send());

  /**
   * @param {import("./api.js").Api} api
   * @param {string} film
   * @param {number} interval ms
   * @param {() => { position: number, duration: number }} now
   * @param {{ signedOut: () => void }} on
   */
  constructor(api, film, interval, now, on) {
    this.#api = api;
    this.#film = film;
    this.#interval = interval;
    this.#now = now;
    this.#on = on;
  }

  /**
   * The session that reports are about.
   * @param {string} id
   */
  set session(id) {
    this.#session = id;
  }

  /**
   * Whose positions they are; returns the report that an earlier visit could not send.
   * @param {string} user
   * @returns {Report | null}
   */
  own(user) {
    this.#user = user;
    const kept = JSON.parse(recall(this.#place) ?? "null");
    if (kept && !this.#unsent) {
      this.#unsent = kept;
      this.#send();
    }
    return kept;
  }

  /** Reports again and again from now on. */
  begin() {
    this.#timer ??= setInterval(() => this.note(), this.#interval);
  }

  /** Reports no more by itself. */
  pause() {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Reports the place where the film is. */
  note(leaving = false) {
    const report = this.#report();
    if (!report) return;
    this.#keep(report);
    this.#send(leaving);
  }

  /** Ends the session where the film is. */
  async end() {
    this.pause();
    const report = this.#report();
    if (!report) return;
    this.#keep(report);
    try {
      await this.#api.stop(report);
      this.#sent(report);
    } catch {
      // The position alone is what must not be lost; the session ends by itself.
      this.#send();
    }
  }

  /** Sends what waits: the reader has signed in again. */
  again() {
    this.#send();
  }

  get #place() {
    return `film.unsent ${this.#user} ${this.#film}`;
  }

  /** @returns {Report | null} */
  #report() {
    const { position, duration } = this.#now();
    if (!Number.isFinite(position)) return null;
    const known = duration >= 1 && duration <= LONGEST;
    return {
      position_seconds: Math.min(Math.max(0, position), LONGEST),
      timestamp: Date.now(),
      ...(known && { duration_seconds: duration }),
      ...(this.#session && { session_id: this.#session }),
    };
  }

  /** @param {Report} report */
  #keep(report) {
    this.#unsent = report;
    if (this.#user !== null) remember(this.#place, JSON.stringify(report));
  }

  /** @param {Report} report */
  #sent(report) {
    this.#retry.worked();
    if (this.#unsent !== report) return;
    this.#unsent = null;
    if (this.#user !== null) remember(this.#place, null);
  }

  async #send(leaving = false) {
    const report = this.#unsent;
    if (!report || (this.#sending && !leaving)) return;
    this.#sending = true;
    try {
      await this.#api.report(report, leaving);
      this.#sent(report);
    } catch (error) {
      if (!mayPass(error)) this.#sent(report);
      else if (error instanceof Refusal && error.status === 401) this.#on.signedOut();
      else this.#retry.later();
      return;
    } finally {
      this.#sending = false;
    }
    // What came meanwhile.
    this.#send();
  }
}
