// The equalizer as nodes: a gain that makes room, a filter for each band, and a limiter; passed by while it is flat.

import { Bypass, factor, ramp } from "./ramp.js";
import { FILTERS, QUALITY, filterGains, preampGain } from "./response.js";

/** dB above which the limiter holds. */
const THRESHOLD = -1;
const RATIO = 20;
/** Seconds by which the compressor of browsers looks ahead; not in the specification, the same in all of them. */
const LOOK_AHEAD = 0.006;

export class Equalizer {
  #context;
  #preamp;
  #filters;
  #bypass;
  #bands = "";

  /** @param {BaseAudioContext} context */
  constructor(context) {
    this.#context = context;
    this.#preamp = new GainNode(context);
    this.#filters = FILTERS.map(({ type, hertz }) =>
      new BiquadFilterNode(context, { type, frequency: hertz, Q: QUALITY, gain: 0 }));
    const limiter = new DynamicsCompressorNode(context, {
      threshold: THRESHOLD, knee: 0, ratio: RATIO, attack: 0.001, release: 0.25,
    });
    // The specification adds 0.6 of what full scale would lose to everything: here it is taken off again.
    const makeUp = 0.6 * (THRESHOLD / RATIO - THRESHOLD);
    const output = new GainNode(context, { gain: factor(-makeUp) });
    /** @type {AudioNode[]} */
    const chain = [this.#preamp, ...this.#filters, limiter, output];
    chain.reduce((before, node) => before.connect(node));
    // Whole samples, as the limiter has them: a part of one would take away of the highest tones.
    const delay = Math.floor(LOOK_AHEAD * context.sampleRate) / context.sampleRate;
    this.#bypass = new Bypass(context, { input: this.#preamp, output }, delay);
    this.latency = delay;
  }

  get input() {
    return this.#bypass.input;
  }

  get output() {
    return this.#bypass.output;
  }

  /**
   * Sets the gain of each band.
   * @param {readonly number[]} bands dB
   */
  set(bands) {
    if (this.#bands === bands.join()) return;
    this.#bands = bands.join();
    const rate = this.#context.sampleRate;
    const gains = filterGains(bands, rate);
    this.#filters.forEach((filter, n) => ramp(filter.gain, gains[n]));
    ramp(this.#preamp.gain, factor(preampGain(gains, rate)));
    this.#bypass.engage(bands.some((gain) => gain !== 0), this.latency);
  }
}
