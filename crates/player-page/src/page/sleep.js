// The sleep timer: playing stops after a while, or at the end of the track.

/** Minutes that can be chosen. */
export const MINUTES = [15, 30, 45, 60, 90];
const TICK = 1000; // ms

/** @typedef {"off" | "track" | number} SleepChoice off, the end of the track, or minutes */

export class SleepTimer {
  /** @type {SleepChoice} */
  choice = "off";
  /** Time at which playing stops, in ms since 1970: a clock that goes on while the machine sleeps. */
  #until = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticking;
  #on;

  /** @param {{ changed(): void, stop(): void }} on */
  constructor(on) {
    this.#on = on;
  }

  /** Seconds that are left; 0 where it is off or waits for the end of the track. */
  get seconds() {
    return typeof this.choice === "number" ? Math.max(0, (this.#until - Date.now()) / 1000) : 0;
  }

  /** @param {SleepChoice} choice */
  choose(choice) {
    clearInterval(this.#ticking);
    this.choice = choice;
    if (typeof choice === "number") {
      this.#until = Date.now() + choice * 60_000;
      this.#ticking = setInterval(() => this.#tick(), TICK);
    }
    this.#on.changed();
  }

  /** A track has ended: returns true where nothing is to follow it. */
  endsWithTrack() {
    if (this.choice !== "track") return false;
    this.choose("off");
    return true;
  }

  #tick() {
    if (this.seconds > 0) return this.#on.changed();
    this.choose("off");
    this.#on.stop();
  }
}
