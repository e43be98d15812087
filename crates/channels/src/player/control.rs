//! Claims of a playing node: items are claimed, renewed and ended here, and what the channel does is said to the other nodes.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::output::OpenedTrack;
use super::station::{HeardTrack, PlayFailure, PlayOutcome, PlayedRecord, StationRecord};
use super::{DeskCommand, DeskReport, DeskTrack, PlayerContext, RENEW_INTERVAL};
use crate::audio::decoder::{self, DecodedBlock};
use crate::channel::ChannelId;
use crate::queue::item::QueueItem;
use crate::queue::store::ClaimToken;
use crate::service::ClaimedItem;
use primitives::clock::monotonic_now;
use primitives::failure_log::FailureLog;
use primitives::lifecycle::BackgroundTasks;
use track_audio::decoder::DecodeError;

/// Control of a channel at this node.
pub struct PlayerControl<'a> {
    channel: &'a ChannelId,
    context: &'a Arc<PlayerContext>,
    token: ClaimToken,
    commands: mpsc::Sender<DeskCommand>,
    began: Instant,
    claims: Vec<ClaimedItem>,
    /// Tokens by which something may be claimed that this does not know of: no answer has come.
    unanswered: Vec<ClaimToken>,
    /// Claims of items that are over, which is not noted yet.
    ended: Vec<ClaimedItem>,
    session_failures: FailureLog,
    has_program: bool,
    record: StationRecord,
}

impl<'a> PlayerControl<'a> {
    /// Creates the control of a channel that this node holds by `token`.
    pub fn new(
        channel: &'a ChannelId,
        context: &'a Arc<PlayerContext>,
        token: ClaimToken,
        commands: mpsc::Sender<DeskCommand>,
    ) -> Self {
        Self {
            channel,
            context,
            token,
            commands,
            began: monotonic_now(),
            claims: Vec::new(),
            unanswered: Vec::new(),
            ended: Vec::new(),
            session_failures: FailureLog::default(),
            has_program: false,
            record: StationRecord::default(),
        }
    }

