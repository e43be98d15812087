// The listen page: shows a session and plays it.

import { Chat } from "./chat.js";
import * as decoder from "./decoder.js";
import { element } from "./elements.js";
import * as level from "./level.js";
import { Live } from "./live.js";
import * as lyrics from "./lyrics.js";
import { recall, remember } from "./memory.js";
import { Plain } from "./plain.js";
import { fill, number, text } from "./texts.js";

const LATE = 5; // seconds of delay that are worth a warning
const OWN_SCROLL = 4000; // ms after the reader's own scrolling in which the lyrics stay where they are
const OVER = ["ended", "gone", "denied", "refused"];

const id = location.pathname.split("/").filter(Boolean).pop();
const query = new URLSearchParams(location.search);
const place = new lyrics.Place();
let state = "connecting";
let playing = false;
let away = false; // the host
/** @type {lyrics.LyricsLine[]} */
let lines = [];
let shown = -1;
let scrolled = -Infinity;
/** @type {string | null} */
let picture = null;
/** @type {AnalyserNode | null} */
let analyser = null;

/**
 * The session's addresses, with the ticket that this page was opened with.
 * @param {string} path
 * @param {Record<string, string>} parameters
 */
function address(path, parameters = {}) {
  const url = new URL(`/api/v1/share/${id}/${path}`, location.href);
  const ticket = query.get("ticket");
  if (ticket !== null) url.searchParams.set("ticket", ticket);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return url.href;
}

/** How to play here: by WebCodecs, as a file, or as floats; `?codec=` insists. */
async function codec() {
  const wanted = query.get("codec");
  if (wanted === "opus" || wanted === "f32" || wanted === "ogg") return wanted;
  if (!window.isSecureContext || !("AudioWorkletNode" in window)) return "ogg";
  if (await decoder.isThere()) return "opus";
  return new Audio().canPlayType("audio/ogg; codecs=opus") ? "ogg" : "f32";
}

// --- What comes in ------------------------------------------------------------------------------------------------

/** @type {Record<string, (value: any) => void>} */
const on = {
  state(now) {
    state = now;
    show();
  },
  hello({ listeners, meta, host, recording, chat: chatting }) {
    state = "connected";
    away = host === false;
    if (listeners !== undefined) on.count({ listeners });
    if (meta) song(meta, false);
    on.recording({ on: recording === true });
    chat.greet(chatting);
    show();
  },
  count({ listeners }) {
    element("listeners").textContent = text("listeners", { count: listeners });
  },
  meta(message) {
    song(message, true);
  },
  host({ here }) {
    away = !here;
    show();
  },
  recording({ on: recorded }) {
    put("recording", recorded ? text("recorded") : "");
  },
  chat(message) {
    chat.hear(message);
  },
  error({ error }) {
    chat.refused(error);
  },
  level() {
    show();
  },
};

/** @typedef {lyrics.Song & { artist: string | null, thumb: string | null, lyrics: string | null, hasSyncedLyrics: boolean }} Said */

/**
 * Shows what the host says of the song.
 * @param {Said} said
 * @param {boolean} fresh
 */
function song(said, fresh) {
  place.hear(said, source.now(), fresh);
  const title = said.title || text("untitled");
  put("title", title);
  put("artist", said.artist ?? "");
  document.title = said.artist ? `${title} – ${said.artist}` : title;
  if (picture !== said.thumb) {
    picture = said.thumb;
    const cover = element("cover");
    cover.hidden = !picture;
    if (picture) cover.src = address("thumb", { v: picture });
  }
  words(said);
  if ("mediaSession" in navigator) {
    const artwork = picture ? [{ src: element("cover").src }] : [];
    navigator.mediaSession.metadata = new MediaMetadata({ title, artist: said.artist ?? "", artwork });
  }
}

/**
 * Fills the list of lines, where they are others than before.
 * @param {Said} said
 */
function words({ lyrics: given, hasSyncedLyrics: synced }) {
  const list = element("lyrics");
  const now = `${synced} ${given ?? ""}`;
  if (list.dataset.given === now) return;
  list.dataset.given = now;
  lines = given && synced ? lyrics.parse(given) : [];
  shown = -1;
  const plain = (given ?? "").split(/\r?\n/);
  const all = lines.length > 0 ? lines.map((line) => line.text) : plain;
  list.replaceChildren(...all.map((line) => Object.assign(document.createElement("li"), { textContent: line || "♪" })));
  element("words").hidden = !given;
}

// --- What is shown --------------------------------------------------------------------------------------------------

/**
 * Writes a text only where it changes: live regions are read aloud.
 * @param {keyof PageElements} where
 * @param {string} what
 */
function put(where, what) {
  if (element(where).textContent !== what) element(where).textContent = what;
}

