// The library: what can be continued, and the catalogue with its search.

import { refusalOf } from "./api.js";
import { cover, icon } from "./icons.js";
import { html, nothing, repeat } from "./lit.js";
import { number, text } from "./texts.js";
import { clock, spoken } from "./time.js";

const QUIET = 200; // ms without a key before a search

/** @typedef {import("./api.js").Track} Track */
/** @typedef {import("./places.js").Continued} Continued */
/** @typedef {{ current: Track | null, isPlaying: boolean }} Now */
/** @typedef {{ play(items: Track[], index: number): void, add(track: Track): void, resume(track: Track, at: number): void }} Does */

export class Library {
  search = "";
  /** The search that the list is of. */
  found = "";
  /** @type {Track[]} */
  items = [];
  /** @type {{ place: Continued, track: Track }[]} */
  continued = [];
  /**
   * Tracks that the list does not have, as the catalogue told them; null where it has no such track.
   * @type {Map<string, Track | null>}
   */
  #told = new Map();
  /** @type {"loading" | "ready" | "none" | "failed"} */
  state = "loading";
  /** @type {string | null} */
  #cursor = null;
  /** @type {AbortController | null} */
  #asking = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Counts the users who have left: what was asked for one of them is not shown to the next. */
  #visit = 0;
  #api;
  #places;
  #changed;

