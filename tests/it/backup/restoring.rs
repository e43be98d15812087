//! Restoring by the command.

use super::*;

#[tokio::test]
async fn a_database_in_postgresql_is_restored_and_the_one_that_was_there_is_kept() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let Some(database) = Postgres::database().await else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &database);
    let kept = a_database_is_restored(&config).await;
    let server = database.rsplit_once('/').expect("a name").0;
    let pool = sqlx::PgPool::connect(&format!("{server}/{kept}")).await.expect("it is kept");
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM playlists").fetch_one(&pool).await.expect("its rows");
    assert_eq!(rows, 5);
}

#[tokio::test]
async fn a_database_in_sqlite_is_restored_and_the_one_that_was_there_is_kept() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    let kept = a_database_is_restored(&config).await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{kept}")).await.expect("it is kept");
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM playlists").fetch_one(&pool).await.expect("its rows");
    assert_eq!(rows, 5);
}

/// Restores an older state; returns the name of the newer one that is kept.
async fn a_database_is_restored(config: &Value) -> String {
    let mut gate = Gate::start(config).await;
    add_playlists(&gate, 3).await;
    let made = make(&gate).await;
    add_playlists(&gate, 2).await;
    let id = id_of(&made);
    let would = restored(config, &["--backup", id, "--database"]).await;
    assert!(would.contains("would put") && would.contains("nothing was changed"), "{would}");
    let in_use = restore(config, &["--backup", id, "--database", "--yes"]).await;
    assert_eq!(in_use.code, Some(1), "{}", in_use.stdout);
    assert!(in_use.stderr.contains("use"), "{}", in_use.stderr);
    assert_eq!(playlists(&gate).await, 5, "nothing was changed");
    assert!(gate.stop().await.success());
    let said = restored(config, &["--backup", id, "--database", "--yes"]).await;
    let gate = Gate::start(config).await;
    assert_eq!(playlists(&gate).await, 3, "{said}");
    // It was under way when its own database was dumped, and has a manifest since.
    let found = ended(&gate, id).await;
    assert_eq!(found["state"], "ok", "{found}");
    restored(config, &["--backup", id]).await;
    make(&gate).await;
    said.trim().rsplit(" is ").next().expect("a name").to_owned()
}

#[tokio::test]
async fn foreign_and_damaged_manifests_and_objects_are_refused() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    let gate = Gate::start(&config).await;
    let nothing = restore(&config, &[]).await;
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.contains("no backup in the bucket"), "{}", nothing.stderr);
    let made = make(&gate).await;
    let id = id_of(&made);
    let key = |name: &str| format!("backups/{id}/{name}");
    let (manifest, object) = (minio.get(&key("manifest.json")).await, minio.get(&key("sqlite.db.zst")).await);
    let text = String::from_utf8(manifest.to_vec()).expect("JSON");
    let mut other_bytes = object.to_vec();
    let middle = other_bytes.len() / 2;
    other_bytes[middle] ^= 1;
    for (name, bytes, words) in [
        ("manifest.json", b"{}".to_vec(), "no manifest"),
        ("manifest.json", text.replacen("tidegate-backup", "other-backup", 1).into_bytes(), "no manifest"),
        ("manifest.json", text.replacen("\"version\": 1", "\"version\": 9", 1).into_bytes(), "version 9"),
        ("manifest.json", text.replacen("\"bytes\": ", "\"bytes\": 1", 1).into_bytes(), "damaged"),
        ("sqlite.db.zst", other_bytes, "sqlite is damaged"),
        ("sqlite.db.zst", object[..middle].to_vec(), "sqlite is damaged"),
        ("sqlite.db.zst", b"nothing".to_vec(), "sqlite is damaged"),
    ] {
        minio.put(&key(name), bytes).await;
        let refused = restore(&config, &["--backup", id, "--database", "--yes"]).await;
        assert_eq!(refused.code, Some(1), "{name}: {}", refused.stdout);
        assert!(refused.stderr.contains(words), "{name}, {words}: {}", refused.stderr);
        minio.put(&key("manifest.json"), manifest.clone()).await;
        minio.put(&key("sqlite.db.zst"), object.clone()).await;
    }
    let foreign = "0199a3f0-0000-7000-8000-000000000000";
    minio.put(&format!("backups/{foreign}/manifest.json"), manifest.clone()).await;
    let refused = restore(&config, &["--backup", foreign]).await;
    assert!(refused.stderr.contains("another folder"), "{}", refused.stderr);
    assert!(restored(&config, &["--list"]).await.contains("cannot be restored"));
    minio.delete(&format!("backups/{foreign}/manifest.json")).await;
    restored(&config, &["--backup", id]).await;
    for arguments in [&["--backup", "nothing"][..], &["--yes"], &["--list", "--yes"]] {
        assert_eq!(restore(&config, arguments).await.code, Some(64), "{arguments:?}");
    }
}
