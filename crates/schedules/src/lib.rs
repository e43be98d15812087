//! Schedules: what users want begun at a time, once over all nodes.
//!
//! Owns the tables `schedules` and `schedule_runs`, the rules of time, the claims of instants, and the API. What is begun it
//! does not know: it sends [`ActionMessage`]s, and the part of the program that can perform them answers.

mod action;
mod bodies;
mod engine;
mod lease_watch;
mod live_claims;
mod metrics;
mod plan;
mod prune;
mod routes;
mod rule;
mod run_room;
mod run_store;
mod schedule;
mod sentence;
mod service;
pub mod settings;
mod store;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

pub use action::{
    ActionError, ActionKind, ActionMessage, ActionRun, ActionSender, ActionUser, ScheduledAction, action_channel,
};
pub use routes::routes;
pub use rule::is_zone;
pub use service::{ScheduleService, ScheduleServiceParts};

use http_semantics::error_codes::ErrorCode;
use rule::RuleError;
use server_kit::api::error::Error as ApiError;

/// Time after which a run may be begun again that there was no room for.
const RUN_RETRY: Duration = Duration::from_secs(5);

/// Reason for which a request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database does not answer: try again.
    #[error("schedules cannot be kept or read at the moment")]
    Unavailable,
    /// The user's runs are as many as may be at once.
    #[error("as many runs of this user go on as may at once")]
    TooManyRuns,
    /// This node's are.
    #[error("as many runs go on as may at once")]
    NoRoom,
    /// Another version has written it.
    #[error("this version of the server cannot read the schedule: replace or delete it")]
    Unreadable,
    /// No such schedule, or not one of this user.
    #[error("there is no such schedule")]
    NoSuchSchedule,
    /// The user has as many as there may be.
    #[error("there are {0} schedules of this user, which is the most that are kept")]
    TooManySchedules(u32),
    /// The schedule is another one than the request is about.
    #[error("the schedule was changed meanwhile: get it again")]
    Changed,
    /// No rule.
    #[error(transparent)]
    BadRule(#[from] RuleError),
    /// More often than may be.
    #[error("the schedule has instants {} s apart; at least {} s must be between two", .0.as_secs(), .1.as_secs())]
    TooOften(Duration, Duration),
    /// Nothing comes.
    #[error("the schedule has no instant that is still to come")]
    NothingComes,
    /// The program cannot perform it.
    #[error("this server cannot begin {0} on a channel")]
    Unsupported(ActionKind),
    /// It is not possible.
    #[error("it cannot be scheduled: {0}")]
    Refused(String),
    /// It is not possible with the user's role.
    #[error("it cannot be scheduled: {0}")]
    Forbidden(String),
    /// It cannot be told whether it is possible.
    #[error("whether it can be begun is not known at the moment: {0}")]
    ActionUnavailable(String),
}

impl From<ActionError> for Error {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Refused(reason) => Self::Refused(reason),
            ActionError::Forbidden(reason) => Self::Forbidden(reason),
            ActionError::Unavailable(reason) => Self::ActionUnavailable(reason),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::TooManyRuns => Self::too_many(detail, RUN_RETRY),
            Error::Unavailable | Error::NoRoom | Error::ActionUnavailable(_) => Self::unavailable(detail),
            Error::NoSuchSchedule => Self::not_found(detail),
            Error::Forbidden(_) => Self::forbidden(detail),
            Error::TooManySchedules(_) | Error::Unreadable => Self::conflict(detail),
            Error::Changed => Self::new(ErrorCode::PreconditionFailed, detail),
            Error::BadRule(_)
            | Error::TooOften(..)
            | Error::NothingComes
            | Error::Unsupported(_)
            | Error::Refused(_) => Self::unprocessable(detail),
        }
    }
}
