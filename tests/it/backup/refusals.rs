//! What is refused, and begins nothing.

use super::*;

#[tokio::test]
async fn what_is_no_backup_is_refused_and_nothing_is_begun() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    let gate = Gate::start(&config).await;
    for (body, status, words) in [
        (json!({ "components": [] }), 422, "components"),
        (json!({ "components": ["everything"] }), 422, "components"),
        (json!({ "components": ["config", "config"] }), 422, "each once"),
        (json!({ "components": ["postgres"] }), 422, "no postgres"),
        (json!({ "components": ["redis"] }), 422, "no redis"),
        (json!({ "components": ["logs"] }), 422, "no logs"),
        (json!({ "components": "config" }), 400, "components"),
        (json!({ "colour": "red" }), 400, "colour"),
        (json!([]), 400, ""),
    ] {
        let said = send(&gate, Method::POST, "trigger", Some(&body)).await.problem(status);
        let detail = said["detail"].as_str().expect("a detail");
        assert!(detail.contains(words), "{body}: {detail}");
    }
    let large = json!({ "components": ["x".repeat(5000)] });
    send(&gate, Method::POST, "trigger", Some(&large)).await.problem(413);
    for (method, what, status) in [
        (Method::DELETE, "nothing", 400),
        (Method::DELETE, "0199a3f0-0000-7000-8000-000000000000", 404),
        (Method::GET, "history?limit=0", 422),
        (Method::GET, "history?limit=101", 422),
        (Method::GET, "history?cursor=nothing", 400),
        (Method::GET, "history?colour=red", 400),
    ] {
        send(&gate, method, what, None).await.problem(status);
    }
    for (method, what) in [
        (Method::POST, "trigger"),
        (Method::GET, "status"),
        (Method::GET, "history"),
        (Method::DELETE, "0199a3f0-0000-7000-8000-000000000000"),
    ] {
        send_as(&gate, &bearer("ada"), method.clone(), what, None).await.problem(403);
        send_as(&gate, "Bearer nothing", method, what, None).await.problem(401);
    }
    assert!(history(&gate).await.is_empty(), "nothing is begun");
}

#[tokio::test]
async fn requests_of_administrators_about_backups_are_counted_strictly() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let mut config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    config["Policies"]["RateLimiter"]["strict"] =
        json!({ "SlidingWindow": { "PermitLimit": 2, "Window": "1h", "SegmentsPerWindow": 6 }, "PartitionBy": "User" });
    let gate = Gate::start(&config).await;
    for _ in 0..2 {
        send(&gate, Method::GET, "status", None).await.is(200);
    }
    send(&gate, Method::GET, "status", None).await.problem(429);
}

#[tokio::test]
async fn without_its_section_there_are_no_backups_and_metrics_are_there_from_the_first_scrape() {
    let (folder, Some(minio)) = (TempFolder::new("backup"), Minio::bucket().await) else { return };
    let mut config = backups(&folder, &minio.url(), minio.name(), &sqlite(&folder));
    let gate = Gate::start(&config).await;
    let page = gate.metrics().await;
    for name in ["tidegate_backup_ended_total", "tidegate_backup_newest_verified_timestamp_seconds"] {
        assert!(page.contains(name), "{name}");
    }
    drop(gate);
    config.as_object_mut().expect("sections").remove("Backup");
    let gate = Gate::start(&config).await;
    send(&gate, Method::GET, "status", None).await.problem(404);
    assert!(!gate.metrics().await.contains("tidegate_backup_"));
    let ended = restore(&config, &[]).await;
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
}
