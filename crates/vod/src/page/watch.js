// The film page: opens a session, has a player play it, reports where it is, and says what stands in the way.

import { Api, Refusal } from "./api.js";
import { ContinueList } from "./continue.js";
import { Controls } from "./controls.js";
import { element } from "./elements.js";
import * as keys from "./keys.js";
import { recall, remember } from "./memory.js";
import { Notice } from "./notice.js";
import { player as choosePlayer } from "./players.js";
import { Reports } from "./reports.js";
import { Retry } from "./retry.js";
import { SessionWatch } from "./session.js";
import { change, fill, language, speak, text } from "./texts.js";
import { clock } from "./time.js";

const LAST = 0.25; // seconds before the end in which there may be nothing left to play
const END = 5; // seconds before the end in which a film counts as seen
const SOON = 2; // tries after which a film whose files are refused is not tried any more
const SILENT = ["stopped", "signin", "list"]; // states in which something else on the page says what there is

const film = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const query = new URLSearchParams(location.search);
const video = element("video");
const interval = 1000 * Number(document.body.dataset.interval);

speak(recall("film.language"));
const api = new Api(film);
const notice = new Notice();
const controls = new Controls(video, { play });
const list = new ContinueList(api, film);
const session = new SessionWatch(api, over);
const reports = new Reports(api, film, interval, () => ({ position: place(), duration: video.duration }), { signedOut: signIn });
const again = () => (film ? begin() : lists());
const stopped = () => element("player").hidden; // another thing stands in the film's place
const retry = new Retry(again, 8000); // of a start
const reload = new Retry(() => player?.retry(), 8000); // of what is played
/** @type {import("./players.js").Player | null} */
let player = null;
let state = "loading";
/** @type {number | null} */
let resume = null; // seconds where the film goes on when it is opened; null: where the server says
let ready = false; // the film is open and at its place
let isOver = false; // the session has ended, so Play opens another one
let failures = 0;
let opening = 0; // the last one of what was begun
/** @type {string | null} */
let title = null;

/**
 * Where a film is opened that was left at `at`: one that was seen to its end begins anew.
 * @param {number} at
 * @param {number} duration
 */
function beginning(at, duration) {
  return at > 0 && duration - at < END ? 0 : at;
}

/** Where the film is; what was sought before it is open counts too. */
function place() {
  return ready ? video.currentTime : NaN;
}

// --- What is shown ----------------------------------------------------------------------------------------------------

function show(now = state) {
  state = now;
  document.body.dataset.state = now;
  const said = SILENT.includes(now) ? "" : text(`state.${now}`);
  if (element("state").textContent !== said) element("state").textContent = said;
  element("waiting").hidden = !["loading", "buffering"].includes(now) && (now !== "reconnecting" || video.readyState > 2);
  const start = element("start");
  start.hidden = !["ready", "ended"].includes(now);
  start.textContent = now === "ended" ? text("play.again") : resume ? text("play.at", { at: clock(resume) }) : text("play");
}

function name() {
  const shown = title ?? film;
  element("title").textContent = shown || text("films");
  document.title = shown || text("films");
  if ("mediaSession" in navigator && shown) navigator.mediaSession.metadata = new MediaMetadata({ title: shown });
}

function translate() {
  fill();
  element("language").value = language;
  name();
  controls.translate();
  notice.translate();
  list.translate();
  keys.translate();
  show();
}

/**
 * Says what stands in the way, in place of the film.
 * @param {string} kind
 */
function stop(kind) {
  notice.show(kind, () => {
    notice.hide();
    again();
    element("play").focus({ preventScroll: true });
  });
  const focused = element("player").contains(document.activeElement);
  close();
  hide();
  show("stopped");
  if (focused) element("again").focus();
}

/** Takes the film out of sight. */
function hide() {
  if (document.fullscreenElement) document.exitFullscreen();
  if (document.pictureInPictureElement) document.exitPictureInPicture();
  element("player").hidden = true;
}

