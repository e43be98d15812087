// The pitch as a node: a worklet that is loaded when the pitch is first changed, and passed by while it is as recorded.

import { Bypass } from "./ramp.js";

/** Name of the file that is both sides of the node: see vendor/README.md. */
const WORKLET = "./signalsmith-stretch-1.3.2.js";

/**
 * @typedef {AudioWorkletNode & {
 *   schedule: (change: { active?: boolean, semitones?: number }) => Promise<unknown>,
 *   latency: () => Promise<number>,
 * }} StretchNode
 */

/**
 * Makes the node.
 * @param {BaseAudioContext} context
 * @returns {Promise<StretchNode>}
 */
async function stretchNode(context) {
  const [{ default: create }] = await Promise.all([
    import(WORKLET),
    context.audioWorklet.addModule(new URL(WORKLET, import.meta.url)),
  ]);
  return create(context, { numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [2] });
}

export class PitchShifter {
  #context;
  #semitones = 0;
  /** @type {Promise<void> | undefined} */
  #loading;
  /** @type {StretchNode | undefined} */
  #stretch;
  #stretchLatency = 0;
  /** @type {Bypass | undefined} */
  #bypass;

  /** @param {BaseAudioContext} context */
  constructor(context) {
    this.#context = context;
    this.input = new GainNode(context);
    this.output = new GainNode(context);
    this.input.connect(this.output);
  }

  /** Seconds by which the sound is late. */
  get latency() {
    return this.#bypass?.engaged ? this.#stretchLatency : 0;
  }

  /**
   * Sets the pitch; the first time it waits for the worklet. Where that cannot be loaded it fails, sounds as before, and
   * tries again the next time.
   * @param {number} semitones
   */
  async set(semitones) {
    if (this.#semitones === semitones && (semitones === 0 || this.#bypass)) return;
    this.#semitones = semitones;
    if (!this.#bypass) {
      if (semitones === 0) return;
      this.#loading ??= this.#load().finally(() => { this.#loading = undefined; });
      await this.#loading;
    }
    this.#apply();
  }

  async #load() {
    const stretch = await stretchNode(this.#context);
    this.#stretchLatency = await stretch.latency();
    this.#stretch = stretch;
    const bypass = new Bypass(this.#context, { input: stretch, output: stretch }, 0);
    bypass.output.connect(this.output);
    this.input.connect(bypass.input);
    this.input.disconnect(this.output);
    this.#bypass = bypass;
  }

  #apply() {
    const semitones = this.#semitones;
    const engaged = semitones !== 0;
    // On its way out it keeps its pitch: what fades away must not slide.
    if (engaged) this.#stretch?.schedule({ active: true, semitones });
    this.#bypass?.engage(engaged, this.#stretchLatency);
  }
}
