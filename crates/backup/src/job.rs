//! Making of one backup: each component is stored in parts, then all are read back and restored on trial, and then the manifest is
//! stored.

use uuid::Uuid;

use crate::bucket::{MultipartUpload, ObjectBucket, PART_BYTES, StoreFailure};
use crate::component::BackupComponent;
use crate::compression::{StreamDigests, StreamThread, compress, outcome_of};
use crate::failure::StepFailure;
use crate::manifest::{ComponentEntry, Manifest, OBJECT_NAME};
use crate::record::{BackupRecord, BackupState, PendingUpload};
use crate::service::ServiceState;
use crate::source::ComponentSource;
use crate::verification::verify;

/// Returns the key of a part of the backup `id`.
pub fn object_key(prefix: &str, id: Uuid, name: &str) -> String {
    format!("{prefix}{id}/{name}")
}

/// Makes a backup; returns its manifest once that is stored.
pub async fn make(state: &ServiceState, record: &BackupRecord) -> Result<Manifest, StepFailure> {
    note_state(state, record, BackupState::Running).await?;
    let mut entries = Vec::with_capacity(record.components.len());
    for component in &record.components {
        entries.push(store_component(state, record, *component).await?);
    }
    note_state(state, record, BackupState::Verifying).await?;
    for entry in &mut entries {
        let key = state.key(record.id, &entry.component.object_name());
        entry.counts = verify(&state.bucket, key, entry, &state.sources, record.id).await?;
    }
    let manifest = Manifest::new(record.id, record.created_at.as_millis(), entries);
    // Whoever took this node for dead removes what is there, and this must not come after it.
    ours(state.store.beat(record.id, &record.node).await)?;
    let json = manifest.to_json();
    state.bucket.put(&state.key(record.id, OBJECT_NAME), json.into_bytes().into()).await?;
    Ok(manifest)
}

async fn note_state(state: &ServiceState, record: &BackupRecord, now: BackupState) -> Result<(), StepFailure> {
    ours(state.store.set_state(record.id, &record.node, now).await)
}

/// Fails where the backup is not this node's any more.
fn ours(answer: Result<bool, crate::Error>) -> Result<(), StepFailure> {
    match answer {
        Ok(true) => Ok(()),
        Ok(false) => Err(StepFailure::Lost),
        Err(error) => Err(StepFailure::Database(error.to_string())),
    }
}

async fn store_component(
    state: &ServiceState,
    record: &BackupRecord,
    component: BackupComponent,
) -> Result<ComponentEntry, StepFailure> {
    let upload = begin_upload(state, record, component).await?;
    let mut source = state.sources.open(component, record.id).await?;
    let stored = store_stream(&mut source, upload).await?;
    ours(state.store.set_uploads(record.id, &record.node, &[]).await)?;
    state.metrics.stored_bytes.inc_by(stored.stored_bytes);
    let StreamDigests { stored_bytes, stored_sha256, bytes, sha256 } = stored;
    Ok(ComponentEntry { component, stored_bytes, stored_sha256, bytes, sha256, counts: source.counts })
}

/// Begins an upload, and notes it, so that it is aborted whatever becomes of this process.
async fn begin_upload(
    state: &ServiceState,
    record: &BackupRecord,
    component: BackupComponent,
) -> Result<MultipartUpload, StepFailure> {
    let upload = state.bucket.begin(state.key(record.id, &component.object_name())).await?;
    let pending = PendingUpload { key: upload.key.clone(), upload: upload.id.clone() };
    ours(state.store.set_uploads(record.id, &record.node, &[pending]).await)?;
    Ok(upload)
}

/// Compresses a stream and stores it.
async fn store_stream(source: &mut ComponentSource, mut upload: MultipartUpload) -> Result<StreamDigests, StepFailure> {
    let StreamThread { input, mut output, outcome } = compress(PART_BYTES);
    let feed = async move {
        while let Some(piece) = source.next().await? {
            // Refused: storing has failed, and says why.
            if input.send(piece).await.is_err() {
                break;
            }
        }
        Ok::<_, StepFailure>(())
    };
    let store = async move {
        while let Some(part) = output.recv().await {
            if upload.is_full() {
                return Err(StepFailure::TooLarge);
            }
            upload.store_part(part).await?;
        }
        Ok(upload)
    };
    // The end of the input is told from its failure here: a stream that broke off is not completed.
    let ((), upload) = tokio::try_join!(feed, store)?;
    let stored = outcome_of(outcome).await?.ok_or(StepFailure::Panicked)?;
    upload.complete().await?;
    Ok(stored)
}

/// Removes everything of a backup from the store: its manifest first, without which it is none.
pub async fn remove_objects(bucket: &ObjectBucket, prefix: &str, record: &BackupRecord) -> Result<(), StoreFailure> {
    bucket.delete(&object_key(prefix, record.id, OBJECT_NAME)).await?;
    for PendingUpload { key, upload } in &record.uploads {
        bucket.abort(key, upload).await?;
    }
    for component in &record.components {
        bucket.delete(&object_key(prefix, record.id, &component.object_name())).await?;
    }
    Ok(())
}
