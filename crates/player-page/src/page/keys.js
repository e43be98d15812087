// Keys of the page; off while something is typed, and where they are switched off.

import { SPEEDS } from "./deck.js";

export const KEYS = [
  ["Space, K", "keys.play"], ["J, L", "keys.ten"], ["← →", "keys.five"], ["↑ ↓", "keys.volume"], ["M", "keys.mute"],
  ["N, P", "keys.next"], ["< >", "keys.speed"], ["[ ]", "keys.pitch"], ["0–9", "keys.tenth"], ["/", "keys.search"],
  ["Q, Y, E", "keys.panels"], ["?", "keys.help"],
];

/**
 * @param {Record<string, () => void>} actions by key, in small letters
 * @param {(digit: number) => void} tenth takes a digit
 * @param {() => boolean} isOn
 */
export function listen(actions, tenth, isOn) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const at = event.target instanceof Element ? event.target : document.body;
    if (at.closest("input:not([type=range]), textarea, select, dialog[open]")) return;
    if (!isOn() && event.key !== "?") return;
    const key = event.key.toLowerCase();
    // These are the focused element's own.
    if (at.closest("button, a, summary") && [" ", "enter"].includes(key)) return;
    if (at.closest("input[type=range], [role=tablist]") && key.startsWith("arrow")) return;
    if (/^[0-9]$/.test(key)) tenth(Number(key));
    else if (Object.hasOwn(actions, key)) actions[key]();
    else return;
    event.preventDefault();
  });
}

/**
 * What each key does.
 * @param {import("./app.js").App} app
 * @returns {Record<string, () => void>}
 */
export function actionsOf(app) {
  const { playback, live } = app;
  /** @type {(by: number) => () => void} */
  const jump = (by) => () => playback.seek(playback.seconds + by);
  /** @type {(by: number) => () => void} */
  const pitch = (by) => () => live.change("semitones", Math.max(-12, Math.min(12, live.semitones + by)));
  /** @type {(by: number) => () => void} stops of the list of speeds */
  const speed = (by) => () => {
    const nearest = SPEEDS.reduce((best, stop, n) => (Math.abs(stop - live.playedSpeed) < Math.abs(SPEEDS[best] - live.playedSpeed) ? n : best), 0);
    live.setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, nearest + by))]);
  };
  return {
    " ": app.toggle, k: app.toggle, j: jump(-10), l: jump(10), arrowleft: jump(-5), arrowright: jump(5),
    arrowup: () => app.setVolume(app.volume + 5), arrowdown: () => app.setVolume(app.volume - 5), m: app.mute,
    n: app.next, p: app.previous, "<": speed(-1), ">": speed(1), "[": pitch(-1), "]": pitch(1),
    q: () => app.show("queue"), y: () => app.show("lyrics"), e: () => app.show("sound"), "?": app.openHelp,
    "/": () => document.getElementById("search")?.focus(),
    escape: () => { if (app.panel) app.show(app.panel); },
  };
}
