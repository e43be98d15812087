// Notices: said to screen readers, and shown for a moment.

import { element } from "./elements.js";
import { text } from "./texts.js";

const SHOWN = 4000; // ms

/** @type {ReturnType<typeof setTimeout> | undefined} */
let hiding;

/**
 * @param {string} key
 * @param {import("./texts.js").Values} [values]
 */
export function announce(key, values) {
  const told = element("told");
  told.textContent = text(key, values);
  told.classList.add("toast");
  clearTimeout(hiding);
  hiding = setTimeout(() => told.classList.remove("toast"), SHOWN);
}
