// Keys of the page; off while something is typed, and where they are switched off.

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
