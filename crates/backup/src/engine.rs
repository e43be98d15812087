//! Watch over backups: the timetable, nodes that die, and what is to be removed; and the making of those of this node.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio::time::{interval, sleep};
use uuid::Uuid;

use crate::Error;
use crate::bucket::StoreFailure;
use crate::component::BackupComponent;
use crate::failure::StepFailure;
use crate::job::{make, remove_objects};
use crate::manifest::{MAX_BYTES, Manifest, OBJECT_NAME};
use crate::record::{BackupCause, BackupRecord, BackupState};
use crate::service::{BackupService, ServiceState};
use crate::source::postgres::scratch_name;
use crate::store::BackupEnd;
use crate::work_folder::{ids_of_files, remove_files_of};
use primitives::clock::monotonic_now;

/// Time between two looks at the database.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Backups that are cleaned up in one go.
const BATCH: u32 = 20;
/// Signs of life within one lease.
const BEATS_PER_LEASE: u32 = 3;
/// Tries to note how a backup has ended: the database may be away.
const MAX_END_ATTEMPTS: u32 = 60;

/// Backup under way, and since when it has given no sign of life, by this process's own clock.
type SeenBackup = Option<(Uuid, i64, Instant)>;

/// Watches until the tasks stop.
pub async fn run(service: BackupService) {
    let (mut seen, mut is_reconciled) = (None, false);
    loop {
        if !is_reconciled {
            is_reconciled = reconcile(&service.0).await.is_ok();
        }
        // What fails is tried anew with the next look; the store of records has logged it.
        let _ = tick(&service, &mut seen, monotonic_now()).await;
        tokio::select! {
            () = service.0.tasks.stopping() => return,
            () = service.0.changed.notified() => {}
            () = sleep(POLL_INTERVAL) => {}
        }
    }
}

async fn tick(service: &BackupService, seen: &mut SeenBackup, now: Instant) -> Result<(), Error> {
    let state = &service.0;
    let active = state.store.active().await.inspect_err(|_| {
        // Without the database nobody gives signs of life.
        *seen = None;
    })?;
    match &active {
        Some(active) if is_stale(seen, active, now, state.settings.lease) => take_over(state, active).await?,
        Some(_) => {}
        None => *seen = None,
    }
    for record in state.store.to_clean(BATCH).await? {
        if !clean_up(state, &record).await? {
            break;
        }
    }
    state.store.prune(state.clock.unix_millis() - state.settings.keep_for * 2).await?;
    let newest_verified = state.store.newest_of(BackupState::Ok).await?;
    state.metrics.set_newest_verified(newest_verified.map(|record| record.created_at));
    if active.is_none() {
        begin_if_due(service).await?;
    }
    Ok(())
}

/// Returns true where a backup has given no sign of life for `lease`. Only this process's own clock counts.
fn is_stale(seen: &mut SeenBackup, active: &BackupRecord, now: Instant, lease: Duration) -> bool {
    match seen {
        Some((id, beat, since)) if (*id, *beat) == (active.id, active.beat) => {
            now.saturating_duration_since(*since) >= lease
        }
        _ => {
            *seen = Some((active.id, active.beat, now));
            false
        }
    }
}

/// Ends a backup whose process has died: as verified where its manifest is in the store, which was the last step, else as failed.
async fn take_over(state: &ServiceState, active: &BackupRecord) -> Result<(), Error> {
    let key = state.key(active.id, OBJECT_NAME);
    let manifest = match state.bucket.read_small(key, MAX_BYTES).await {
        Ok(bytes) => Manifest::parse(&bytes, active.id).ok(),
        Err(StoreFailure::NotThere) => None,
        // Nothing is removed before that is known.
        Err(_) => return Ok(()),
    };
    let end = match &manifest {
        Some(manifest) => (BackupState::Ok, manifest.stored_bytes(), None, Some(manifest.to_json())),
        None => (BackupState::Failed, 0, Some("its process died while it was made"), None),
    };
    let (outcome, stored_bytes, detail, manifest) = end;
    let end =
        BackupEnd { state: outcome, stored_bytes, detail, manifest: manifest.as_deref(), beat: Some(active.beat) };
    if state.store.end(active.id, &active.node, &end, state.clock.unix_millis()).await? {
        state.metrics.count_end(outcome);
        tracing::warn!(backup = %active.id, outcome = outcome.name(), "the process that made a backup has died");
    }
    Ok(())
}

/// Removes what stays of a backup that has failed, expired or been deleted; returns false where that is to be tried again.
async fn clean_up(state: &ServiceState, record: &BackupRecord) -> Result<bool, Error> {
    let (folder, id) = (state.settings.work_folder.clone(), record.id);
    let _ = tokio::task::spawn_blocking(move || remove_files_of(&folder, id)).await;
    // Of a process that died while it restored on trial. Without PostgreSQL in the configuration nobody can remove it.
    let server = state.sources.postgres().ok().filter(|_| record.components.contains(&BackupComponent::Postgres));
    if let Some(server) = server
        && server.drop_database(&scratch_name(record.id)).await.is_err()
    {
        return Ok(false);
    }
    if remove_objects(&state.bucket, &state.settings.prefix, record).await.is_err() {
        return Ok(false);
    }
    state.store.cleaned(record).await.map(|()| true)
}

