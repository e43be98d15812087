// The page's words in the reader's language: texts.json, with plurals and numbers by Intl.

const FALLBACK = "en";

const texts = await (await fetch(new URL("texts.json", import.meta.url))).json();

export let language;
let plural;
let decimal;

/** The first of `wanted` that we have; tags such as `uk-UA` count by their language. */
function choose(wanted) {
  return wanted.map((tag) => tag?.toLowerCase().split("-")[0]).find((tag) => tag in texts) ?? FALLBACK;
}

/** Speaks `?lang=`, else `chosen`, else the first language of the browser that we have. */
export function speak(chosen = null) {
  language = choose([new URLSearchParams(location.search).get("lang"), chosen, ...navigator.languages]);
  set();
}

/** Speaks `tag` from now on, whatever the address says, and fills the page again. */
export function change(tag) {
  language = choose([tag]);
  set();
  fill();
}

function set() {
  plural = new Intl.PluralRules(language);
  decimal = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

/** A number with one decimal. */
export const number = (value) => decimal.format(value);

/** The text of `key`; `{name}` in it is replaced by `values.name`, and `values.count` chooses the plural. */
export function text(key, values = {}) {
  const found = texts[language][key] ?? key;
  const chosen = typeof found === "string" ? found : found[plural.select(values.count)];
  return chosen.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Fills the page: `data-text` and `data-label` name keys; a label with `title` is shown to the pointer too. */
export function fill() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", text(node.dataset.label));
    if (node.hasAttribute("title")) node.title = text(node.dataset.label);
  }
}

speak();
