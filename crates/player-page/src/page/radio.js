// Radio: stations, and the titles of the one that plays.

import { refusalOf } from "./api.js";
import { cover, icon } from "./icons.js";
import { html, nothing, repeat } from "./lit.js";
import { text } from "./texts.js";

/** @typedef {{ id: string, name: string, genre: string | null, country: string | null, codec: string | null, bitrate_kbps: number | null }} Station */
/** @typedef {{ text: string }} Title */

export class Radio {
  /** False where the server has no radio. */
  isThere = false;
  /** @type {"loading" | "ready" | "failed"} */
  state = "loading";
  /** @type {Station[]} */
  items = [];
  /** @type {string | null} */
  title = null;
  /** @type {Title[]} */
  history = [];
  #api;
  #changed;
  /** @type {EventSource | null} */
  #source = null;

  /**
   * @param {import("./api.js").Api} api
   * @param {() => void} changed
   */
  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
  }

  async load(search = "") {
    try {
      const query = new URLSearchParams({ limit: "100" });
      if (search) query.set("q", search);
      this.items = (await this.#api.get(`/api/v1/radio/streams?${query}`)).items;
      this.state = "ready";
      this.isThere = true;
    } catch (error) {
      this.isThere = refusalOf(error)?.status !== 404;
      this.state = "failed";
    }
    this.#changed();
  }

  /**
   * Opens a station; returns the path of its sound.
   * @param {Station} station
   * @returns {Promise<string>}
   */
  async open(station) {
    const { play_url: path, now_url: titles } = await this.#api.send("POST", "/api/v1/radio/play", { stream_id: station.id });
    this.follow(titles);
    return path;
  }

  /**
   * Follows the titles of the station that plays.
   * @param {string} titles their path
   */
  follow(titles) {
    this.leave();
    this.#source = new EventSource(titles);
    this.#source.addEventListener("history", ({ data }) => {
      this.history = JSON.parse(data).items;
      this.title = this.history[0]?.text ?? null;
      this.#changed();
    });
    this.#source.addEventListener("title", ({ data }) => {
      const title = JSON.parse(data);
      this.history = [title, ...this.history].slice(0, 20);
      this.title = title.text;
      this.#changed();
    });
    this.#source.addEventListener("end", () => this.#source?.close());
  }

  leave() {
    this.#source?.close();
    this.#source = null;
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
      ? html`<div class="empty">${icon("radio")}<h2>${radio.state === "loading" ? text("loading") : text("radio.none")}</h2></div>`
      : html`<ul class="cards wide" id="stations">${repeat(radio.items, ({ id }) => id, (station) => html`<li>
          <button type="button" class="tile" aria-current=${current?.id === station.id ? "true" : nothing} @click=${() => app.tune(station)}>
            ${cover(station.name, "large", "radio")}<span class="title">${station.name}</span>
            <span class="about">${[station.genre, station.country, station.codec?.toUpperCase(), station.bitrate_kbps && text("kbps", { rate: station.bitrate_kbps })].filter(Boolean).join(" · ")}</span>
          </button></li>`)}</ul>`;
  return html`<section aria-labelledby="radio-title"><div class="head"><h1 id="radio-title">${text("radio")}</h1></div>${stations}</section>
    ${radio.history.length > 0 ? html`<section class="titles" aria-labelledby="titles-title"><h2 id="titles-title">${text("radio.titles")}</h2>
      <ol id="titles">${radio.history.map(({ text: title }) => html`<li>${title}</li>`)}</ol></section>` : nothing}`;
}
