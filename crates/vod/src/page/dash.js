// DASH by shaka.

import { script } from "./players.js";

const MARGIN = 2; // seconds that stay in the buffer when the quality changes: what is being shown is among them

/**
 * @param {HTMLVideoElement} video
 * @param {import("./players.js").Film} film
 * @param {import("./players.js").Events} on
 * @returns {Promise<import("./players.js").Player>}
 */
export async function open(video, { url, start, film, session }, on) {
  if (!window.shaka) {
    await script("./shaka-player-5.2.12.dash.js");
    window.shaka.polyfill.installAll();
  }
  const { Player } = window.shaka;
  const player = new Player();
  await player.attach(video);
  player.configure({
    // In headers: a query would make each segment another one for the browser's cache.
    cmcd: { enabled: true, useHeaders: true, contentId: film, sessionId: session },
    streaming: { bufferingGoal: 30, bufferBehind: 30, retryParameters: { maxAttempts: 6, baseDelay: 1000, timeout: 20000 } },
  });
  // Of an HTTP answer that was no success the second value is its status.
  /** @param {any} error */
  const broke = ({ code, severity, data }) => severity === 2 && on.broke(code === 1001 ? data[1] : null);
  player.addEventListener("error", (/** @type {CustomEvent} */ { detail }) => broke(detail));
  for (const name of ["trackschanged", "adaptation", "variantchanged", "textchanged", "audiotrackschanged"]) {
    player.addEventListener(name, () => on.tracks());
  }
  player.addEventListener("segmentappended", () => on.loaded());
  // What is chosen while it loads would be shown as chosen, and not fetched.
  let isLoaded = false;
  const load = async () => {
    try {
      await player.load(url);
      isLoaded = true;
      on.tracks();
    } catch (error) {
      broke(error);
    }
  };
  /** @type {(track: any, id: number) => import("./players.js").Track} */
  const named = (track, id) => ({ id, language: track.language === "und" ? "" : track.language, label: track.label ?? "" });
  /** @type {() => any[]} */
  const videos = () => (isLoaded ? player.getVideoTracks() : []);
  /** @type {() => any[]} */
  const sounds = () => (isLoaded ? player.getAudioTracks() : []);
  /** @type {() => any[]} */
  const texts = () => (isLoaded ? player.getTextTracks() : []);
  let chosen = -1;
  video.addEventListener("canplay", () => {
    // Only now: it is known how long the film is, and the player would go on to where it was told to begin.
    const from = start(video.duration);
    if (from > 0) video.currentTime = from;
    on.opened();
  }, { once: true });
  load();
  return {
    qualities: () => videos().map(({ height, bandwidth }, id) => ({ id, height: height || 0, bitrate: bandwidth })),
    quality: () => chosen,
    playing: () => videos().findIndex((track) => track.active),
    setQuality(id) {
      chosen = id;
      player.configure("abr.enabled", id < 0);
      if (id >= 0) player.selectVideoTrack(videos()[id], true, MARGIN);
    },
    audio: () => sounds().map(named),
    audioTrack: () => sounds().findIndex((track) => track.active),
    setAudio(id) { player.selectAudioTrack(sounds()[id]); },
    subtitles: () => texts().map(named),
    subtitle: () => texts().findIndex((track) => track.active),
    setSubtitle(id) { player.selectTextTrack(id < 0 ? null : texts()[id]); },
    retry() {
      if (isLoaded) player.retryStreaming();
      else load();
    },
    close: () => player.destroy(),
  };
}
