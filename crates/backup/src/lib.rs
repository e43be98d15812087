//! Backups: the database, Redis, the configuration and the log of requests, kept in an object store and tried out there.
//!
//! Owns the table `backups`, the objects below its prefix, the manifest that says what belongs together, verification, retention,
//! and the restoring that `tidegate restore` does. Must not know what is in the tables.

mod bodies;
mod bucket;
mod component;
mod compression;
mod engine;
mod failure;
mod job;
mod manifest;
mod metrics;
mod record;
mod redaction;
mod restore;
mod retention;
mod routes;
mod service;
pub mod settings;
mod source;
mod store;
mod tool;
mod verification;
mod view;
mod work_folder;

pub use bucket::{ObjectBucket, StoreFailure};
pub use component::BackupComponent;
pub use failure::StepFailure;
pub use manifest::{ComponentEntry, Manifest, ManifestError};
pub use restore::{Restoration, RestoreError, RestoredDatabase};
pub use routes::routes;
pub use service::{BackupService, BackupServiceParts};
pub use source::redis::is_single_redis;

use server_kit::api::error::Error as ApiError;

/// Reason for which a request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database does not answer: try again.
    #[error("backups cannot be begun or listed at the moment")]
    Unavailable,
    /// One is under way, here or at another node.
    #[error("a backup is under way: see /api/v1/backup/status")]
    UnderWay,
    /// No such backup.
    #[error("there is no such backup")]
    NoSuchBackup,
    /// The backup that is to be deleted is under way.
    #[error("this backup is under way, and can be deleted when it has ended")]
    StillUnderWay,
    /// The last verified backup is to be deleted.
    #[error("this is the last verified backup: make another one first")]
    LastVerified,
    /// The server has nothing of this kind.
    #[error("this server has no {0} to back up")]
    NotConfigured(BackupComponent),
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Unavailable => Self::unavailable(detail),
            Error::UnderWay | Error::StillUnderWay | Error::LastVerified => Self::conflict(detail),
            Error::NoSuchBackup => Self::not_found(detail),
            Error::NotConfigured(_) => Self::unprocessable(detail),
        }
    }
}
