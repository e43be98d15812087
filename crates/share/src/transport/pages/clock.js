// The server's time, learned as NTP does (RFC 5905 §8): of the last answers the one that took least time is believed.

const KEPT = 8;

/** This machine's time in microseconds. */
export const local = () => Math.round((performance.timeOrigin + performance.now()) * 1000);

export class Clock {
  /** @type {{ offset: number, trip: number }[]} */
  #answers = [];

  /**
   * Takes an answer: asked at t0, which came at t1, was answered at t2 and is here at t3.
   * @param {number} t0
   * @param {number} t1
   * @param {number} t2
   */
  learn(t0, t1, t2, t3 = local()) {
    if (![t0, t1, t2].every(Number.isFinite)) return;
    this.#answers.push({ offset: (t1 - t0 + (t2 - t3)) / 2, trip: t3 - t0 - (t2 - t1) });
    if (this.#answers.length > KEPT) this.#answers.shift();
  }

  /** Whether the server's time is known. */
  get known() {
    return this.#answers.length > 0;
  }

  /** The server's time in microseconds. */
  now() {
    if (!this.known) return local();
    return local() + this.#answers.reduce((best, answer) => (answer.trip < best.trip ? answer : best)).offset;
  }
}
