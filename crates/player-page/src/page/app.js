// The page: signs in, puts the parts together, and draws what has changed.

import { PRESETS } from "./audio/presets.js";
import { announce } from "./announce.js";
import { Api } from "./api.js";
import { heard } from "./commands.js";
import { deck, paint } from "./deck.js";
import { element, shown } from "./elements.js";
import * as frame from "./frame.js";
import * as keys from "./keys.js";
import { Library } from "./library.js";
import { nothing, render } from "./lit.js";
import { Live } from "./live.js";
import { Lyrics, lyricsPanel } from "./lyrics.js";
import { recall, remember } from "./memory.js";
import { help, queuePanel, soundPanel } from "./panels.js";
import { Places, isSpoken } from "./places.js";
import { Playback } from "./playback.js";
import { Queue } from "./queue.js";
import { Radio, view as radioView } from "./radio.js";
import * as session from "./session.js";
import { comeBack, goToProvider } from "./signin.js";
import { SleepTimer } from "./sleep.js";
import { change as changeLanguage, fill, speak } from "./texts.js";

const TOKEN = "tidegate.player.token";

/** @typedef {import("./api.js").Track} Track */
/** @typedef {import("./radio.js").Station} Station */
/** @typedef {"library" | "radio"} Place */
/** @typedef {"queue" | "sound" | "lyrics"} Panel */

/** @type {Record<Panel, (app: App) => unknown>} */
const PANELS = { queue: queuePanel, sound: soundPanel, lyrics: lyricsPanel };

export class App {
  api = new Api(() => this.#signOut());
  places = new Places(this.api);
  live = new Live(this.api, heard(this));
  playback = new Playback(element("audio"), this.api, this.places, this.live, {
    changed: () => this.draw(),
    ended: () => this.#ended(),
    lost: () => { if (this.queue.hasNext) setTimeout(() => this.next(), 1500); },
    retune: (station) => this.tune(station),
  });
  queue = new Queue(() => this.draw());
  library = new Library(this.api, this.places, () => this.draw());
  lyrics = new Lyrics(this.api, () => this.draw());
  radio = new Radio(this.api, () => this.draw());
  sleep = new SleepTimer({
    changed: () => this.draw(),
    stop: () => { if (this.playback.isPlaying) { this.playback.pause(); this.say("sleep.done"); } },
  });
  /** @type {"loading" | "signin" | "ready"} */
  state = "loading";
  /** @type {{ signIn: import("./signin.js").Provider | null, token: string | null }} */
  settings = { signIn: null, token: null };
  /** @type {string | null} */
  refusal = null;
  /** @type {Place} */
  place = "library";
  /** @type {Panel | null} */
  panel = null;
  volume = Number(recall("player.volume") ?? 100);
  muted = false;
  keysOn = recall("player.keys") !== "off";
  pitchFails = false;
  #drawing = false;
  #restored = false;
  /** Counts the users who have left: what was begun for one of them does not go on for the next. */
  visit = 0;
  /** @type {Element | null} */
  #back = null;

  async start() {
    speak(recall("language"));
    this.draw();
    try {
      this.settings = await this.api.get("/player/settings.json");
    } catch {
      // The page asks for a token then.
    }
    try {
      this.api.token = (await comeBack(this.settings.signIn)) ?? this.settings.token ?? sessionStorage.getItem(TOKEN);
    } catch {
      this.refusal = "signin.provider.failed";
    }
    // A cookie may be enough.
    if (this.refusal) return this.#ask();
    await this.#enter();
  }

  async #enter() {
    this.state = "ready";
    const visit = this.visit;
    const user = await this.api.user().catch(() => null);
    if (visit !== this.visit) return;
    for (const part of [this.places, this.queue, this.live]) part.belongTo(user);
    // Before anything can be played: what is chosen then counts.
    const at = this.#restored ? 0 : this.queue.restore();
    await Promise.all([this.library.load(), this.radio.load()]);
    if (visit !== this.visit) return;
    if (this.api.token && !this.settings.token) sessionStorage.setItem(TOKEN, this.api.token);
    this.live.listen();
    // What a page that was closed without the network could not send.
    this.live.flush();
    this.places.flush();
    this.library.loadContinued();
    this.applySound();
    this.setVolume(this.volume);
    await this.#comeBack(at);
    if (visit !== this.visit) return;
    this.#restored = true;
    this.draw();
  }

