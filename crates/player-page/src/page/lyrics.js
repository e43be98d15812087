// Lyrics: lines and words that go with the sound, a click that seeks, an offset for each track.

import { refusalOf } from "./api.js";
import { icon } from "./icons.js";
import { html, nothing } from "./lit.js";
import { panelHead } from "./panels.js";
import { recall, remember } from "./memory.js";
import { number, text } from "./texts.js";

const PAUSE = 4000; // ms without scrolling by itself after the reader has scrolled

/** @typedef {{ start_ms: number, text: string }} Word */
/** @typedef {{ start_ms: number, text: string, words?: Word[] }} Line */
/** @typedef {{ kind: "main" | "translation" | "transliteration", lang: string | null, lines: Line[] }} LyricsText */
/** @typedef {{ lang: string | null, plain: string | null, instrumental: boolean, synced: Line[] | null, texts: LyricsText[] }} Found */

export class Lyrics {
  isThere = true;
  /** @type {"none" | "loading" | "ready" | "instrumental" | "failed"} */
  state = "none";
  /** @type {Line[]} */
  lines = [];
  plain = "";
  /** @type {Found | null} */
  about = null;
  offset = 0;
  /** @type {string | null} */
  #id = null;
  #api;
  #changed;
  #active = -1;
  #scrolled = -PAUSE;
  /** @type {AbortController | null} */
  #asking = null;

  /**
   * @param {import("./api.js").Api} api
   * @param {() => void} changed
   */
  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
  }

  /**
   * Loads those of a track.
   * @param {string | null} id
   */
  async load(id) {
    if (!this.isThere || id === this.#id) return;
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    Object.assign(this, { state: id ? "loading" : "none", lines: [], plain: "", about: null });
    this.#id = id;
    this.#active = -1;
    this.offset = Number(id && recall(`lyrics.${id}`)) || 0;
    this.#changed();
    if (!id) return;
    try {
      /** @type {Found} */
      const found = await this.#api.get(`/api/v1/lyrics/${encodeURIComponent(id)}`, asking.signal);
      const main = found.texts?.find(({ kind }) => kind === "main");
      this.lines = found.synced ?? [];
      this.plain = found.plain ?? main?.lines.map((line) => line.text).join("\n") ?? "";
      this.about = found;
      this.state = found.instrumental ? "instrumental" : this.lines.length > 0 || this.plain ? "ready" : "none";
    } catch (error) {
      if (asking.signal.aborted) return;
      const refused = refusalOf(error);
      this.state = refused?.status === 404 ? "none" : "failed";
      if (refused?.code === "NO_ROUTE" || refused?.code === "no_route") this.isThere = false;
    }
    this.#changed();
  }

  again() {
    const id = this.#id;
    this.#id = null;
    return this.load(id);
  }

  /** @param {number} by seconds; 0: none */
  shift(by) {
    this.offset = by === 0 ? 0 : Math.round((this.offset + by) * 10) / 10;
    remember(`lyrics.${this.#id}`, this.offset === 0 ? null : String(this.offset));
    this.#active = -1;
    this.#changed();
  }

  scrolled() {
    this.#scrolled = performance.now();
  }

  /**
   * Marks the line and the words of this moment.
   * @param {number} seconds what is heard
   */
  follow(seconds) {
    const now = (seconds + this.offset) * 1000;
    const index = this.lines.findLastIndex(({ start_ms }) => start_ms <= now);
    const list = document.getElementById("lines");
    if (!list) return;
    if (index !== this.#active || !list.children[index]?.hasAttribute("aria-current")) {
      this.#active = index;
      // When, for whoever measures it.
      list.dataset.heard = String(seconds);
      for (const [n, line] of [...list.children].entries()) {
        if (n === index) line.setAttribute("aria-current", "true");
        else line.removeAttribute("aria-current");
        line.classList.toggle("past", n < index);
      }
      this.#scroll(list, index);
    }
    const words = this.lines[index]?.words ?? [];
    for (const [n, word] of [...(list.children[index]?.querySelectorAll("[data-word]") ?? [])].entries()) {
      word.classList.toggle("sung", words[n].start_ms <= now);
    }
  }

  /**
   * @param {HTMLElement} list
   * @param {number} index
   */
  #scroll(list, index) {
    const line = /** @type {HTMLElement | undefined} */ (list.children[index]);
    const box = list.closest(".side");
    if (!line || !box || performance.now() - this.#scrolled < PAUSE) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    box.scrollTo({ top: line.offsetTop - box.clientHeight / 2.6, behavior: calm ? "auto" : "smooth" });
  }
}

/** @param {import("./app.js").App} app */
export function lyricsPanel(app) {
  const { lyrics } = app;
  const head = panelHead(app, "lyrics");
  if (lyrics.state === "loading") return html`${head}<p role="status">${text("loading")}</p>`;
  if (lyrics.state === "failed") return html`${head}<div class="empty" role="alert"><h3>${text("lyrics.failed")}</h3><button type="button" class="primary" @click=${() => lyrics.again()}>${text("again")}</button></div>`;
  if (lyrics.state !== "ready") return html`${head}<div class="empty">${icon("lyrics")}<h3>${lyrics.state === "instrumental" ? text("lyrics.instrumental") : text("lyrics.none")}</h3></div>`;
  if (lyrics.lines.length === 0) return html`${head}<p class="plain-lyrics" lang=${lyrics.about?.lang ?? nothing}>${lyrics.plain}</p>`;
  return html`${head}
    <div class="offset" role="group" aria-label=${text("lyrics.offset")}>
      <button type="button" class="quiet" aria-label=${text("lyrics.earlier")} @click=${() => lyrics.shift(0.1)}>−</button>
      <output>${text("lyrics.shift", { seconds: number(lyrics.offset) })}</output>
      <button type="button" class="quiet" aria-label=${text("lyrics.later")} @click=${() => lyrics.shift(-0.1)}>+</button>
    </div>
    <ol id="lines" class="lines" lang=${lyrics.about?.lang ?? nothing}>${lyrics.lines.map((line) => html`<li>
      <button type="button" @click=${() => app.playback.seek(Math.max(0, line.start_ms / 1000 - lyrics.offset))}>${line.words?.length ? line.words.map((word) => html`<span data-word>${word.text}</span>`) : line.text || "♪"}</button></li>`)}</ol>`;
}