function phase() {
  if (state !== "connected") return state;
  if (away) return "away";
  if (!playing) return "ready";
  return source?.sounding ? "live" : "buffering";
}

function show() {
  const over = OVER.includes(state);
  const now = phase();
  document.body.dataset.state = now;
  put("state", text(`state.${now}`));
  const button = element("play");
  put("play", text(playing ? "pause" : "play"));
  button.dataset.playing = String(playing);
  button.disabled = over && !source?.sounding;
  const delay = source?.delay ?? null;
  put("delay", delay === null ? "" : text("delay", { delay: number(Math.max(0, delay)) }));
  element("warning").hidden = delay === null || delay < LATE;
  if (document.querySelector("details")?.open) figures();
}

function figures() {
  const rows = Object.entries(/** @type {Record<string, string | number>} */ (source.figures)).map(([key, value]) => {
    const name = Object.assign(document.createElement("dt"), { textContent: text(`figure.${key}`) });
    const shown = Number.isInteger(value) || typeof value === "string" ? String(value) : value.toFixed(3);
    return [name, Object.assign(document.createElement("dd"), { textContent: shown })];
  });
  element("figures").replaceChildren(...rows.flat());
}

/** Marks the line that is heard now. */
function follow() {
  if (lines.length === 0) return;
  const seconds = place.at(source.now()) - (source.delay ?? 0);
  const now = lyrics.active(lines, seconds);
  if (now === shown) return;
  const list = element("lyrics");
  list.children[shown]?.removeAttribute("aria-current");
  shown = now;
  const line = /** @type {HTMLElement | undefined} */ (list.children[now]);
  if (!line) return;
  line.setAttribute("aria-current", "true");
  if (performance.now() - scrolled < OWN_SCROLL) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const top = line.offsetTop - (list.clientHeight - line.clientHeight) / 2;
  list.scrollTo({ top, behavior: calm ? "auto" : "smooth" });
}

// --- What the listener does -----------------------------------------------------------------------------------------

async function toggle() {
  playing = !playing;
  show();
  await (playing ? source.play() : source.pause());
  const { output } = source;
  if (!analyser && output) {
    analyser = new AnalyserNode(output.context, { fftSize: 1024 });
    output.connect(analyser);
  }
  if ("mediaSession" in navigator) navigator.mediaSession.playbackState = playing ? "playing" : "paused";
  show();
}

/** @param {number} percent */
function volume(percent) {
  const slider = element("volume");
  slider.value = String(percent);
  source.volume = slider.valueAsNumber / 100;
  slider.setAttribute("aria-valuetext", `${slider.value} %`);
  remember("volume", slider.value);
}

let loud = 80;

function mute() {
  const now = element("volume").valueAsNumber;
  if (now > 0) loud = now;
  volume(now > 0 ? 0 : loud);
}

/** @param {KeyboardEvent} event */
function key(event) {
  const target = /** @type {Element} */ (event.target);
  if (event.ctrlKey || event.altKey || event.metaKey || target.closest("input, button, summary")) return;
  /** @param {number} by */
  const step = (by) => () => volume(element("volume").valueAsNumber + by);
  /** @type {Record<string, () => void>} */
  const ours = { " ": toggle, k: toggle, m: mute, ArrowUp: step(5), ArrowDown: step(-5) };
  const scrolls = target.closest("ol, [role=log]") && event.key.startsWith("Arrow");
  const act = scrolls ? undefined : ours[event.key];
  if (!act || (act === toggle && element("play").disabled)) return;
  event.preventDefault();
  act();
}

// --- Beginning ------------------------------------------------------------------------------------------------------

fill();
const chosen = await codec();
const urls = {
  socket: address("ws", { codec: chosen === "f32" ? "f32" : "opus" }).replace(/^http/, "ws"),
  events: address("events"),
  ogg: address("stream.ogg"),
  chat: address("chat"),
};
/** What plays; for whoever wants to look closer. */
/** @type {Live | Plain} */
export let source;
const chat = new Chat((message) => source.say(message));
source = chosen === "ogg" ? new Plain(urls, on) : new Live(urls, chosen, on);
volume(Number(recall("volume") ?? 80));
show();
element("play").addEventListener("click", toggle);
element("volume").addEventListener("input", () => volume(element("volume").valueAsNumber));
for (const name of ["wheel", "touchmove", "keydown"]) {
  element("lyrics").addEventListener(name, () => { scrolled = performance.now(); }, { passive: true });
}
addEventListener("keydown", key);
if ("mediaSession" in navigator) {
  navigator.mediaSession.setActionHandler("play", () => { if (!playing) toggle(); });
  navigator.mediaSession.setActionHandler("pause", () => { if (playing) toggle(); });
}
setInterval(() => { follow(); level.show(element("level"), analyser); }, 100);
