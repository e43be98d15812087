// Where the user is in tracks: sent to the server, and kept in the browser until it has taken them.

import { refusalOf } from "./api.js";
import { recall, remember } from "./memory.js";
import { Retry } from "./retry.js";

/** @param {string} user */
const KEY = (user) => `player.places.${user}`;
const MOST = 200;
const PATIENCE = 2000; // ms that a user who leaves waits for the server

/** @typedef {{ positionMs: number, timestamp: string, durationMs?: number }} Place */
/** @typedef {{ id: string, positionMs: number, durationMs?: number | null }} Continued a track that can be continued */

export class Places {
  #api;
  /** @type {string | null} */
  #key = null;
  /** @type {Map<string, Place>} */
  #waiting = new Map();
  #retry = new Retry(() => this.flush());
  /** False where the server keeps no positions. */
  isKept = true;

  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.#api = api;
  }

  /**
   * Takes what the browser keeps for a user, and nothing of anybody else.
   * @param {string | null} user null: nobody is known, and nothing is kept
   */
  belongTo(user) {
    this.#retry.stop();
    this.#key = user === null ? null : KEY(user);
    this.#waiting = new Map();
    try {
      const kept = this.#key && recall(this.#key);
      if (kept) this.#waiting = new Map(Object.entries(JSON.parse(kept) ?? {}));
    } catch {
      // Another form, from another version.
    }
  }

  /** Sends what waits for the user who leaves, and drops it, taken or not. */
  async leave() {
    const key = this.#key;
    await Promise.race([this.flush(), new Promise((done) => setTimeout(done, PATIENCE))]);
    if (key) remember(key, null);
    // Not those of another one: the token may have been refused meanwhile.
    if (key === this.#key) this.belongTo(null);
  }

  get waiting() {
    return this.#waiting.size;
  }

  /**
   * Keeps a place and sends it.
   * @param {string} id
   * @param {number} seconds
   * @param {number} length
   * @param {boolean} closing the page may end before there is an answer
   */
  report(id, seconds, length, closing = false) {
    /** @type {Place} */
    const place = { positionMs: Math.round(seconds * 1000), timestamp: new Date().toISOString() };
    if (Number.isFinite(length)) place.durationMs = Math.round(length * 1000);
    this.#waiting.set(id, place);
    if (this.#waiting.size > MOST) this.#waiting.delete([...this.#waiting.keys()][0]);
    this.#store();
    return this.#send(id, place, closing);
  }

  /**
   * @param {string} id
   * @param {Place} place
   * @param {boolean} closing
   */
  async #send(id, place, closing = false) {
    if (!this.isKept) return;
    try {
      await this.#api.send("POST", `/api/v1/tracks/${encodeURIComponent(id)}/position`, place, closing);
      this.#retry.worked();
    } catch (error) {
      const refused = refusalOf(error);
      if (!refused) return;
      if (refused.status === 404) this.isKept = false;
      // Kept, and sent again; what can never be taken is dropped.
      if (refused.passes || refused.status === 401) return void this.#retry.later();
    }
    if (this.#waiting.get(id) === place) this.#waiting.delete(id);
    this.#store();
  }

  #store() {
    if (this.#key) remember(this.#key, this.waiting > 0 ? JSON.stringify(Object.fromEntries(this.#waiting)) : null);
  }

  /** Sends what waits. */
  async flush() {
    for (const [id, place] of [...this.#waiting]) await this.#send(id, place);
  }

  /**
   * Seconds at which the user stopped, the newer of browser and server; 0 where none is known.
   * @param {string} id
   */
  async of(id) {
    const own = this.#waiting.get(id);
    if (own) return own.positionMs / 1000;
    if (!this.isKept) return 0;
    const { positionMs } = await this.#api.get(`/api/v1/tracks/${encodeURIComponent(id)}/position`);
    return (positionMs ?? 0) / 1000;
  }

  /** @returns {Promise<Continued[]>} */
  async continued() {
    if (!this.isKept) return [];
    return (await this.#api.get("/api/v1/progress?kind=audio&limit=12")).items;
  }
}
