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

/**
 * Shows where it is.
 * @param {HTMLMediaElement} element
 */
export function place(element) {
  const { duration, currentTime: position, playbackRate } = element;
  if (Number.isFinite(duration) && duration > 0 && position <= duration) session?.setPositionState?.({ duration, position, playbackRate });
}
