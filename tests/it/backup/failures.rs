//! Stores, tools and databases that fail.

use super::*;
use crate::support::minio::OwnMinio;

/// Waits for the end of a backup that must fail; returns the reason.
async fn fails(gate: &Gate) -> String {
    let begun = trigger(gate, None).await;
    let failed = ended(gate, id_of(&begun)).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    failed["detail"].as_str().expect("a reason").to_owned()
}

#[tokio::test]
async fn a_store_that_is_away_fails_a_backup_and_the_last_verified_one_stays() {
    let (folder, Some(mut minio)) = (TempFolder::new("backup"), OwnMinio::start()) else { return };
    let bucket = minio.bucket("backups").await;
    let config = backups(&folder, &bucket.url(), bucket.name(), &sqlite(&folder));
    let gate = Gate::start(&config).await;
    let first = make(&gate).await;
    let second = make(&gate).await;
    minio.kill();
    let reason = fails(&gate).await;
    assert!(reason.contains("did not answer"), "{reason}");
    assert_eq!(status(&gate).await["last_verified"], second);
    // What is deleted while the store is away goes when it is back.
    send(&gate, Method::DELETE, id_of(&first), None).await.is(204);
    assert_eq!(restore(&config, &[]).await.code, Some(1));
    minio.restart();
    let gone = async || (restore(&config, &["--backup", id_of(&first)]).await.code == Some(1)).then_some(());
    eventually("its objects are gone", gone).await;
    restored(&config, &["--backup", id_of(&second)]).await;
    make(&gate).await;
}

#[tokio::test]
async fn with_a_wrong_key_a_backup_fails_at_once_and_the_last_verified_one_stays() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    let mut gate = Gate::start(&config).await;
    let first = make(&gate).await;
    assert!(gate.stop().await.success());
    let gate = Gate::start_with(&config, &[("S3_SECRET_KEY", "another-secret-key")]).await;
    let reason = fails(&gate).await;
    assert!(reason.contains("refused"), "{reason}");
    assert_eq!(status(&gate).await["last_verified"]["id"], first["id"], "it is not taken for lost");
    restored(&config, &["--backup", id_of(&first)]).await;
    assert!(!gate.log().contains("another-secret-key") && !gate.log().contains("X-Amz-Signature"));
}

#[tokio::test]
async fn a_program_that_is_missing_is_named() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let Some(database) = Postgres::database().await else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &database);
    let gate = Gate::start_with(&config, &[("PATH", "/nowhere")]).await;
    let reason = fails(&gate).await;
    assert!(reason.contains("pg_dump") && reason.contains("PATH"), "{reason}");
}

#[tokio::test]
async fn a_password_reaches_programs_and_no_log_and_a_wrong_one_is_told() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let Some(redis) = Redis::start() else { return };
    redis.ask("CONFIG SET requirepass hunter2-of-redis");
    let mut config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    config["State"]["Url"] = json!("env:REDIS_ADDRESS");
    let address = |password: &str| format!("redis://:{password}@127.0.0.1:{}", redis.port());
    let mut gate = Gate::start_with(&config, &[("REDIS_ADDRESS", &address("hunter2-of-redis"))]).await;
    let made = make(&gate).await;
    assert!(made["components"].as_array().is_some_and(|components| components.contains(&json!("redis"))));
    assert!(!gate.log().contains("hunter2-of-redis"));
    assert!(gate.stop().await.success());
    let gate = Gate::start_with(&config, &[("REDIS_ADDRESS", &address("wrong-of-redis"))]).await;
    let reason = fails(&gate).await;
    assert!(reason.contains("redis-cli") && !reason.contains("wrong-of-redis"), "{reason}");
    assert!(!gate.log().contains("wrong-of-redis"));
}

#[tokio::test]
async fn a_role_that_may_make_no_database_cannot_verify_and_says_so() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let Some(database) = Postgres::database().await else { return };
    let pool = sqlx::PgPool::connect(&database).await.expect("PostgreSQL answers");
    let name = database.rsplit('/').next().expect("a name");
    let role = format!("backup_{name}");
    for statement in [format!("CREATE ROLE {role} LOGIN"), format!("ALTER DATABASE {name} OWNER TO {role}")] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.expect("it is done");
    }
    pool.close().await;
    let other = database.replacen("tidegate@", &format!("{role}@"), 1);
    let config = backups(&folder, &minio.url(), minio.name(), &other);
    let gate = Gate::start(&config).await;
    let reason = fails(&gate).await;
    assert!(reason.contains("permission denied to create database"), "{reason}");
}

#[tokio::test]
async fn a_full_disk_fails_a_backup_and_leaves_nothing_on_it() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let small = folder.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let mut mount = tokio::process::Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&small).status().await;
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    let mut config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    let mut gate = Gate::start(&config).await;
    let first = make(&gate).await;
    assert!(gate.stop().await.success());
    config["Backup"]["WorkFolder"] = json!(small);
    let gate = Gate::start(&config).await;
    let reason = fails(&gate).await;
    let left = std::fs::read_dir(&small).expect("the folder").count();
    let unmounted = tokio::process::Command::new("umount").arg(&small).status().await;
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert!(reason.contains("full"), "{reason}");
    assert_eq!(left, 0);
    restored(&config, &["--backup", id_of(&first)]).await;
}

#[tokio::test]
async fn old_backups_expire_after_a_new_success_and_so_many_stay() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let mut config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    config["Backup"]["KeepFor"] = json!("1d");
    config["Backup"]["KeepAtLeast"] = json!(2);
    let mut gate = Gate::start(&config).await;
    let (one, two) = (make(&gate).await, make(&gate).await);
    assert!(gate.stop().await.success());
    // As if they had been made 36 hours ago.
    let pool = sqlx::SqlitePool::connect(&sqlite(&folder)).await.expect("the file is there");
    let moved = sqlx::query("UPDATE backups SET created_at = created_at - 129600000").execute(&pool).await;
    assert_eq!(moved.expect("it is changed").rows_affected(), 2);
    pool.close().await;
    let gate = Gate::start(&config).await;
    let settled = async || history(&gate).await.iter().filter(|one| one["state"] == "ok").count();
    assert_eq!(crate::support::eventually::settled("nothing expires by itself", settled).await, 2);
    let three = make(&gate).await;
    let expired = async || (ended(&gate, id_of(&one)).await["state"] == "expired").then_some(());
    eventually("the oldest expires", expired).await;
    assert_eq!(ended(&gate, id_of(&two)).await["state"], "ok", "two stay");
    let gone = async || (restore(&config, &["--backup", id_of(&one)]).await.code == Some(1)).then_some(());
    eventually("its objects are gone", gone).await;
    let listed = restored(&config, &["--list"]).await;
    let ids: Vec<_> = listed.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(ids, [id_of(&three), id_of(&two)], "the newest first");
}

#[tokio::test]
async fn by_its_timetable_a_backup_is_made_without_being_asked_for() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let mut config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    config["Backup"]["Every"] = json!("1d");
    let gate = Gate::start(&config).await;
    let made = async || history(&gate).await.pop().filter(|backup| backup["state"] == "ok");
    let made = eventually("one is made", made).await;
    assert_eq!(made["cause"], "schedule");
    assert!(status(&gate).await["next_due_at"].is_string());
    let settled = async || history(&gate).await.len();
    assert_eq!(crate::support::eventually::settled("no other one is made", settled).await, 1);
}
