// What the browser and the keyboard's media keys show and do (Media Session).

const session = navigator.mediaSession;

/** @param {Record<string, (details: MediaSessionActionDetails) => void>} actions */
export function handle(actions) {
  for (const [action, handler] of Object.entries(actions)) {
    try {
      session?.setActionHandler(/** @type {MediaSessionAction} */ (action), handler);
    } catch {
      // This browser does not know the action.
    }
  }
}

/**
 * What each of the browser's buttons does.
 * @param {import("./app.js").App} app
 * @returns {Record<string, (details: MediaSessionActionDetails) => void>}
 */
export const actionsOf = ({ playback, next, previous }) => ({
  play: () => playback.play(), pause: () => playback.pause(), nexttrack: next, previoustrack: previous,
  seekbackward: ({ seekOffset }) => playback.seek(playback.seconds - (seekOffset ?? 10)),
  seekforward: ({ seekOffset }) => playback.seek(playback.seconds + (seekOffset ?? 10)),
  seekto: ({ seekTime }) => playback.seek(seekTime ?? 0),
});

/**
 * Shows a track or a station.
 * @param {{ title: string, artist?: string | null, album?: string | null }} shown
 * @param {boolean} playing
 */
export function show({ title, artist, album }, playing) {
  if (!session) return;
  const shown = { title, artist: artist ?? "", album: album ?? "" };
  const before = session.metadata;
  if (before?.title !== title || before?.artist !== shown.artist) session.metadata = new MediaMetadata(shown);
  session.playbackState = playing ? "playing" : "paused";
}

/** Shows nothing any more. */
export function clear() {
  if (!session) return;
  session.metadata = null;
  session.playbackState = "none";
}

/**
 * Shows where it is.
 * @param {HTMLMediaElement} element
 */
export function place(element) {
  const { duration, currentTime: position, playbackRate } = element;
  if (Number.isFinite(duration) && duration > 0 && position <= duration) session?.setPositionState?.({ duration, position, playbackRate });
}
