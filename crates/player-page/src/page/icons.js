// Icons: paths on a grid of 24, drawn in the colour of the text around them.

import { svg, html } from "./lit.js";

const PATHS = {
  play: svg`<path d="M8 5.2v13.6a.8.8 0 0 0 1.2.7l10.9-6.8a.8.8 0 0 0 0-1.4L9.2 4.5a.8.8 0 0 0-1.2.7z"/>`,
  pause: svg`<rect x="6" y="4.5" width="4.2" height="15" rx="1.2"/><rect x="13.8" y="4.5" width="4.2" height="15" rx="1.2"/>`,
  next: svg`<path d="M5 5.6v12.8a.8.8 0 0 0 1.3.6l9.2-6.4a.8.8 0 0 0 0-1.2L6.3 5a.8.8 0 0 0-1.3.6z"/><rect x="16.8" y="4.8" width="2.4" height="14.4" rx="1"/>`,
  previous: svg`<path d="M19 5.6v12.8a.8.8 0 0 1-1.3.6l-9.2-6.4a.8.8 0 0 1 0-1.2L17.700 5a.8.8 0 0 1 1.3.6z"/><rect x="4.8" y="4.8" width="2.4" height="14.4" rx="1"/>`,
  shuffle: svg`<path class="line" d="M3 7h3.500c2 0 3 1 4 2.500l3 5c1 1.500 2 2.500 4 2.500H21M3 17h3.500c1.400 0 2.300-.5 3-1.300M14 8.300c.8-.8 1.900-1.300 3.500-1.300H21M18.500 4.500 21 7l-2.500 2.500M18.500 14.500 21 17l-2.500 2.500"/>`,
  repeat: svg`<path class="line" d="M4 11V9.500A3.500 3.500 0 0 1 7.500 6H20M17.500 3.500 20 6l-2.500 2.500M20 13v1.500a3.500 3.500 0 0 1-3.500 3.500H4M6.500 20.500 4 18l2.500-2.500"/>`,
  one: svg`<path class="line" d="M4 11V9.500A3.500 3.500 0 0 1 7.500 6H20M17.500 3.500 20 6l-2.500 2.500M20 13v1.500a3.500 3.500 0 0 1-3.500 3.500H4M6.500 20.500 4 18l2.500-2.500M10.700 10.700l1.600-1v5"/>`,
  loud: svg`<path d="M3 9.500v5h3.500L11 18.500v-13L6.500 9.500z"/><path class="line" d="M14.500 9a4 4 0 0 1 0 6M17 6.500a7.500 7.500 0 0 1 0 11"/>`,
  muted: svg`<path d="M3 9.500v5h3.500L11 18.500v-13L6.500 9.500z"/><path class="line" d="m15 9.500 5 5m0-5-5 5"/>`,
  queue: svg`<path class="line" d="M4 6h16M4 11h10M4 16h7"/><path d="M16 12.500v7l5-3.500z"/>`,
  lyrics: svg`<path class="line" d="M4 5.500h16v10H10L6 19v-3.500H4zM8 9h8M8 12h5"/>`,
  sound: svg`<path class="line" d="M6 4v7M6 15v5M12 4v3M12 11v9M18 4v9M18 17v3"/><circle cx="6" cy="13" r="2"/><circle cx="12" cy="9" r="2"/><circle cx="18" cy="15" r="2"/>`,
  library: svg`<path class="line" d="M5 4v16M9.500 4v16M14 4.500l4.500 15"/>`,
  radio: svg`<circle cx="12" cy="12" r="2"/><path class="line" d="M8 16a5.700 5.700 0 0 1 0-8M16 8a5.700 5.700 0 0 1 0 8M5 19A9.900 9.900 0 0 1 5 5M19 5a9.900 9.900 0 0 1 0 14"/>`,
  search: svg`<circle class="line" cx="10.500" cy="10.500" r="6"/><path class="line" d="m15 15 5 5"/>`,
  close: svg`<path class="line" d="m6 6 12 12M18 6 6 18"/>`,
  add: svg`<path class="line" d="M12 5v14M5 12h14"/>`,
  up: svg`<path class="line" d="m6 14 6-6 6 6"/>`,
  down: svg`<path class="line" d="m6 10 6 6 6-6"/>`,
  keys: svg`<rect class="line" x="3" y="6" width="18" height="12" rx="2"/><path class="line" d="M7 10h.01M11 10h.01M15 10h.01M8 14h8"/>`,
  leave: svg`<path class="line" d="M10 4H5v16h5M10 12h10M16.500 8.500 20 12l-3.500 3.500"/>`,
  note: svg`<path d="M9 17.500V6l10-2v11.500a2.500 2.500 0 1 1-2-2.450V8l-6 1.200v8.300a2.500 2.500 0 1 1-2-2.450z"/>`,
};

/** @typedef {keyof typeof PATHS} Icon */

/**
 * An icon, which screen readers pass over.
 * @param {Icon} name
 */
export const icon = (name) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">${PATHS[name]}</svg>`;

/**
 * A cover of one of twelve colours, by the text that it stands for.
 * @param {string} of
 * @param {"" | "large"} size
 * @param {Icon} mark
 */
export function cover(of, size = "", mark = "note") {
  let sum = 7;
  for (const letter of of) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 9973;
  return html`<span class="cover ${size} cover-${sum % 12}" aria-hidden="true">${icon(mark)}</span>`;
}
