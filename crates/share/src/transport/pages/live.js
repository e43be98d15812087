// A session by WebSocket: what comes in is put in order, decoded, and played from the ring of worklet.js.

import { Floats, Opus } from "./decoder.js";
import { framesOf } from "./frame.js";
import { Jitter } from "./jitter.js";
import { Connection } from "./socket.js";

const HOLE = 0.5; // seconds that may be missing and are filled with silence
const OVERLAP = 5; // seconds of which may come again what was there already

/** @typedef {import("./frame.js").Frame} Frame */

/** @typedef {{ level: number, playing: boolean, underruns: number, skipped: number, end: number, speed: number }} Report */

export class Live {
  /** What `play` makes: the sound goes through `output`. */
  /** @type {AudioContext | null} */
  context = null;
  /** @type {GainNode | null} */
  output = null;
  gaps = 0;
  #on;
  #codec;
  #connection;
  #jitter = new Jitter();
  /** @type {AudioWorkletNode | null} */
  #node = null;
  /** @type {Opus | Floats | null} */
  #decoder = null;
  #playing = false;
  #flowing = false; // frames go to the decoder as they come
  /** @type {Promise<AudioContext> | null} */
  #starting = null;
  /** @type {{ rate: number, channels: number } | null} */
  #format = null;
  /** @type {number | null} */
  #epoch = null;
  /** @type {number | null} */
  #sample = null; // of the next packet, in the epoch
  /** @type {Frame[]} */
  #recent = []; // frames that came while nothing is played, for a start without waiting
  /** @type {Report} */
  #report = { level: 0, playing: false, underruns: 0, skipped: 0, end: 0, speed: 1 };
  /** @type {number | null} */
  #delay = null;
  #volume = 1;

