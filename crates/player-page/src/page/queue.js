// The queue: tracks in order, which of them plays, what comes next.

import { recall, remember } from "./memory.js";
import { ShuffleOrder } from "./shuffle.js";

/** @param {string} user */
const KEY = (user) => `player.queue.${user}`;
const MOST = 1000;

/** @typedef {import("./api.js").Track} Track */
/** @typedef {"off" | "all" | "one"} Repeat */

/**
 * A track at its place in the queue: an object of its own, so that the same track can stand there twice.
 * @typedef {Track} QueueEntry
 */

/**
 * @param {Track} track
 * @returns {QueueEntry}
 */
const entryOf = (track) => ({ ...track });

/** @type {Record<Repeat, Repeat>} */
const REPEAT_AFTER = { off: "all", all: "one", one: "off" };

export class Queue {
  /** @type {QueueEntry[]} */
  items = [];
  index = -1;
  /** @type {Repeat} */
  repeat = "off";
  /**
   * The order of a shuffled queue; null where it is heard as it stands.
   * @type {ShuffleOrder<QueueEntry> | null}
   */
  #order = null;
  #random;
  /** @type {string | null} */
  #key = null;
  #changed;

  /**
   * @param {() => void} changed
   * @param {() => number} [random] from 0 to 1, without 1
   */
  constructor(changed, random) {
    this.#changed = changed;
    this.#random = random;
  }

  get shuffle() {
    return this.#order !== null;
  }

  /** True where another one follows that was not heard in this round. */
  get hasNext() {
    const [at, count] = this.#order ? [this.#order.at, this.#order.entries.length] : [this.index, this.items.length];
    return at < count - 1;
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
    Object.assign(this, { items: [], index: -1, repeat: "off" });
    this.#order = null;
  }

  /** Drops what the browser remembers for the user. */
  forget() {
    if (this.#key) remember(this.#key, null);
  }

  /** Brings back what the browser remembers; returns the seconds of the current track. */
  restore() {
    try {
      const { items, index, repeat, shuffle, order, at } = JSON.parse((this.#key && recall(this.#key)) ?? "{}");
      if (!Array.isArray(items)) return 0;
      Object.assign(this, { items: items.map(entryOf), repeat: repeat ?? "off" });
      this.index = Math.min(Number(index) || 0, items.length - 1);
      if (shuffle === true) this.#shuffleAs(order);
      return Number(at) || 0;
    } catch {
      return 0;
    }
  }

  /**
   * Shuffles in an order that was remembered, anew where there is none.
   * @param {{ entries: number[], at: number } | undefined} kept
   */
  #shuffleAs(kept) {
    this.#shuffleAnew();
    const entries = (kept?.entries ?? []).map((n) => this.items[n]).filter(Boolean);
    if (this.#order && kept && entries[kept.at] === this.current) Object.assign(this.#order, { entries, at: kept.at });
  }

  #shuffleAnew() {
    this.#order = new ShuffleOrder(this.#random);
    this.#order.begin(this.items, this.current);
  }

  toggleShuffle() {
    if (this.#order) this.#order = null;
    else this.#shuffleAnew();
    this.#changed();
  }

  toggleRepeat() {
    this.repeat = REPEAT_AFTER[this.repeat];
    this.#changed();
  }

  /**
   * Remembers the queue, with the seconds of the current track.
   * @param {number} at
   */
  keep(at) {
    if (!this.#key) return;
    const { items, index, repeat, shuffle } = this;
    const numbers = new Map(items.map((entry, n) => [entry, n]));
    const order = this.#order && { entries: this.#order.entries.map((entry) => numbers.get(entry)), at: this.#order.at };
    remember(this.#key, JSON.stringify({ items, index, repeat, shuffle, order, at }));
  }

  /**
   * Plays these from one of them on.
   * @param {Track[]} items
   * @param {number} index
   */
  replace(items, index) {
    this.items = items.slice(0, MOST).map(entryOf);
    this.index = Math.min(index, this.items.length - 1);
    if (this.#order) this.#shuffleAnew();
    this.#changed();
  }

  /**
   * Goes to one that was chosen.
   * @param {number} index
   */
  jump(index) {
    if (!this.items[index]) return;
    this.index = index;
    this.#order?.jump(this.items[index]);
    this.#changed();
  }

  /**
   * @param {Track} track
   * @param {boolean} next right after the current one
   */
  add(track, next = false) {
    if (this.items.length >= MOST) return;
    const entry = entryOf(track);
    this.items.splice(next ? this.index + 1 : this.items.length, 0, entry);
    this.#order?.add(entry, next);
    this.#changed();
  }

  /** @param {number} index */
  remove(index) {
    const [entry] = this.items.splice(index, 1);
    const isCurrent = index === this.index;
    if (index < this.index) this.index -= 1;
    this.index = Math.min(this.index, this.items.length - 1);
    const next = entry && this.#order?.remove(entry);
    if (isCurrent && next) this.index = this.items.indexOf(next);
    this.#changed();
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  move(from, to) {
    if (to < 0 || to >= this.items.length) return;
    const { current } = this;
    const [entry] = this.items.splice(from, 1);
    this.items.splice(to, 0, entry);
    this.index = current ? this.items.indexOf(current) : -1;
    this.#changed();
  }

  clear() {
    this.items = this.current ? [this.current] : [];
    this.index = this.items.length - 1;
    if (this.#order) this.#shuffleAnew();
    this.#changed();
  }

  /**
   * Goes to the next one, or back; false where there is none.
   * @param {1 | -1} by
   * @param {boolean} ended the track has played to its end
   */
  step(by, ended = false) {
    if (ended && this.repeat === "one") return true;
    const to = this.#order ? this.#shuffled(this.#order, by) : this.#inOrder(by);
    if (to < 0) return false;
    this.index = to;
    this.#changed();
    return true;
  }

  /** @param {1 | -1} by */
  #inOrder(by) {
    const to = this.index + by;
    if (to < this.items.length) return to;
    return this.repeat === "all" && this.items.length > 0 ? 0 : -1;
  }

  /**
   * @param {ShuffleOrder<QueueEntry>} order
   * @param {1 | -1} by
   */
  #shuffled(order, by) {
    const to = order.step(by, this.repeat === "all" ? this.items : null);
    return to ? this.items.indexOf(to) : -1;
  }
}
