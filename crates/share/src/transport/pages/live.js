// A session by WebSocket: what comes in is put in order, decoded, and played from the ring of worklet.js.

import { Floats, Opus } from "./decoder.js";
import { framesOf } from "./frame.js";
import { Jitter } from "./jitter.js";
import { Connection } from "./socket.js";

const HOLE = 0.5; // seconds that may be missing and are filled with silence
const OVERLAP = 5; // seconds of which may come again what was there already

export class Live {
  /** What `play` makes: the sound goes through `output`. */
  context = null;
  output = null;
  gaps = 0;
  #on;
  #codec;
  #connection;
  #jitter = new Jitter();
  #node = null;
  #decoder = null;
  #playing = false;
  #flowing = false; // frames go to the decoder as they come
  #starting = null;
  #format = null;
  #epoch = null;
  #sample = null; // of the next packet, in the epoch
  #recent = []; // frames that came while nothing is played, for a start without waiting
  #report = { level: 0, playing: false, underruns: 0, skipped: 0, end: 0, speed: 1 };
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
    const hello = (message) => { this.#hello(message); on.hello(message); };
    const gap = () => { this.gaps += 1; };
    this.#connection = new Connection(urls, { ...on, hello, gap, frame: (frame) => this.#frame(frame) });
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

  /** Says something to the session; false where that is not possible now. */
  say(message) {
    return this.#connection.say(message);
  }

  /** Begins to play; from a user's gesture. */
  async play() {
    this.#playing = true;
    this.#starting ??= this.#start();
    await this.#starting;
    await this.context.resume();
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

  /** From 0 to 1. */
  set volume(value) {
    this.#volume = value;
    this.output?.gain.setTargetAtTime(value * value, this.context.currentTime, 0.01);
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
    this.context = new AudioContext({ sampleRate: 48000, latencyHint: "playback" });
    await this.context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    this.#node = new AudioWorkletNode(this.context, "ring", { numberOfInputs: 0, outputChannelCount: [2] });
    this.#node.port.onmessage = ({ data }) => this.#reported(data);
    this.output = new GainNode(this.context, { gain: this.#volume ** 2 });
    this.#node.connect(this.output).connect(this.context.destination);
    if (this.#format) this.#node.port.postMessage({ do: "format", rate: this.#format.rate });
    this.#control({ speed: 1, skip: 0 });
  }

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
    const out = (planes, end) => this.#decoded(planes, end);
    this.#decoder = this.#codec === "opus" ? new Opus(out) : new Floats(out, channels);
    this.#node?.port.postMessage({ do: "format", rate });
  }

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

  /** Decodes what is new in a frame, and silence for what is missing before it. */
  #take(frame) {
    const { rate, channels } = this.#format;
    const lengthOf = this.#codec === "opus" ? framesOf : (packet) => packet.length / 4 / channels;
    let { sample } = frame;
    for (const packet of frame.packets) {
      const length = lengthOf(packet);
      const end = frame.time + ((sample + length - frame.sample) / rate) * 1e6;
      // Sample times wrap at 2^32.
      const ahead = this.#sample === null ? 0 : (sample - this.#sample) | 0;
      if (ahead > 0 && ahead <= HOLE * rate) this.#decoder.silence(ahead, end - (length / rate) * 1e6);
      const again = ahead < 0 && -ahead <= OVERLAP * rate;
      if (!again) {
        this.#decoder.packet(packet, length, end);
        this.#sample = (sample + length) >>> 0;
      }
      sample += length;
    }
  }

  #decoded(planes, end) {
    if (!this.#playing) return;
    this.#node.port.postMessage({ do: "append", planes, end }, planes.map((plane) => plane.buffer));
  }

  #reported(report) {
    if (report.underruns > this.#report.underruns) this.#jitter.dry();
    this.#report = report;
    if (report.playing) {
      this.#control(this.#jitter.decide(report.level * 1000));
      const heard = report.end - report.level * 1e6;
      const delay = (this.now() - heard) / 1e6 + (this.context.outputLatency || 0);
      this.#delay = this.#delay === null ? delay : this.#delay + 0.2 * (delay - this.#delay);
    } else {
      this.#delay = null;
      this.#jitter.forget();
      this.#control({ speed: 1, skip: 0 });
    }
    this.#on.level();
  }

  #control({ speed, skip }) {
    const { rate } = this.#format ?? { rate: 48000 };
    const frames = Math.round((skip / 1000) * rate);
    const target = (this.#jitter.target / 1000) * 0.9 * rate;
    this.#node.port.postMessage({ do: "control", target, speed, skip: frames });
  }
}
