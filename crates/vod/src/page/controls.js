// The controls below the film: what they show is what the element and its player say, and what they do is asked of those.

import { element } from "./elements.js";
import { recall, remember } from "./memory.js";
import { clock, spoken } from "./time.js";
import { language, text } from "./texts.js";

const SPEEDS = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
const IDLE = 3000; // ms after which the controls of a full screen go

/** @type {(value: number, least: number, most: number) => number} */
const bound = (value, least, most) => Math.min(Math.max(value, least), most);

/**
 * Shows a choice, and hides it where there is none.
 * @param {"quality" | "speed" | "audio" | "subtitles"} id
 * @param {{ value: string, label: string }[]} options
 * @param {string} chosen
 */
function fillChoice(id, options, chosen) {
  const select = element(id);
  const wanted = options.map(({ value, label }) => new Option(label, value, false, value === chosen));
  const same = wanted.length === select.options.length
    && wanted.every(({ value, text: label }, at) => select.options[at].value === value && select.options[at].text === label);
  // A list that is open must not be made anew.
  if (!same) select.replaceChildren(...wanted);
  select.value = chosen;
  element(`${id}-label`).hidden = options.length < 2;
}

export class Controls {
  #video;
  #on;
  /** @type {import("./players.js").Player | null} */
  #player = null;
  /** @type {string | null} */
  #subtitle = null; // language that the reader has chosen, "" for none
  /** @type {string | null} */
  #sound = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #idle;

  /**
   * @param {HTMLVideoElement} video
   * @param {{ play: () => void }} on what Play does
   */
  constructor(video, on) {
    this.#video = video;
    this.#on = on;
    this.#subtitle = recall("film.subtitles");
    this.#sound = recall("film.audio");
    video.volume = bound(Number(recall("film.volume") ?? 1), 0, 1);
    this.#listen();
    this.translate();
  }

  /**
   * The player of the film, null where there is none.
   * @param {import("./players.js").Player | null} player
   */
  set player(player) {
    this.#player = player;
    this.#wishes = new Set(["sound", "subtitle"]);
    this.tracks();
  }

  /** @type {Set<string>} */
  #wishes = new Set(); // wishes of an earlier visit that the player has not been told yet

