//! The document's way: a host posts, listeners ask again and again.

use super::*;

#[tokio::test]
async fn the_documents_way_of_a_session() {
    let server = server(|_| {});
    let started = server.post("/api/share/start", json!({"sessionId": "123456"})).await;
    assert_eq!(started.json(), json!({"success": true, "sessionId": "123456", "timestamp": 1_700_000_000_000_i64}));
    let again = server.post("/api/share/start", json!({"sessionId": "123456"})).await;
    assert_eq!((again.status, again.json()["error"].clone()), (409, json!("Session ID already in use")));
    assert_eq!(again.json()["success"], false);

    assert_eq!(server.get("/api/share/123456/metadata").await.status, 404);
    assert_eq!(server.get("/api/share/123456/audio?since=-1").await.status, 204);
    let song = json!({"title": "Song Title", "artist": "Artist Name", "lyrics": "[00:12.50]Line", "hasSyncedLyrics": true,
        "elapsedSeconds": 45.2, "totalSeconds": 180.5, "thumbnailData": "/9j/4AAQ", "timestamp": 1_234_567_890_123_i64});
    let noted = server.post("/api/share/123456/metadata", song.clone()).await;
    assert_eq!(noted.json(), json!({"success": true, "listenersNotified": 1}));
    assert_eq!(server.get("/api/share/123456/metadata").await.json(), song);

    for sequence in 0..3 {
        let sent = server.post("/api/share/123456/audio", chunk(sequence).0).await;
        assert_eq!(sent.json(), json!({"success": true, "buffered": true}));
    }
    let polled = server.get("/api/v1/share/123456/audio?since=0").await;
    assert_eq!(polled.json(), json!([chunk(1).0, chunk(2).0]));
    assert_eq!(server.get("/api/share/123456/audio?since=2").await.status, 204);

    server.advance(2_500);
    let status = server.get("/api/share/123456/status").await.json();
    let song = json!({"title": "Song Title", "artist": "Artist Name"});
    let expected =
        json!({"isActive": true, "startTime": 1_700_000_000_000_i64, "listenerCount": 1, "currentMetadata": song});
    assert_eq!(status, expected);

    let stopped = server.post("/api/share/123456/stop", json!(null)).await.json();
    assert_eq!(stopped, json!({"success": true, "sessionDuration": 2.5, "bytesTransferred": 3 * 32_768}));
    assert_eq!(server.get("/api/share/123456/status").await.json()["isActive"], false);
    assert_eq!(server.get("/api/share/123456/audio?since=2").await.status, 404);
    assert_eq!(server.post("/api/share/123456/audio", chunk(3).0).await.status, 404);
    server.advance(300_000);
    server.relay.sessions.tick(server.relay.now());
    let gone = server.get("/api/share/123456/status").await;
    assert_eq!((gone.status, &gone.json()["isActive"], &gone.json()["success"]), (404, &json!(false), &json!(false)));
    server.start().await;
}

#[tokio::test]
async fn who_shows_nothing_is_told_so() {
    let server = server(|_| {});
    let reply = server.send("GET", "/api/share/123456/audio", &[], "").await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (401, json!("unauthorized")));
    assert_eq!(server.relay.metrics.unauthorized.get(), 1);
}

#[tokio::test]
async fn who_comes_to_a_silent_host_hears_nothing_old() {
    let server = server(|_| {});
    server.start().await;
    for sequence in 0..8 {
        assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200);
        server.advance(93);
    }
    let poll = async |since: i64| server.get(&format!("/api/share/123456/audio?since={since}")).await;
    assert_eq!(poll(-1).await.json().as_array().map(Vec::len), Some(5));
    server.advance(9_800);
    assert_eq!(poll(-1).await.status, 200);
    server.advance(200);
    assert_eq!([poll(-1).await.status, poll(2).await.status, poll(7).await.status], [204, 204, 204]);
    assert_eq!(server.post("/api/share/123456/audio", chunk(8).0).await.status, 200);
    assert_eq!(poll(7).await.json(), json!([chunk(8).0]));
}

#[tokio::test]
async fn a_session_holds_one_song_however_many_were_told() {
    let server = server(|_| {});
    server.start().await;
    // Somebody who takes nothing, and would be told all of them.
    let session = server.relay.sessions.get("123456".parse().expect("an id")).expect("it is there");
    let _events = session.subscribe_events().expect("it is live");
    let mut songs = Vec::new();
    for number in 0..20 {
        let song = json!({"title": number.to_string(), "lyrics": "la ".repeat(80_000)});
        assert_eq!(server.post("/api/share/123456/metadata", song).await.status, 200);
        songs.push(Arc::downgrade(&session.latest_metadata().expect("a song")));
        server.advance(1_000);
    }
    assert_eq!(songs.iter().filter(|song| song.strong_count() > 0).count(), 1);
}

#[tokio::test]
async fn a_host_that_is_not_heard_of_for_fifteen_minutes_is_gone() {
    let server = server(|_| {});
    server.start().await;
    server.advance(899_000);
    assert_eq!(server.post("/api/share/123456/audio", chunk(0).0).await.status, 200);
    server.advance(899_000);
    server.relay.sessions.tick(server.relay.now());
    assert_eq!(server.relay.active_sessions(), 1, "each chunk begins the time anew");
    server.advance(1_000);
    server.relay.sessions.tick(server.relay.now());
    assert_eq!(server.relay.active_sessions(), 0);
    assert_eq!(server.get("/api/share/123456/status").await.json()["ended"], "timeout");
}
