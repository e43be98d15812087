// Lyrics with times: the LRC format, as players write it.

const TIME = /\[(\d{1,3}):(\d{1,2}(?:[.:]\d{1,3})?)\]/g;
const WORD = /<\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?>/g;
const OFFSET = /^\[offset:\s*([+-]?\d+)\s*\]/im;

/** @typedef {{ seconds: number, text: string }} LyricsLine */
/**
 * @typedef {object} Song as its host says it
 * @property {string | null} title
 * @property {number} elapsedSeconds
 * @property {number} totalSeconds
 * @property {number} timestamp ms, by the host's clock
 */

/**
 * Lines by time; a line with several times comes several times.
 * @param {string} lrc
 */
export function parse(lrc) {
  const offset = Number(OFFSET.exec(lrc)?.[1] ?? 0) / 1000;
  /** @type {LyricsLine[]} */
  const lines = [];
  for (const line of lrc.replace(/^\uFEFF/, "").split(/\r?\n/)) {
    const text = line.replace(TIME, "").replace(WORD, "").replace(/\s+/g, " ").trim();
    for (const [, minutes, seconds] of line.matchAll(TIME)) {
      // A positive offset shows lines earlier.
      lines.push({ seconds: 60 * Number(minutes) + Number(seconds.replace(":", ".")) - offset, text });
    }
  }
  return lines.sort((a, b) => a.seconds - b.seconds);
}

/**
 * The index of the line that is sung at `seconds`; -1 before the first.
 * @param {LyricsLine[]} lines
 * @param {number} seconds
 */
export function active(lines, seconds) {
  return lines.findLastIndex((line) => line.seconds <= seconds);
}

/** Where the host is in its song, from what it says now and then. */
export class Place {
  /** @type {(Song & { since: number }) | null} */
  #song = null;
  /** @type {number | null} */
  #behind = null; // microseconds from the host's clock to the server's, as short as it was ever seen
  #moving = true;

  /**
   * The host's word, heard at the server's time `now` (microseconds); `fresh` when it was said just now.
   * @param {Song} song
   * @param {number} now
   * @param {boolean} fresh
   */
  hear(song, now, fresh) {
    const late = now - 1000 * song.timestamp;
    if (fresh) this.#behind = Math.min(this.#behind ?? Infinity, late);
    const before = this.#song;
    const same = before?.title === song.title && before?.elapsedSeconds === song.elapsedSeconds;
    // The same place at another time: it stands still.
    this.#moving = !(same && before?.timestamp !== song.timestamp);
    // A word from before we came is at most half a minute old, if the host's clock is right.
    const behind = this.#behind ?? (late >= 0 && late < 30e6 ? 0 : late);
    this.#song = { ...song, since: 1000 * song.timestamp + behind };
  }

  /**
   * Seconds into the song at the server's time `now`.
   * @param {number} now
   */
  at(now) {
    if (!this.#song) return 0;
    const { elapsedSeconds, totalSeconds, since } = this.#song;
    const passed = this.#moving ? Math.max(0, (now - since) / 1e6) : 0;
    return totalSeconds > 0 ? Math.min(elapsedSeconds + passed, totalSeconds) : elapsedSeconds + passed;
  }
}
