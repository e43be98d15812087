//! Streams of events of this node: who listens, and what waits for each. A listener that takes nothing is dropped when
//! the bytes that wait for it exceed [`MAX_QUEUED_BYTES`]; nobody waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Error;
use super::channel::{ChannelId, PlayerKey};
use super::metrics::{PlayerMetrics, StreamEnd};
use super::settings::Settings;
use primitives::ids::UserId;

/// Most bytes that wait for one listener: some 60 events.
const MAX_QUEUED_BYTES: usize = 32 << 10;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Settings of a channel.
    Settings,
    /// State of a channel's player.
    Player,
    /// Command to the channel's player to go to another position.
    Seek,
    /// Command to the channel's player to play something else.
    Play,
}

impl EventKind {
    const ALL: [Self; 4] = [Self::Settings, Self::Player, Self::Seek, Self::Play];

    /// Returns the name as the stream has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Player => "player",
            Self::Seek => "seek",
            Self::Play => "play",
        }
    }

    /// Returns true for commands, which nobody can read anew.
    fn is_command(self) -> bool {
        matches!(self, Self::Seek | Self::Play)
    }

    /// Returns the kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Listeners of this node. Clones share them.
#[derive(Clone)]
pub struct EventHub(Arc<HubState>);

struct HubState {
    listeners: Mutex<ListenerTable>,
    max_listeners: usize,
    max_listeners_per_user: usize,
    metrics: PlayerMetrics,
}

#[derive(Default)]
struct ListenerTable {
    by_user: HashMap<UserId, Vec<Arc<EventQueue>>>,
    total: usize,
}

/// Events that wait for one listener.
struct EventQueue {
    /// Channel of the listener; `None`: all of its user.
    channel: Option<ChannelId>,
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Default)]
struct QueueState {
    frames: VecDeque<(EventKind, Bytes)>,
    bytes: usize,
    needs_snapshot: bool,
    is_slow: bool,
}

/// What a listener is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextEvent {
    /// An event.
    Frame(Bytes),
    /// Events were missed: everything is read anew.
    Snapshot,
    /// Too much waited.
    Slow,
}

impl EventHub {
    /// Creates a hub without listeners.
    pub fn new(settings: &Settings, metrics: PlayerMetrics) -> Self {
        let (max_listeners, max_listeners_per_user) = (settings.max_listeners, settings.max_listeners_per_user);
        Self(Arc::new(HubState { listeners: Mutex::default(), max_listeners, max_listeners_per_user, metrics }))
    }

    /// Adds a listener of a user, of one channel or all. Fails where there are too many, of the user or of all.
    pub fn listen(&self, user: &UserId, channel: Option<ChannelId>) -> Result<EventListener, Error> {
        let queue = Arc::new(EventQueue { channel, state: Mutex::default(), changed: Notify::new() });
        let mut table = self.0.listeners.lock();
        if table.total >= self.0.max_listeners {
            return Err(Error::Busy);
        }
        if table.by_user.get(user).is_some_and(|queues| queues.len() >= self.0.max_listeners_per_user) {
            return Err(Error::TooManyListeners(self.0.max_listeners_per_user));
        }
        table.total += 1;
        table.by_user.entry(user.clone()).or_default().push(Arc::clone(&queue));
        self.0.metrics.listeners.inc();
        Ok(EventListener { hub: self.clone(), user: user.clone(), queue, end: StreamEnd::Left })
    }

    /// Gives an event to those who listen to `key`.
    pub fn deliver(&self, key: &PlayerKey, kind: EventKind, frame: &Bytes) {
        let table = self.0.listeners.lock();
        let queues = table.by_user.get(&key.user).into_iter().flatten();
        for queue in queues.filter(|queue| queue.channel.as_ref().is_none_or(|channel| *channel == key.channel)) {
            if queue.push(kind, frame.clone()) {
                self.0.metrics.count_end(StreamEnd::Slow);
            }
        }
    }

    /// Has every listener read everything anew: events of other nodes may have been missed.
    pub fn resynchronize(&self) {
        let table = self.0.listeners.lock();
        table.by_user.values().flatten().for_each(|queue| queue.require_snapshot());
    }

    /// Has the listeners of a user read everything anew: another node could not tell what it changed.
    pub fn resynchronize_user(&self, user: &UserId) {
        let table = self.0.listeners.lock();
        table.by_user.get(user).into_iter().flatten().for_each(|queue| queue.require_snapshot());
    }

    fn remove(&self, user: &UserId, queue: &Arc<EventQueue>) {
        let mut table = self.0.listeners.lock();
        let Some(queues) = table.by_user.get_mut(user) else { return };
        queues.retain(|other| !Arc::ptr_eq(other, queue));
        if queues.is_empty() {
            table.by_user.remove(user);
        }
        table.total -= 1;
        self.0.metrics.listeners.dec();
    }
}

impl EventQueue {
    /// Adds an event; returns true where that was too much, and the listener is dropped.
    fn push(&self, kind: EventKind, frame: Bytes) -> bool {
        let mut state = self.state.lock();
        if state.is_slow {
            return false;
        }
        state.bytes += frame.len();
        let is_slow = state.bytes > MAX_QUEUED_BYTES;
        if is_slow {
            // The memory is free at once: the connection may take its time to end.
            *state = QueueState { is_slow: true, ..QueueState::default() };
        } else {
            state.frames.push_back((kind, frame));
        }
        drop(state);
        self.changed.notify_one();
        is_slow
    }

