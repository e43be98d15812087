//! Views of answers.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::component::BackupComponent;
use crate::manifest::Manifest;
use crate::record::BackupRecord;
use crate::service::BackupStatus;
use server_kit::api::timestamps::to_rfc3339;

/// Backup.
#[derive(Serialize, ToSchema)]
pub struct BackupView {
    #[schema(value_type = String)]
    id: Uuid,
    /// `queued`, `running`, `verifying`, `ok`, `failed` or `expired`.
    state: &'static str,
    /// `manual`, or `schedule`: it was time.
    cause: &'static str,
    components: Vec<BackupComponent>,
    /// Sizes of a verified one; null for others.
    sizes: Option<Vec<ComponentView>>,
    /// Bytes in the object store, compressed.
    stored_bytes: i64,
    /// Reason for a failure.
    detail: Option<String>,
    created_at: String,
    finished_at: Option<String>,
}

/// Component of a verified backup.
#[derive(Serialize, ToSchema)]
pub struct ComponentView {
    component: BackupComponent,
    /// Its bytes.
    bytes: u64,
    /// Its bytes in the object store, compressed.
    stored_bytes: u64,
    /// SHA-256 of its bytes.
    sha256: String,
    /// Rows of all tables, or keys of Redis; 0 for files.
    rows: u64,
}

/// What is known of all backups.
#[derive(Serialize, ToSchema)]
pub struct StatusView {
    /// The backup that is under way, at whichever node.
    current: Option<BackupView>,
    /// The newest verified one.
    last_verified: Option<BackupView>,
    /// When the next one is due; null without a timetable. A time that is past: at once.
    next_due_at: Option<String>,
    /// Components that this server has.
    available: Vec<BackupComponent>,
}

impl BackupView {
    /// Shows a backup.
    pub fn new(record: BackupRecord) -> Self {
        let manifest = record.manifest.as_deref().and_then(|json| Manifest::parse(json.as_bytes(), record.id).ok());
        Self {
            id: record.id,
            state: record.state.name(),
            cause: record.cause.name(),
            components: record.components,
            sizes: manifest.map(|manifest| sizes(&manifest)),
            stored_bytes: record.stored_bytes,
            detail: record.detail,
            created_at: to_rfc3339(record.created_at),
            finished_at: record.finished_at.map(to_rfc3339),
        }
    }
}

impl StatusView {
    /// Shows what is known.
    pub fn new(status: BackupStatus) -> Self {
        Self {
            current: status.active.map(BackupView::new),
            last_verified: status.last_verified.map(BackupView::new),
            next_due_at: status.due_at.map(to_rfc3339),
            available: status.available,
        }
    }
}

fn sizes(manifest: &Manifest) -> Vec<ComponentView> {
    let size = |entry: &crate::ComponentEntry| ComponentView {
        component: entry.component,
        bytes: entry.bytes,
        stored_bytes: entry.stored_bytes,
        sha256: entry.sha256.clone(),
        rows: entry.counts.values().fold(0, |sum, rows| sum.saturating_add(*rows)),
    };
    manifest.components.iter().map(size).collect()
}
