// The page: signs in, puts the parts together, and draws what has changed.

import { PRESETS } from "./audio/presets.js";
import { Api } from "./api.js";
import { SPEEDS, deck, paint } from "./deck.js";
import { icon } from "./icons.js";
import * as keys from "./keys.js";
import { Library, view as libraryView } from "./library.js";
import { html, nothing, render } from "./lit.js";
import { Live } from "./live.js";
import { Lyrics, lyricsPanel } from "./lyrics.js";
import { recall, remember } from "./memory.js";
import { help, queuePanel, soundPanel } from "./panels.js";
import { Places } from "./places.js";
import { Playback } from "./playback.js";
import { Queue } from "./queue.js";
import { Radio, view as radioView } from "./radio.js";
import * as session from "./session.js";
import { comeBack, goToProvider } from "./signin.js";
import { change as changeLanguage, fill, language, speak, text } from "./texts.js";

const TOKEN = "tidegate.player.token";
const element = (id) => document.getElementById(id);

class App {
  api = new Api(() => this.#signOut());
  places = new Places(this.api);
  live = new Live(this.api, {
    settings: () => this.#applySound(),
    seek: (seconds) => this.playback.seek(seconds),
    taken: () => { if (this.playback.isPlaying) { this.playback.pause(); this.live.begin(); this.say("taken"); } },
  });
  playback = new Playback(element("audio"), this.api, this.places, this.live, {
    changed: () => this.draw(),
    ended: () => this.#ended(),
    lost: () => { if (this.queue.index < this.queue.items.length - 1) setTimeout(() => this.next(), 1500); },
    retune: (station) => this.tune(station),
  });
  queue = new Queue(() => this.draw());
  library = new Library(this.api, this.places, () => this.draw());
  lyrics = new Lyrics(this.api, () => this.draw());
  radio = new Radio(this.api, () => this.draw());
  state = "loading";
  settings = { signIn: null, token: null };
  refusal = null;
  place = "library";
  panel = null;
  volume = Number(recall("player.volume") ?? 100);
  muted = false;
  keysOn = recall("player.keys") !== "off";
  pitchFails = false;
  #drawing = false;
  #restored = false;
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
    await Promise.all([this.library.load(), this.radio.load()]);
    if (this.state !== "ready") return;
    if (this.api.token && !this.settings.token) sessionStorage.setItem(TOKEN, this.api.token);
    const at = this.#restored ? 0 : this.queue.restore();
    this.live.listen();
    this.places.flush();
    this.library.loadContinued();
    this.#applySound();
    this.setVolume(this.volume);
    const { current } = this.queue;
    if (current && !this.playback.track) {
      const known = await this.places.of(current.id).catch(() => at);
      await this.playback.load(current, known || at, false);
    } else this.playback.again();
    this.#restored = true;
    this.draw();
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
    this.playback.element.pause();
    this.draw();
  }

  signIn(event) {
    event.preventDefault();
    this.api.token = /** @type {HTMLInputElement} */ (element("token")).value.trim();
    this.refusal = null;
    this.#enter();
  }

  async toProvider() {
    try {
      await goToProvider(this.settings.signIn);
    } catch {
      this.refusal = "signin.provider.away";
      this.draw();
    }
  }

  // --- Playing -------------------------------------------------------------------------------------------------------

  play = (items, index, from = 0) => {
    this.radio.leave();
    this.queue.replace(items, index);
    this.live.begin();
    this.playback.load(this.queue.current, from, true);
  };

  jump = (index) => {
    this.queue.index = index;
    this.playback.load(this.queue.current, 0, true);
  };

  toggle = () => {
    if (this.playback.isPlaying) return this.playback.pause();
    if (this.playback.track && this.playback.element.ended) return this.playback.load(this.queue.current, 0, true);
    if (this.playback.track || this.playback.station) this.playback.play();
    else if (this.library.items.length > 0) this.play(this.library.items, 0);
  };

  next = () => {
    if (this.playback.track && this.queue.step(1)) this.playback.load(this.queue.current, 0, true);
  };

  previous = () => {
    if (!this.playback.track) return;
    // As everywhere: first to the beginning of the track.
    if (this.playback.seconds > 3 || !this.queue.step(-1)) this.playback.seek(0);
    else this.playback.load(this.queue.current, 0, true);
  };

