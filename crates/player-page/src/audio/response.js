// Gains of the equalizer's filters, such that the gain at each band is the one that was asked for. Pure.
//
// Filters of neighbouring bands overlap: with all sliders at 6 dB, filters of 6 dB would add up to more than 9. So the
// filters get the gains that give the wanted sum; in dB that is nearly linear, and one matrix does for all.

import { BANDS } from "./presets.js";

/**
 * @typedef {{ type: "lowshelf" | "peaking" | "highshelf", hertz: number }} Filter
 */

/** Quality of the peaking filters: an octave wide. */
export const QUALITY = 1.41;
/** Largest gain of a filter in dB: sliders that are set against each other would ask for more. */
const LARGEST = 18;
/** Points in each octave at which the peak of a response is looked for. */
const POINTS = 12;

/**
 * Filters of the bands. The shelves turn half an octave inside the first and the last band: at its own frequency a shelf
 * has only half its gain.
 * @type {readonly Filter[]}
 */
export const FILTERS = BANDS.map((hertz, band) => {
  if (band === 0) return { type: "lowshelf", hertz: hertz * Math.SQRT2 };
  if (band === BANDS.length - 1) return { type: "highshelf", hertz: hertz / Math.SQRT2 };
  return { type: "peaking", hertz };
});

/**
 * Coefficients of a filter as the Web Audio API defines them (after Bristow-Johnson): numerator and denominator.
 * @param {Filter} filter
 * @param {number} gain dB
 * @param {number} rate samples a second
 */
function coefficients({ type, hertz }, gain, rate) {
  const a = 10 ** (gain / 40);
  const omega = 2 * Math.PI * hertz / rate;
  const [cos, sin] = [Math.cos(omega), Math.sin(omega)];
  if (type === "peaking") {
    const alpha = sin / (2 * QUALITY);
    return [[1 + alpha * a, -2 * cos, 1 - alpha * a], [1 + alpha / a, -2 * cos, 1 - alpha / a]];
  }
  const root = Math.sqrt(a) * sin * Math.SQRT2;
  const [more, less] = [a + 1, type === "lowshelf" ? a - 1 : 1 - a];
  return [
    [a * (more - less * cos + root), 2 * a * (less - more * cos), a * (more - less * cos - root)],
    [more + less * cos + root, -2 * (less + more * cos), more + less * cos - root],
  ];
}

/**
 * Square of the magnitude of a polynomial in z⁻¹ on the unit circle.
 * @param {number[]} polynomial three terms
 * @param {number} omega
 */
function power([first, second, third], omega) {
  const real = first + second * Math.cos(omega) + third * Math.cos(2 * omega);
  const imaginary = second * Math.sin(omega) + third * Math.sin(2 * omega);
  return real * real + imaginary * imaginary;
}

/**
 * Gain in dB of one filter at a frequency.
 * @param {Filter} filter
 * @param {number} gain dB
 * @param {number} hertz
 * @param {number} rate
 */
function filterResponse(filter, gain, hertz, rate) {
  const [over, under] = coefficients(filter, gain, rate);
  const omega = 2 * Math.PI * hertz / rate;
  return 10 * Math.log10(power(over, omega) / power(under, omega));
}

/**
 * Gain in dB of all filters at a frequency.
 * @param {readonly number[]} gains of the filters, in dB
 * @param {number} hertz
 * @param {number} rate
 */
export function response(gains, hertz, rate) {
  return FILTERS.reduce((sum, filter, n) => sum + filterResponse(filter, gains[n], hertz, rate), 0);
}

/**
 * Solves a system of linear equations by elimination; the matrix is diagonally strong, its pivots are never near zero.
 * @param {number[][]} matrix
 * @param {readonly number[]} right
 */
function solve(matrix, right) {
  const rows = matrix.map((row, n) => [...row, right[n]]);
  rows.forEach((pivot, n) => {
    for (const row of rows.slice(n + 1)) {
      const factor = row[n] / pivot[n];
      pivot.forEach((value, column) => row[column] -= factor * value);
    }
  });
  /** @type {number[]} */
  const found = new Array(rows.length).fill(0);
  for (let n = rows.length - 1; n >= 0; n--) {
    const known = found.reduce((sum, value, column) => sum + value * rows[n][column], 0);
    found[n] = (rows[n][rows.length] - known) / rows[n][n];
  }
  return found;
}

/**
 * Gains of the filters for wanted gains at the bands.
 * @param {readonly number[]} bands dB at each band
 * @param {number} rate samples a second
 * @returns {number[]}
 */
export function filterGains(bands, rate) {
  // A band above half the rate is not there to be heard, and would spoil the others.
  const nyquist = rate / 2.1;
  const at = BANDS.map((hertz) => Math.min(hertz, nyquist));
  const matrix = at.map((hertz) => FILTERS.map((filter) => filterResponse(filter, 1, hertz, rate)));
  return solve(matrix, bands).map((gain) => Math.max(-LARGEST, Math.min(LARGEST, gain)));
}

/**
 * Gain in dB that keeps the loudest frequency at what it was: the negative peak of the response.
 * @param {readonly number[]} gains of the filters
 * @param {number} rate
 */
export function preampGain(gains, rate) {
  const from = BANDS[0] / 2;
  const count = Math.floor(POINTS * Math.log2(rate / 2.1 / from));
  const heights = Array.from({ length: count + 1 }, (_, n) => response(gains, from * 2 ** (n / POINTS), rate));
  return -Math.max(0, ...heights);
}
