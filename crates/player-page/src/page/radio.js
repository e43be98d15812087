// Radio: stations, and the titles of the one that plays.

import { refusalOf } from "./api.js";
import { cover, icon } from "./icons.js";
import { html, nothing, repeat } from "./lit.js";
import { Retry } from "./retry.js";
import { text } from "./texts.js";

const QUIET = 200; // ms without a key before a search

/** @typedef {{ id: string, name: string, genre: string | null, country: string | null, codec: string | null, bitrate_kbps: number | null }} Station */
/** @typedef {{ text: string }} Title */

export class Radio {
  /** False where the server has no radio. */
  isThere = false;
  /** @type {"loading" | "ready" | "failed"} */
  state = "loading";
  /** @type {Station[]} */
  items = [];
  search = "";
  /** The search that the list is of. */
  found = "";
  /** @type {string | null} */
  title = null;
  /** @type {Title[]} */
  history = [];
  #api;
  #changed;
  /** @type {string | null} */
  #cursor = null;
  /** @type {AbortController | null} */
  #asking = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {EventSource | null} */
  #source = null;
  /**
   * The station whose titles are followed.
   * @type {string | null}
   */
  #station = null;
  #retry = new Retry(() => this.#followAnew());

  /**
   * @param {import("./api.js").Api} api
   * @param {() => void} changed
   */
  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
  }

  get hasMore() {
    return this.#cursor !== null;
  }

  /** @param {string} search */
  type(search) {
    this.search = search;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.load(), QUIET);
    this.#changed();
  }

  /**
   * Loads the list anew, or its next page; throws nothing: a failure is a state.
   * @param {boolean} more
   */
  async load(more = false) {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const search = this.search.trim();
    const query = new URLSearchParams({ limit: "60" });
    if (search) query.set("q", search);
    if (more && this.#cursor) query.set("cursor", this.#cursor);
    try {
      const { items, nextCursor } = await this.#api.get(`/api/v1/radio/streams?${query}`, asking.signal);
      this.items = more ? [...this.items, ...items] : items;
      this.#cursor = nextCursor ?? null;
      this.found = search;
      this.state = "ready";
      this.isThere = true;
    } catch (error) {
      if (asking.signal.aborted) return;
      this.isThere = refusalOf(error)?.status !== 404;
      this.state = "failed";
    }
    this.#changed();
  }

  /** Drops what is shown: it is of a user who has left. */
  empty() {
    this.#asking?.abort();
    clearTimeout(this.#timer);
    Object.assign(this, { search: "", found: "", items: [], state: "loading", isThere: false });
    this.#cursor = null;
    this.leave();
  }

  /**
   * Opens a station; returns the path of its sound.
   * @param {Station} station
   * @returns {Promise<string>}
   */
  async open(station) {
    const { play_url: path, now_url: titles } = await this.#play(station.id);
    this.follow(station.id, titles);
    return path;
  }

  /**
   * @param {string} id
   * @returns {Promise<{ play_url: string, now_url: string }>}
   */
  #play(id) {
    return this.#api.send("POST", "/api/v1/radio/play", { stream_id: id });
  }

  /**
   * Follows the titles of the station that plays.
   * @param {string} id
   * @param {string} titles their path
   */
  follow(id, titles) {
    this.leave();
    this.#station = id;
    this.#listen(titles);
  }

  /** @param {string} titles */
  #listen(titles) {
    this.#source?.close();
    const source = (this.#source = new EventSource(titles));
    source.addEventListener("open", () => this.#retry.worked());
    source.addEventListener("history", ({ data }) => {
      this.history = JSON.parse(data).items;
      this.title = this.history[0]?.text ?? null;
      this.#changed();
    });
    source.addEventListener("title", ({ data }) => {
      const title = JSON.parse(data);
      this.history = [title, ...this.history].slice(0, 20);
      this.title = title.text;
      this.#changed();
    });
    source.addEventListener("end", () => { source.close(); this.#retry.later(); });
    // A break is mended by the browser; a refusal ends it: the ticket holds for an hour.
    source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) this.#retry.later(); });
  }

  /** Asks for another ticket, since that of before opens nothing any more. */
  async #followAnew() {
    const id = this.#station;
    if (id === null) return;
    try {
      const { now_url: titles } = await this.#play(id);
      if (id === this.#station) this.#listen(titles);
    } catch (error) {
      if (id === this.#station && refusalOf(error)?.passes) this.#retry.later();
    }
  }

  leave() {
    this.#retry.stop();
    this.#source?.close();
    this.#source = null;
    this.#station = null;
    this.title = null;
    this.history = [];
  }
}

/** @param {import("./app.js").App} app */
export function view(app) {
  const { radio } = app;
  const current = app.playback.station;
  const stations = radio.state === "failed"
    ? html`<div class="empty" role="alert"><h2>${text("radio.failed")}</h2><button type="button" class="primary" @click=${() => radio.load()}>${text("again")}</button></div>`
    : radio.items.length === 0
      ? html`<div class="empty">${icon("radio")}<h2>${radio.state === "loading" ? text("loading") : radio.found ? text("none.found") : text("radio.none")}</h2>${radio.found ? html`<p>${text("none.found.why")}</p>` : nothing}</div>`
      : html`<ul class="cards wide" id="stations">${repeat(radio.items, ({ id }) => id, (station) => html`<li>
          <button type="button" class="tile" aria-current=${current?.id === station.id ? "true" : nothing} @click=${() => app.tune(station)}>
            ${cover(station.name, "large", "radio")}<span class="title">${station.name}</span>
            <span class="about">${[station.genre, station.country, station.codec?.toUpperCase(), station.bitrate_kbps && text("kbps", { rate: station.bitrate_kbps })].filter(Boolean).join(" · ")}</span>
          </button></li>`)}</ul>
        ${radio.hasMore ? html`<button type="button" class="quiet more" id="more-stations" @click=${() => radio.load(true)}>${text("more")}</button>` : nothing}`;
  return html`<section aria-labelledby="radio-title"><div class="head"><h1 id="radio-title">${radio.found ? text("found", { search: radio.found }) : text("radio")}</h1></div>${stations}</section>
    ${radio.history.length > 0 ? html`<section class="titles" aria-labelledby="titles-title"><h2 id="titles-title">${text("radio.titles")}</h2>
      <ol id="titles">${radio.history.map(({ text: title }) => html`<li>${title}</li>`)}</ol></section>` : nothing}`;
}
