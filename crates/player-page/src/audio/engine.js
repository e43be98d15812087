// Sound of a media element: its speed with the pitch kept.

export class AudioEngine {
  #element;

  /** @param {HTMLMediaElement} element */
  constructor(element) {
    this.#element = element;
    element.preservesPitch = true;
  }

  /** Seconds between what the element plays and what is heard. */
  get latency() {
    return 0;
  }

  /** @param {number} speed 0.5 to 2 */
  setSpeed(speed) {
    this.#element.defaultPlaybackRate = speed;
    this.#element.playbackRate = speed;
  }

  /** @param {number} _semitones −12 to 12 */
  setSemitones(_semitones) {}

  /** @param {{ preset: string, bands: number[] }} _equalizer */
  setEqualizer(_equalizer) {}

  /** Begins to sound; browsers allow it after a key or a click only. */
  resume() {}
}
