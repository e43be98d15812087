//! Radio: a list of stations, their sound relayed to any number of listeners over one connection each, and their titles.
//!
//! Owns the list in the database, the connections to stations, and what listeners of this node get of them. A station is a
//! server of somebody else: where it may be is judged by `source`, and what it sends is bounded everywhere. Knows nothing of
//! tracks and players.

mod bodies;
mod directory;
mod directory_mirrors;
mod listening_events;
mod live_stream;
mod metrics;
mod now_stream;
mod relay;
mod routes;
mod service;
mod service_lookup;
pub mod settings;
mod source;
mod station;
mod station_changes;
mod station_store;
mod tickets;

pub use bodies::PlayResponse;
pub use routes::{admin_routes, routes, stream_routes};
pub use service::{PlayerCommand, RadioService, RadioServiceParts};
pub use tickets::TicketKeySource;

use source::SourceError;

/// Reason for which a request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database does not answer: try again.
    #[error("stations cannot be kept or read at the moment")]
    Unavailable,
    /// It cannot be said whether the user has logged out.
    #[error("logouts cannot be looked up at the moment")]
    LogoutsUnavailable,
    /// There is no room for another listener, or for the connection to another station.
    #[error("as many stations or listeners as there may be are served already")]
    Busy,
    /// No such station.
    #[error("there is no such station")]
    NoSuchStation,
    /// The station is listed.
    #[error("the station is listed already, under this or another address")]
    Duplicate,
    /// The list is full, at so many stations.
    #[error("there are {0} stations, which is the most that may be listed")]
    TooManyStations(u32),
    /// The user has so many open streams already.
    #[error("at most {0} streams of stations may be open at once")]
    TooManyListeners(usize),
    /// The station that is to be listed cannot be heard.
    #[error("the station cannot be listed: {0}")]
    Refused(SourceError),
    /// The station does not answer at the moment.
    #[error("the station does not answer at the moment")]
    StationAway,
    /// A value that is none.
    #[error("{0}")]
    Invalid(String),
    /// No directory answers.
    #[error("the directory of stations does not answer at the moment")]
    DirectoryAway,
    /// No directory is configured.
    #[error("no directory of stations is configured")]
    NoDirectory,
    /// No players are told anything.
    #[error("`to_players` needs players, which this server does not have: its section `Playback` is not there")]
    NoPlayers,
}
