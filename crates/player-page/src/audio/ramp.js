// Changes of gains without a click.

/** Time constant of a change, in seconds: short enough to seem immediate, and long enough not to be heard as a step. */
const TIME_CONSTANT = 0.015;
/** Seconds after which a change is over, to what 16 bits can tell apart. */
const SETTLED = 0.25;
/** Seconds that an effect gets of the sound beyond its own delay, to forget what it held when it was last heard. */
const WARM_UP = 0.05;
/** Seconds until a dip is silent, and then until what was changed in it has come through. */
const DIP = 0.04;

/**
 * Lets a value go to another. It may be on its way already: then it turns where it is.
 * @param {AudioParam} param
 * @param {number} value
 * @param {number} [timeConstant] seconds
 */
export function ramp(param, value, timeConstant = TIME_CONSTANT) {
  param.setTargetAtTime(value, 0, timeConstant);
}

/**
 * Gain of a factor in dB.
 * @param {number} decibels
 */
export function factor(decibels) {
  return 10 ** (decibels / 20);
}

/**
 * Does something after a while.
 * @param {number} seconds
 * @param {() => void} then
 */
export function after(seconds, then) {
  return setTimeout(then, seconds * 1000);
}

/** Two ways from one node to another, of which one sounds: as it came, or by way of an effect. */
export class Bypass {
  #effect;
  #dry;
  #wet;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #engaged = false;

  /**
   * @param {BaseAudioContext} context
   * @param {{ input: AudioNode, output: AudioNode }} effect
   * @param {number} delay seconds of the effect, for which the other way waits too, so that both fit while they are mixed
   */
  constructor(context, effect, delay) {
    this.#effect = effect;
    this.input = new GainNode(context);
    this.output = new GainNode(context);
    this.#dry = new GainNode(context);
    this.#wet = new GainNode(context, { gain: 0 });
    const late = new DelayNode(context, { delayTime: delay });
    this.input.connect(late).connect(this.#dry).connect(this.output);
    effect.output.connect(this.#wet);
  }

  get engaged() {
    return this.#engaged;
  }

  /**
   * Lets the effect sound, or what came.
   * @param {boolean} engaged
   * @param {number} delay seconds of the effect: it is heard when it has something of now to say
   */
  engage(engaged, delay) {
    if (engaged === this.#engaged) return;
    this.#engaged = engaged;
    clearTimeout(this.#timer);
    if (engaged) {
      this.input.connect(this.#effect.input);
      this.#wet.connect(this.output);
      this.#timer = after(delay + WARM_UP, () => this.#mix(1));
    } else {
      this.#mix(0);
      // An effect that nobody hears costs nothing.
      this.#timer = after(SETTLED, () => this.#detach());
    }
  }

  /** @param {number} wet part of the effect */
  #mix(wet) {
    ramp(this.#wet.gain, wet);
    ramp(this.#dry.gain, 1 - wet);
  }

  #detach() {
    this.input.disconnect(this.#effect.input);
    this.#wet.disconnect(this.output);
  }
}

/** Gain that is nothing for a moment, in which its source may jump. */
export class Dip {
  #busy = false;
  /** @type {(() => void) | undefined} */
  #change;

  /** @param {BaseAudioContext} context */
  constructor(context) {
    this.node = new GainNode(context);
  }

  /**
   * Makes a change while nothing sounds; of several that come at once the last one.
   * @param {() => void} change
   */
  during(change) {
    this.#change = change;
    if (this.#busy) return;
    this.#busy = true;
    ramp(this.node.gain, 0, DIP / 8);
    after(DIP, () => {
      this.#change?.();
      this.#busy = false;
      after(DIP, () => { if (!this.#busy) ramp(this.node.gain, 1, DIP / 8); });
    });
  }
}
