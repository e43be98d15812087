// HLS as the browser plays it by itself: it chooses the quality.

import { beginning } from "./players.js";

/**
 * @param {HTMLVideoElement} video
 * @param {{ url: string, at: number }} film
 * @param {import("./players.js").Events} on
 */
export async function open(video, { url, at }, on) {
  const listening = new AbortController();
  const { signal } = listening;
  const list = (tracks) => Array.from(tracks ?? []);
  const named = (track, id) => ({ id, language: track.language ?? "", label: track.label ?? "" });
  const texts = () => list(video.textTracks).filter((track) => ["subtitles", "captions"].includes(track.kind));
  let place = at;
  const load = () => {
    video.src = url;
    const go = () => { if (place > 0) video.currentTime = beginning(place, video.duration); };
    video.addEventListener("loadedmetadata", go, { once: true, signal });
  };
  video.addEventListener("error", () => on.broke(null), { signal });
  video.addEventListener("progress", () => on.loaded(), { signal });
  for (const tracks of [video.audioTracks, video.textTracks]) {
    for (const name of ["addtrack", "removetrack", "change"]) tracks?.addEventListener(name, () => on.tracks(), { signal });
  }
  video.addEventListener("canplay", () => on.opened(), { once: true, signal });
  load();
  return {
    qualities: () => [],
    quality: () => -1,
    playing: () => -1,
    setQuality() {},
    audio: () => list(video.audioTracks).map(named),
    audioTrack: () => list(video.audioTracks).findIndex((track) => track.enabled),
    setAudio(id) { list(video.audioTracks).forEach((track, at) => { track.enabled = at === id; }); },
    subtitles: () => texts().map(named),
    subtitle: () => texts().findIndex((track) => track.mode === "showing"),
    setSubtitle(id) { texts().forEach((track, at) => { track.mode = at === id ? "showing" : "disabled"; }); },
    retry() {
      place = video.currentTime;
      load();
    },
    close() {
      listening.abort();
      video.removeAttribute("src");
      video.load();
    },
  };
}
