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

/** Shows a track or a station. */
export function show({ title, artist = "", album = "" }, playing) {
  if (!session) return;
  const before = session.metadata;
  if (before?.title !== title || before?.artist !== artist) session.metadata = new MediaMetadata({ title, artist, album });
  session.playbackState = playing ? "playing" : "paused";
}

/** Shows where it is. */
export function place(element) {
  const { duration, currentTime: position, playbackRate } = element;
  if (Number.isFinite(duration) && duration > 0 && position <= duration) session?.setPositionState?.({ duration, position, playbackRate });
}