    fn require_snapshot(&self) {
        let mut state = self.state.lock();
        if !state.is_slow {
            // What is read anew has all but the commands: they come after it.
            state.frames.retain(|(kind, _)| kind.is_command());
            state.bytes = state.frames.iter().map(|(_, frame)| frame.len()).sum();
            state.needs_snapshot = true;
        }
        drop(state);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<NextEvent> {
        let mut state = self.state.lock();
        if state.is_slow {
            return Some(NextEvent::Slow);
        }
        if std::mem::take(&mut state.needs_snapshot) {
            return Some(NextEvent::Snapshot);
        }
        let (_, frame) = state.frames.pop_front()?;
        state.bytes -= frame.len();
        Some(NextEvent::Frame(frame))
    }
}

/// Listener; it is removed when dropped.
pub struct EventListener {
    hub: EventHub,
    user: UserId,
    queue: Arc<EventQueue>,
    end: StreamEnd,
}

impl EventListener {
    /// Returns what comes next. Can be dropped and called again.
    pub async fn next(&self) -> NextEvent {
        loop {
            // One listener, one waiter: a wake-up that comes before the wait is kept.
            match self.queue.take() {
                Some(next) => return next,
                None => self.queue.changed.notified().await,
            }
        }
    }

    /// Returns the listener's user.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns the listener's channel; `None`: all of its user.
    pub fn channel(&self) -> Option<&ChannelId> {
        self.queue.channel.as_ref()
    }

    /// Ends the stream for a reason other than that the listener left.
    pub fn end(&mut self, reason: StreamEnd) {
        self.end = reason;
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        // A slow one was counted when it was dropped: its connection may have taken its time since.
        if !self.queue.state.lock().is_slow {
            self.hub.0.metrics.count_end(self.end);
        }
        self.hub.remove(&self.user, &self.queue);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use prometheus::Registry;

    use super::*;
    use server_kit::api::event_stream::event_frame;

    fn hub() -> EventHub {
        let settings = Settings { max_listeners: 3, max_listeners_per_user: 2, ..Settings::default() };
        EventHub::new(&settings, PlayerMetrics::register(&Registry::new()).expect("the names are free"))
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect("an id")
    }

    fn key(name: &str, channel: &str) -> PlayerKey {
        PlayerKey { user: user(name), channel: ChannelId::parse(channel).expect("an id") }
    }

    #[tokio::test]
    async fn a_listener_is_told_of_its_users_channel_alone() {
        let hub = hub();
        let (all, main) = (hub.listen(&user("a"), None), hub.listen(&user("a"), Some(ChannelId::main())));
        let (all, main) = (all.expect("there is room"), main.expect("there is room"));
        for (key, text) in [(key("b", "main"), "other"), (key("a", "kitchen"), "1"), (key("a", "main"), "2")] {
            hub.deliver(&key, EventKind::Seek, &event_frame("seek", text));
        }
        let frame = |text| NextEvent::Frame(event_frame("seek", text));
        assert_eq!([all.next().await, all.next().await], [frame("1"), frame("2")]);
        assert_eq!(main.next().await, frame("2"));
        assert_eq!((all.next().now_or_never(), main.next().now_or_never()), (None, None));
        hub.resynchronize();
        assert_eq!(all.next().await, NextEvent::Snapshot);
        assert_eq!(all.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_command_that_waits_is_told_after_what_is_read_anew() {
        let hub = hub();
        let listener = hub.listen(&user("a"), None).expect("there is room");
        let frame = |kind: EventKind| event_frame(kind.name(), "1");
        for kind in [EventKind::Player, EventKind::Seek, EventKind::Settings] {
            hub.deliver(&key("a", "main"), kind, &frame(kind));
        }
        hub.resynchronize_user(&user("b"));
        assert_eq!(listener.next().await, NextEvent::Frame(frame(EventKind::Player)), "another user's");
        hub.resynchronize_user(&user("a"));
        assert_eq!(listener.next().await, NextEvent::Snapshot);
        assert_eq!(listener.next().await, NextEvent::Frame(frame(EventKind::Seek)));
        assert_eq!(listener.next().now_or_never(), None, "the others are in what is read");
        assert_eq!(listener.queue.state.lock().bytes, 0);
    }

    #[tokio::test]
    async fn what_waits_for_a_slow_listener_is_bounded_in_bytes_and_freed() {
        let hub = hub();
        let (slow, other) = (hub.listen(&user("a"), None), hub.listen(&user("a"), None));
        let (slow, other) = (slow.expect("there is room"), other.expect("there is room"));
        let frame = Bytes::from(vec![b'x'; 1000]);
        for _ in 0..33 {
            hub.deliver(&key("a", "main"), EventKind::Player, &frame);
            let _ = other.next().await;
        }
        assert_eq!(slow.queue.state.lock().frames.len(), 0);
        assert_eq!(slow.next().await, NextEvent::Slow);
        hub.resynchronize();
        assert_eq!(slow.next().await, NextEvent::Slow, "it stays dropped");
    }

    #[test]
    fn listeners_are_bounded_and_leave_room_when_they_go() {
        let hub = hub();
        let listeners = [hub.listen(&user("a"), None), hub.listen(&user("a"), None)].map(Result::ok);
        assert!(matches!(hub.listen(&user("a"), None), Err(Error::TooManyListeners(2))));
        let other = hub.listen(&user("b"), None).expect("there is room");
        assert!(matches!(hub.listen(&user("c"), None), Err(Error::Busy)));
        assert_eq!(hub.0.metrics.listeners.get(), 3);
        drop((listeners, other));
        assert!(hub.listen(&user("c"), None).is_ok());
        assert_eq!((hub.0.metrics.listeners.get(), hub.0.listeners.lock().by_user.len()), (0, 0));
    }
}
