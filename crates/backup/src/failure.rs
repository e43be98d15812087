//! Reasons for which a backup is not made, in words for the operator. None names a signature or a password.

use std::io;

use crate::bucket::StoreFailure;
use crate::component::BackupComponent;
use primitives::failure_log::{chain, line};

/// Failure of a step.
#[derive(Debug, thiserror::Error)]
pub enum StepFailure {
    /// The object store.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// A program is not there, or cannot be run.
    #[error("`{0}` cannot be started: {1}; it must be in PATH")]
    NotStarted(&'static str, io::ErrorKind),
    /// A program has failed.
    #[error("`{0}` failed: {1}")]
    Tool(&'static str, String),
    /// A program says nothing.
    #[error("`{0}` gave nothing for {1} minutes")]
    Silent(&'static str, u64),
    /// The database.
    #[error("the database did not do as asked: {0}")]
    Database(String),
    /// A file of this machine.
    #[error("{0} cannot be read or written: {1}")]
    File(&'static str, io::Error),
    /// An object is longer than a store takes.
    #[error("the component is larger than an object may be")]
    TooLarge,
    /// What was read is not what was written.
    #[error("{0} is damaged in the store: {1}")]
    Damaged(BackupComponent, &'static str),
    /// What was restored is not what was backed up.
    #[error("{0} was restored with {1}")]
    Different(BackupComponent, String),
    /// It has nothing of this kind any more.
    #[error("there is no {0} any more")]
    Gone(BackupComponent),
    /// Another node has declared it failed.
    #[error("another node took this one for dead")]
    Lost,
    /// The process stops.
    #[error("the server stopped")]
    Stopped,
    /// A bug.
    #[error("a task of it panicked")]
    Panicked,
}

impl StepFailure {
    /// Converts an error of a database.
    pub fn of_database(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Database(line(&chain(error)).to_owned())
    }
}
