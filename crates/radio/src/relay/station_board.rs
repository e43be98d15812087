//! Board of a station: its state on this node, its last titles, and those who are told of both.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;
use utoipa::ToSchema;
use uuid::Uuid;

use primitives::clock::monotonic_now;
use primitives::unix_time::UnixMillis;
use server_kit::api::event_stream::{event_frame, event_json};
use server_kit::api::timestamps::to_rfc3339;

/// Most titles that are kept.
const MAX_TITLES: usize = 20;
/// Interval in which it is looked for whether its station is still listed.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);
/// Events that a listener may be behind; then it is told everything anew.
const MAX_WAITING_EVENTS: usize = 16;

/// State of a station on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// Nobody listens.
    #[default]
    Idle,
    /// It is being connected to.
    Connecting,
    /// It is heard.
    Live,
    /// Its fallback station is heard in its place.
    Fallback,
    /// It was lost, and is tried again and again.
    Reconnecting,
}

/// Title that was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TitleView {
    /// The whole text.
    text: String,
    /// What stands before the first ` - `.
    artist: Option<String>,
    /// What stands behind it.
    title: String,
    /// When it was told.
    at: String,
}

#[derive(Serialize)]
struct StationEvent {
    stream_id: Uuid,
    state: RelayState,
    listeners: u64,
}

#[derive(Serialize)]
struct HistoryEvent<'a> {
    items: &'a VecDeque<TitleView>,
}

/// The board.
pub struct StationBoard {
    id: Uuid,
    state: Mutex<BoardState>,
    events: broadcast::Sender<Bytes>,
}

#[derive(Default)]
struct BoardState {
    relay: RelayState,
    listeners: u64,
    /// Newest first.
    titles: VecDeque<TitleView>,
    /// Title that is played; `None` since the stream began, or where nothing is announced.
    current: Option<String>,
    checked_at: Option<Instant>,
}

impl StationBoard {
    /// Creates the board of a station that nobody listens to.
    pub fn new(id: Uuid) -> Self {
        Self { id, state: Mutex::default(), events: broadcast::Sender::new(MAX_WAITING_EVENTS) }
    }

    /// Returns the id of its station.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Returns true, to one caller, where it was not asked for a while whether its station is still listed.
    pub fn is_check_due(&self) -> bool {
        let (now, mut state) = (monotonic_now(), self.state.lock());
        let is_due = state.checked_at.is_none_or(|at| now.duration_since(at) >= CHECK_INTERVAL);
        if is_due {
            state.checked_at = Some(now);
        }
        is_due
    }

    /// Returns its state.
    pub fn relay_state(&self) -> RelayState {
        self.state.lock().relay
    }

    /// Returns the number of its listeners, its state and the title that is played.
    pub fn now(&self) -> (RelayState, u64, Option<String>) {
        let state = self.state.lock();
        (state.relay, state.listeners, state.current.clone())
    }

    /// Sets its state.
    pub fn set_relay_state(&self, relay: RelayState) {
        let mut state = self.state.lock();
        if state.relay == relay {
            return;
        }
        state.relay = relay;
        if matches!(relay, RelayState::Idle | RelayState::Fallback) {
            state.current = None;
        }
        self.tell(self.station_event(&state));
    }

    /// Counts a listener more, of which nobody is told by itself.
    pub fn add_listener(&self) {
        self.state.lock().listeners += 1;
    }

    /// Counts a listener less.
    pub fn remove_listener(&self) {
        self.state.lock().listeners -= 1;
    }

    /// Takes a title; returns true if it is another one than before.
    pub fn set_title(&self, text: String, now: UnixMillis) -> bool {
        let mut state = self.state.lock();
        if text.is_empty() {
            state.current = None;
            return false;
        }
        if state.current.as_ref() == Some(&text) {
            return false;
        }
        let (artist, title) = match text.split_once(" - ") {
            Some((artist, title)) => (Some(artist.trim().to_owned()), title.trim().to_owned()),
            None => (None, text.clone()),
        };
        let view = TitleView { artist, title, at: to_rfc3339(now), text: text.clone() };
        state.current = Some(text);
        self.tell(event_frame("title", &event_json(&view)));
        // A station that was connected to anew tells what it told before.
        if state.titles.front().is_none_or(|last| last.text != view.text) {
            state.titles.push_front(view);
            state.titles.truncate(MAX_TITLES);
        }
        true
    }

    /// Adds a listener of events; returns them, and what holds now.
    pub fn subscribe(&self) -> (broadcast::Receiver<Bytes>, Vec<Bytes>) {
        let state = self.state.lock();
        (self.events.subscribe(), self.snapshot_of(&state))
    }

    /// Tells those who listen that there is nothing to come any more, by an empty event.
    pub fn close(&self) {
        self.tell(Bytes::new());
    }

    /// Returns what holds now as events.
    pub fn snapshot(&self) -> Vec<Bytes> {
        self.snapshot_of(&self.state.lock())
    }

    fn snapshot_of(&self, state: &BoardState) -> Vec<Bytes> {
        vec![self.station_event(state), event_frame("history", &event_json(&HistoryEvent { items: &state.titles }))]
    }

    fn station_event(&self, state: &BoardState) -> Bytes {
        let view = StationEvent { stream_id: self.id, state: state.relay, listeners: state.listeners };
        event_frame("station", &event_json(&view))
    }

    fn tell(&self, frame: Bytes) {
        // An error is that nobody listens.
        let _ = self.events.send(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: &Bytes) -> String {
        String::from_utf8(frame.to_vec()).expect("text")
    }

    #[test]
    fn titles_are_told_once_and_the_last_ones_are_kept() {
        let board = StationBoard::new(Uuid::nil());
        let (mut events, first) = board.subscribe();
        assert!(
            text(&first[0]).contains(r#""state":"idle","listeners":0"#) && text(&first[1]).contains(r#""items":[]"#)
        );
        let now = UnixMillis::new(0);
        assert!(board.set_title("Nina - A - B".to_owned(), now));
        assert!(!board.set_title("Nina - A - B".to_owned(), now));
        let told = text(&events.try_recv().expect("an event"));
        assert_eq!(
            told,
            "event: title\ndata: {\"text\":\"Nina - A - B\",\"artist\":\"Nina\",\"title\":\"A - B\",\"at\":\"1970-01-01T00:00:00Z\"}\n\n"
        );
        assert!(events.try_recv().is_err(), "only once");
        board.set_title(String::new(), now);
        board.set_title("Nina - A - B".to_owned(), now);
        assert_eq!(board.state.lock().titles.len(), 1, "told again, and kept once");
        for number in 0..100 {
            board.set_title(number.to_string(), now);
        }
        let state = board.state.lock();
        assert_eq!((state.titles.len(), state.titles[0].text.as_str(), &state.titles[0].artist), (20, "99", &None));
    }
}
