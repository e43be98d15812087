// The host page: shares a file or a tab's sound.

import { Capture, encodes } from "./capture.js";
import { Chat } from "./chat.js";
import { element } from "./elements.js";
import * as level from "./level.js";
import { Refusal, Relay } from "./relay.js";
import { fill, text } from "./texts.js";

const SAY = 10000; // ms between words on the song, which are forgotten after 30 s
const CHANGED = 600; // ms after a change, so that many changes are one word
const COVER = 320; // pixels
const TROUBLE = 10000; // ms for which a refusal is shown
/** @type {Record<number, string>} */
const REFUSED = { 401: "token", 404: "gone", 409: "taken", 429: "busy", 503: "full" };

/** @type {Relay | null} */
let relay = null;
/** @type {Capture | null} */
let capture = null;
/** @type {AnalyserNode | null} */
let analyser = null;
/** @type {MediaStream | null} */
let tab = null;
/** @type {string | null} */
let picture = null;
/** @type {string | null} */
let words = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;
let said = 0; // when the song was said last
/** @type {ReturnType<typeof setInterval> | undefined} */
let meter;
let most = 0; // listeners at once
let recording = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let quiet;

// --- Sound ----------------------------------------------------------------------------------------------------------

/** @returns {NodeListOf<HTMLInputElement>} */
const sources = () => document.querySelectorAll("input[name=source]");
const source = () => [...sources()].find(({ checked }) => checked)?.value;

/** Asks for a tab and its sound; what is seen in it is not taken further. */
async function chooseTab() {
  // Music is not speech: nothing is to be made better.
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const audio = { suppressLocalAudioPlayback: false, ...raw };
  tab = await navigator.mediaDevices.getDisplayMedia({ video: true, audio });
  const [track] = tab.getAudioTracks();
  if (!track) {
    release();
    throw new Error("silent");
  }
  track.addEventListener("ended", () => stop());
}

/** Connects what is shared to what sends it. */
async function connect() {
  const opus = await encodes();
  const made = new Capture(opus, (bytes, label) => {
    relay?.send(bytes, label);
    // Timers of a page in the background may come once a minute, sound does not.
    if (performance.now() - said > SAY) say();
  });
  capture = made;
  const { context } = made;
  const input = await made.input();
  analyser = new AnalyserNode(context, { fftSize: 1024 });
  analyser.connect(input);
  if (tab) {
    context.createMediaStreamSource(new MediaStream(tab.getAudioTracks())).connect(analyser);
  } else {
    // An element's sound goes through one context for good, so a new element is made for each session.
    const old = element("player");
    const fresh = /** @type {HTMLAudioElement} */ (old.cloneNode());
    old.replaceWith(fresh);
    watch(fresh);
    const file = context.createMediaElementSource(fresh);
    file.connect(analyser);
    file.connect(context.destination);
  }
  await context.resume();
  return opus;
}

/** @param {HTMLAudioElement} player */
function watch(player) {
  for (const name of ["play", "pause", "seeked", "loadedmetadata"]) player.addEventListener(name, changed);
}

/** Lets go of what is shared. */
async function release() {
  tab?.getTracks().forEach((track) => track.stop());
  tab = null;
  analyser = null;
  await capture?.close();
  capture = null;
}

// --- The song -------------------------------------------------------------------------------------------------------

