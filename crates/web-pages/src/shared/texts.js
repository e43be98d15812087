// The page's words in the reader's language: texts.json, with plurals and numbers by Intl.

const FALLBACK = "en";

/** @typedef {Record<string, string | number>} Values */

/** @type {Record<string, Record<string, string | Partial<Record<Intl.LDMLPluralRule, string>>>>} */
const texts = await (await fetch(new URL("texts.json", import.meta.url))).json();

/** @type {string} */
export let language;
/** @type {Intl.PluralRules} */
let plural;
/** @type {Intl.NumberFormat} */
let decimal;

/**
 * The first of `wanted` that we have; tags such as `uk-UA` count by their language.
 * @param {(string | null)[]} wanted
 */
function choose(wanted) {
  return wanted.map((tag) => tag?.toLowerCase().split("-")[0]).find((tag) => tag !== undefined && tag in texts) ?? FALLBACK;
}

/**
 * Speaks `?lang=`, else `chosen`, else the first language of the browser that we have.
 * @param {string | null} chosen
 */
export function speak(chosen = null) {
  language = choose([new URLSearchParams(location.search).get("lang"), chosen, ...navigator.languages]);
  set();
}

/**
 * Speaks `tag` from now on, whatever the address says, and fills the page again.
 * @param {string} tag
 */
export function change(tag) {
  language = choose([tag]);
  set();
  fill();
}

function set() {
  plural = new Intl.PluralRules(language);
  decimal = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

/**
 * A number with one decimal.
 * @param {number} value
 */
export const number = (value) => decimal.format(value);

/**
 * The text of `key`; `{name}` in it is replaced by `values.name`, and `values.count` chooses the plural.
 * @param {string} key
 * @param {Values} values
 */
export function text(key, values = {}) {
  const found = texts[language][key] ?? key;
  const chosen = typeof found === "string" ? found : found[plural.select(Number(values.count))] ?? key;
  return chosen.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/**
 * Elements that name a key.
 * @param {"text" | "label"} what
 * @returns {NodeListOf<HTMLElement>}
 */
const marked = (what) => document.querySelectorAll(`[data-${what}]`);

/** Fills the page: `data-text` and `data-label` name keys; a label with `title` is shown to the pointer too. */
export function fill() {
  document.documentElement.lang = language;
  for (const node of marked("text")) node.textContent = text(node.dataset.text ?? "");
  for (const node of marked("label")) {
    const label = text(node.dataset.label ?? "");
    node.setAttribute("aria-label", label);
    if (node.hasAttribute("title")) node.title = label;
  }
}

speak();