  /**
   * @param {{ socket: string, events: string }} urls
   * @param {"opus" | "f32"} codec
   * @param {Record<string, (value?: any) => void>} on as in Connection, and `level` whenever there is something new to show
   */
  constructor(urls, codec, on) {
    this.#on = on;
    this.#codec = codec;
    /** @param {any} message */
    const hello = (message) => { this.#hello(message); on.hello(message); };
    const gap = () => { this.gaps += 1; };
    this.#connection = new Connection(urls, { ...on, hello, gap, frame: (/** @type {Frame} */ frame) => this.#frame(frame) });
    this.#connection.open();
  }

  /** The server's time in microseconds. */
  now() {
    return this.#connection.clock.now();
  }

  /** Seconds from the host's sound at the server to the listener's ear; null while nothing sounds. */
  get delay() {
    return this.#playing && this.#report.playing && this.#connection.clock.known ? this.#delay : null;
  }

  /** Whether sound comes out. */
  get sounding() {
    return this.#playing && this.#report.playing;
  }

  /**
   * Says something to the session; false where that is not possible now.
   * @param {object} message
   */
  say(message) {
    return this.#connection.say(message);
  }

  /** Begins to play; from a user's gesture. */
  async play() {
    this.#playing = true;
    this.#starting ??= this.#start();
    await (await this.#starting).resume();
    if (!this.#playing || this.#flowing) return;
    // Not before: what came meanwhile belongs after what waits.
    this.#flowing = true;
    const recent = this.#recent;
    this.#recent = [];
    recent.forEach((frame) => this.#take(frame));
  }

  /** Stays connected, in silence. */
  async pause() {
    this.#playing = false;
    this.#flowing = false;
    this.#sample = null;
    this.#node?.port.postMessage({ do: "empty" });
    this.#jitter.forget();
    await this.context?.suspend();
  }

  /**
   * From 0 to 1.
   * @param {number} value
   */
  set volume(value) {
    this.#volume = value;
    this.output?.gain.setTargetAtTime(value * value, this.output.context.currentTime, 0.01);
  }

  /** What happened, in numbers. */
  get figures() {
    const { level, underruns, skipped, speed } = this.#report;
    const { gaps } = this;
    const errors = this.#decoder?.errors ?? 0;
    const target = this.#jitter.target / 1000;
    return { codec: this.#codec, level, target, speed, underruns, skipped, gaps, breaks: this.#connection.breaks, errors };
  }

  async #start() {
    const context = new AudioContext({ sampleRate: 48000, latencyHint: "playback" });
    this.context = context;
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "ring", { numberOfInputs: 0, outputChannelCount: [2] });
    node.port.onmessage = ({ data }) => this.#reported(data);
    this.#node = node;
    this.output = new GainNode(context, { gain: this.#volume ** 2 });
    node.connect(this.output).connect(context.destination);
    if (this.#format) node.port.postMessage({ do: "format", rate: this.#format.rate });
    this.#control({ speed: 1, skip: 0 });
    return context;
  }

  /** @param {{ epoch: number, rate?: number, channels: number, target_ms: number, cadence_ms: number }} message */
  #hello({ epoch, rate, channels, target_ms: target, cadence_ms: cadence }) {
    // Who comes back to the same epoch knows the line already.
    if (epoch !== this.#epoch) {
      this.#jitter.reset(target, cadence);
      this.#epoch = epoch;
      this.#sample = null;
      this.#recent = [];
    }
    if (!rate || (this.#format?.rate === rate && this.#format.channels === channels)) return;
    this.#format = { rate, channels };
    /** @type {(planes: Float32Array[], end: number) => void} */
    const out = (planes, end) => this.#decoded(planes, end);
    this.#decoder = this.#codec === "opus" ? new Opus(out) : new Floats(out, channels);
    this.#node?.port.postMessage({ do: "format", rate });
  }

  /** @param {Frame} frame */
  #frame(frame) {
    if (!this.#format) return;
    const media = (frame.sample / this.#format.rate) * 1000;
    // What came at once for a start says nothing of the network.
    if (!frame.discontinuity) this.#jitter.arrived(performance.now(), media);
    if (this.#flowing) return this.#take(frame);
    this.#recent.push(frame);
    const newest = frame.time;
    const window = (this.#jitter.target + 200) * 1000;
    while (this.#recent[0].time < newest - window) this.#recent.shift();
  }

  /**
   * Decodes what is new in a frame, and silence for what is missing before it.
   * @param {Frame} frame
   */
  #take(frame) {
    const decoder = this.#decoder;
    if (!this.#format || !decoder) return;
    const { rate, channels } = this.#format;
    /** @type {(packet: Uint8Array) => number} */
    const lengthOf = this.#codec === "opus" ? framesOf : (packet) => packet.length / 4 / channels;
    let { sample } = frame;
    for (const packet of frame.packets) {
      const length = lengthOf(packet);
      const end = frame.time + ((sample + length - frame.sample) / rate) * 1e6;
      // Sample times wrap at 2^32.
      const ahead = this.#sample === null ? 0 : (sample - this.#sample) | 0;
      if (ahead > 0 && ahead <= HOLE * rate) decoder.silence(ahead, end - (length / rate) * 1e6);
      const again = ahead < 0 && -ahead <= OVERLAP * rate;
      if (!again) {
        decoder.packet(packet, length, end);
        this.#sample = (sample + length) >>> 0;
      }
      sample += length;
    }
  }

  /**
   * @param {Float32Array[]} planes
   * @param {number} end
   */
  #decoded(planes, end) {
    if (!this.#playing) return;
    this.#node?.port.postMessage({ do: "append", planes, end }, planes.map((plane) => plane.buffer));
  }

  /** @param {Report} report what worklet.js says */
  #reported(report) {
    if (report.underruns > this.#report.underruns) this.#jitter.dry();
    this.#report = report;
    if (report.playing) {
      this.#control(this.#jitter.decide(report.level * 1000));
      const heard = report.end - report.level * 1e6;
      const delay = (this.now() - heard) / 1e6 + (this.context?.outputLatency || 0);
      this.#delay = this.#delay === null ? delay : this.#delay + 0.2 * (delay - this.#delay);
    } else {
      this.#delay = null;
      this.#jitter.forget();
      this.#control({ speed: 1, skip: 0 });
    }
    this.#on.level();
  }

  /** @param {{ speed: number, skip: number }} wanted */
  #control({ speed, skip }) {
    const { rate } = this.#format ?? { rate: 48000 };
    const frames = Math.round((skip / 1000) * rate);
    const target = (this.#jitter.target / 1000) * 0.9 * rate;
    this.#node?.port.postMessage({ do: "control", target, speed, skip: frames });
  }
}
