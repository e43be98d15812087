// Sound of a media element: speed with the pitch kept, pitch in semitones, equalizer, volume.
//
// element → dip → pitch → equalizer (preamp, ten filters, limiter) → gain → out. The element is led through the graph from the
// first start on, and never in the middle of a track: that would be heard. What is neutral is passed by.

import { Equalizer } from "./equalizer.js";
import { PitchShifter } from "./pitch.js";
import { BANDS, PRESETS } from "./presets.js";
import { Dip, after, ramp } from "./ramp.js";

/** Seconds after the last sound until the device is let go. */
const IDLE = 20;

/** @typedef {{ context: AudioContext, dip: Dip, pitch: PitchShifter, equalizer: Equalizer, gain: GainNode }} Graph */

/**
 * Leads the sound of an element through a graph of its own.
 * @param {HTMLMediaElement} element
 * @returns {Graph}
 */
function graphOf(element) {
  const context = new AudioContext({ latencyHint: "playback" });
  const dip = new Dip(context);
  const pitch = new PitchShifter(context);
  const equalizer = new Equalizer(context);
  const gain = new GainNode(context);
  context.createMediaElementSource(element).connect(dip.node).connect(pitch.input);
  pitch.output.connect(equalizer.input);
  equalizer.output.connect(gain).connect(context.destination);
  return { context, dip, pitch, equalizer, gain };
}

export class AudioEngine {
  #element;
  /** @type {Graph | undefined} */
  #graph;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #idle;
  #speed = 1;
  #semitones = 0;
  /** @type {readonly number[]} */
  #bands = PRESETS.flat;
  #volume = 1;

  /**
   * Makes no audio context yet: browsers allow one after a click or a key only.
   * @param {HTMLMediaElement} element its media are of the page's origin, or are sent for it (CORS): others would be silent
   */
  constructor(element) {
    this.#element = element;
    element.preservesPitch = true;
    element.addEventListener("play", () => { if (this.#graph) this.resume(); });
    for (const event of ["pause", "ended"]) element.addEventListener(event, () => this.#rest());
  }

  /** Seconds between what the element plays and what is heard, of real time: at speed 2 twice as much of the track. */
  get latency() {
    if (!this.#graph) return 0;
    const { context, pitch, equalizer } = this.#graph;
    return context.baseLatency + (context.outputLatency || 0) + pitch.latency + equalizer.latency;
  }

  /**
   * Sets the speed, for this track and those after it.
   * @param {number} speed 0.5 to 2
   */
  setSpeed(speed) {
    this.#speed = speed;
    const set = () => {
      this.#element.defaultPlaybackRate = this.#speed;
      this.#element.playbackRate = this.#speed;
    };
    // Browsers stretch in pieces and begin another one with the new speed, which would be heard as a click.
    if (this.#graph && !this.#element.paused && this.#element.playbackRate !== speed) this.#graph.dip.during(set);
    else set();
  }

  /**
   * Sets the pitch. Resolves to false where the browser cannot change it, or what does that cannot be loaded at the moment.
   * @param {number} semitones −12 to 12
   * @returns {Promise<boolean>}
   */
  async setSemitones(semitones) {
    this.#semitones = semitones;
    try {
      await this.#graph?.pitch.set(semitones);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Sets the equalizer to a preset, or to the user's own gains where there is no preset of that name (`custom`).
   * @param {{ preset: string, bands: readonly number[] }} equalizer gains in dB
   */
  setEqualizer({ preset, bands }) {
    this.#bands = PRESETS[preset] ?? BANDS.map((_, band) => bands[band] ?? 0);
    this.#graph?.equalizer.set(this.#bands);
  }

  /**
   * Sets the volume, without a click and where the element's own cannot be set (iOS).
   * @param {number} volume 0 to 1, of the amplitude
   */
  setVolume(volume) {
    this.#volume = volume;
    if (this.#graph) ramp(this.#graph.gain.gain, volume);
  }

  /** Begins to sound; to be called in the handler of a click or a key. Where there is no Web Audio the element sounds alone. */
  async resume() {
    clearTimeout(this.#idle);
    if (!this.#graph) {
      if (typeof AudioContext === "undefined") return;
      this.#graph = graphOf(this.#element);
      this.#graph.gain.gain.value = this.#volume;
      this.#graph.equalizer.set(this.#bands);
      void this.setSemitones(this.#semitones);
    }
    if (this.#graph.context.state !== "running") await this.#graph.context.resume();
  }

  /** Lets the device go when nothing has sounded for a while. */
  #rest() {
    clearTimeout(this.#idle);
    this.#idle = after(IDLE, () => this.#graph?.context.suspend());
  }
}