// --- The film ---------------------------------------------------------------------------------------------------------

/** Opens a session: HLS, or DASH where the film has no HLS. */
async function open() {
  const wanted = query.get("manifest");
  if (wanted || query.get("player") === "shaka") return start(wanted ?? "dash");
  try {
    return await start("hls");
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return start("dash");
    throw error;
  }
}

/** @param {string} type */
async function start(type) {
  return { type, ...(await api.start(type)) };
}

/** Where the user stopped, here or on another device. */
async function saved() {
  const { user_id, position_seconds, last_watched_at } = await api.position();
  const unsent = reports.own(user_id);
  const known = last_watched_at ? Date.parse(`${last_watched_at}Z`) : 0;
  return unsent && unsent.timestamp > known ? unsent.position_seconds : position_seconds;
}

/** Opens the film. */
async function begin() {
  retry.stop();
  close();
  const own = opening;
  // A notice stays while the page tries again by itself.
  if (!notice.kind) reveal();
  try {
    const [opened, at] = await Promise.all([open(), resume ?? saved()]);
    if (own !== opening) return;
    resume = at;
    retry.worked();
    isOver = false;
    reports.session = opened.session_id;
    session.follow(opened.session_id);
    // This server, whatever name it gives itself.
    const { pathname: url } = new URL(opened.manifest_url, location.href);
    const openPlayer = await choosePlayer(opened.type, video);
    const wanted = { url, at, start: (/** @type {number} */ duration) => beginning(at, duration), film, session: opened.session_id };
    const fresh = await openPlayer(video, wanted, on);
    // Something else was begun meanwhile.
    if (own !== opening) return fresh.close();
    player = fresh;
    controls.player = player;
    reveal();
  } catch (error) {
    if (own === opening) refused(error);
  }
}

/** Shows the film in place of what was there. */
function reveal() {
  notice.hide();
  element("signin").hidden = true;
  element("player").hidden = false;
  if (!ready) show("loading");
}

/** Plays, where the browser lets a page do that by itself. */
async function attempt() {
  try {
    await video.play();
  } catch (error) {
    // Another source came, or the film was closed: that is no refusal.
    if (error instanceof DOMException && error.name === "NotAllowedError") show("ready");
  }
}

function play() {
  if (isOver) {
    if (video.ended || beginning(video.currentTime, video.duration) === 0) {
      ready = false;
      resume = 0;
    }
    begin();
  } else {
    attempt();
  }
}

/** Lets go of the player. */
function close() {
  opening += 1;
  if (ready) resume = video.currentTime;
  ready = false;
  reload.stop();
  reports.pause();
  session.leave();
  controls.player = null;
  player?.close();
  player = null;
}

/**
 * What a start was answered.
 * @param {unknown} error
 */
function refused(error) {
  /** @type {Record<number, string>} */
  const kinds = { 400: "not-found", 403: "no-subscription", 404: "not-found", 429: "busy", 503: "unavailable" };
  if (error instanceof Refusal && error.status === 401) return signIn();
  const kind = error instanceof Refusal ? (kinds[error.status] ?? "unavailable") : "offline";
  stop(kind);
  if (["offline", "unavailable", "busy"].includes(kind)) retry.later();
}

/**
 * The session has ended.
 * @param {string} reason
 */
function over(reason) {
  const playing = !video.paused;
  if (reason === "expired") {
    // Nobody has done anything: the film goes on in another session when it is wanted.
    isOver = true;
    if (playing) begin();
    return;
  }
  if (ready) reports.note();
  video.pause();
  stop(reason);
}

/**
 * Loading has failed for good, as the player says.
 * @param {number | null} status
 */
async function broke(status) {
  show("reconnecting");
  const reason = await session.look().catch(() => null);
  if (reason) return over(reason);
  if (status === 401) return begin();
  failures += 1;
  const isRefused = status !== null && status >= 400 && status < 500;
  if ((isRefused || video.error) && failures > SOON) return stop("broken");
  reload.later();
}

