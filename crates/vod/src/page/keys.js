// The keyboard: one key for each thing, off while something is typed or chosen, and off for good where the reader wants that
// (WCAG 2.1.4).

import { element } from "./elements.js";
import { recall, remember } from "./memory.js";
import { text } from "./texts.js";

/** What is listed in the help: keys, and the name of what they do. */
/** @type {[string, string][]} */
const LIST = [
  ["Space K", "play-pause"], ["← →", "step"], ["J L", "jump"], ["0 – 9", "tenth"], ["↑ ↓", "louder"], ["M", "mute"], ["< >", "faster"],
  ["C", "subtitles"], ["F", "full"], ["P", "pip"], ["?", "keys"],
];

/** @param {import("./controls.js").Controls} controls */
export function listen(controls) {
  const help = element("help");
  const on = element("keys-on");
  on.checked = recall("film.keys") !== "off";
  on.addEventListener("change", () => remember("film.keys", on.checked ? null : "off"));
  const open = () => { translate(); help.showModal(); };
  element("keys").addEventListener("click", open);
  element("close").addEventListener("click", () => help.close());
  /** @type {Record<string, () => void>} */
  const acts = {
    " ": () => controls.toggle(), k: () => controls.toggle(),
    ArrowLeft: () => controls.step(-5), ArrowRight: () => controls.step(5), j: () => controls.step(-10), l: () => controls.step(10),
    ArrowUp: () => controls.louder(5), ArrowDown: () => controls.louder(-5), m: () => controls.mute(),
    "<": () => controls.faster(-1), ">": () => controls.faster(1),
    c: () => controls.toggleSubtitles(), f: () => controls.toggleFull(), p: () => controls.togglePip(), "?": open,
  };
  addEventListener("keydown", (event) => {
    if (!on.checked || event.ctrlKey || event.altKey || event.metaKey || help.open || element("player").hidden) return;
    const target = /** @type {Element} */ (event.target);
    if (target.closest("input, select, textarea, form")) return;
    // A button and a link have these for themselves.
    if (event.key === " " && target.closest("button, a")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = /^[0-9]$/.test(key) ? () => controls.tenth(Number(key)) : acts[key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

/** Writes the list of the help, in the language of now. */
export function translate() {
  const rows = LIST.flatMap(([keys, does]) => {
    const name = document.createElement("dt");
    for (const key of keys.split(" ")) {
      name.append(key === "–" ? "–" : Object.assign(document.createElement("kbd"), { textContent: key }), " ");
    }
    return [name, Object.assign(document.createElement("dd"), { textContent: text(does) })];
  });
  element("key-list").replaceChildren(...rows);
}