/// Removes files that were left on this machine, which another one that cleaned up could not reach.
async fn remove_left_files(state: &ServiceState) -> Result<(), Error> {
    let folder = state.settings.work_folder.clone();
    for id in tokio::task::spawn_blocking(move || ids_of_files(&folder)).await.unwrap_or_default() {
        if state.store.is_over(id).await? {
            let folder = state.settings.work_folder.clone();
            let _ = tokio::task::spawn_blocking(move || remove_files_of(&folder, id)).await;
        }
    }
    Ok(())
}

/// Notes which verified backups are not in the store any more: the database may have been restored from an older one. They are
/// read before the store is listed: a manifest that comes later belongs to none of them.
async fn reconcile(state: &ServiceState) -> Result<(), Error> {
    remove_left_files(state).await?;
    let verified = state.store.verified().await?;
    if verified.is_empty() {
        return Ok(());
    }
    // A bucket that is not there has nothing to say.
    let keys = state.bucket.list(&state.settings.prefix).await.map_err(|_| Error::Unavailable)?;
    for id in verified {
        if !keys.contains(&state.key(id, OBJECT_NAME)) {
            state.store.lose(id).await?;
        }
    }
    Ok(())
}

async fn begin_if_due(service: &BackupService) -> Result<(), Error> {
    let state = &service.0;
    // Read before: what begins after it is newer, and then this one is not added.
    let newest = state.store.list(None, 1).await?.pop().map(|record| record.id);
    let status = service.status().await?;
    if status.due_at.is_none_or(|due| due > state.clock.unix_millis()) || status.active.is_some() {
        return Ok(());
    }
    // Another node may begin it at the same time, and then has it.
    service.begin(status.available, BackupCause::Schedule, newest.or(Some(Uuid::nil()))).await.map(drop)
}

/// Makes the backups that this node has begun, until the tasks stop.
pub async fn make_begun(service: BackupService, mut begun: Receiver<BackupRecord>) {
    loop {
        let record = tokio::select! {
            record = begun.recv() => record,
            () = service.0.tasks.stopping() => return,
        };
        let Some(record) = record else { return };
        perform(&service.0, record).await;
    }
}

/// Makes a backup, and notes what came of it.
async fn perform(state: &ServiceState, record: BackupRecord) {
    state.metrics.running.inc();
    let outcome = tokio::select! {
        outcome = make(state, &record) => outcome,
        () = until_lost(state, &record) => Err(StepFailure::Lost),
        () = state.tasks.stopping() => Err(StepFailure::Stopped),
    };
    state.metrics.running.dec();
    let detail = outcome.as_ref().err().map(ToString::to_string);
    let manifest = outcome.as_ref().ok().map(Manifest::to_json);
    let end = BackupEnd {
        state: if outcome.is_ok() { BackupState::Ok } else { BackupState::Failed },
        stored_bytes: outcome.as_ref().map_or(0, Manifest::stored_bytes),
        detail: detail.as_deref(),
        manifest: manifest.as_deref(),
        beat: None,
    };
    state.metrics.count_end(end.state);
    match &detail {
        None => tracing::info!(backup = %record.id, bytes = end.stored_bytes, "a backup was made and verified"),
        Some(reason) => tracing::error!(backup = %record.id, error = reason, "a backup has failed"),
    }
    note_end(state, &record, &end).await;
    state.changed.notify_one();
}

/// Gives signs of life until the backup is not this node's any more.
async fn until_lost(state: &ServiceState, record: &BackupRecord) {
    let mut beats = interval((state.settings.lease / BEATS_PER_LEASE).max(Duration::from_millis(10)));
    loop {
        beats.tick().await;
        if let Ok(false) = state.store.beat(record.id, &record.node).await {
            return;
        }
    }
}

async fn note_end(state: &ServiceState, record: &BackupRecord, end: &BackupEnd<'_>) {
    for _ in 0..MAX_END_ATTEMPTS {
        match state.store.end(record.id, &record.node, end, state.clock.unix_millis()).await {
            Ok(true) => {
                if end.state == BackupState::Ok {
                    let (keep_for, keep_at_least) = (state.settings.keep_for, state.settings.keep_at_least);
                    // Only now is there one more. What does not expire now does with the next one.
                    let _ = state.store.expire(state.clock.unix_millis(), keep_for, keep_at_least).await;
                }
                return;
            }
            // Another node took this one for dead, and has removed what was there then.
            Ok(false) => {
                let _ = remove_objects(&state.bucket, &state.settings.prefix, record).await;
                return;
            }
            Err(_) if state.tasks.is_stopping() => return,
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}
