//! Player of a channel: the queue's next item to a session that people listen to, one node at a time.
//!
//! Each node tries to hold each channel; whoever holds it plays. Two parts run side by side, so that a store that is slow to answer
//! never holds the sound up: `control` claims items, renews what is held and writes down what was played; `desk` mixes and sends
//! ten times a second.

mod control;
mod desk;
pub mod output;
pub mod station;
pub mod station_store;
mod take_over;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::audio::decoder::DecodedBlock;
use crate::channel::ChannelId;
use crate::metrics::PlayerMetrics;
use crate::queue::store::ClaimToken;
use crate::service::{ChannelService, ClaimedItem};
use output::{Program, ProgramOutput, TrackObjects};
use primitives::clock::monotonic_now;
use primitives::lifecycle::BackgroundTasks;
use station::PlayOutcome;
use take_over::TakeOverPatience;

/// Time for which a channel is one node's, unless it says that it goes on.
pub const PLAYER_LEASE: Duration = Duration::from_secs(9);
/// Interval at which a node says that it goes on, or tries to take a channel over.
const RENEW_INTERVAL: Duration = Duration::from_secs(3);
/// Time that a step may take which is under way when the node stops.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Messages between the two parts that wait: each side looks at them ten times a second.
const MESSAGES: usize = 32;

/// What the players of a node share.
pub struct PlayerContext {
    /// The queues, and what is known of channels.
    pub service: ChannelService,
    /// Opens tracks.
    pub objects: Arc<dyn TrackObjects>,
    /// Opens sessions.
    pub output: Arc<dyn ProgramOutput>,
    /// Their metrics.
    pub metrics: PlayerMetrics,
    /// Length of a fade.
    pub crossfade: Duration,
    /// Time without tracks after which a session ends.
    pub idle_timeout: Duration,
}

/// What the desk asks of control.
enum DeskReport {
    /// A track is wanted.
    WantsItem,
    /// The item is heard from now on.
    Began(Uuid),
    /// The length of the item's track is known.
    Length(Uuid, Duration),
    /// The item is over.
    Ended(Uuid, PlayOutcome),
    /// The session has ended, by whoever else may end it, or because there was nothing to play.
    ProgramEnded,
}

/// What control tells the desk.
enum DeskCommand {
    /// The session that is sent to.
    Program(Box<dyn Program>),
    /// Play this after what is played.
    Play(Box<DeskTrack>),
    /// There is nothing to play at the moment.
    Nothing,
    /// The item was taken out.
    Skip(Uuid),
}

/// Track on its way to be played.
struct DeskTrack {
    claimed: ClaimedItem,
    blocks: mpsc::Receiver<DecodedBlock>,
    title: tokio::sync::oneshot::Receiver<String>,
}

/// Plays a channel whenever this node holds it, until `tasks` stop.
pub async fn run(channel: ChannelId, context: Arc<PlayerContext>, tasks: BackgroundTasks) {
    let token = ClaimToken(Uuid::new_v4());
    let mut tries = tokio::time::interval(RENEW_INTERVAL);
    tries.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut patience = TakeOverPatience::default();
    loop {
        tokio::select! {
            _ = tries.tick() => {}
            () = tasks.stopping() => return,
        }
        if patience.is_away() {
            // Asked only whether it answers.
            patience.note_answer(context.service.station(&channel).await.is_ok(), monotonic_now());
        }
        if !patience.may_try(monotonic_now()) {
            continue;
        }
        let held = context.service.hold_station(&channel, token).await;
        patience.note_answer(held.is_some(), monotonic_now());
        if held != Some(true) {
            continue;
        }
        context.metrics.held_channels.inc();
        tracing::info!(channel = channel.as_str(), "this node plays the channel from now on");
        let (reports, from_desk) = mpsc::channel(MESSAGES);
        let (commands, to_desk) = mpsc::channel(MESSAGES);
        let mut control = control::PlayerControl::new(&channel, &context, token, commands);
        // A step that has begun ends first, within bounds: what it claims must be given back.
        let overdue = async {
            tasks.stopping().await;
            tokio::time::sleep(STOP_LIMIT).await;
        };
        tokio::select! {
            () = control.run(from_desk, &tasks) => {}
            () = desk::run(&context, reports, to_desk) => {}
            () = overdue => {}
        }
        if !tasks.is_stopping() {
            tracing::warn!(channel = channel.as_str(), "another node may play the channel");
        }
        control.close().await;
        context.metrics.held_channels.dec();
    }
}
