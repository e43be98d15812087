// HLS as the browser plays it by itself: it chooses the quality.

/**
 * @param {HTMLVideoElement} video
 * @param {import("./players.js").Film} film
 * @param {import("./players.js").Events} on
 * @returns {Promise<import("./players.js").Player>}
 */
export async function open(video, { url, start }, on) {
  const listening = new AbortController();
  const { signal } = listening;
  /** @type {<T>(tracks: ArrayLike<T> | undefined) => T[]} */
  const list = (tracks) => Array.from(tracks ?? []);
  /** @type {(track: { language: string, label: string }, id: number) => import("./players.js").Track} */
  const named = (track, id) => ({ id, language: track.language ?? "", label: track.label ?? "" });
  const texts = () => list(video.textTracks).filter((track) => ["subtitles", "captions"].includes(track.kind));
  /** @param {() => number} place */
  const load = (place) => {
    video.src = url;
    const go = () => {
      const from = place();
      if (from > 0) video.currentTime = from;
    };
    video.addEventListener("loadedmetadata", go, { once: true, signal });
  };
  video.addEventListener("error", () => on.broke(null), { signal });
  video.addEventListener("progress", () => on.loaded(), { signal });
  for (const tracks of [video.audioTracks, video.textTracks]) {
    for (const name of ["addtrack", "removetrack", "change"]) tracks?.addEventListener(name, () => on.tracks(), { signal });
  }
  video.addEventListener("canplay", () => on.opened(), { once: true, signal });
  load(() => start(video.duration));
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
      const reached = video.currentTime;
      load(() => reached || start(video.duration));
    },
    close() {
      listening.abort();
      video.removeAttribute("src");
      video.load();
    },
  };
}
