// HLS by hls.js, where the browser has media sources.

import { script } from "./players.js";

const AGAIN = 5000; // ms after a mended fault in which another one is no new one

/**
 * @param {HTMLVideoElement} video
 * @param {import("./players.js").Film} film
 * @param {import("./players.js").Events} on
 * @returns {Promise<import("./players.js").Player>}
 */
export async function open(video, { url, at, start, film, session }, on) {
  if (!window.Hls) await script("./hls-1.7.4.min.js");
  const Hls = window.Hls;
  const hls = new Hls({
    startPosition: at > 0 ? at : -1,
    workerPath: new URL("./hls-1.7.4.worker.js", import.meta.url).href,
    backBufferLength: 30,
    // However small the film is: nobody knows whether it is watched to its end.
    maxMaxBufferLength: 60,
    // In headers: a query would make each segment another one for the browser's cache.
    cmcd: { useHeaders: true, contentId: film, sessionId: session },
  });
  let mended = -Infinity;
  hls.on(Hls.Events.ERROR, (/** @type {string} */ _, /** @type {any} */ { fatal, type, response }) => {
    if (!fatal) {
      if (type === Hls.ErrorTypes.NETWORK_ERROR) on.stalled();
      return;
    }
    if (type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - mended > AGAIN) {
      mended = performance.now();
      hls.recoverMediaError();
    } else {
      on.broke(response?.code || null);
    }
  });
  hls.on(Hls.Events.MANIFEST_LOADED, (/** @type {string} */ _, /** @type {any} */ { sessionData }) => {
    const title = sessionData?.["com.apple.hls.title"]?.VALUE;
    if (title) on.title(title);
  });
  hls.once(Hls.Events.LEVEL_LOADED, (/** @type {string} */ _, /** @type {any} */ { details }) => {
    const from = start(details.totalduration);
    if (from !== at) hls.startLoad(from);
  });
  hls.on(Hls.Events.FRAG_BUFFERED, () => on.loaded());
  const changes = ["MANIFEST_PARSED", "LEVEL_SWITCHED", "AUDIO_TRACKS_UPDATED", "AUDIO_TRACK_SWITCHED",
    "SUBTITLE_TRACKS_UPDATED", "SUBTITLE_TRACK_SWITCH"];
  for (const name of changes) hls.on(Hls.Events[name], () => on.tracks());
  /** @type {(track: any, id: number) => import("./players.js").Track} */
  const named = (track, id) => ({ id, language: track.lang ?? "", label: track.name ?? "" });
  video.addEventListener("canplay", () => on.opened(), { once: true });
  hls.loadSource(url);
  hls.attachMedia(video);
  return {
    qualities: () => hls.levels.map((/** @type {any} */ { height, bitrate }, /** @type {number} */ id) => ({ id, height: height || 0, bitrate })),
    quality: () => hls.manualLevel,
    playing: () => hls.currentLevel,
    setQuality(id) { hls.nextLevel = id; },
    audio: () => hls.audioTracks.map(named),
    audioTrack: () => hls.audioTrack,
    setAudio(id) { hls.audioTrack = id; },
    subtitles: () => hls.subtitleTracks.map(named),
    subtitle: () => (hls.subtitleDisplay ? hls.subtitleTrack : -1),
    setSubtitle(id) {
      hls.subtitleDisplay = id >= 0;
      hls.subtitleTrack = id;
    },
    retry() {
      if (hls.levels.length === 0) hls.loadSource(url);
      else hls.startLoad(video.currentTime);
    },
    close: () => hls.destroy(),
  };
}
