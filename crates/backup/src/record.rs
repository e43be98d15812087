//! Backups as values.

use uuid::Uuid;

use crate::component::BackupComponent;
use primitives::unix_time::UnixMillis;

/// State of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupState {
    /// It has been asked for.
    Queued,
    /// Components are being stored.
    Running,
    /// They are read back from the store and restored on trial.
    Verifying,
    /// It has been restored on trial, and can be again.
    Ok,
    /// It was not made; nothing of it stays.
    Failed,
    /// It was one, and is too old, or was deleted.
    Expired,
}

/// Cause of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupCause {
    /// An administrator asked for it.
    Manual,
    /// It was time.
    Schedule,
}

/// Rest of a backup that is still to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing.
    Nothing,
    /// Its objects.
    Objects,
    /// Its objects, and then its row.
    Row,
}

/// Upload in parts that is under way.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct PendingUpload {
    /// Key of the object.
    pub key: String,
    /// Id of the upload.
    pub upload: String,
}

/// Backup as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRecord {
    /// Its id, of which later ones are larger.
    pub id: Uuid,
    /// Its state.
    pub state: BackupState,
    /// Its cause.
    pub cause: BackupCause,
    /// Its components.
    pub components: Vec<BackupComponent>,
    /// Id of the process that makes it, or has made it.
    pub node: String,
    /// True while it is under way.
    pub is_active: bool,
    /// Signs of life of that process.
    pub beat: i64,
    /// Uploads that are under way.
    pub uploads: Vec<PendingUpload>,
    /// Bytes in the store.
    pub stored_bytes: i64,
    /// Reason for a failure.
    pub detail: Option<String>,
    /// The manifest of a verified one.
    pub manifest: Option<String>,
    /// What is still to be removed.
    pub cleanup: Cleanup,
    /// When it was asked for.
    pub created_at: UnixMillis,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

impl BackupState {
    /// All states.
    pub const ALL: [Self; 6] = [Self::Queued, Self::Running, Self::Verifying, Self::Ok, Self::Failed, Self::Expired];

    /// Returns its name in the database and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Returns the state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl BackupCause {
    /// Returns its name in the database and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
        }
    }

    /// Returns the cause of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Manual, Self::Schedule].into_iter().find(|cause| cause.name() == name)
    }
}

impl Cleanup {
    /// Returns its number in the database.
    pub fn number(self) -> i64 {
        match self {
            Self::Nothing => 0,
            Self::Objects => 1,
            Self::Row => 2,
        }
    }

    /// Returns what a number of the database stands for.
    pub fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Nothing,
            2 => Self::Row,
            _ => Self::Objects,
        }
    }
}
