// Frames on their way to the server: the last two seconds, so that a short break loses nothing. What is older is dropped,
// since nobody wants to hear it then.

const KEPT = 20; // frames of 100 ms
const AGAIN = 10; // frames that are sent once more after a break: of the last second the server knows what it has
const FULL = 64 * 1024; // bytes before the line, which is then slower than the sound

export class Outbox {
  /** @type {Uint8Array[]} */
  #frames = [];
  #sent = 0; // so many of them are on their way

  /** @param {Uint8Array} frame */
  push(frame) {
    this.#frames.push(frame);
    if (this.#frames.length <= KEPT) return;
    this.#frames.shift();
    this.#sent = Math.max(0, this.#sent - 1);
  }

  /**
   * Sends what `line` takes now.
   * @param {import("./line.js").Line | null} line
   */
  flush(line) {
    while (line?.open && line.waiting < FULL && this.#sent < this.#frames.length) {
      line.send(this.#frames[this.#sent]);
      this.#sent += 1;
    }
  }

  /** The line broke: what went out last may not have come through. */
  broke() {
    this.#sent = Math.max(0, this.#sent - AGAIN);
  }
}
