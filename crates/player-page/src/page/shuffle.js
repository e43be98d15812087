// The order in which a shuffled queue is heard: each entry once in a round, and back along what was heard.

/**
 * Puts entries into an order in which each is as likely at each place (Fisher and Yates).
 * @template Entry
 * @param {readonly Entry[]} entries
 * @param {() => number} random from 0 to 1, without 1
 * @returns {Entry[]}
 */
function mixed(entries, random) {
  const all = [...entries];
  for (let n = all.length - 1; n > 0; n -= 1) {
    const other = Math.floor(random() * (n + 1));
    [all[n], all[other]] = [all[other], all[n]];
  }
  return all;
}

/** @template Entry */
export class ShuffleOrder {
  /**
   * What was heard in the last round and in this one, what is heard, and what follows.
   * @type {Entry[]}
   */
  entries = [];
  /** Place of what is heard. */
  at = -1;
  #random;

  /** @param {() => number} random */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /**
   * Begins a round: the current one, then the others mixed.
   * @param {readonly Entry[]} items
   * @param {Entry | null} current
   */
  begin(items, current) {
    const others = mixed(items.filter((item) => item !== current), this.#random);
    this.entries = current === null ? others : [current, ...others];
    this.at = current === null ? -1 : 0;
  }

  /**
   * Goes on, or back; null where there is none.
   * @param {1 | -1} by
   * @param {readonly Entry[] | null} round entries of a round that follows the last one; null where none does
   * @returns {Entry | null}
   */
  step(by, round) {
    if (this.at + by >= this.entries.length && round && round.length > 0) this.#goOn(round);
    const to = this.entries[this.at + by];
    if (to === undefined) return null;
    this.at += by;
    return to;
  }

  /** @param {readonly Entry[]} round */
  #goOn(round) {
    const last = this.entries[this.at];
    const next = mixed(round, this.#random);
    // Not the same one twice in a row.
    if (next.length > 1 && next[0] === last) next.push(...next.splice(0, 1));
    // The round before the last is forgotten.
    const heard = this.entries.slice(-round.length);
    this.entries = [...heard, ...next];
    this.at = heard.length - 1;
  }

  /**
   * Hears one now that was chosen: what follows is what has not been heard.
   * @param {Entry} entry
   */
  jump(entry) {
    const ahead = this.entries.indexOf(entry, this.at + 1);
    if (entry === this.entries[this.at]) return;
    if (ahead >= 0) this.entries.splice(ahead, 1);
    this.entries.splice(this.at + 1, 0, entry);
    this.at += 1;
  }

  /**
   * Has an added one heard some time in this round, or next.
   * @param {Entry} entry
   * @param {boolean} next
   */
  add(entry, next) {
    const left = this.entries.length - this.at - 1;
    const place = this.at + 1 + (next ? 0 : Math.floor(this.#random() * (left + 1)));
    this.entries.splice(place, 0, entry);
  }

  /**
   * Forgets one; returns what is heard in its place where it is heard now, null where nothing follows.
   * @param {Entry} entry
   * @returns {Entry | null}
   */
  remove(entry) {
    const current = this.entries[this.at];
    const after = this.entries.slice(this.at + 1).filter((one) => one !== entry);
    const before = this.entries.slice(0, this.at).filter((one) => one !== entry);
    const here = current === entry ? [] : [current];
    this.entries = [...before, ...here, ...after];
    // Of one that is heard the next takes the place, or the one before it.
    this.at = Math.min(before.length, this.entries.length - 1);
    return this.entries[this.at] ?? null;
  }
}
