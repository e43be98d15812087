// Where the user is in tracks: sent to the server, and kept in the browser until it has taken them.

import { refusalOf } from "./api.js";
import { recall, remember } from "./memory.js";
import { Retry } from "./retry.js";

/** @param {string} user */
const KEY = (user) => `player.places.${user}`;
const MOST = 200;
const PATIENCE = 2000; // ms that a user who leaves waits for the server
const SHOWN = 12;
const ENDED = 0.98; // share of the length, from which a track was heard to its end
/**
 * What is continued here; films are continued on their own page.
 * @type {ListeningKind[]}
 */
const KINDS = ["audio", "audiobook", "podcast"];

/** @typedef {import("./api.js").Track} Track */
/** @typedef {import("./api.js").ListeningKind} ListeningKind */
/** @typedef {{ positionMs: number, timestamp: string, durationMs?: number, kind?: ListeningKind }} Place */
/** @typedef {{ id: string, kind: ListeningKind, positionMs: number, durationMs?: number | null, updatedAt: string }} Continued a track that can be continued */

/**
 * True of what is heard in pieces, where a piece of music begins anew.
 * @param {Track} track
 */
export const isSpoken = ({ kind }) => kind === "audiobook" || kind === "podcast";

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
   * @param {Track} track
   * @param {number} seconds
   * @param {number} length
   * @param {boolean} closing the page may end before there is an answer
   */
  report({ id, kind }, seconds, length, closing = false) {
    /** @type {Place} */
    const place = { positionMs: Math.round(seconds * 1000), timestamp: new Date().toISOString(), kind: kind ?? "audio" };
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
   * @param {Track} track
   */
  async of({ id, kind }) {
    const own = this.#waiting.get(id);
    if (own) return own.positionMs / 1000;
    if (!this.isKept) return 0;
    const { positionMs } = await this.#api.get(`/api/v1/tracks/${encodeURIComponent(id)}/position?kind=${kind ?? "audio"}`);
    return (positionMs ?? 0) / 1000;
  }

  /**
   * Seconds from which a track goes on; 0 where it was not begun, or was heard to its end.
   * @param {Track} track
   */
  async toContinue({ id, kind }) {
    const own = this.#waiting.get(id);
    if (own) return own.positionMs < (own.durationMs ?? Infinity) * ENDED ? own.positionMs / 1000 : 0;
    if (!this.isKept) return 0;
    try {
      /** @type {{ items: Continued[] }} */
      const { items } = await this.#api.get(`/api/v1/progress?kind=${kind ?? "audio"}&limit=100`);
      const found = items.find((item) => item.id === id);
      return found && found.positionMs < (found.durationMs ?? Infinity) * ENDED ? found.positionMs / 1000 : 0;
    } catch {
      // It begins anew then.
      return 0;
    }
  }

  /**
   * What can be continued, the newest first.
   * @returns {Promise<Continued[]>}
   */
  async continued() {
    if (!this.isKept) return [];
    const pages = await Promise.all(KINDS.map((kind) => this.#api.get(`/api/v1/progress?kind=${kind}&limit=${SHOWN}`)));
    /** @type {Continued[]} */
    const all = pages.flatMap(({ items }) => items);
    return all.sort((one, other) => Date.parse(other.updatedAt) - Date.parse(one.updatedAt)).slice(0, SHOWN);
  }
}
