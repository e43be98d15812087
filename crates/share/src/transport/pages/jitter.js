// How much sound to keep ahead, and what to do when it is more or less. Knows no sound and no clock: all times are given,
// in milliseconds.

export const LEAST = 300;
export const MOST = 1500;
const WINDOW = 200; // arrivals that are remembered: 20 s at the usual cadence
const MARGIN = 60;
const AFTER_DRY = 100; // more ahead after the buffer ran dry
const QUIET = 20; // a difference that is put up with once it has been corrected to it
const LOUD = 80; // a difference that is corrected
const FAR = 500; // a difference that is corrected audibly
const SKIP = 2000; // a difference that is skipped

/**
 * Everything within the bounds.
 * @param {number} value
 * @param {number} least
 * @param {number} most
 */
const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

export class Jitter {
  /** @type {number[]} */
  #arrivals = [];
  #cadence = 100;
  #extra = 0;
  /** @type {number | null} */
  #level = null;
  #correcting = false;
  #target = LEAST;

  /** Begins anew, with the server's advice. */
  reset(target = LEAST, cadence = 100) {
    this.#arrivals = [];
    this.#cadence = cadence;
    this.#target = clamp(target, LEAST, MOST);
    this.forget();
  }

  /** What was measured of the buffer is no longer true: it was cut or filled at once. */
  forget() {
    this.#level = null;
    this.#correcting = false;
  }

  /**
   * Sound that is due `media` ms after the epoch's beginning arrived at `now`.
   * @param {number} now
   * @param {number} media
   */
  arrived(now, media) {
    this.#arrivals.push(now - media);
    if (this.#arrivals.length > WINDOW) this.#arrivals.shift();
    const late = [...this.#arrivals].sort((a, b) => a - b);
    const jitter = late[Math.floor(0.95 * (late.length - 1))] - late[0];
    const wanted = clamp(1.25 * jitter + this.#cadence + MARGIN + this.#extra, LEAST, MOST);
    // A few arrivals say nothing of a network; up at once, down slowly.
    if (wanted > this.#target) this.#target = wanted;
    else if (this.#arrivals.length >= WINDOW / 4) this.#target = Math.max(wanted, this.#target - 1);
  }

  /** The buffer ran dry. */
  dry() {
    this.#extra = Math.min(this.#extra + AFTER_DRY, MOST);
    this.#target = clamp(this.#target + AFTER_DRY, LEAST, MOST);
    this.forget();
  }

  /** How much to keep ahead. */
  get target() {
    return this.#target;
  }

  /**
   * What to do with `level` ahead: how fast to play, and how much to leave out. Called ten times a second.
   * @param {number} level
   */
  decide(level) {
    this.#level = this.#level === null ? level : this.#level + 0.1 * (level - this.#level);
    if (level - this.#target > SKIP) {
      this.forget();
      return { speed: 1, skip: level - this.#target };
    }
    const difference = this.#level - this.#target;
    const size = Math.abs(difference);
    this.#correcting = size > (this.#correcting ? QUIET : LOUD);
    if (!this.#correcting) return { speed: 1, skip: 0 };
    const by = size > FAR ? 0.05 : 0.005;
    return { speed: difference > 0 ? 1 + by : 1 - by, skip: 0 };
  }
}