  /**
   * @param {import("./api.js").Api} api
   * @param {import("./places.js").Places} places
   * @param {() => void} changed
   */
  constructor(api, places, changed) {
    this.#api = api;
    this.#places = places;
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

  /** Drops what is shown: it is of a user who has left. */
  empty() {
    this.#visit += 1;
    this.#asking?.abort();
    clearTimeout(this.#timer);
    Object.assign(this, { search: "", found: "", items: [], continued: [], state: "loading" });
    this.#cursor = null;
    this.#told = new Map();
  }

  /** Loads the list anew; throws nothing: a failure is a state. */
  async load(more = false) {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const search = this.search.trim();
    if (!more) this.state = "loading";
    this.#changed();
    try {
      const { items, nextCursor } = await this.#api.tracks(search, more ? this.#cursor : null, asking.signal);
      this.items = more ? [...this.items, ...items] : items;
      this.#cursor = nextCursor ?? null;
      this.found = search;
      this.state = "ready";
    } catch (error) {
      if (asking.signal.aborted) return;
      this.state = refusalOf(error)?.status === 404 ? "none" : "failed";
    }
    this.#changed();
  }

  /** Loads what can be continued; without it the page is the same. */
  async loadContinued() {
    const visit = this.#visit;
    const found = await this.#places.continued().catch(() => []);
    const tracks = await Promise.all(found.map(({ id }) => this.#track(id)));
    if (visit !== this.#visit) return;
    // Where it was heard is kept under the kind that it was reported as.
    this.continued = found.map((place, n) => ({ place, track: { ...tracks[n], kind: place.kind } }));
    this.#changed();
  }

  /**
   * A track by its id: of the list, else of the catalogue, else by no more than the id.
   * @param {string} id
   * @returns {Promise<Track>}
   */
  async #track(id) {
    const known = this.items.find((track) => track.id === id) ?? this.#told.get(id);
    if (known) return known;
    if (known === null) return namedById(id);
    const told = this.#told;
    try {
      const track = await this.#api.track(id);
      told.set(id, track);
      return track;
    } catch (error) {
      if (refusalOf(error)?.status === 404) told.set(id, null);
      return namedById(id);
    }
  }
}

/**
 * @param {string} id
 * @returns {Track}
 */
function namedById(id) {
  return { id, title: (id.split(":").at(-1) ?? id).replace(/\.[a-z0-9]{2,4}$/i, "").replace(/[-_]/g, " "), artist: null, album: null };
}

/** @param {Track} track */
const kind = ({ contentType }) => (contentType ?? "").replace(/^audio\/(x-)?/, "").toUpperCase();
/** @param {Track} track */
const size = ({ sizeBytes }) => (sizeBytes ? text("size", { size: number(sizeBytes / 1e6) }) : "");

/** @param {import("./api.js").ListeningKind} kind */
const spokenKind = (kind) => (kind === "audiobook" ? text("kind.audiobook") : kind === "podcast" ? text("kind.podcast") : "");

/**
 * The list of tracks.
 * @param {Library} library
 * @param {Now} now
 * @param {Does} does
 */
export function view(library, { current, isPlaying }, does) {
  return html`
    ${library.found ? nothing : continued(library, does)}
    <section aria-labelledby="library-title">
      <div class="head">
        <h1 id="library-title">${library.found ? text("found", { search: library.found }) : text("library")}</h1>
        ${library.items.length > 0 ? html`<button type="button" class="quiet" id="play-all" @click=${() => does.play(library.items, 0)}>${icon("play")}${text("play.all")}</button>` : nothing}
      </div>
      ${list(library, { current, isPlaying }, does)}
    </section>`;
}

/**
 * @param {Library} library
 * @param {Now} now
 * @param {Does} does
 */
function list(library, { current, isPlaying }, does) {
  const { items, state } = library;
  if (state === "failed") {
    return html`<div class="empty" role="alert"><h2>${text("problem.library")}</h2><p>${text("problem.library.why")}</p>
      <button type="button" class="primary" @click=${() => library.load()}>${text("again")}</button></div>`;
  }
  if (state === "none") return html`<div class="empty"><h2>${text("none.catalogue")}</h2><p>${text("none.catalogue.why")}</p></div>`;
  if (state === "loading" && items.length === 0) {
    return html`<p class="unseen" role="status">${text("loading")}</p><ol class="tracks" aria-hidden="true">${[...Array(8).keys()].map(() => html`<li class="ghost"><span></span><span></span></li>`)}</ol>`;
  }
  if (items.length === 0) {
    return html`<div class="empty">${icon("note")}<h2>${library.found ? text("none.found") : text("none.tracks")}</h2><p>${library.found ? text("none.found.why") : text("none.tracks.why")}</p></div>`;
  }
  return html`
    <ol id="library" class="tracks">${repeat(items, ({ id }) => id, (track, index) => row(track, index, items, current, isPlaying, does))}</ol>
    ${library.hasMore ? html`<button type="button" class="quiet more" id="more" @click=${() => library.load(true)}>${text("more")}</button>` : nothing}`;
}

/**
 * @param {Track} track
 * @param {number} index
 * @param {Track[]} items
 * @param {Track | null} current
 * @param {boolean} isPlaying
 * @param {Does} does
 */
function row(track, index, items, current, isPlaying, does) {
  const isCurrent = current?.id === track.id;
  const about = [track.artist, track.album].filter(Boolean).join(" · ") || kind(track);
  return html`<li class="track" data-id=${track.id}>
    <button type="button" class="track-play" aria-current=${isCurrent ? "true" : nothing} @click=${() => does.play(items, index)}>
      <span class="cover-box">${cover(track.album ?? track.title)}<span class="over">${isCurrent && isPlaying ? html`<span class="bars" aria-hidden="true"><i></i><i></i><i></i></span>` : icon("play")}</span></span>
      <span class="words"><span class="title">${track.title}</span><span class="about">${about}</span></span>
      <span class="facts"><span class="badge">${kind(track)}</span><span class="size">${size(track)}</span></span>
    </button>
    <button type="button" class="round" title=${text("queue.add")} aria-label=${text("queue.add.what", { title: track.title })} @click=${() => does.add(track)}>${icon("add")}</button>
  </li>`;
}

/**
 * @param {Library} library
 * @param {Does} does
 */
function continued(library, does) {
  const items = library.continued;
  if (items.length === 0) return nothing;
  return html`<section class="continue" aria-labelledby="continue-title">
    <h2 id="continue-title">${text("continue")}</h2>
    <ul class="cards" id="continue">${items.map(({ place, track }) => {
      const [at, length] = [place.positionMs / 1000, (place.durationMs ?? 0) / 1000];
      return html`<li><button type="button" class="tile" @click=${() => does.resume(track, at)}>
        ${cover(track.album ?? track.title, "large")}
        <span class="title">${track.title}</span>
        <span class="about">${[spokenKind(place.kind), length > 0 ? text("continue.left", { left: clock(length - at) }) : text("continue.at", { at: clock(at) })].filter(Boolean).join(" · ")}</span>
        ${length > 0 ? html`<progress max=${length} value=${at} aria-label=${text("continue.heard", { at: spoken(at) })}></progress>` : nothing}
      </button></li>`;
    })}</ul>
  </section>`;
}
