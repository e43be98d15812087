//! Processes that are killed while they make a backup: at each step, nothing of it stays, and the last verified one can be
//! restored.

use super::store_relay::{Held, StoreRelay};
use super::*;
use crate::support::minio::OwnMinio;

const fn request(method: &'static str, part: &'static str) -> Held {
    Held { method, part, is_answer: false }
}

/// The steps, by the request that a process is killed at.
const STEPS: [Held; 6] = [
    request("POST ", "uploads="),
    request("PUT ", "partNumber="),
    Held { method: "PUT ", part: "partNumber=", is_answer: true },
    request("POST ", "uploadId="),
    request("GET ", ".zst?"),
    request("PUT ", "manifest.json"),
];

#[tokio::test]
async fn a_process_killed_at_any_step_leaves_nothing_and_the_last_verified_backup_can_be_restored() {
    let Some(database) = Postgres::database().await else { return };
    killed_at_each_step(&database).await;
}

#[tokio::test]
async fn a_process_killed_at_any_step_leaves_nothing_beside_sqlite() {
    let folder = TempFolder::new("backup");
    killed_at_each_step(&sqlite(&folder)).await;
}

async fn killed_at_each_step(database: &str) {
    let (folder, Some(minio)) = (TempFolder::new("backup"), OwnMinio::start()) else { return };
    let bucket = minio.bucket("backups").await;
    let mut relay = StoreRelay::start(bucket.address()).await;
    let config = backups(&folder, &relay.url(), bucket.name(), database);
    let direct = backups(&folder, &bucket.url(), bucket.name(), database);
    let mut gate = Gate::start(&config).await;
    add_playlists(&gate, 3).await;
    let mut last = make(&gate).await;
    for step in STEPS {
        relay.hold(Some(step));
        let begun = trigger(&gate, None).await;
        relay.catches().await;
        send(&gate, Method::POST, "trigger", None).await.problem(409);
        send(&gate, Method::DELETE, id_of(&begun), None).await.problem(409);
        gate.signal("KILL").await;
        gate.ended().await;
        relay.hold(None);
        let told = restored(&direct, &[]).await;
        assert!(told.contains(id_of(&last)) && told.contains("whole"), "{step:?}: {told}");
        gate = Gate::start(&config).await;
        let failed = ended(&gate, id_of(&begun)).await;
        assert_eq!((&failed["state"], &failed["sizes"]), (&json!("failed"), &json!(null)), "{step:?}");
        assert!(failed["detail"].as_str().is_some_and(|detail| detail.contains("died")), "{step:?}: {failed}");
        last = make(&gate).await;
        nothing_stays_but_verified_ones(&gate, &minio, &folder, step).await;
    }
    assert_eq!(playlists(&gate).await, 3);
}

/// Waits until there are no objects, no parts and no files but those of verified backups.
async fn nothing_stays_but_verified_ones(gate: &Gate, minio: &OwnMinio, folder: &TempFolder, step: Held) {
    let history = history(gate).await;
    let mut verified: Vec<_> =
        history.iter().filter(|one| one["state"] == "ok").map(|one| id_of(one).to_owned()).collect();
    verified.sort();
    let objects = minio.folder().join("backups/backups");
    let parts = minio.folder().join(".minio.sys/multipart");
    let clean = async || {
        let mut there: Vec<_> = names(&objects);
        there.sort();
        let uploads: usize = names(&parts).iter().map(|name| names(&parts.join(name)).len()).sum();
        (there == verified && uploads == 0 && work_files(folder).is_empty()).then_some(())
    };
    eventually(&format!("nothing stays of what was killed at {step:?}"), clean).await;
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_backup_whose_manifest_was_stored_counts_though_its_process_was_killed() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let mut relay = StoreRelay::start(minio.address()).await;
    let config = backups(&folder, &relay.url(), minio.name(), &sqlite(&folder));
    let mut gate = Gate::start(&config).await;
    relay.hold(Some(Held { method: "PUT ", part: "manifest.json", is_answer: true }));
    let begun = trigger(&gate, None).await;
    relay.catches().await;
    gate.signal("KILL").await;
    gate.ended().await;
    relay.hold(None);
    let gate = Gate::start(&config).await;
    let adopted = ended(&gate, id_of(&begun)).await;
    assert_eq!(adopted["state"], "ok", "{adopted}");
    restored(&config, &["--backup", id_of(&begun)]).await;
}

#[tokio::test]
async fn two_nodes_make_one_backup_at_a_time_and_one_takes_note_of_the_other_ones_death() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let Some(database) = Postgres::database().await else { return };
    let mut relay = StoreRelay::start(minio.address()).await;
    let config = backups(&folder, &relay.url(), minio.name(), &database);
    let (mut one, two) = (Gate::start(&config).await, Gate::start(&config).await);
    relay.hold(Some(request("PUT ", "partNumber=")));
    let begun = trigger(&one, None).await;
    relay.catches().await;
    relay.hold(None);
    send(&two, Method::POST, "trigger", None).await.problem(409);
    assert_eq!(status(&two).await["current"]["id"], begun["id"]);
    one.signal("KILL").await;
    one.ended().await;
    let failed = ended(&two, id_of(&begun)).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    make(&two).await;
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_its_backup_and_says_so() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let mut relay = StoreRelay::start(minio.address()).await;
    let config = backups(&folder, &relay.url(), minio.name(), &sqlite(&folder));
    let mut gate = Gate::start(&config).await;
    relay.hold(Some(request("PUT ", "partNumber=")));
    let begun = trigger(&gate, None).await;
    relay.catches().await;
    relay.hold(None);
    assert!(gate.stop().await.success());
    let gate = Gate::start(&config).await;
    let failed = ended(&gate, id_of(&begun)).await;
    assert_eq!((&failed["state"], &failed["detail"]), (&json!("failed"), &json!("the server stopped")));
}
