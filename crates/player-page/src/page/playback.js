// What sounds: the media element with its address, places and reports, and what the browser shows of it.

import { refusalOf } from "./api.js";
import { AudioEngine } from "./audio/engine.js";
import { Retry } from "./retry.js";

const REPORT = 10_000;

/** @typedef {import("./api.js").Track} Track */
/** @typedef {import("./radio.js").Station} Station */

export class Playback {
  element;
  engine;
  /** @type {Track | null} */
  track = null;
  /** @type {Station | null} */
  station = null;
  /** @type {{ key: string, status: number } | null} */
  problem = null;
  /** True while sound is wanted, whether there is some or not. */
  wanted = false;
  #api;
  #places;
  #live;
  #on;
  #loading = 0;
  #from = 0;
  #retry = new Retry(() => this.#again());
  #reported = 0;

  /**
   * @param {HTMLAudioElement} element
   * @param {import("./api.js").Api} api
   * @param {import("./places.js").Places} places
   * @param {import("./live.js").Live} live
   * @param {{ changed(): void, ended(): void, lost(status: number): void, retune(station: Station): void }} on
   */
  constructor(element, api, places, live, on) {
    this.element = element;
    this.engine = new AudioEngine(element);
    this.#api = api;
    this.#places = places;
    this.#live = live;
    this.#on = on;
    for (const event of ["play", "playing", "pause", "waiting", "loadedmetadata", "durationchange", "progress", "seeking", "seeked", "timeupdate", "emptied"]) {
      element.addEventListener(event, () => this.#on.changed());
    }
    element.addEventListener("playing", () => { this.#retry.worked(); this.problem = null; this.say("playing"); });
    element.addEventListener("pause", () => { if (!element.ended && this.#loading === 0) this.say("paused"); });
    element.addEventListener("seeked", () => this.say(element.paused ? "paused" : "playing"));
    element.addEventListener("ended", () => {
      // A station has no end: its stream was ended, and the next one is asked for.
      if (this.station) return this.#broken();
      this.say("stopped");
      this.#on.ended();
    });
    element.addEventListener("error", () => this.#broken());
    element.addEventListener("timeupdate", () => {
      if (performance.now() - this.#reported > REPORT && !element.paused) this.say("playing");
    });
    addEventListener("pagehide", () => this.say("paused", true));
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.say(element.paused ? "paused" : "playing", true); });
  }

  get seconds() {
    return this.#loading > 0 || this.element.readyState === 0 ? this.#from : this.element.currentTime;
  }

  get length() {
    return this.element.duration;
  }

  get isPlaying() {
    return this.wanted && !this.element.ended;
  }

  /**
   * Tells the server where the player is.
   * @param {import("./live.js").PlayerState} state
   * @param {boolean} closing the page may end before there is an answer
   */
  say(state, closing = false) {
    if (!this.track || this.element.readyState === 0) return;
    this.#reported = performance.now();
    const at = state === "stopped" ? this.length : this.seconds;
    if (at > 0) this.#places.report(this.track, at, this.length, closing);
    this.#live.report(state, this.track, at, this.length, closing);
  }

  /**
   * Loads a track.
   * @param {Track} track
   * @param {number} from seconds
   * @param {boolean} play whether sound is wanted
   */
  async load(track, from, play) {
    this.leave();
    Object.assign(this, { track, station: null, problem: null, wanted: play });
    this.#from = from;
    this.#on.changed();
    await this.#fetch();
  }

  /**
   * Plays a station by its path.
   * @param {Station} station
   * @param {string} path
   */
  async tune(station, path) {
    this.leave();
    Object.assign(this, { track: null, station, problem: null, wanted: true });
    this.element.src = path;
    this.#on.changed();
    await this.#start();
  }

  leave() {
    this.#retry.stop();
    if (this.track && !this.element.ended) this.say("paused");
    this.track = this.station = null;
    this.wanted = false;
    this.element.removeAttribute("src");
    this.element.load();
  }

  async #fetch() {
    const { track } = this;
    if (!track) return;
    this.#loading += 1;
    try {
      const path = await this.#api.streamPath(track.id);
      if (track !== this.track) return;
      this.element.src = path;
      if (this.#from > 0) this.element.currentTime = this.#from;
    } catch (error) {
      if (track === this.track) this.#failed(refusalOf(error)?.status ?? 0);
      return;
    } finally {
      this.#loading -= 1;
    }
    if (this.wanted) await this.#start();
  }

  async #start() {
    this.engine.resume();
    this.#live.report("starting", this.track, this.seconds, this.length);
    try {
      await this.element.play();
    } catch (error) {
      // Browsers want a key or a click first.
      if (error instanceof DOMException && error.name === "NotAllowedError") {
        this.wanted = false;
        this.problem = { key: "problem.tap", status: 0 };
      }
      this.#on.changed();
    }
  }

  #broken() {
    if (!this.element.getAttribute("src")) return;
    this.#from = this.element.currentTime || this.#from;
    this.#failed(this.station ? 0 : -1);
  }

  /**
   * What cannot be had is passed over, everything else is tried again at the same place.
   * @param {number} status
   */
  #failed(status) {
    if ([403, 404, 410].includes(status)) {
      this.problem = { key: "problem.gone", status };
      this.#on.lost(status);
    } else if (status !== 401) {
      this.problem = { key: navigator.onLine ? "problem.retry" : "problem.offline", status };
      this.#retry.later();
    }
    this.#on.changed();
  }

  async #again() {
    // One that was stopped meanwhile would begin by itself.
    if (this.station) return this.wanted ? this.#on.retune(this.station) : undefined;
    if (this.track) await this.#fetch();
  }

  /** Tries again at once: the user has signed in, or the network is back. */
  again() {
    // What is on its way already would begin anew.
    const isMissing = this.track && this.#loading === 0 && !this.element.getAttribute("src");
    if (this.problem || isMissing) this.#again();
  }

  play() {
    this.wanted = true;
    if (this.element.error) return void this.#again();
    if (this.element.getAttribute("src")) this.#start();
    else if (this.track) this.#fetch();
    this.#on.changed();
  }

  pause() {
    this.wanted = false;
    this.element.pause();
    this.#on.changed();
  }

  /** @param {number} seconds */
  seek(seconds) {
    if (!this.track) return;
    const to = Math.max(0, Math.min(seconds, Number.isFinite(this.length) ? this.length : seconds));
    this.#from = to;
    if (this.element.readyState > 0) this.element.currentTime = to;
    this.#on.changed();
  }
}
