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

const END = 5; // seconds before the end in which a film counts as seen

/** Where a film goes on that was left at `at`: one that was seen to its end begins anew. */
export const beginning = (at, duration) => (at > 0 && duration - at < END ? 0 : at);

/** Loads a script that is no module. */
export function script(name) {
  return new Promise((loaded, failed) => {
    const element = document.createElement("script");
    element.src = new URL(name, import.meta.url);
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
 */
function native(video) {
  const wanted = new URLSearchParams(location.search).get("player");
  if (wanted) return wanted === "native";
  const sources = "MediaSource" in window || "ManagedMediaSource" in window;
  return video.canPlayType("application/vnd.apple.mpegurl") !== "" && ("audioTracks" in video || !sources);
}

/** Returns the player of a manifest, ready to be opened. */
export async function player(type, video) {
  if (type === "dash") return (await import("./dash.js")).open;
  if (native(video)) return (await import("./native.js")).open;
  return (await import("./hls.js")).open;
}
