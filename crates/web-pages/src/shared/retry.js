// Trying again after a break: later each time, and not everybody at once; but at once when the network or the reader is
// back.

const FIRST = 500;

export class Retry {
  #again;
  #longest;
  #attempt = 0;
  /** @type {AbortController | null} */
  #waiting = null;

  /**
   * @param {() => void} again
   * @param {number} longest ms between two tries
   */
  constructor(again, longest = 15000) {
    this.#again = again;
    this.#longest = longest;
  }

  /** Tries again after a while. */
  later() {
    this.stop();
    const wait = Math.min(FIRST * 2 ** this.#attempt, this.#longest) * (0.5 + Math.random() / 2);
    this.#attempt += 1;
    this.#waiting = new AbortController();
    const { signal } = this.#waiting;
    const now = () => { this.stop(); this.#again(); };
    const timer = setTimeout(now, wait);
    signal.addEventListener("abort", () => clearTimeout(timer));
    addEventListener("online", now, { signal });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) now(); }, { signal });
  }

  /** It works: the next break is a first one. */
  worked() {
    this.stop();
    this.#attempt = 0;
  }

  stop() {
    this.#waiting?.abort();
    this.#waiting = null;
  }
}
