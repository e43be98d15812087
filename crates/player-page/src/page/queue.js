// The queue: tracks in order, which of them plays, what comes next.

import { recall, remember } from "./memory.js";

/** @param {string} user */
const KEY = (user) => `player.queue.${user}`;
const MOST = 1000;

/** @typedef {import("./api.js").Track} Track */
/** @typedef {"off" | "all" | "one"} Repeat */

export class Queue {
  /** @type {Track[]} */
  items = [];
  index = -1;
  /** @type {Repeat} */
  repeat = "off";
  shuffle = false;
  /** @type {string | null} */
  #key = null;
  #changed;

  /** @param {() => void} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  get current() {
    return this.items[this.index] ?? null;
  }

  /**
   * Empties the queue; from now on it is that of a user.
   * @param {string | null} user null: nobody is known, and nothing is remembered
   */
  belongTo(user) {
    this.#key = user === null ? null : KEY(user);
    Object.assign(this, { items: [], index: -1, repeat: "off", shuffle: false });
  }

  /** Drops what the browser remembers for the user. */
  forget() {
    if (this.#key) remember(this.#key, null);
  }

  /** Brings back what the browser remembers; returns the seconds of the current track. */
  restore() {
    try {
      const { items, index, repeat, shuffle, at } = JSON.parse((this.#key && recall(this.#key)) ?? "{}");
      if (!Array.isArray(items)) return 0;
      Object.assign(this, { items, repeat: repeat ?? "off", shuffle: shuffle === true });
      this.index = Math.min(Number(index) || 0, items.length - 1);
      return Number(at) || 0;
    } catch {
      return 0;
    }
  }

  /**
   * Remembers the queue, with the seconds of the current track.
   * @param {number} at
   */
  keep(at) {
    const { items, index, repeat, shuffle } = this;
    if (this.#key) remember(this.#key, JSON.stringify({ items, index, repeat, shuffle, at }));
  }

  /**
   * Plays these from one of them on.
   * @param {Track[]} items
   * @param {number} index
   */
  replace(items, index) {
    this.items = items.slice(0, MOST);
    this.index = Math.min(index, this.items.length - 1);
    this.#changed();
  }

  /**
   * @param {Track} item
   * @param {boolean} next right after the current one
   */
  add(item, next = false) {
    if (this.items.length >= MOST) return;
    this.items.splice(next ? this.index + 1 : this.items.length, 0, item);
    this.#changed();
  }

  /** @param {number} index */
  remove(index) {
    this.items.splice(index, 1);
    if (index < this.index) this.index -= 1;
    this.index = Math.min(this.index, this.items.length - 1);
    this.#changed();
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  move(from, to) {
    if (to < 0 || to >= this.items.length) return;
    const current = this.current;
    const [item] = this.items.splice(from, 1);
    this.items.splice(to, 0, item);
    this.index = current ? this.items.indexOf(current) : -1;
    this.#changed();
  }

  clear() {
    this.items = this.current ? [this.current] : [];
    this.index = this.items.length - 1;
    this.#changed();
  }

  /**
   * Goes to another one; false where there is none.
   * @param {number} by
   * @param {boolean} ended the track has played to its end
   */
  step(by, ended = false) {
    if (ended && this.repeat === "one") return true;
    const count = this.items.length;
    let to = this.index + by;
    if (this.shuffle && by > 0 && count > 1) {
      // Another one than the current: the range is one shorter, and jumps over it.
      to = Math.floor(Math.random() * (count - 1));
      if (to >= this.index) to += 1;
    } else if (to >= count && this.repeat === "all") to = 0;
    if (to < 0 || to >= count) return false;
    this.index = to;
    this.#changed();
    return true;
  }
}
