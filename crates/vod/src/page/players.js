// Which player plays a film here. All have the same face; each is loaded only where it is needed.

/**
 * @typedef {object} Events
 * @property {(status: number | null) => void} broke loading has failed for good; the status of the answer, if there was one
 * @property {() => void} opened the film is at its place
 * @property {() => void} stalled something was not loaded, and is tried again
 * @property {() => void} loaded something was loaded
 * @property {() => void} tracks there are other tracks or qualities, or others are chosen
 * @property {(title: string) => void} title
 */

/**
 * @typedef {object} Film
 * @property {string} url of the manifest
 * @property {number} at seconds where it was left
 * @property {(duration: number) => number} start seconds where it is opened, once it is known how long it is
 * @property {string} film its id
 * @property {string} session
 */

/** @typedef {{ id: number, height: number, bitrate: number }} Quality */
/** @typedef {{ id: number, language: string, label: string }} Track */
/**
 * @typedef {object} Player
 * @property {() => Quality[]} qualities
 * @property {() => number} quality the one that was chosen, −1 where the player chooses
 * @property {() => number} playing the one that is played
 * @property {(id: number) => void} setQuality
 * @property {() => Track[]} audio
 * @property {() => number} audioTrack
 * @property {(id: number) => void} setAudio
 * @property {() => Track[]} subtitles
 * @property {() => number} subtitle −1 where none are shown
 * @property {(id: number) => void} setSubtitle
 * @property {() => void} retry loads again what could not be loaded
 * @property {() => void} close
 */
/** @typedef {(video: HTMLVideoElement, film: Film, on: Events) => Promise<Player>} Open */

/**
 * Loads a script that is no module.
 * @param {string} name
 * @returns {Promise<void>}
 */
export function script(name) {
  return new Promise((loaded, failed) => {
    const element = document.createElement("script");
    element.src = new URL(name, import.meta.url).href;
    element.addEventListener("load", () => loaded());
    element.addEventListener("error", () => {
      element.remove();
      failed(new TypeError(`${name} cannot be loaded`));
    });
    document.head.append(element);
  });
}

/**
 * Whether the browser plays HLS by itself, with all that we offer: one that has tracks of sound to choose from, or no other way.
 * `?player=` insists.
 * @param {HTMLVideoElement} video
 */
function native(video) {
  const wanted = new URLSearchParams(location.search).get("player");
  if (wanted) return wanted === "native";
  const sources = "MediaSource" in window || "ManagedMediaSource" in window;
  return video.canPlayType("application/vnd.apple.mpegurl") !== "" && ("audioTracks" in video || !sources);
}

/**
 * Returns the player of a manifest, ready to be opened.
 * @param {string} type
 * @param {HTMLVideoElement} video
 * @returns {Promise<Open>}
 */
export async function player(type, video) {
  if (type === "dash") return (await import("./dash.js")).open;
  if (native(video)) return (await import("./native.js")).open;
  return (await import("./hls.js")).open;
}
