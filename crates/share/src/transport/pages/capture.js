// The host's sound on its way out: as Opus packets in frames, or as floats where the browser does not encode.

import { framesOf, write } from "./frame.js";

const RATE = 48000;
const PACKET = 960; // samples: 20 ms
const BUNDLE = 5; // packets in a frame: listeners are sent no more often
const CHUNK = 4096; // samples of a chunk of floats
/** @type {AudioEncoderConfig} */
const OPUS = { codec: "opus", sampleRate: RATE, numberOfChannels: 2, bitrate: 96000, opus: { frameDuration: 20000 } };

/** Whether this browser encodes Opus. */
export async function encodes() {
  if (!("AudioEncoder" in window)) return false;
  try {
    return (await AudioEncoder.isConfigSupported(OPUS)).supported === true;
  } catch {
    return false;
  }
}

/** The context in which the host's sound is, with what sends it on. */
export class Capture {
  context = new AudioContext({ sampleRate: RATE });
  /** @type {AudioEncoder | null} */
  #encoder = null;
  /** @type {Uint8Array[]} */
  #bundle = [];
  #samples = 0;
  #sequence = 0;
  #sent = 0; // samples in frames
  #out;

  /**
   * @param {boolean} opus
   * @param {(bytes: Uint8Array, label: { sequence: number, rate: number }) => void} out gets frames, or interleaved floats
   */
  constructor(opus, out) {
    this.#out = out;
    if (opus) this.#open();
  }

  /** What the sound is to be connected to. */
  async input() {
    await this.context.audioWorklet.addModule(new URL("tap.js", import.meta.url));
    const processorOptions = { frames: this.#encoder ? PACKET : CHUNK };
    /** @type {AudioWorkletNodeOptions} */
    const options = { numberOfOutputs: 0, channelCount: 2, channelCountMode: "explicit", processorOptions };
    const tap = new AudioWorkletNode(this.context, "tap", options);
    tap.port.onmessage = ({ data }) => (this.#encoder ? this.#encode(this.#encoder, data) : this.#floats(data));
    return tap;
  }

  async close() {
    if (this.#encoder?.state === "configured") this.#encoder.close();
    await this.context.close();
  }

  #open() {
    this.#encoder = new AudioEncoder({
      output: (chunk) => this.#encoded(chunk),
      // A new one goes on where this one broke.
      error: () => this.#open(),
    });
    this.#encoder.configure(OPUS);
  }

  /**
   * @param {AudioEncoder} encoder
   * @param {Float32Array[]} planes
   */
  #encode(encoder, planes) {
    const data = new Float32Array(2 * PACKET);
    planes.forEach((plane, channel) => data.set(plane, channel * PACKET));
    const timestamp = Math.round((this.#samples / RATE) * 1e6);
    /** @type {AudioDataInit} */
    const block = { format: "f32-planar", sampleRate: RATE, numberOfFrames: PACKET, numberOfChannels: 2, timestamp, data };
    this.#samples += PACKET;
    const sound = new AudioData(block);
    encoder.encode(sound);
    sound.close();
  }

  /** @param {EncodedAudioChunk} chunk */
  #encoded(chunk) {
    const packet = new Uint8Array(chunk.byteLength);
    chunk.copyTo(packet);
    this.#bundle.push(packet);
    if (this.#bundle.length < BUNDLE) return;
    const packets = this.#bundle;
    this.#bundle = [];
    const head = { sequence: this.#sequence, sample: this.#sent >>> 0, discontinuity: this.#sequence === 0 };
    const frame = write({ ...head, time: 1000 * Date.now(), packets });
    this.#sequence = (this.#sequence + BUNDLE) >>> 0;
    this.#sent += packets.reduce((sum, one) => sum + framesOf(one), 0);
    this.#out(frame, { sequence: head.sequence, rate: RATE });
  }

  /** @param {Float32Array[]} planes */
  #floats([left, right]) {
    const samples = new Float32Array(2 * left.length);
    left.forEach((sample, n) => { samples[2 * n] = sample; samples[2 * n + 1] = right[n]; });
    this.#out(new Uint8Array(samples.buffer), { sequence: this.#sequence, rate: RATE });
    this.#sequence += 1;
  }
}
