// Films that the user can continue.

import { element } from "./elements.js";
import { clock, spoken } from "./time.js";
import { text } from "./texts.js";

export class ContinueList {
  #api;
  #without;
  /** @type {import("./api.js").Continued[]} */
  #items = [];
  #loaded = false;
  /** @type {string | null} */
  #cursor = null;

  /**
   * @param {import("./api.js").Api} api
   * @param {string} without the film that is on the page already
   */
  constructor(api, without) {
    this.#api = api;
    this.#without = without;
    element("more").addEventListener("click", () => this.#more());
  }

  /** Loads the list anew; throws where it cannot be read. */
  async load() {
    const { items, nextCursor } = await this.#api.continued(null);
    this.#items = items;
    this.#cursor = nextCursor;
    this.#loaded = true;
    this.translate();
  }

  async #more() {
    const first = this.#shown.length;
    try {
      const { items, nextCursor } = await this.#api.continued(this.#cursor);
      this.#items.push(...items);
      this.#cursor = nextCursor;
    } catch {
      return; // The button is still there.
    }
    this.translate();
    // The button may be gone, and the reader's place with it.
    element("films").children[first]?.querySelector("a")?.focus();
  }

  get #shown() {
    return this.#items.filter(({ id }) => id !== this.#without);
  }

  /** Shows the list, in the language of now. */
  translate() {
    if (!this.#loaded) return;
    const shown = this.#shown;
    element("films").replaceChildren(...shown.map(entry));
    element("more").hidden = !this.#cursor;
    element("nothing").hidden = shown.length > 0;
    // Beside a film an empty list is no news.
    element("continue").hidden = shown.length === 0 && this.#without !== "";
  }
}

/** @param {import("./api.js").Continued} film */
function entry({ id, positionMs, durationMs }) {
  const link = Object.assign(document.createElement("a"), { href: `/watch/${encodeURIComponent(id)}` });
  link.append(Object.assign(document.createElement("span"), { textContent: id }));
  const [at, length] = [positionMs / 1000, (durationMs ?? 0) / 1000];
  const said = length > 0 ? text("continue.left", { left: clock(length - at) }) : text("continue.at", { at: clock(at) });
  link.append(Object.assign(document.createElement("span"), { className: "left", textContent: said }));
  if (length > 0) {
    const bar = Object.assign(document.createElement("progress"), { max: length, value: at });
    bar.setAttribute("aria-label", text("continue.seen", { at: spoken(at) }));
    link.append(bar);
  }
  const item = document.createElement("li");
  item.append(link);
  return item;
}
