//! Why the relay does not do what it is asked, and how the API says so.

use std::time::Duration;

use super::chat::BadLine;
use super::chunk::BadChunk;
use super::frame::BadFrame;
use super::metadata::BadMetadata;
use http_semantics::rate_limit::ExceededLimit;
use server_kit::api::error::Error;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a session id.
    #[error("a session id is exactly six digits")]
    BadId,
    /// There is no such session, or it has ended.
    #[error("Session not found")]
    UnknownSession,
    /// There is nothing to show.
    #[error("Session not found or no metadata available")]
    NoMetadata,
    /// The session has no cover.
    #[error("the session has no picture")]
    NoPicture,
    /// The id is in use.
    #[error("Session ID already in use")]
    Taken,
    /// As many sessions as there may be.
    #[error("there are as many sessions as the server takes")]
    Full,
    /// As many listeners as there may be.
    #[error("there are as many listeners as the server takes")]
    NoSeat,
    /// As many as a ticket is for have come with it.
    #[error("as many listen with this ticket as it is for")]
    TicketInUse,
    /// Other formats are already made for as many sessions as they may be.
    #[error("the server cannot make this format for another session at the moment")]
    NoTranscode,
    /// Other nodes may know more, and cannot be asked.
    #[error("sessions of other nodes cannot be found at the moment")]
    Unreachable,
    /// More of something than is allowed.
    #[error("{what}")]
    TooFast {
        /// What there was too much of.
        what: &'static str,
        /// When more is taken.
        wait: Duration,
    },
    /// A chunk of audio.
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    /// A frame of packets.
    #[error(transparent)]
    Frame(#[from] BadFrame),
    /// Metadata.
    #[error(transparent)]
    Metadata(#[from] BadMetadata),
    /// A line of the chat.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// The host has switched the chat off.
    #[error("the chat is off")]
    ChatOff,
    /// There is nowhere to record to.
    #[error("this server does not record: Share.Recording is not configured")]
    NoRecorder,
    /// A recording is not stored yet.
    #[error("the recording before is still being stored")]
    StillStoring,
    /// Too many credentials of an address were not valid; further ones are for so long.
    #[error("{}", ExceededLimit::BadTokens.detail())]
    BadTokens(Duration),
    /// Neither the configured token nor a ticket.
    #[error("send Authorization with the token of the share server, or a valid ticket")]
    Unauthorized,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::BadId | Refused::Chunk(_) | Refused::Frame(_) | Refused::Metadata(_) | Refused::Line(_) => {
                Self::bad_request(detail)
            }
            Refused::UnknownSession | Refused::NoMetadata | Refused::NoPicture => Self::not_found(detail),
            Refused::Taken | Refused::TicketInUse | Refused::ChatOff | Refused::NoRecorder | Refused::StillStoring => {
                Self::conflict(detail)
            }
            Refused::Full | Refused::NoSeat | Refused::NoTranscode | Refused::Unreachable => Self::unavailable(detail),
            Refused::BadTokens(wait) => Self::exceeded(ExceededLimit::BadTokens, wait),
            Refused::TooFast { wait, .. } => Self::too_many(detail, wait),
            Refused::Unauthorized => Self::unauthorized(detail),
        }
    }
}