  /**
   * Loads the track of the last visit, unless the user has begun something meanwhile.
   * @param {number} at seconds, where the server knows no place
   */
  async #comeBack(at) {
    const { current } = this.queue;
    const isBusy = () => Boolean(this.playback.track || this.playback.station);
    if (!current || isBusy()) return this.playback.again();
    const known = await this.places.of(current).catch(() => at);
    if (!isBusy() && this.queue.current === current) await this.playback.load(current, known || at, false);
  }

  #signOut() {
    if (this.state === "signin") return;
    this.refusal ??= this.api.token ? "signin.refused" : null;
    this.api.token = null;
    sessionStorage.removeItem(TOKEN);
    this.#ask();
  }

  #ask() {
    this.state = "signin";
    this.#leave();
    this.draw();
  }

  /** Ends what is heard and drops what is shown: somebody else may stand here now. What the browser keeps is the user's own. */
  #leave() {
    this.visit += 1;
    if (this.#restored) this.queue.keep(this.playback.seconds);
    this.#restored = false;
    this.live.leave();
    this.radio.empty();
    this.playback.leave();
    this.places.belongTo(null);
    this.queue.belongTo(null);
    this.library.empty();
    this.panel = null;
    session.clear();
  }

  /** Signs out, and has the browser forget what it keeps for the user. */
  signOut = async () => {
    const visit = this.visit;
    this.#restored = false;
    this.queue.forget();
    this.live.forget();
    // It tells the place, while the token is there.
    this.playback.leave();
    await this.places.leave();
    if (visit !== this.visit) return;
    this.refusal = null;
    this.api.token = null;
    sessionStorage.removeItem(TOKEN);
    this.#ask();
  };

  /** @param {Event} event */
  signIn(event) {
    event.preventDefault();
    this.api.token = /** @type {HTMLInputElement} */ (shown("token")).value.trim();
    this.refusal = null;
    this.#enter();
  }

  async toProvider() {
    try {
      if (this.settings.signIn) await goToProvider(this.settings.signIn);
    } catch {
      this.refusal = "signin.provider.away";
      this.draw();
    }
  }

  // --- Playing -------------------------------------------------------------------------------------------------------

  /**
   * Loads the current track of the queue; what is spoken goes on where the user stopped.
   * @param {boolean} play whether sound is wanted
   * @param {number} from seconds
   */
  async #load(play = true, from = 0) {
    const { current } = this.queue;
    if (!current) return;
    const at = from || (isSpoken(current) ? await this.places.toContinue(current) : 0);
    // Not what was left meanwhile.
    if (this.queue.current === current) void this.playback.load(current, at, play);
  }

  /** @type {(items: Track[], index: number, from?: number) => void} */
  play = (items, index, from = 0) => {
    this.radio.leave();
    this.queue.replace(items, index);
    this.live.begin();
    this.#load(true, from);
  };

  /** @type {(index: number) => void} */
  jump = (index) => {
    this.queue.jump(index);
    this.#load();
  };

  toggle = () => {
    if (this.playback.isPlaying) return this.playback.pause();
    if (this.playback.track && this.playback.element.ended) return this.#load();
    if (this.playback.track || this.playback.station) this.playback.play();
    else if (this.library.items.length > 0) this.play(this.library.items, 0);
  };

  next = () => {
    if (this.playback.track && this.queue.step(1)) this.#load();
  };

  previous = () => {
    if (!this.playback.track) return;
    // As everywhere: first to the beginning of the track.
    if (this.playback.seconds > 3 || !this.queue.step(-1)) this.playback.seek(0);
    else this.#load();
  };

  #ended() {
    this.library.loadContinued();
    const sleeps = this.sleep.endsWithTrack();
    if (this.queue.step(1, true)) this.#load(!sleeps);
    else { this.playback.wanted = false; this.draw(); }
  }

  /** @type {(track: Track) => void} */
  add = (track) => {
    this.queue.add(track);
    this.say("queue.added", { title: track.title });
    if (this.playback.track || this.playback.station) return;
    this.queue.jump(0);
    this.#load(false);
  };

  /** @type {(index: number) => void} */
  remove = (index) => {
    const isCurrent = index === this.queue.index;
    const wasPlaying = this.playback.isPlaying;
    this.queue.remove(index);
    if (isCurrent && this.queue.current) this.#load(wasPlaying);
    else if (isCurrent) this.playback.leave();
    this.draw();
  };

  /** @type {(station: Station) => Promise<void>} */
  tune = async (station) => {
    const visit = this.visit;
    try {
      const path = await this.radio.open(station);
      if (visit !== this.visit) return this.radio.leave();
      await this.playStation(station, path);
    } catch {
      this.say("radio.away", { name: station.name });
    }
  };

  /** @type {(station: Station, path: string) => Promise<void>} */
  playStation = async (station, path) => {
    this.live.hold();
    await this.playback.tune(station, path);
  };

  applySound() {
    const { engine } = this.playback;
    engine.setSpeed(this.live.playedSpeed);
    engine.setEqualizer(this.live.equalizer);
    Promise.resolve(engine.setSemitones(this.live.semitones)).then((works) => {
      if (this.pitchFails === (works === false)) return;
      this.pitchFails = works === false;
      this.draw();
    });
    this.draw();
  }

  /** @type {(preset: string) => void} */
  preset = (preset) => this.live.change("equalizer", { preset, bands: [...(PRESETS[preset] ?? this.live.equalizer.bands)] });
  resetSound = () => { if (this.live.trackSpeed !== null) this.live.setTrackSpeed(null); this.live.change("speed", 1); this.live.change("semitones", 0); this.preset("flat"); };

  /** @param {number} volume 0 to 100 */
  setVolume(volume) {
    this.volume = Math.max(0, Math.min(100, volume));
    this.muted = false;
    remember("player.volume", String(this.volume));
    this.#sendVolume();
  }

  mute = () => { this.muted = !this.muted; this.#sendVolume(); };

  #sendVolume() {
    const share = this.muted ? 0 : this.volume / 100;
    this.playback.engine.setVolume(share);
    this.draw();
  }

  // --- Page ----------------------------------------------------------------------------------------------------------

  /**
   * Opens a panel; closes the one that is open.
   * @type {(panel: Panel) => void}
   */
  show = (panel) => {
    const isOpening = this.panel !== panel;
    if (isOpening && !this.panel) this.#back = document.activeElement;
    this.panel = isOpening ? panel : null;
    this.draw();
    requestAnimationFrame(() => {
      if (isOpening) shown("side-title")?.focus();
      else if (this.#back instanceof HTMLElement && this.#back.isConnected) this.#back.focus();
    });
  };

  /** @type {(place: Place) => void} */
  go = (place) => { this.place = place; this.draw(); element("main").focus(); };
  /** @type {(on: boolean) => void} */
  setKeys = (on) => { this.keysOn = on; remember("player.keys", on ? null : "off"); };
  openHelp = () => /** @type {HTMLDialogElement | null} */ (shown("keys"))?.showModal();
  helpClosed = () => {};
  /** @type {(tag: string) => void} */
  choose = (tag) => { remember("language", tag); changeLanguage(tag); this.draw(); };

  say = announce;

  draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    // Not by an animation frame: hidden pages have none, and Media Session shows them still.
    queueMicrotask(() => { this.#drawing = false; this.#draw(); });
  }

  #draw() {
    const { playback, state } = this;
    const isIn = state === "ready";
    fill();
    const heard = playback.track ?? (playback.station && { title: this.radio.title ?? playback.station.name, artist: playback.station.name });
    document.title = heard ? `${heard.title} – Tidegate` : "Tidegate";
    render(frame.tools(this), element("tools"));
    render(isIn ? frame.places(this) : nothing, element("places"));
    render(frame.notice(this), element("notice"));
    render(state === "signin" ? frame.signIn(this) : this.place === "radio" && isIn ? radioView(this) : frame.library(this), element("view"));
    element("deck").hidden = !isIn;
    if (isIn) render(deck(this), element("deck"));
    const panel = isIn && this.panel ? PANELS[this.panel] : null;
    element("side").hidden = !panel;
    document.body.toggleAttribute("data-panel", Boolean(panel));
    if (panel) render(panel(this), element("side"));
    render(help(this), element("help"));
    paint(playback.element);
    if (heard) session.show(heard, playback.isPlaying);
    session.place(playback.element);
    // Not before what was kept is back.
    if (this.#restored) this.queue.keep(playback.seconds);
    this.lyrics.load(playback.track?.id ?? null);
    this.live.follow(playback.track?.id ?? null);
    document.body.dataset.state = !isIn ? state : this.library.state === "loading" && this.library.items.length === 0 ? "loading" : playback.isPlaying ? "playing" : playback.track ? "paused" : "ready";
  }

  follow() {
    if (this.panel === "lyrics" && this.lyrics.lines.length > 0) {
      const { element: media, engine } = this.playback;
      this.lyrics.follow(media.currentTime - engine.latency * media.playbackRate);
    }
    requestAnimationFrame(() => this.follow());
  }
}

const app = new App();
keys.listen(keys.actionsOf(app), (digit) => app.playback.seek((app.playback.length * digit) / 10), () => app.keysOn && app.state === "ready");
session.handle(session.actionsOf(app));
for (const event of ["wheel", "touchmove"]) element("side").addEventListener(event, () => app.lyrics.scrolled(), { passive: true });
addEventListener("online", () => { app.places.flush(); app.playback.again(); app.draw(); });
addEventListener("offline", () => app.draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.draw());
app.follow();
app.start();