  #ended() {
    this.library.loadContinued();
    if (this.queue.step(1, true)) this.playback.load(this.queue.current, 0, true);
    else { this.playback.wanted = false; this.draw(); }
  }

  shuffle = () => { this.queue.shuffle = !this.queue.shuffle; this.draw(); };
  repeat = () => { this.queue.repeat = { off: "all", all: "one", one: "off" }[this.queue.repeat]; this.draw(); };
  add = (track) => { this.queue.add(track); this.say("queue.added", { title: track.title }); if (!this.playback.track && !this.playback.station) { this.queue.index = 0; this.playback.load(this.queue.current, 0, false); } };

  remove = (index) => {
    const isCurrent = index === this.queue.index;
    const wasPlaying = this.playback.isPlaying;
    this.queue.remove(index);
    if (isCurrent && this.queue.current) this.playback.load(this.queue.current, 0, wasPlaying);
    else if (isCurrent) this.playback.leave();
    this.draw();
  };

  tune = async (station) => {
    try {
      await this.playback.tune(station, await this.radio.open(station));
    } catch {
      this.say("radio.away", { name: station.name });
    }
  };

  #applySound() {
    const { engine } = this.playback;
    engine.setSpeed(this.live.speed);
    engine.setEqualizer(this.live.equalizer);
    Promise.resolve(engine.setSemitones(this.live.semitones)).then((works) => {
      if (this.pitchFails === (works === false)) return;
      this.pitchFails = works === false;
      this.draw();
    });
    this.draw();
  }

  preset = (preset) => this.live.change("equalizer", { preset, bands: PRESETS[preset] ?? this.live.equalizer.bands });
  resetSound = () => { this.live.change("speed", 1); this.live.change("semitones", 0); this.preset("flat"); };

  setVolume(volume) {
    this.volume = Math.max(0, Math.min(100, volume));
    this.muted = false;
    remember("player.volume", String(this.volume));
    this.#sendVolume();
  }

  mute = () => { this.muted = !this.muted; this.#sendVolume(); };

  #sendVolume() {
    const share = this.muted ? 0 : this.volume / 100;
    if (this.playback.engine.setVolume) this.playback.engine.setVolume(share);
    else this.playback.element.volume = share;
    this.draw();
  }

  // --- Page ----------------------------------------------------------------------------------------------------------

  /** Opens a panel; closes the one that is open. */
  show = (panel) => {
    const isOpening = this.panel !== panel;
    if (isOpening && !this.panel) this.#back = document.activeElement;
    this.panel = isOpening ? panel : null;
    this.draw();
    requestAnimationFrame(() => {
      if (isOpening) element("side-title")?.focus();
      else this.#back?.isConnected && this.#back.focus();
    });
  };

  go = (place) => { this.place = place; this.draw(); element("main").focus(); };
  setKeys = (on) => { this.keysOn = on; remember("player.keys", on ? null : "off"); };
  openHelp = () => /** @type {HTMLDialogElement | null} */ (element("keys"))?.showModal();
  helpClosed = () => {};
  choose = (tag) => { remember("language", tag); changeLanguage(tag); this.draw(); };

  /** Says something to screen readers, and shows it for a moment. */
  say(key, values) {
    const told = element("told");
    told.textContent = text(key, values);
    told.classList.add("toast");
    clearTimeout(this.toast);
    this.toast = setTimeout(() => told.classList.remove("toast"), 4000);
  }

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
    const shown = playback.track ?? (playback.station && { title: this.radio.title ?? playback.station.name, artist: playback.station.name });
    document.title = shown ? `${shown.title} – Tidegate` : "Tidegate";
    render(tools(this), element("tools"));
    render(isIn ? places(this) : nothing, element("places"));
    render(state === "signin" ? signIn(this) : this.place === "radio" && isIn ? radioView(this) : library(this), element("view"));
    element("deck").hidden = !isIn;
    if (isIn) render(deck(this), element("deck"));
    const panel = isIn && { queue: queuePanel, sound: soundPanel, lyrics: lyricsPanel }[this.panel];
    element("side").hidden = !panel;
    document.body.toggleAttribute("data-panel", Boolean(panel));
    if (panel) render(panel(this), element("side"));
    render(help(this), element("help"));
    paint(playback.element);
    if (shown) session.show(shown, playback.isPlaying);
    session.place(playback.element);
    // Not before what was kept is back.
    if (this.#restored) this.queue.keep(playback.seconds);
    this.lyrics.load(playback.track?.id ?? null);
    document.body.dataset.state = !isIn ? state : this.library.state === "loading" && this.library.items.length === 0 ? "loading" : playback.isPlaying ? "playing" : playback.track ? "paused" : "ready";
  }

  follow() {
    if (this.panel === "lyrics" && this.lyrics.lines.length > 0) {
      const { element: media, engine } = this.playback;
      this.lyrics.follow(media.currentTime - engine.latency * media.playbackRate);
    }
    requestAnimationFrame(() => this.follow());
  }

  step(by) {
    const nearest = SPEEDS.reduce((best, stop, n) => (Math.abs(stop - this.live.speed) < Math.abs(SPEEDS[best] - this.live.speed) ? n : best), 0);
    this.live.change("speed", SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, nearest + by))]);
  }

  get actions() {
    const { playback, live } = this;
    const jump = (by) => () => playback.seek(playback.seconds + by);
    const pitch = (by) => () => live.change("semitones", Math.max(-12, Math.min(12, live.semitones + by)));
    return {
      " ": this.toggle, k: this.toggle, j: jump(-10), l: jump(10), arrowleft: jump(-5), arrowright: jump(5),
      arrowup: () => this.setVolume(this.volume + 5), arrowdown: () => this.setVolume(this.volume - 5), m: this.mute,
      n: this.next, p: this.previous, "<": () => this.step(-1), ">": () => this.step(1), "[": pitch(-1), "]": pitch(1),
      q: () => this.show("queue"), y: () => this.show("lyrics"), e: () => this.show("sound"), "?": this.openHelp,
      "/": () => { this.go("library"); element("search")?.focus(); },
      escape: () => { if (this.panel) this.show(this.panel); },
      digit: (digit) => playback.seek((playback.length * digit) / 10),
    };
  }
}

