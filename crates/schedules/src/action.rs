//! Actions of schedules, and the way to the part of the program that performs them: messages, so that nothing here knows
//! stations, playlists or channels.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::store::ScheduleStore;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::api::user::UserRole;

/// Messages that wait for the performer; more wait in their senders.
const WAITING_MESSAGES: usize = 64;
/// Time after which the database is asked again whether a run may take effect.
const BEGIN_RETRY: Duration = Duration::from_millis(500);

/// Kind of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// A radio station begins on a channel.
    Radio,
    /// A playlist begins on a channel.
    Playlist,
    /// A track of the catalogue begins on a channel.
    Track,
}

/// Action: its kind, and the id of what begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledAction {
    /// Its kind.
    pub kind: ActionKind,
    /// Id of the station, the playlist or the track.
    pub target: String,
}

/// User on whose behalf an action is performed, with the role that the token had when the schedule was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionUser {
    /// The user's id.
    pub id: UserId,
    /// The role.
    pub role: UserRole,
}

/// Reason for which an action cannot be performed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// It never can: what it names is not there, or not the user's.
    #[error("{0}")]
    Refused(String),
    /// It never can on the user's behalf: somebody with another role might.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot at the moment.
    #[error("{0}")]
    Unavailable(String),
}

/// Message to the performer.
pub enum ActionMessage {
    /// Is an action possible for a user? Asked before it is scheduled.
    Check {
        /// The user.
        user: ActionUser,
        /// The channel that is named.
        channel: String,
        /// The action.
        action: ScheduledAction,
        /// The answer.
        reply: oneshot::Sender<Result<(), ActionError>>,
    },
    /// An instant has come.
    Run(ActionRun),
}

/// Action whose instant has come.
pub struct ActionRun {
    /// User for whom it is performed.
    pub user: ActionUser,
    /// The channel: of a station one of the user's, else one of those that everybody hears.
    pub channel: String,
    /// The action.
    pub action: ScheduledAction,
    /// Schedule that it is of.
    pub schedule: Uuid,
    /// Name of the schedule.
    pub schedule_name: String,
    /// The instant.
    pub fire_at: UnixMillis,
    pub(crate) claim: RunClaim,
    pub(crate) store: Arc<ScheduleStore>,
    pub(crate) lease: Duration,
    pub(crate) begun: BeginState,
    pub(crate) reply: oneshot::Sender<Result<(), ActionError>>,
}

/// Right to perform a run, until another node takes it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunClaim {
    /// The run.
    pub run: Uuid,
    /// Number of the node that has it, counted from 1 on.
    pub attempt: i64,
}

/// What is known of whether a run takes effect.
#[derive(Debug, Default)]
pub(crate) struct BeginState {
    /// True from the first time that it is begun: whoever is told once that it takes effect performs it.
    is_begun: AtomicBool,
    /// True where nobody can tell.
    is_unknown: AtomicBool,
}

/// Sender of messages to the performer. Clones share it.
#[derive(Clone)]
pub struct ActionSender {
    sender: mpsc::Sender<ActionMessage>,
    supported: Arc<[ActionKind]>,
}

impl ActionKind {
    const ALL: [Self; 3] = [Self::Radio, Self::Playlist, Self::Track];

    /// Returns the name as the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Radio => "radio",
            Self::Playlist => "playlist",
            Self::Track => "track",
        }
    }

    /// Returns the kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Radio => "a radio station",
            Self::Playlist => "a playlist",
            Self::Track => "a track of the catalogue",
        })
    }
}

impl ActionRun {
    /// Notes that the action takes effect from now on. Returns false where it must not: another node has it by now, the
    /// schedule is gone, or the database says neither for as long as the run is this node's; then [`Self::finish`] notes a
    /// failure, whatever it is told. Nothing is performed twice, so whoever dies after this leaves the run interrupted.
    pub async fn begin(&self) -> bool {
        if self.begun.is_begun.swap(true, Ordering::AcqRel) {
            return false;
        }
        let asked = async {
            loop {
                // Asked again it answers the same: an answer may get lost.
                if let Ok(is_ours) = self.store.begin(self.claim).await {
                    return is_ours;
                }
                sleep(BEGIN_RETRY).await;
            }
        };
        let known = timeout(self.lease, asked).await;
        self.begun.is_unknown.store(known.is_err(), Ordering::Release);
        known.unwrap_or(false)
    }

    /// Ends the run. One that is dropped instead is given back.
    pub fn finish(self, result: Result<(), ActionError>) {
        let unknown = || ActionError::Unavailable("the database did not say whether it may take effect".to_owned());
        let result = if self.begun.is_unknown.load(Ordering::Acquire) { Err(unknown()) } else { result };
        // Nobody waits for it where the node stops.
        let _ = self.reply.send(result);
    }
}

/// Returns both ends of the way to the performer, who can perform actions of these kinds.
pub fn action_channel(supported: &[ActionKind]) -> (ActionSender, mpsc::Receiver<ActionMessage>) {
    let (sender, receiver) = mpsc::channel(WAITING_MESSAGES);
    (ActionSender { sender, supported: supported.into() }, receiver)
}

impl ActionSender {
    /// Returns true where the performer knows this kind.
    pub(crate) fn supports(&self, kind: ActionKind) -> bool {
        self.supported.contains(&kind)
    }

    /// Asks whether an action is possible for a user on a channel.
    pub(crate) async fn check(
        &self,
        user: &ActionUser,
        channel: &str,
        action: &ScheduledAction,
    ) -> Result<(), ActionError> {
        let (reply, answer) = oneshot::channel();
        let (user, channel, action) = (user.clone(), channel.to_owned(), action.clone());
        self.send(ActionMessage::Check { user, channel, action, reply }).await?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    pub(crate) async fn send(&self, message: ActionMessage) -> Result<(), ActionError> {
        self.sender.send(message).await.map_err(|_| stopping())
    }
}

fn stopping() -> ActionError {
    ActionError::Unavailable("the server stops".to_owned())
}