function song() {
  const player = element("player");
  const length = Number.isFinite(player.duration) ? player.duration : 0;
  return {
    title: element("title").value || null,
    artist: element("artist").value || null,
    lyrics: words,
    hasSyncedLyrics: /^\s*\[\d+:\d/m.test(words ?? ""),
    elapsedSeconds: tab ? 0 : player.currentTime,
    totalSeconds: tab ? 0 : length,
    thumbnailData: picture,
    timestamp: Date.now(),
  };
}

function say() {
  said = performance.now();
  // What does not arrive is said again with the next greeting.
  relay?.say({ type: "meta", ...song() });
}

function changed() {
  clearTimeout(soon);
  soon = setTimeout(say, CHANGED);
}

/**
 * A chosen file: "Artist - Title.mp3" says what it is.
 * @param {File} chosen
 */
function take(chosen) {
  const player = element("player");
  if (player.src) URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(chosen);
  player.hidden = false;
  const [, artist = "", title] = /^(?:(.+?) [-–] )?(.+?)(?:\.[^.]+)?$/.exec(chosen.name) ?? ["", "", chosen.name];
  element("title").value = title;
  element("artist").value = artist;
  if (relay) player.play();
  changed();
}

/**
 * A picture, made small: it is sent again and again.
 * @param {File} chosen
 */
async function shrink(chosen) {
  const bitmap = await createImageBitmap(chosen);
  const scale = Math.min(1, COVER / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((size) => Math.max(1, Math.round(size * scale)));
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8).split(",")[1];
}

// --- The session ----------------------------------------------------------------------------------------------------

/** @param {string} key */
function put(key) {
  const said = key ? text(key) : "";
  if (element("state").textContent !== said) element("state").textContent = said;
}

/** @param {string} now */
function state(now) {
  document.body.dataset.state = now;
  put(`host.${now}`);
  element("begin").hidden = now !== "idle";
  element("running").hidden = now === "idle";
}

/** @type {Record<string, (value: any) => void>} */
const on = {
  state,
  welcome(message) {
    say();
    chat.greet(message.chat);
    // A server that cannot record does not speak of it.
    element("record").hidden = message.recording === undefined;
    on.recording({ on: message.recording === true });
  },
  count({ listeners }) {
    most = Math.max(most, listeners);
    element("listeners").textContent = text("listeners", { count: listeners });
    element("most").textContent = text("host.most", { count: most });
  },
  recording({ on: recorded }) {
    recording = recorded;
    element("recording").textContent = recorded ? text("recorded") : "";
    element("record").textContent = text(recorded ? "host.record.stop" : "host.record");
  },
  chat(message) {
    chat.hear(message);
  },
  error({ error }) {
    if (!chat.refused(error)) trouble(error);
  },
  ended(reason) {
    relay = null;
    stop(`host.${reason}`);
  },
};

/**
 * Shows for a while what the server refused.
 * @param {string} what
 */
function trouble(what) {
  if (element("trouble").textContent !== what) element("trouble").textContent = what;
  element("trouble").hidden = !what;
  clearTimeout(quiet);
  quiet = setTimeout(() => { element("trouble").hidden = true; }, TROUBLE);
}

function record() {
  if (!relay?.say({ type: "record", on: !recording })) trouble(text("chat.offline"));
}

async function start() {
  element("start").disabled = true;
  const making = new Relay(element("token").value, on);
  try {
    if (source() === "tab") await chooseTab();
    const opus = await connect();
    const link = await making.start(element("session").value, opus);
    relay = making;
    // The token is in the session's object now, and need not be on the page.
    element("token").value = "";
    element("link").value = link;
    state("connecting");
    most = 0;
    on.count({ listeners: 0 });
    meter = setInterval(() => level.show(element("level"), analyser), 100);
    if (!tab && element("player").src) await element("player").play();
  } catch (error) {
    if (!relay && making.session) making.stop().catch(() => {});
    await stop(error instanceof Refusal ? `host.refused.${REFUSED[error.status] ?? "other"}` : failure(error));
  } finally {
    element("start").disabled = false;
  }
}

/**
 * What the reader is told of an error of the browser.
 * @param {unknown} error
 */
function failure(error) {
  if (!window.isSecureContext) return "host.insecure";
  if (!(error instanceof Error)) return "host.refused.other";
  if (error.message === "silent") return "host.silent";
  return error.name === "NotAllowedError" ? "host.notallowed" : "host.refused.other";
}

async function stop(why = "host.stopped") {
  clearInterval(meter);
  chat.forget();
  element("player").pause();
  const ending = relay;
  relay = null;
  await release();
  // A session that cannot be ended now ends by itself when it has been silent for long.
  await ending?.stop().catch(() => {});
  state("idle");
  put(why);
}

async function copy() {
  element("link").select();
  await navigator.clipboard?.writeText(element("link").value).catch(() => {});
  put("host.copied");
}

fill();
const chat = new Chat((message) => relay?.say(message) ?? false);
document.title = text("host.heading");
watch(element("player"));
state("idle");
put(window.isSecureContext ? "" : "host.insecure");
/** @type {(id: "file" | "cover" | "lyrics", then: (file: File) => unknown) => void} */
const chosen = (id, then) => element(id).addEventListener("change", async () => {
  const [first] = /** @type {HTMLInputElement} */ (element(id)).files ?? [];
  if (first) await then(first);
  changed();
});
chosen("file", take);
chosen("cover", async (first) => { picture = await shrink(first).catch(() => null); });
chosen("lyrics", async (first) => { words = await first.text(); });
for (const field of [element("title"), element("artist")]) field.addEventListener("input", changed);
for (const radio of sources()) {
  radio.addEventListener("change", () => { element("choose").hidden = source() === "tab"; });
}
element("begin").addEventListener("submit", (event) => { event.preventDefault(); start(); });
element("stop").addEventListener("click", () => stop());
element("copy").addEventListener("click", copy);
element("record").addEventListener("click", record);
// Leaving ends what others hear: the browser asks first.
addEventListener("beforeunload", (event) => { if (relay) event.preventDefault(); });
