// Packets to sound: Opus by WebCodecs, floats as they are. What comes out is in the order of what went in.

const OPUS = { codec: "opus", sampleRate: 48000, numberOfChannels: 2 };

/** Whether this browser decodes Opus. */
export async function isThere() {
  if (!("AudioDecoder" in window)) return false;
  try {
    return (await AudioDecoder.isConfigSupported(OPUS)).supported === true;
  } catch {
    return false;
  }
}

/**
 * Left and right of what is interleaved, or of one channel.
 * @param {Float32Array} samples
 * @param {number} channels
 */
function planesOf(samples, channels) {
  if (channels === 1) return [samples, samples.slice()];
  const frames = Math.floor(samples.length / channels);
  return [0, 1].map((channel) => {
    const plane = new Float32Array(frames);
    for (let n = 0; n < frames; n += 1) plane[n] = samples[n * channels + channel];
    return plane;
  });
}

export class Opus {
  /** @type {AudioDecoder | null} */
  #decoder = null;
  /** @type {{ end: number, silence?: number }[]} */
  #waiting = []; // what was given: packets by the server's time of their end, and silence
  #out;
  #frames = 0;
  /** Packets that could not be decoded. */
  errors = 0;

  /** @param {(planes: Float32Array[], end: number) => void} out */
  constructor(out) {
    this.#out = out;
  }

  /**
   * A packet of so many samples; the sound after it is of the server's time `end`.
   * @param {Uint8Array} bytes
   * @param {number} frames
   * @param {number} end
   */
  packet(bytes, frames, end) {
    const decoder = this.#decoder?.state === "configured" ? this.#decoder : this.#open();
    this.#waiting.push({ end });
    const timestamp = Math.round((this.#frames / OPUS.sampleRate) * 1e6);
    this.#frames += frames;
    const data = /** @type {Uint8Array<ArrayBuffer>} */ (bytes);
    decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data }));
  }

  /**
   * So many samples are missing here.
   * @param {number} frames
   * @param {number} end
   */
  silence(frames, end) {
    this.#waiting.push({ end, silence: frames });
    if (this.#waiting.length === 1) this.#flushSilence();
  }

  #open() {
    this.#waiting = [];
    const decoder = new AudioDecoder({
      output: (data) => this.#decoded(data),
      error: () => { this.errors += 1; },
    });
    decoder.configure(OPUS);
    this.#decoder = decoder;
    return decoder;
  }

  /** @param {AudioData} data */
  #decoded(data) {
    const planes = [0, 1].map((channel) => {
      /** @type {AudioDataCopyToOptions} */
      const options = { planeIndex: Math.min(channel, data.numberOfChannels - 1), format: "f32-planar" };
      const plane = new Float32Array(data.numberOfFrames);
      data.copyTo(plane, options);
      return plane;
    });
    data.close();
    const { end } = this.#waiting.shift() ?? { end: 0 };
    this.#out(planes, end);
    this.#flushSilence();
  }

  #flushSilence() {
    for (let [next] = this.#waiting; next?.silence; [next] = this.#waiting) {
      this.#waiting.shift();
      const { silence, end } = next;
      this.#out([new Float32Array(silence), new Float32Array(silence)], end);
    }
  }
}

export class Floats {
  #out;
  #channels;
  errors = 0;

  /**
   * @param {(planes: Float32Array[], end: number) => void} out
   * @param {number} channels
   */
  constructor(out, channels) {
    this.#out = out;
    this.#channels = channels;
  }

  /**
   * As of Opus.
   * @param {Uint8Array} bytes
   * @param {number} _frames
   * @param {number} end
   */
  packet(bytes, _frames, end) {
    // A copy, since floats in the frame need not begin at a multiple of four.
    const samples = new Float32Array(bytes.slice().buffer);
    this.#out(planesOf(samples, this.#channels), end);
  }

  /**
   * So many samples are missing here.
   * @param {number} frames
   * @param {number} end
   */
  silence(frames, end) {
    this.#out([new Float32Array(frames), new Float32Array(frames)], end);
  }
}