const LANGUAGES = { en: "English", es: "Español", ru: "Русский", uk: "Українська" };

const tools = (app) => html`
  ${app.state === "ready" ? html`<div class="search" role="search"><label class="unseen" for="search">${text("search")}</label>${icon("search")}
    <input id="search" type="search" autocomplete="off" spellcheck="false" placeholder=${text("search.hint")} @input=${(event) => { app.place = "library"; app.library.type(event.target.value); }}></div>` : nothing}
  <label class="unseen" for="language">${text("language")}</label>
  <select id="language" class="pill" title=${text("language")} @change=${(event) => app.choose(event.target.value)}>
    ${Object.entries(LANGUAGES).map(([tag, name]) => html`<option value=${tag} lang=${tag} ?selected=${tag === language}>${name}</option>`)}</select>
  <button type="button" class="round only-wide" id="show-keys" aria-label=${text("keys")} title=${text("keys")} @click=${app.openHelp}>${icon("keys")}</button>`;

const places = (app) => [["library", true], ["radio", app.radio.isThere]].filter(([, there]) => there).map(([name]) => html`
  <button type="button" id=${`go-${name}`} aria-current=${app.place === name ? "page" : nothing} @click=${() => app.go(name)}>${icon(name)}<span>${text(name)}</span></button>`);

const notice = (app) => (navigator.onLine ? nothing : html`<p class="banner" role="status" id="offline">${text("offline")}${app.places.waiting > 0 ? html` ${text("offline.waiting", { count: app.places.waiting })}` : nothing}</p>`);

const library = (app) => html`${notice(app)}${libraryView(app.library, { current: app.playback.track, isPlaying: app.playback.isPlaying }, {
  play: app.play, add: app.add, resume: (track, at) => app.play([track], 0, at),
})}`;

const signIn = (app) => html`<div class="signin card">
  <h1>${text("signin")}</h1>
  ${app.refusal ? html`<p class="warning" role="alert" id="signin-refused">${text(app.refusal)}</p>` : nothing}
  ${app.settings.signIn ? html`<button type="button" class="primary" id="provider" @click=${() => app.toProvider()}>${text("signin.provider")}</button><p class="or"><span>${text("or")}</span></p>` : nothing}
  <form id="signin" @submit=${(event) => app.signIn(event)}>
    <label for="token">${text("signin.token")}</label>
    <input id="token" type="password" required autocomplete="off" spellcheck="false">
    <button class=${app.settings.signIn ? "quiet" : "primary"} type="submit">${text("signin.go")}</button>
    <p class="about">${text("signin.why")}</p>
  </form></div>`;

const app = new App();
keys.listen(app.actions, () => app.keysOn && app.state === "ready");
session.handle({
  play: () => app.playback.play(), pause: () => app.playback.pause(), nexttrack: app.next, previoustrack: app.previous,
  seekbackward: ({ seekOffset }) => app.playback.seek(app.playback.seconds - (seekOffset ?? 10)),
  seekforward: ({ seekOffset }) => app.playback.seek(app.playback.seconds + (seekOffset ?? 10)),
  seekto: ({ seekTime }) => app.playback.seek(seekTime),
});
for (const event of ["wheel", "touchmove"]) element("side").addEventListener(event, () => app.lyrics.scrolled(), { passive: true });
addEventListener("online", () => { app.places.flush(); app.playback.again(); app.draw(); });
addEventListener("offline", () => app.draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.draw());
app.follow();
app.start();
