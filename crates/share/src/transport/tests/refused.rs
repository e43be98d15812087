//! What is refused: floods, what is misshapen, guesses.

use super::*;

#[tokio::test]
async fn a_real_host_is_never_limited_and_a_flood_is() {
    let server = server(|_| {});
    server.start().await;
    for sequence in 0..200 {
        server.advance(93);
        assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200, "chunk {sequence}");
    }
    let mut flood = Vec::new();
    for sequence in 200..300 {
        let reply = server.post("/api/share/123456/audio", chunk(sequence).0).await;
        flood.push(reply.status);
        if reply.status == 429 {
            assert!(reply.headers.contains_key("retry-after") && reply.json()["reset_after"].is_i64());
        }
    }
    assert!(flood.iter().filter(|status| **status == 200).count() <= 81, "{flood:?}");
    assert_eq!(flood.last(), Some(&429));
    let mut metadata = Vec::new();
    for _ in 0..6 {
        metadata.push(server.post("/api/share/123456/metadata", json!({"title": "x"})).await.status);
    }
    assert_eq!(metadata, [200, 200, 200, 200, 429, 429]);
}

#[tokio::test]
async fn what_is_too_large_too_many_or_misshapen_is_refused() {
    let server = server(|settings| settings.max_sessions = 2);
    for id in ["12345", "abcdef", "1234567"] {
        assert_eq!(server.post("/api/share/start", json!({"sessionId": id})).await.status, 400, "{id}");
        assert_eq!(server.get(&format!("/api/share/{id}/status")).await.status, 400, "{id}");
    }
    server.start().await;
    let large =
        server.send("POST", "/api/share/123456/audio", &[("authorization", "Bearer Token")], vec![b'a'; 1_100_000]);
    assert_eq!(large.await.status, 413);
    let large =
        server.send("POST", "/api/share/123456/metadata", &[("authorization", "Bearer Token")], vec![b'a'; 6_000_000]);
    assert_eq!(large.await.status, 413);
    assert_eq!(server.post("/api/share/123456/audio", json!({"data": "AAAA"})).await.status, 400);
    let picked = server.send("POST", "/api/share/start", &[("authorization", "Bearer Token")], "").await.json();
    assert_eq!(picked["sessionId"].as_str().map(str::len), Some(6));
    let full = server.post("/api/share/start", json!({"sessionId": "000001"})).await;
    assert_eq!((full.status, full.headers.contains_key("retry-after")), (503, true));
}

#[tokio::test]
async fn whoever_guesses_ids_finds_none() {
    let server = server(|_| {});
    server.start().await;
    for id in 0..20 {
        assert_eq!(server.get(&format!("/api/share/{id:06}/status")).await.status, 404);
    }
    assert_eq!(server.get("/api/share/000099/status").await.status, 429);
    assert_eq!(server.relay.metrics.refused_guesses.get(), 1);
    assert_eq!(server.get("/api/share/123456/status").await.status, 200, "one that it was let in to before");
    let id = Some("000099".parse().expect("an id"));
    assert!(server.relay.start_session(id).await.is_ok());
    assert_eq!(server.get("/api/share/000099/status").await.status, 429, "nor one that is there");
    server.advance(3_000);
    assert_eq!(server.get("/api/share/000099/status").await.status, 200);
}
