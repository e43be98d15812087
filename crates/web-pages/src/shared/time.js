// Times in a film or a track, for the eye and for the ear. Pages that use them have the texts `time.hours`, `time.minutes` and
// `time.seconds`.

import { text } from "./texts.js";

/** @param {number} number */
const two = (number) => String(number).padStart(2, "0");

/** @param {number} seconds */
function parts(seconds) {
  const whole = Number.isFinite(seconds) ? Math.max(0, Math.floor(seconds)) : 0;
  return [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
}

/**
 * `1:02:03`, or `2:03`.
 * @param {number} seconds
 */
export function clock(seconds) {
  const [hours, minutes, rest] = parts(seconds);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/**
 * `1 hour 2 minutes 3 seconds`, without what is zero.
 * @param {number} seconds
 */
export function spoken(seconds) {
  const all = parts(seconds);
  const said = ["hours", "minutes", "seconds"].map((unit, at) => all[at] > 0 && text(`time.${unit}`, { count: all[at] }));
  return said.filter(Boolean).join(" ") || text("time.seconds", { count: 0 });
}
