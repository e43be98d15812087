//! What is refused, and leaves nothing behind.

use super::*;

#[tokio::test]
async fn what_cannot_be_queued_is_refused() {
    let folder = TempFolder::new("channels");
    let gate = start(&in_memory(&folder)).await;
    let alice = bearer("alice");
    send(&gate, Method::DELETE, "/api/v1/admin/tracks/t9", &admin(), None).await.is(204);
    for (body, status) in [
        (json!({ "track_id": "none" }), 404),
        (json!({ "track_id": "t9" }), 410),
        (json!({ "track_id": "" }), 400),
        (json!({ "track_id": ".." }), 400),
        (json!({ "track_id": "x".repeat(257) }), 400),
        (json!({ "track_id": 1 }), 400),
        (json!({}), 400),
        (json!({ "track_id": "t1", "role": "admin" }), 400),
        (json!({ "track_id": "t1", "duration_ms": 0 }), 422),
        (json!({ "track_id": "t1", "duration_ms": -1 }), 422),
        (json!({ "track_id": "t1", "duration_ms": 86_400_001 }), 422),
        (json!({ "track_id": "t1", "duration_ms": 1.5 }), 400),
        (json!({ "track_id": "t1", "x": "x".repeat(5000) }), 413),
    ] {
        let reply = send(&gate, Method::POST, &items_of("main"), &alice, Some(body.clone())).await;
        assert_eq!(reply.problem(status)["success"], false, "{body}");
    }
    for channel in ["none", "Main", "%2e%2e", "a%00b", "main%2f"] {
        let reply = ask(&gate, channel, &alice, "t1").await;
        assert!(matches!(reply.status.as_u16(), 400 | 404), "{channel}: {}", reply.status);
    }
    for (query, status) in [("?limit=0", 422), ("?limit=101", 422), ("?cursor=MQ", 400), ("?page=1", 400)] {
        send(&gate, Method::GET, &format!("{}{query}", items_of("main")), &alice, None).await.problem(status);
    }
    send(&gate, Method::DELETE, &format!("{}/x", items_of("main")), &alice, None).await.problem(400);
    assert!(order(&gate, "main").await.is_empty(), "nothing was queued");
}

#[tokio::test]
async fn who_may_not_stream_a_track_may_not_queue_it() {
    let folder = TempFolder::new("channels");
    let mut config = in_memory(&folder);
    config["Policies"]["Authorization"] = json!({ "granted": { "Grants": true } });
    config["ReverseProxy"]["Routes"]["track"]["AuthorizationPolicy"] = json!("granted");
    let gate = start(&config).await;
    queue(&gate, "main", &bearer("alice"), "t1").await;
    ask(&gate, "main", &bearer("bob"), "t2").await.problem(403);
    let grant = json!({ "userId": "bob", "trackId": "t2" });
    send(&gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(grant)).await.is(201);
    queue(&gate, "main", &bearer("bob"), "t2").await;
    assert_eq!(order(&gate, "main").await, ["t1", "t2"]);
}

#[tokio::test]
async fn bytes_are_bounded_too() {
    let folder = TempFolder::new("channels");
    let mut config = in_memory(&folder);
    config["Channels"]["MaxSizePerUser"] = json!("1KiB");
    let gate = start(&config).await;
    let mut queued = 0;
    let refused = loop {
        let long = format!("{queued}{}", "x".repeat(240));
        let track = json!({ "id": long, "store": "main", "bucket": "audio", "key": "long.mp3" });
        send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
        let reply = ask(&gate, "main", &bearer("alice"), &long).await;
        if reply.status != 201 {
            break reply;
        }
        queued += 1;
    };
    refused.problem(429);
    assert!((1..4).contains(&queued), "{queued} items of more than 240 bytes each in 1 KiB");
}

#[tokio::test]
async fn without_a_token_there_is_no_queue_and_without_the_section_no_path() {
    let folder = TempFolder::new("channels");
    let mut config = in_memory(&folder);
    let gate = Gate::start(&config).await;
    for method in [Method::GET, Method::POST] {
        gate.client().send(method, &items_of("main"), &[]).await.problem(401);
    }
    drop(gate);
    for off in [json!({ "Enabled": false }), Value::Null] {
        config["Channels"] = off;
        let gate = Gate::start(&config).await;
        assert_eq!(ask(&gate, "main", &bearer("alice"), "t1").await.problem(404)["code"], "no_route");
        let metrics = gate.admin().get("/metrics", &[]).await.text();
        assert!(!metrics.contains("tidegate_queue_"));
    }
}

#[tokio::test]
async fn metrics_are_there_from_the_first_scrape_and_count() {
    let folder = TempFolder::new("channels");
    let gate = start(&in_memory(&folder)).await;
    let scrape = async || gate.admin().get("/metrics", &[]).await.text();
    let first = scrape().await;
    for line in [
        "tidegate_queue_requests_total{outcome=\"added\"} 0",
        "tidegate_queue_requests_total{outcome=\"duplicate\"} 0",
        "tidegate_queue_requests_total{outcome=\"channel-full\"} 0",
        "tidegate_queue_requests_total{outcome=\"user-full\"} 0",
        "tidegate_queue_requests_total{outcome=\"unavailable\"} 0",
        "tidegate_queue_removed_items_total 0",
        "tidegate_queue_claimed_items_total 0",
        "tidegate_queue_returned_items_total 0",
        "tidegate_queue_dropped_items_total 0",
        "tidegate_queue_playlists_total 0",
    ] {
        assert!(first.contains(line), "{line}");
    }
    let item = queue(&gate, "main", &bearer("alice"), "t1").await;
    ask(&gate, "main", &bearer("alice"), "t1").await.problem(409);
    delete(&gate, "main", &bearer("alice"), &item["item_id"]).await.is(204);
    let then = scrape().await;
    for line in [
        "tidegate_queue_requests_total{outcome=\"added\"} 1",
        "tidegate_queue_requests_total{outcome=\"duplicate\"} 1",
        "tidegate_queue_removed_items_total 1",
    ] {
        assert!(then.contains(line), "{line}");
    }
}

#[tokio::test]
async fn without_redis_a_queue_is_503_and_music_goes_on() {
    let folder = TempFolder::new("channels");
    let Some((config, mut redis)) = in_redis(&folder) else { return };
    let gate = start(&config).await;
    queue(&gate, "main", &bearer("alice"), "t1").await;
    redis.stop();
    let refused = ask(&gate, "main", &bearer("alice"), "t2").await;
    assert_eq!(refused.problem(503)["code"], "unavailable");
    assert_ne!(refused.header("retry-after"), "");
    redis.restart();
    let again = async || (ask(&gate, "main", &bearer("alice"), "t2").await.status == 201).then_some(());
    crate::support::eventually("the queue is there again", again).await;
    assert_eq!(order(&gate, "main").await, ["t1", "t2"]);
}