/**
 * What the player tells.
 * @type {import("./players.js").Events}
 */
const on = {
  broke,
  opened() {
    ready = true;
    // A pause while it was being loaded, or waited for after the jump to where its first picture is.
    if (["loading", "buffering"].includes(state) && video.paused) show("paused");
  },
  stalled() {
    if (state === "buffering") show("reconnecting");
  },
  loaded() {
    failures = 0;
    reload.worked();
    if (state === "reconnecting") show(video.paused ? "paused" : video.readyState > 2 ? "playing" : "buffering");
  },
  tracks: () => controls.tracks(),
  title(said) {
    title = said;
    name();
  },
};

// --- Who asks ---------------------------------------------------------------------------------------------------------

function signIn() {
  close();
  notice.hide();
  retry.stop();
  hide();
  element("signin").hidden = false;
  element("signin-refused").hidden = !tried;
  element("signin-refused").textContent = text("signin.refused");
  show("signin");
  element("token").focus();
}

let tried = false;

/** @param {SubmitEvent} event */
function signedIn(event) {
  event.preventDefault();
  api.token = element("token").value;
  element("token").value = "";
  tried = true;
  reports.again();
  if (film) begin();
  else element("signin").hidden = true;
  lists();
}

async function lists() {
  try {
    await list.load();
    if (film) return;
    retry.worked();
    notice.hide();
    show("list");
  } catch (error) {
    // Beside a film the film says what is wrong.
    if (!film) refused(error);
  }
}

/** The film is over. */
function finish() {
  if (isOver) return;
  isOver = true;
  session.leave();
  reports.end();
  video.pause();
  show("ended");
}

// --- Beginning --------------------------------------------------------------------------------------------------------

const events = {
  loadedmetadata() {
    if (!stopped()) attempt();
  },
  playing() {
    reports.begin();
    session.begin();
    show("playing");
  },
  waiting() {
    // Sound and picture seldom end together, and a player may wait for what is missing of one of them.
    if (ready && !isOver && video.duration - video.currentTime < LAST) return finish();
    // A pause that comes with it is what the viewer has asked for.
    if (!video.ended && !video.paused && state !== "reconnecting") show(navigator.onLine ? "buffering" : "reconnecting");
  },
  pause() {
    if (!ready || video.ended || isOver) return;
    reports.pause();
    session.pause();
    reports.note();
    show("paused");
  },
  seeking() {
    if (ready && isOver) begin();
  },
  seeked() {
    if (ready && !isOver) reports.note();
  },
  ended() {
    // It may have been sent elsewhere meanwhile.
    if (ready && video.ended) finish();
  },
};

for (const [event, act] of Object.entries(events)) video.addEventListener(event, act);
addEventListener("pagehide", () => { if (ready && !isOver) reports.note(true); });
document.addEventListener("visibilitychange", () => { if (document.hidden && ready && !isOver) reports.note(true); });
addEventListener("offline", () => { if (state === "buffering") show("reconnecting"); });
addEventListener("online", () => { if (state === "reconnecting") player?.retry(); });
element("start").addEventListener("click", play);
element("signin").addEventListener("submit", signedIn);
element("language").addEventListener("change", () => {
  const chosen = element("language").value;
  remember("film.language", chosen);
  change(chosen);
  translate();
});
keys.listen(controls);
if ("mediaSession" in navigator) {
  /** @type {[MediaSessionAction, MediaSessionActionHandler][]} */
  const acts = [
    ["play", play],
    ["pause", () => video.pause()],
    ["seekbackward", () => controls.step(-10)],
    ["seekforward", () => controls.step(10)],
    ["seekto", ({ seekTime }) => controls.seek(seekTime ?? video.currentTime)],
  ];
  for (const [action, act] of acts) navigator.mediaSession.setActionHandler(action, act);
}
translate();
if (film) begin();
lists();
