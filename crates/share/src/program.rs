//! A host of a session inside this process, such as a channel that plays its queue: it sends samples as a host of the document does,
//! and everybody who may listen to a session hears it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::Relay;
use crate::audio::chunk::{AudioChunk, ChunkHeader};
use crate::refusal::Refusal;
use crate::session::event::EndReason;
use crate::session::id::SessionId;
use crate::session::{HostChunk, Session};
use crate::tickets::TicketHolder;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::auth::token_right::{MAX_RIGHT_TIME, TokenRight};

/// Sample rate of what a program sends, in hertz: that of Opus, so that nothing is resampled.
pub const PROGRAM_SAMPLE_RATE: u32 = 48_000;

/// No session can be opened; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProgramRefused(String);

/// Host of a session, until it is ended.
pub struct ProgramHost {
    relay: Arc<Relay>,
    session: Arc<Session>,
    sequence: i64,
}

/// Song of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramSong<'a> {
    /// Title.
    pub title: &'a str,
    /// Time since it began.
    pub elapsed: Duration,
    /// Length; zero where it is not known.
    pub length: Duration,
}

impl Relay {
    /// Opens a session for a program, under an id that is free.
    pub async fn open_program(self: &Arc<Self>) -> Result<ProgramHost, ProgramRefused> {
        let started = self.start_session(None).await;
        let session = started.map_err(|refusal| ProgramRefused(refusal.to_string()))?;
        tracing::info!(session = %session.id(), "a sharing session of this server began");
        Ok(ProgramHost { relay: Arc::clone(self), session, sequence: 0 })
    }

    /// Returns a ticket with which a user, whose token ends at `token_until`, may begin to listen within `ttl`: what it opens
    /// ends with the token, or with a logout. `None` where there is no such session.
    pub async fn issue_program_ticket(
        &self,
        session: &str,
        ttl: Duration,
        (user, token_until): (&UserId, UnixMillis),
    ) -> Result<Option<String>, ProgramRefused> {
        let Ok(id) = session.parse::<SessionId>() else { return Ok(None) };
        let opened = self.open_session(id).await.ok().filter(|session| session.ended().is_none());
        let Some(session) = opened else { return Ok(None) };
        // What began without it would outlive a logout.
        let right = TokenRight::begin(self.revocations.as_deref(), user, token_until).await;
        let right = right.ok_or_else(|| ProgramRefused("logouts cannot be looked up at the moment".to_owned()))?;
        let (now, incarnation) = (self.now(), session.incarnation());
        let holder = TicketHolder {
            user: right.user,
            generation: right.generation,
            until: right.until.min(now + MAX_RIGHT_TIME),
        };
        Ok(Some(self.prepare_tickets().await.issue_for(id, incarnation, holder, now + ttl)))
    }
}

impl ProgramHost {
    /// Returns the session's id.
    pub fn session(&self) -> String {
        self.session.id().to_string()
    }

    /// Sends interleaved stereo samples at [`PROGRAM_SAMPLE_RATE`], as fast as they play; returns false where the session has ended.
    pub fn send(&mut self, samples: &[f32]) -> bool {
        let now = self.relay.micros();
        if self.relay.sessions.was_replaced(self.session.id(), now.to_millis()) {
            return false;
        }
        let bytes: Bytes = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let header = ChunkHeader {
            sequence: self.sequence,
            sample_rate: PROGRAM_SAMPLE_RATE,
            channels: 2,
            timestamp: now.to_millis(),
        };
        self.sequence += 1;
        let body_bytes = bytes.len();
        let Ok(chunk) = AudioChunk::from_samples(header, bytes, now) else { return true };
        let sent = self.session.receive_chunk(HostChunk { chunk, body_bytes }, now.to_millis());
        sent != Err(Refusal::UnknownSession)
    }

    /// Says what is heard.
    pub fn announce(&self, song: ProgramSong<'_>) {
        let now = self.relay.now();
        let body = json!({
            "title": song.title, "artist": null, "lyrics": null, "hasSyncedLyrics": false, "thumbnailData": null,
            "elapsedSeconds": song.elapsed.as_secs_f64(), "totalSeconds": song.length.as_secs_f64(), "timestamp": now,
        });
        // It is said again soon.
        let _ = self.session.set_metadata(body.to_string().as_bytes(), now);
    }

    /// Ends the session, at all nodes.
    pub async fn end(self) {
        self.relay.stop_session(&self.session, self.relay.now()).await;
    }
}

impl Drop for ProgramHost {
    /// Ends the session here: nobody else sends to it.
    fn drop(&mut self) {
        self.session.end(EndReason::Stopped, self.relay.now());
    }
}
