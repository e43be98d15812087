//! Refusals of the relay, and the errors that the API makes of them.

use std::time::Duration;

use crate::audio::chunk::ChunkError;
use crate::audio::frame::FrameError;
use crate::session::chat::ChatLineError;
use crate::session::metadata::MetadataError;
use http_semantics::rate_limit::ExceededLimit;
use server_kit::api::error::Error;

/// Reason for which the relay does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The id is not six digits.
    #[error("a session id is exactly six digits")]
    InvalidSessionId,
    /// There is no such session, or it has ended.
    #[error("Session not found")]
    UnknownSession,
    /// The session has no fresh metadata.
    #[error("Session not found or no metadata available")]
    NoMetadata,
    /// The session has no cover.
    #[error("the session has no picture")]
    NoPicture,
    /// The id is in use.
    #[error("Session ID already in use")]
    SessionIdInUse,
    /// There are as many sessions as `MaxSessions`.
    #[error("there are as many sessions as the server takes")]
    TooManySessions,
    /// There are as many listeners as `MaxListeners`, or as many addresses as a session keeps.
    #[error("there are as many listeners as the server takes")]
    TooManyListeners,
    /// As many as the ticket is for have come with it.
    #[error("as many listen with this ticket as it is for")]
    TicketInUse,
    /// As many sessions as `MaxTranscodes` have a transcoder.
    #[error("the server cannot make this format for another session at the moment")]
    TooManyTranscodes,
    /// The registry of all nodes cannot be asked, and may know the session.
    #[error("sessions of other nodes cannot be found at the moment")]
    RegistryUnreachable,
    /// A rate limit is reached.
    #[error("{what}")]
    RateLimited {
        /// Limit in words.
        what: &'static str,
        /// Time until more is taken.
        wait: Duration,
    },
    /// A host has sent many more texts than it may.
    #[error("a host may send 10 texts a second")]
    TextFlood,
    /// A text of a host is too long, and no metadata.
    #[error("a text other than metadata has at most 16 KiB")]
    TextTooLong,
    /// The chunk is wrong.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The frame is wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The metadata is wrong.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The line of the chat is wrong.
    #[error(transparent)]
    Line(#[from] ChatLineError),
    /// The host has switched the chat off.
    #[error("the chat is off")]
    ChatOff,
    /// This node has no store to record into.
    #[error("this server does not record: Share.Recording is not configured")]
    NoRecorder,
    /// The recording before is still being stored.
    #[error("the recording before is still being stored")]
    StillStoring,
    /// Too many credentials of an address were not valid; further ones are for so long.
    #[error("{}", ExceededLimit::BadTokens.detail())]
    BadTokens(Duration),
    /// The request shows neither the token nor a valid ticket.
    #[error("send Authorization with the token of the share server, or a valid ticket")]
    Unauthorized,
}

impl From<Refusal> for Error {
    fn from(refused: Refusal) -> Self {
        let detail = refused.to_string();
        match refused {
            Refusal::InvalidSessionId
            | Refusal::Chunk(_)
            | Refusal::Frame(_)
            | Refusal::Metadata(_)
            | Refusal::Line(_)
            // Only of sockets: no request is answered by these.
            | Refusal::TextFlood
            | Refusal::TextTooLong => Self::bad_request(detail),
            Refusal::UnknownSession | Refusal::NoMetadata | Refusal::NoPicture => Self::not_found(detail),
            Refusal::SessionIdInUse
            | Refusal::TicketInUse
            | Refusal::ChatOff
            | Refusal::NoRecorder
            | Refusal::StillStoring => Self::conflict(detail),
            Refusal::TooManySessions
            | Refusal::TooManyListeners
            | Refusal::TooManyTranscodes
            | Refusal::RegistryUnreachable => Self::unavailable(detail),
            Refusal::BadTokens(wait) => Self::exceeded(ExceededLimit::BadTokens, wait),
            Refusal::RateLimited { wait, .. } => Self::too_many(detail, wait),
            Refusal::Unauthorized => Self::unauthorized(detail),
        }
    }
}
