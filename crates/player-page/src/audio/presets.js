// Presets of the equalizer: gains in dB at each of the bands. `custom` is the user's own and not in it.

/** Frequencies of the bands, in Hz. */
export const BANDS = [31.25, 62.5, 125, 250, 500, 1000, 2000, 4000, 8000, 16000];

/** @type {Readonly<Record<string, readonly number[]>>} */
export const PRESETS = {
  flat: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  rock: [5, 4, 3, 1, -1, -1, 1, 3, 4, 4],
  jazz: [3, 2, 1, 2, -1, -1, 0, 1, 2, 3],
  pop: [-1, 0, 1, 2, 3, 3, 2, 1, 0, -1],
  hiphop: [5, 5, 3, 1, -1, -1, 1, 0, 2, 3],
  dance: [5, 6, 4, 0, -1, -2, 0, 2, 3, 3],
  metal: [4, 4, 3, 0, -2, -2, 1, 3, 4, 3],
  electronic: [5, 4, 2, 0, -2, 1, 0, 1, 4, 5],
  acoustic: [4, 3, 2, 1, 1, 1, 2, 3, 3, 2],
  classical: [3, 2, 1, 1, 0, 0, 0, 1, 2, 3],
  lofi: [3, 4, 3, 1, 0, -1, -2, -4, -6, -9],
};
