// The page's words in the reader's language: texts.json, with plurals and numbers by Intl.

const FALLBACK = "en";

/** `?lang=` or the first language of the browser that we have. */
function choose(languages) {
  const wanted = [new URLSearchParams(location.search).get("lang"), ...navigator.languages];
  const known = wanted.map((tag) => tag?.toLowerCase().split("-")[0]).find((tag) => languages.includes(tag));
  return known ?? FALLBACK;
}

const texts = await (await fetch(new URL("texts.json", import.meta.url))).json();

export const language = choose(Object.keys(texts));
const plural = new Intl.PluralRules(language);
const decimal = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** A number with one decimal. */
export const number = (value) => decimal.format(value);

/** The text of `key`; `{name}` in it is replaced by `values.name`, and `values.count` chooses the plural. */
export function text(key, values = {}) {
  const found = texts[language][key] ?? key;
  const chosen = typeof found === "string" ? found : found[plural.select(values.count)];
  return chosen.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Fills the page: `data-text` and `data-label` name keys. */
export function fill() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", text(node.dataset.label));
}