    /// Does as the desk asks; returns when the channel may be another node's, or, between two steps, when `tasks` stop.
    pub async fn run(&mut self, mut reports: mpsc::Receiver<DeskReport>, tasks: &BackgroundTasks) {
        let mut renewals = tokio::time::interval(RENEW_INTERVAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => self.handle(report).await,
                    None => return,
                },
                _ = renewals.tick() => {
                    if !self.renew().await {
                        return;
                    }
                }
                () = tasks.stopping() => return,
            }
        }
    }

    /// Gives up what is held: what was played goes on elsewhere.
    pub async fn close(&mut self) {
        self.settle().await;
        let service = &self.context.service;
        for claimed in std::mem::take(&mut self.claims) {
            // If it fails the claim lapses.
            let _ = service.release(self.channel, &claimed).await;
        }
        service.let_station_go(self.channel, self.token).await;
    }

    async fn handle(&mut self, report: DeskReport) {
        match report {
            DeskReport::WantsItem => {
                let command = self.next_item().await;
                self.tell(command).await;
            }
            DeskReport::Began(id) => {
                let claimed = self.claims.iter().find(|claimed| claimed.item.id == id);
                self.record.heard = claimed.map(|claimed| HeardTrack {
                    item: id,
                    track: claimed.item.track.as_str().to_owned(),
                    began_at: self.context.service.now(),
                    length_ms: None,
                });
                self.say().await;
            }
            DeskReport::Length(id, length) => {
                if let Some(heard) = self.record.heard.as_mut().filter(|heard| heard.item == id) {
                    heard.length_ms = i64::try_from(length.as_millis()).ok();
                    self.say().await;
                }
            }
            DeskReport::Ended(id, outcome) => self.ended(id, outcome).await,
            DeskReport::ProgramEnded => {
                self.has_program = false;
                self.record.session = None;
                self.say().await;
            }
        }
    }

    /// Claims the next item and begins to fetch it.
    async fn next_item(&mut self) -> DeskCommand {
        let service = &self.context.service;
        // What a node has played that vanished waits again within a lease, and is next then.
        let may_lapse = self.began.elapsed() < service.claim_lease();
        if may_lapse && self.claims.is_empty() && service.has_claims(self.channel).await {
            return DeskCommand::Nothing;
        }
        // What has lapsed while the store was away must not be given to this node itself, whether it is played or over.
        if !self.settle().await {
            return DeskCommand::Nothing;
        }
        self.renew_claims().await;
        let token = ClaimToken(Uuid::new_v4());
        self.unanswered.push(token);
        let Ok(claimed) = service.claim(self.channel, token).await else { return DeskCommand::Nothing };
        self.unanswered.retain(|unanswered| *unanswered != token);
        let Some(claimed) = claimed else { return DeskCommand::Nothing };
        if !self.has_program && !self.open_program().await {
            // If it fails the claim lapses.
            let _ = service.release(self.channel, &claimed).await;
            return DeskCommand::Nothing;
        }
        self.claims.push(claimed.clone());
        let (blocks, title) = fetch(self.context, &claimed.item);
        DeskCommand::Play(Box::new(DeskTrack { claimed, blocks, title }))
    }

    async fn open_program(&mut self) -> bool {
        match self.context.output.open().await {
            Ok(program) => {
                if self.session_failures.is_over(monotonic_now()) {
                    tracing::info!(channel = self.channel.as_str(), "sessions can be opened for a channel again");
                }
                self.record.session = Some(program.session());
                self.has_program = true;
                self.tell(DeskCommand::Program(program)).await;
                self.say().await;
                true
            }
            Err(error) => {
                let error = error.to_string();
                if self.session_failures.is_news(&error, monotonic_now()) {
                    tracing::warn!(channel = self.channel.as_str(), error, "no session can be opened for a channel");
                }
                false
            }
        }
    }

    async fn ended(&mut self, id: Uuid, outcome: PlayOutcome) {
        let (service, channel) = (&self.context.service, self.channel.as_str());
        if self.record.heard.as_ref().is_some_and(|heard| heard.item == id) {
            self.record.heard = None;
        }
        self.context.metrics.count_played(&outcome);
        let Some(at) = self.claims.iter().position(|claimed| claimed.item.id == id) else { return };
        let claimed = self.claims.swap_remove(at);
        let track = claimed.item.track.as_str();
        if let PlayOutcome::Failed(PlayFailure { detail: error, .. }) = &outcome {
            tracing::warn!(channel, track, error, "a track of a channel cannot be played and is skipped");
        }
        let played = PlayedRecord { item: id, track: track.to_owned(), ended_at: service.now(), outcome };
        service.add_played(self.channel, &played).await;
        self.ended.push(claimed);
        self.settle().await;
        self.say().await;
    }

    /// Has noted what the store has not answered yet: items that are over, and claims that may or may not be there. Returns true
    /// where nothing of it is left.
    async fn settle(&mut self) -> bool {
        let service = &self.context.service;
        while let Some(claimed) = self.ended.last() {
            if service.complete(self.channel, claimed).await.is_err() {
                return false;
            }
            self.ended.pop();
        }
        while let Some(token) = self.unanswered.last() {
            if service.release_all(self.channel, *token).await.is_err() {
                return false;
            }
            self.unanswered.pop();
        }
        true
    }

    /// Extends what is held; returns false where the channel may be another's.
    async fn renew(&mut self) -> bool {
        let service = &self.context.service;
        // While nobody can tell, nobody can take it over either.
        if service.hold_station(self.channel, self.token).await == Some(false) {
            return false;
        }
        self.settle().await;
        self.renew_claims().await;
        // Somebody with the token may have ended the session; the track that is played waits for another.
        if !self.has_program && !self.claims.is_empty() {
            self.open_program().await;
        }
        self.say().await;
        true
    }

    /// Extends claims; what was taken out is skipped.
    async fn renew_claims(&self) {
        for claimed in &self.claims {
            // A store that is away says nothing about the item.
            if self.context.service.renew(self.channel, claimed).await == Ok(false) {
                self.tell(DeskCommand::Skip(claimed.item.id)).await;
            }
        }
    }

    async fn say(&self) {
        self.context.service.set_station(self.channel, self.token, &self.record).await;
    }

    async fn tell(&self, command: DeskCommand) {
        // The desk is there as long as this is.
        let _ = self.commands.send(command).await;
    }
}

/// Begins to fetch a track; what cannot be opened says so in place of samples.
fn fetch(context: &Arc<PlayerContext>, item: &QueueItem) -> (mpsc::Receiver<DecodedBlock>, oneshot::Receiver<String>) {
    let (blocks, receiver) = decoder::block_queue();
    let (title, title_receiver) = oneshot::channel();
    let (context, item) = (Arc::clone(context), item.clone());
    context.service.spawn({
        let context = Arc::clone(&context);
        async move {
            match context.objects.open(&item).await {
                Ok(OpenedTrack { object, title: text }) => {
                    // Nobody who waits is no error.
                    let _ = title.send(text);
                    decoder::start_decoder(object, blocks);
                }
                Err(error) => {
                    let failed = DecodeError::Read(error.to_string());
                    // Nobody who waits is no error.
                    let _ = blocks.send(DecodedBlock::Failed(failed)).await;
                }
            }
        }
    });
    (receiver, title_receiver)
}
