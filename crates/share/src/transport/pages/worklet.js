// The ring of decoded sound, on the audio thread: starts when enough is ahead, fades over every break, plays a little
// faster or slower when told to.

const SECONDS = 8; // of sound that the ring holds
const REPORT = 0.1; // seconds between reports
const FADE = 240; // samples in which sound comes back
const DECAY = 0.98; // of what is left of the sound before a break, per sample

class Ring extends AudioWorkletProcessor {
  underruns = 0;
  skipped = 0; // seconds
  told = 0;
  speed = 1;
  wanted = 1;
  target = 0;
  rate = sampleRate;
  /** @type {Float32Array[]} */
  planes = [];
  written = 0; // samples that came since the beginning
  position = 0; // where the next one is played from, maybe between two samples
  playing = false;
  gain = 0;
  end = 0; // the server's time of the end of what came, in microseconds
  last = new Float64Array(2);
  tail = new Float64Array(2);

  constructor() {
    super();
    this.begin(sampleRate);
    this.port.onmessage = ({ data }) => /** @type {any} */ (this)[data.do](data);
  }

  /**
   * Makes an empty ring for sound of this rate.
   * @param {number} rate
   */
  begin(rate) {
    this.rate = rate;
    this.planes = [new Float32Array(SECONDS * rate), new Float32Array(SECONDS * rate)];
    this.written = 0;
    this.position = 0;
    this.playing = false;
    this.gain = 0;
    this.end = 0;
    this.last.fill(0);
    this.tail.fill(0);
  }

  /** @param {{ rate: number }} message */
  format({ rate }) {
    if (rate !== this.rate) this.begin(rate);
  }

  empty() {
    this.break();
    this.position = this.written;
    this.playing = false;
  }

  /** @param {{ planes: Float32Array[], end: number }} message */
  append({ planes, end }) {
    const length = this.planes[0].length;
    planes.forEach((plane, channel) => {
      const at = this.written % length;
      const first = Math.min(plane.length, length - at);
      this.planes[channel].set(plane.subarray(0, first), at);
      this.planes[channel].set(plane.subarray(first), 0);
    });
    this.written += planes[0].length;
    this.end = end;
    // What did not fit has gone over the oldest; four samples are kept for what is between samples.
    const oldest = this.written - length + 4;
    if (this.position < oldest) this.skip({ frames: oldest - this.position });
  }

  /** @param {{ target: number, speed: number, skip: number }} message */
  control({ target, speed, skip }) {
    this.target = target;
    this.wanted = speed;
    if (skip > 0) this.skip({ frames: Math.min(skip, this.level) });
  }

  /** @param {{ frames: number }} message */
  skip({ frames }) {
    this.break();
    this.position = Math.floor(this.position + frames);
    this.skipped += frames / this.rate;
  }

  /** What comes next does not follow: the old sound fades out under the new one, which fades in. */
  break() {
    this.tail.set(this.last);
    this.gain = 0;
  }

  get level() {
    return this.written - this.position;
  }

  /**
   * @param {Float32Array[][]} _
   * @param {Float32Array[][]} outputs
   */
  process(_, [output]) {
    const step = (this.rate / sampleRate) * this.speed;
    const frames = output[0].length;
    if (!this.playing && this.level > 0 && this.level >= this.target) this.playing = true;
    for (let n = 0; n < frames; n += 1) {
      // Two samples after the position are needed to play between samples.
      if (this.playing && this.level < 3) {
        this.playing = false;
        this.underruns += 1;
        this.break();
      }
      if (this.playing && this.gain < 1) this.gain = Math.min(1, this.gain + 1 / FADE);
      for (let channel = 0; channel < output.length; channel += 1) {
        const sound = this.playing ? this.at(this.planes[channel]) * this.gain : 0;
        this.tail[channel] *= DECAY;
        this.last[channel] = sound + this.tail[channel];
        output[channel][n] = this.last[channel];
      }
      if (this.playing) this.position += step;
    }
    this.speed = Math.abs(this.wanted - this.speed) < 1e-4 ? this.wanted : this.speed + 0.02 * (this.wanted - this.speed);
    if (currentTime - this.told >= REPORT) this.report();
    return true;
  }

  /**
   * The sound at the position: a sample itself, or on the curve (Hermite, four points) between two.
   * @param {Float32Array} plane
   */
  at(plane) {
    const length = plane.length;
    const whole = Math.floor(this.position);
    const part = this.position - whole;
    const here = plane[whole % length];
    if (part === 0) return here;
    const before = plane[(whole + length - 1) % length];
    const next = plane[(whole + 1) % length];
    const after = plane[(whole + 2) % length];
    const slope = (next - before) / 2;
    const bend = before - 2.5 * here + 2 * next - after / 2;
    const twist = (after - before) / 2 + 1.5 * (here - next);
    return ((twist * part + bend) * part + slope) * part + here;
  }

  report() {
    this.told = currentTime;
    const { playing, underruns, skipped, end } = this;
    this.port.postMessage({ level: this.level / this.rate, playing, underruns, skipped, end, speed: this.speed });
  }
}

registerProcessor("ring", Ring);