  toggle() {
    if (this.#video.paused || this.#video.ended) this.#on.play();
    else this.#video.pause();
  }

  /** @param {number} to */
  seek(to) {
    if (Number.isFinite(this.#video.duration)) this.#video.currentTime = bound(to, 0, this.#video.duration);
  }

  /** @param {number} by */
  step(by) {
    this.seek(this.#video.currentTime + by);
  }

  /** @param {number} number */
  tenth(number) {
    this.seek((this.#video.duration * number) / 10);
  }

  /** @param {number} by */
  louder(by) {
    this.#video.muted = false;
    this.#video.volume = bound(Math.round(100 * this.#video.volume + by) / 100, 0, 1);
  }

  mute() {
    this.#video.muted = !this.#video.muted;
  }

  /** @param {number} by */
  faster(by) {
    const now = SPEEDS.findIndex((speed) => speed >= this.#video.playbackRate);
    this.#video.playbackRate = SPEEDS[bound(now + by, 0, SPEEDS.length - 1)];
  }

  async toggleFull() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (element("player").requestFullscreen) await element("player").requestFullscreen().catch(() => {});
    else this.#video.webkitEnterFullscreen?.();
  }

  async togglePip() {
    if (!document.pictureInPictureEnabled) return;
    if (document.pictureInPictureElement) await document.exitPictureInPicture();
    else await this.#video.requestPictureInPicture().catch(() => {});
  }

  toggleSubtitles() {
    const player = this.#player;
    const all = player?.subtitles() ?? [];
    if (!player || all.length === 0) return;
    const wanted = all.find((track) => track.language === this.#subtitle) ?? all[0];
    this.#chooseSubtitle(player, player.subtitle() >= 0 ? -1 : wanted.id);
  }

  /** Shows the tracks that there are, and has the ones played that the reader wished for. */
  tracks() {
    const player = this.#player;
    if (!player) return;
    this.#wish(player);
    const qualities = player.qualities().sort((a, b) => b.height - a.height || b.bitrate - a.bitrate);
    /** @typedef {import("./players.js").Quality} Quality */
    /** @param {Quality} quality */
    const name = ({ height, bitrate }) => (height ? `${height}p` : text("kbps", { rate: Math.round(bitrate / 1000) }));
    /** @param {Quality} one */
    const twice = (one) => qualities.some((other) => other !== one && other.height === one.height);
    /** @param {Quality} one */
    const whole = (one) => (twice(one) && one.height ? `${name(one)} · ${text("kbps", { rate: Math.round(one.bitrate / 1000) })}` : name(one));
    const playing = qualities.find(({ id }) => id === player.playing());
    const auto = playing ? text("quality.auto.now", { now: name(playing) }) : text("quality.auto");
    const levels = qualities.map((one) => ({ value: String(one.id), label: whole(one) }));
    fillChoice("quality", levels.length > 1 ? [{ value: "-1", label: auto }, ...levels] : [], String(player.quality()));
    /** @param {import("./players.js").Track} track */
    const named = (track) => ({ value: String(track.id), label: this.#name(track) });
    fillChoice("audio", player.audio().map(named), String(player.audioTrack()));
    const subtitles = player.subtitles().map(named);
    const none = { value: "-1", label: text("subtitles.off") };
    fillChoice("subtitles", subtitles.length > 0 ? [none, ...subtitles] : [], String(player.subtitle()));
  }

  /** Says everything again, in the language of now. */
  translate() {
    const number = new Intl.NumberFormat(language);
    const speeds = SPEEDS.map((speed) => ({ value: String(speed), label: `${number.format(speed)}×` }));
    fillChoice("speed", speeds, String(this.#video.playbackRate));
    this.tracks();
    this.#showTime();
    this.#showState();
  }

  /** @param {import("./players.js").Track} track */
  #name({ language: tag, label, id }) {
    if (label && label.toLowerCase() !== tag.toLowerCase()) return label;
    try {
      const name = tag && new Intl.DisplayNames(language, { type: "language" }).of(tag);
      if (name) return name;
    } catch {
      // No tag of a language.
    }
    return label || text("track", { number: id + 1 });
  }

  /** @param {import("./players.js").Player} player */
  #wish(player) {
    // The tracks come when the player has read about them.
    if (player.audio().length > 0 && this.#wishes.delete("sound")) {
      const wanted = player.audio().find((track) => track.language === this.#sound);
      if (this.#sound && wanted && wanted.id !== player.audioTrack()) player.setAudio(wanted.id);
    }
    // Subtitles when there are pictures: before, what is chosen is lost when the player makes its tracks.
    const shows = this.#video.readyState > 2 && player.subtitles().length > 0;
    if (shows && this.#wishes.delete("subtitle") && this.#subtitle !== null) {
      const wanted = player.subtitles().find((track) => track.language === this.#subtitle);
      if ((wanted?.id ?? -1) !== player.subtitle()) player.setSubtitle(wanted?.id ?? -1);
    }
  }

  /**
   * @param {import("./players.js").Player} player
   * @param {number} id
   */
  #chooseSubtitle(player, id) {
    player.setSubtitle(id);
    this.#subtitle = id < 0 ? "" : player.subtitles().find((track) => track.id === id)?.language ?? "";
    remember("film.subtitles", this.#subtitle);
    this.tracks();
  }

  /**
   * @param {import("./players.js").Player} player
   * @param {number} id
   */
  #chooseSound(player, id) {
    player.setAudio(id);
    this.#sound = player.audio().find((track) => track.id === id)?.language ?? "";
    remember("film.audio", this.#sound);
  }

  #showTime() {
    const { currentTime, duration } = this.#video;
    const seek = element("seek");
    const known = Number.isFinite(duration) && duration > 0;
    seek.disabled = !known;
    if (known) seek.max = String(Math.floor(duration));
    seek.value = String(Math.floor(currentTime));
    seek.parentElement?.style.setProperty("--played", `${known ? (100 * currentTime) / duration : 0}%`);
    seek.setAttribute("aria-valuetext", text("seek.at", { at: spoken(currentTime), of: spoken(duration) }));
    element("elapsed").textContent = clock(currentTime);
    element("length").textContent = clock(duration);
  }

  #showBuffer() {
    const { buffered, currentTime, duration } = this.#video;
    const part = Array.from({ length: buffered.length }, (_, at) => [buffered.start(at), buffered.end(at)]);
    const end = part.find(([from, to]) => from <= currentTime + 0.5 && to >= currentTime)?.[1] ?? 0;
    element("seek").parentElement?.style.setProperty("--buffered", `${duration > 0 ? (100 * end) / duration : 0}%`);
  }

  #showState() {
    const video = this.#video;
    const play = element("play");
    const name = text(video.paused ? "play" : "pause");
    play.dataset.playing = String(!video.paused);
    play.setAttribute("aria-label", name);
    play.title = name;
    element("mute").setAttribute("aria-pressed", String(video.muted));
    const volume = element("volume");
    volume.value = String(Math.round(100 * video.volume));
    volume.setAttribute("aria-valuetext", `${volume.value} %`);
    element("full").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
    element("pip").setAttribute("aria-pressed", String(Boolean(document.pictureInPictureElement)));
    element("speed").value = String(video.playbackRate);
  }

  #listen() {
    const video = this.#video;
    const clicks = {
      play: () => this.toggle(), back: () => this.step(-10), forward: () => this.step(10), mute: () => this.mute(),
      pip: () => this.togglePip(), full: () => this.toggleFull(),
    };
    for (const [id, act] of Object.entries(clicks)) document.getElementById(id)?.addEventListener("click", act);
    video.addEventListener("click", () => this.toggle());
    video.addEventListener("dblclick", () => this.toggleFull());
    element("seek").addEventListener("input", () => this.seek(element("seek").valueAsNumber));
    element("volume").addEventListener("input", () => {
      video.muted = false;
      video.volume = element("volume").valueAsNumber / 100;
    });
    element("speed").addEventListener("change", () => { video.playbackRate = Number(element("speed").value); });
    /** @type {(id: "quality" | "audio" | "subtitles", act: (player: import("./players.js").Player, chosen: number) => void) => void} */
    const chosen = (id, act) => element(id).addEventListener("change", () => {
      if (this.#player) act(this.#player, Number(element(id).value));
    });
    chosen("quality", (player, id) => { player.setQuality(id); this.tracks(); });
    chosen("audio", (player, id) => this.#chooseSound(player, id));
    chosen("subtitles", (player, id) => this.#chooseSubtitle(player, id));
    for (const name of ["timeupdate", "durationchange", "seeking"]) video.addEventListener(name, () => this.#showTime());
    for (const name of ["progress", "timeupdate"]) video.addEventListener(name, () => this.#showBuffer());
    for (const name of ["play", "pause", "ended", "volumechange", "ratechange", "enterpictureinpicture", "leavepictureinpicture"]) {
      video.addEventListener(name, () => this.#showState());
    }
    video.addEventListener("canplay", () => this.tracks());
    video.addEventListener("volumechange", () => remember("film.volume", String(video.volume)));
    document.addEventListener("fullscreenchange", () => this.#showState());
    element("pip").hidden = !document.pictureInPictureEnabled;
    this.#hover();
    this.#hideIdle();
  }

  /** The time below the pointer. */
  #hover() {
    const seek = element("seek");
    const hover = element("hover");
    seek.addEventListener("pointermove", ({ clientX }) => {
      const { left, width } = seek.getBoundingClientRect();
      const part = bound((clientX - left) / width, 0, 1);
      hover.hidden = seek.disabled;
      hover.textContent = clock(part * this.#video.duration);
      seek.parentElement?.style.setProperty("--at", `${100 * part}%`);
    });
    seek.addEventListener("pointerleave", () => { hover.hidden = true; });
  }

  /** A full screen shows the film alone while nobody moves. */
  #hideIdle() {
    const player = element("player");
    const wake = () => {
      player.classList.remove("idle");
      clearTimeout(this.#idle);
      this.#idle = setTimeout(() => player.classList.toggle("idle", !this.#video.paused), IDLE);
    };
    for (const name of ["pointermove", "pointerdown", "keydown", "focusin"]) player.addEventListener(name, wake);
  }
}
