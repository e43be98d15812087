//! What holds wherever the database is.

use super::*;
use crate::support::described::Described;

#[tokio::test]
async fn backups_of_sqlite() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    holds(&folder, config, "sqlite").await;
}

#[tokio::test]
async fn backups_of_postgresql() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let Some(database) = Postgres::database().await else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &database);
    holds(&folder, config, "postgres").await;
}

async fn holds(folder: &TempFolder, mut config: Value, database: &str) {
    let Some(redis) = Redis::start() else { return };
    config["State"]["Url"] = json!(redis.url());
    config["Telemetry"]["AccessLog"]["File"] = json!(folder.path().join("access.log"));
    let gate = Gate::start(&config).await;
    redis.ask("SET some-key some-value");
    add_playlists(&gate, 3).await;
    let before = status(&gate).await;
    let all = json!([database, "redis", "config", "logs"]);
    assert_eq!((&before["current"], &before["last_verified"]), (&json!(null), &json!(null)));
    assert_eq!((&before["available"], &before["next_due_at"]), (&all, &json!(null)));
    let begun = trigger(&gate, None).await;
    assert_eq!((&begun["state"], &begun["cause"], &begun["components"]), (&json!("queued"), &json!("manual"), &all));
    let made = ended(&gate, id_of(&begun)).await;
    assert_eq!((&made["state"], &made["detail"]), (&json!("ok"), &json!(null)), "{made}\n{}", gate.log());
    sizes_are_told(&made, database);
    let after = status(&gate).await;
    assert_eq!((&after["current"], &after["last_verified"]), (&json!(null), &made));
    assert!(work_files(folder).is_empty());
    metrics_tell_of_it(&gate, &made).await;
    the_last_verified_one_stays(&gate, &made).await;
    history_comes_in_pages(&gate).await;
    answers_are_as_described(&gate).await;
    drop(gate);
    files_come_back_without_secrets(&config, &made, database).await;
    let gate = Gate::start(&config).await;
    assert!(history(&gate).await.contains(&made), "the history outlives the process");
}

fn sizes_are_told(made: &Value, database: &str) {
    let sizes = made["sizes"].as_array().expect("sizes");
    let of = |name: &str| sizes.iter().find(|size| size["component"] == name).expect("the component");
    assert!(of(database)["rows"].as_u64().is_some_and(|rows| rows >= 3), "{sizes:?}");
    assert!(of("redis")["rows"].as_u64().is_some_and(|keys| keys >= 1), "{sizes:?}");
    assert_eq!(of("config")["rows"], 0);
    let stored: u64 = sizes.iter().map(|size| size["stored_bytes"].as_u64().expect("a size")).sum();
    assert_eq!(made["stored_bytes"], stored);
    for size in sizes {
        assert_eq!(size["sha256"].as_str().map(str::len), Some(64));
    }
}

async fn metrics_tell_of_it(gate: &Gate, made: &Value) {
    // Ids begin with the time in milliseconds (RFC 9562, version 7).
    let time: String = id_of(made).chars().filter(|character| *character != '-').take(12).collect();
    let began = i64::from_str_radix(&time, 16).expect("hexadecimal") / 1000;
    let told = async || {
        let newest = gate.metric("tidegate_backup_newest_verified_timestamp_seconds", "").await;
        (newest as i64 - began).abs().le(&1).then_some(())
    };
    eventually("the newest verified backup is told", told).await;
    assert_eq!(gate.metric("tidegate_backup_ended_total", "outcome=\"ok\"").await, 1.0);
    assert_eq!(gate.metric("tidegate_backup_ended_total", "outcome=\"failed\"").await, 0.0);
    assert_eq!(gate.metric("tidegate_backup_running", "").await, 0.0);
    let stored = gate.metric("tidegate_backup_stored_bytes_total", "").await;
    assert_eq!(Some(stored as i64), made["stored_bytes"].as_i64());
}

async fn the_last_verified_one_stays(gate: &Gate, first: &Value) {
    let id = id_of(first);
    let said = send(gate, Method::DELETE, id, None).await.problem(409);
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("last verified")), "{said}");
    let begun = trigger(gate, Some(&json!({ "components": ["config"] }))).await;
    let second = ended(gate, id_of(&begun)).await;
    assert_eq!((&second["state"], &second["components"]), (&json!("ok"), &json!(["config"])));
    let third = make(gate).await;
    send(gate, Method::DELETE, id_of(&second), None).await.is(204);
    send(gate, Method::DELETE, id_of(&second), None).await.problem(404);
    assert!(!history(gate).await.iter().any(|backup| backup["id"] == second["id"]));
    assert_eq!(status(gate).await["last_verified"], third);
}

async fn history_comes_in_pages(gate: &Gate) {
    let all = history(gate).await;
    let first = json_of(send(gate, Method::GET, "history?limit=1", None).await.is(200));
    let cursor = first["nextCursor"].as_str().expect("more");
    let second = json_of(send(gate, Method::GET, &format!("history?limit=1&cursor={cursor}"), None).await.is(200));
    assert_eq!([first["items"][0].clone(), second["items"][0].clone()], all[..], "the newest first");
    assert_eq!(second["nextCursor"], json!(null));
}

async fn answers_are_as_described(gate: &Gate) {
    let described = Described::by(&gate.client()).await;
    let path = |what: &str| format!("/api/v1/backup/{what}");
    for (method, what, body) in [
        (Method::GET, "status", None),
        (Method::GET, "history", None),
        (Method::POST, "trigger", Some(json!({ "components": ["config"] }))),
        (Method::POST, "trigger", Some(json!({ "components": ["nothing"] }))),
        (Method::DELETE, "0199a3f0-0000-7000-8000-000000000000", None),
        (Method::DELETE, "nothing", None),
    ] {
        let reply = send(gate, method.clone(), what, body.as_ref()).await;
        described.checks(method.as_str(), &path(what), &reply);
    }
    let idle = async || status(gate).await["current"].is_null().then_some(());
    eventually("it has ended", idle).await;
}

async fn files_come_back_without_secrets(config: &Value, made: &Value, database: &str) {
    let folder = TempFolder::new("restored");
    let into = folder.path().to_str().expect("a path in UTF-8");
    let would = restored(config, &["--backup", id_of(made), "--output", into]).await;
    assert!(would.contains("nothing was changed"), "{would}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    restored(config, &["--backup", id_of(made), "--output", into, "--yes"]).await;
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap_or_else(|_| panic!("{name} is there"));
    let settings = String::from_utf8(read("config.yaml")).expect("text");
    assert!(settings.contains("env:S3_SECRET_KEY") && settings.contains("Backup:"), "{settings}");
    assert!(!settings.contains(crate::support::store::SECRET_KEY));
    assert!(read("redis.rdb").starts_with(b"REDIS"));
    assert!(String::from_utf8_lossy(&read("access.log")).contains("/api/v1/playlists"));
    match database {
        "sqlite" => assert!(read("sqlite.db").starts_with(b"SQLite format 3")),
        _ => assert!(read("postgres.dump").starts_with(b"PGDMP")),
    }
    let again = restore(config, &["--backup", id_of(made), "--output", into, "--yes"]).await;
    assert_eq!(again.code, Some(1), "no file is written over: {}", again.stdout);
}
