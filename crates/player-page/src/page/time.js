// Times as people read and hear them.

import { text } from "./texts.js";

/** `1:05`, `1:02:03`; a dash where the time is not known. */
export function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–:––";
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** The same in words, for screen readers. */
export function spoken(seconds) {
  const whole = Math.max(0, Math.floor(Number.isFinite(seconds) ? seconds : 0));
  /** @type {[string, number][]} */
  const parts = [["time.hours", Math.floor(whole / 3600)], ["time.minutes", Math.floor(whole / 60) % 60], ["time.seconds", whole % 60]];
  const said = parts.filter(([, count]) => count > 0).map(([key, count]) => text(key, { count }));
  return said.length > 0 ? said.join(" ") : text("time.seconds", { count: 0 });
}
