// Lyrics: lines and words that go with the sound, a click that seeks, an offset for each track, translations and pronunciations.

import { refusalOf } from "./api.js";
import { icon } from "./icons.js";
import { html, live, nothing } from "./lit.js";
import { panelHead } from "./panels.js";
import { recall, remember } from "./memory.js";
import { language, number, text } from "./texts.js";

const SHOWN = "player.lyrics"; // remembers which texts stand below the main one
const NEAR = 1500; // ms between a line and its translation
const PAUSE = 4000; // ms without scrolling by itself after the reader has scrolled

/** @typedef {{ start_ms: number, text: string }} Word */
/** @typedef {{ start_ms: number, text: string, words?: Word[] }} Line */
/** @typedef {{ kind: "main" | "translation" | "pronunciation", lang: string | null, is_synced: boolean, lines: Line[] }} LyricsText */
/** @typedef {{ lang: string | null, plain: string | null, instrumental: boolean, synced: Line[] | null, texts: LyricsText[] }} Found */

export class Lyrics {
  isThere = true;
  /** @type {"none" | "loading" | "ready" | "instrumental" | "failed"} */
  state = "none";
  /** @type {Line[]} */
  lines = [];
  /**
   * What stands below each line, of each text that is shown.
   * @type {{ lang: string | null, lines: (string | undefined)[] }[]}
   */
  below = [];
  plain = "";
  /** @type {Found | null} */
  about = null;
  offset = 0;
  /** Kinds and languages that the listener wants below the main text. */
  #wanted = new Set((recall(SHOWN) ?? "").split(" ").filter(Boolean));
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
    Object.assign(this, { state: id ? "loading" : "none", lines: [], below: [], plain: "", about: null });
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
      this.#putBelow();
      this.state = found.instrumental ? "instrumental" : this.lines.length > 0 || this.plain ? "ready" : "none";
    } catch (error) {
      if (asking.signal.aborted) return;
      const refused = refusalOf(error);
      this.state = refused?.status === 404 ? "none" : "failed";
      if (refused?.code === "NO_ROUTE" || refused?.code === "no_route") this.isThere = false;
    }
    this.#changed();
  }

  /** Texts beside the main one: translations and pronunciations. */
  get others() {
    return this.about?.texts?.filter(({ kind }) => kind !== "main") ?? [];
  }

  /** @param {LyricsText} other */
  shows(other) {
    return this.#wanted.has(nameOf(other));
  }

  /**
   * Shows a text below the main one, or hides it; the next track's of the same language too.
   * @param {LyricsText} other
   * @param {boolean} on
   */
  show(other, on) {
    if (on) this.#wanted.add(nameOf(other));
    else this.#wanted.delete(nameOf(other));
    remember(SHOWN, this.#wanted.size > 0 ? [...this.#wanted].join(" ") : null);
    this.#putBelow();
    this.#changed();
  }

  #putBelow() {
    const shown = this.others.filter((other) => this.shows(other));
    this.below = shown.map((other) => ({ lang: other.lang, lines: linesBelow(other, this.lines) }));
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

/** @param {LyricsText} text */
const nameOf = ({ kind, lang }) => `${kind}.${lang ?? ""}`;

/**
 * What stands below each line of the main text: by its time, or by its place where it has no times. Both are in order.
 * @param {LyricsText} other
 * @param {Line[]} lines
 * @returns {(string | undefined)[]}
 */
export function linesBelow(other, lines) {
  if (!other.is_synced) return other.lines.length === lines.length ? other.lines.map((line) => line.text) : [];
  /** @type {(string | undefined)[]} */
  const below = Array(lines.length);
  let n = 0;
  for (const { start_ms: start, text: said } of other.lines) {
    /** @param {number} of */
    const far = (of) => Math.abs(lines[of].start_ms - start);
    // Of two lines with one start each has its own.
    const fits = () => far(n) === 0 && below[n] === undefined;
    while (n + 1 < lines.length && !fits() && far(n + 1) <= far(n)) n += 1;
    if (said && far(n) <= NEAR) below[n] = [below[n], said].filter(Boolean).join(" ");
  }
  return below;
}

/** @param {LyricsText} other */
function title({ kind, lang }) {
  let name = lang;
  try {
    name = lang && (new Intl.DisplayNames([language], { type: "language" }).of(lang) ?? lang);
  } catch {
    // The tag is none.
  }
  return [kind === "translation" ? text("lyrics.translation") : text("lyrics.pronunciation"), name].filter(Boolean).join(": ");
}

/** @param {Lyrics} lyrics */
const switches = (lyrics) => (lyrics.others.length === 0 ? nothing : html`<div class="other-lyrics">${lyrics.others.map((other) => html`
    <label class="check"><input type="checkbox" data-lyrics=${nameOf(other)} .checked=${live(lyrics.shows(other))} @change=${(event) => lyrics.show(other, event.target.checked)}> ${title(other)}</label>`)}</div>`);

/**
 * The main text without times, and those beside it.
 * @param {Lyrics} lyrics
 */
const plainTexts = (lyrics) => html`<p class="plain-lyrics" lang=${lyrics.about?.lang ?? nothing}>${lyrics.plain}</p>
  ${lyrics.others.filter((other) => lyrics.shows(other)).map((other) => html`<h3>${title(other)}</h3>
    <p class="plain-lyrics" lang=${other.lang ?? nothing}>${other.lines.map((line) => line.text).join("\n")}</p>`)}`;

/** @param {import("./app.js").App} app */
export function lyricsPanel(app) {
  const { lyrics } = app;
  const head = panelHead(app, "lyrics");
  if (lyrics.state === "loading") return html`${head}<p role="status">${text("loading")}</p>`;
  if (lyrics.state === "failed") return html`${head}<div class="empty" role="alert"><h3>${text("lyrics.failed")}</h3><button type="button" class="primary" @click=${() => lyrics.again()}>${text("again")}</button></div>`;
  if (lyrics.state !== "ready") return html`${head}<div class="empty">${icon("lyrics")}<h3>${lyrics.state === "instrumental" ? text("lyrics.instrumental") : text("lyrics.none")}</h3></div>`;
  if (lyrics.lines.length === 0) return html`${head}${switches(lyrics)}${plainTexts(lyrics)}`;
  /** @param {number} index */
  const below = (index) => lyrics.below.map(({ lang, lines }) => (lines[index] ? html`<span class="below" lang=${lang ?? nothing}>${lines[index]}</span>` : nothing));
  return html`${head}
    <div class="offset" role="group" aria-label=${text("lyrics.offset")}>
      <button type="button" class="quiet" id="lyrics-earlier" aria-label=${text("lyrics.earlier")} @click=${() => lyrics.shift(0.1)}>−</button>
      <output>${text("lyrics.shift", { seconds: number(lyrics.offset) })}</output>
      <button type="button" class="quiet" id="lyrics-later" aria-label=${text("lyrics.later")} @click=${() => lyrics.shift(-0.1)}>+</button>
    </div>
    ${switches(lyrics)}
    <ol id="lines" class="lines" lang=${lyrics.about?.lang ?? nothing}>${lyrics.lines.map((line, index) => html`<li>
      <button type="button" @click=${() => app.playback.seek(Math.max(0, line.start_ms / 1000 - lyrics.offset))}>${line.words?.length ? line.words.map((word) => html`<span data-word>${word.text}</span>`) : line.text || "♪"}${below(index)}</button></li>`)}</ol>`;
}
