// Collects the sound that goes through it, on the audio thread, in blocks of a fixed length.

class Tap extends AudioWorkletProcessor {
  /** @type {Float32Array<ArrayBuffer>[]} */
  planes = [];
  filled = 0;

  /** @param {{ processorOptions: { frames: number } }} options */
  constructor({ processorOptions: { frames } }) {
    super();
    this.frames = frames;
    this.begin();
  }

  begin() {
    this.planes = [new Float32Array(this.frames), new Float32Array(this.frames)];
    this.filled = 0;
  }

  /** @param {Float32Array[][]} inputs */
  process([input]) {
    // No input is silence, which is sent too: listeners hear a pause, not a break.
    const length = input[0]?.length ?? 128;
    for (let at = 0; at < length;) {
      const take = Math.min(length - at, this.frames - this.filled);
      this.planes.forEach((plane, channel) => {
        const from = input[Math.min(channel, input.length - 1)];
        if (from) plane.set(from.subarray(at, at + take), this.filled);
      });
      at += take;
      this.filled += take;
      if (this.filled === this.frames) {
        this.port.postMessage(this.planes, this.planes.map((plane) => plane.buffer));
        this.begin();
      }
    }
    return true;
  }
}

registerProcessor("tap", Tap);
