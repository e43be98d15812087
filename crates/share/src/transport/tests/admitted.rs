//! Admission without a token: with a ticket, with a picture's tag, from a page of localhost.

use super::*;

#[tokio::test]
async fn tickets_let_in_who_has_no_token() {
    let server = server(|_| {});
    server.start().await;
    let issued = server.post("/api/v1/share/123456/tickets", json!({"count": 1, "ttl": 60})).await.json();
    let ticket = issued["ticket"].as_str().expect("a ticket").to_owned();
    assert_eq!(issued["listen_url"], format!("/listen/123456?ticket={ticket}"));
    assert_eq!(server.post("/api/v1/share/123456/tickets", json!({"ttl": 0})).await.status, 422);
    let address = server.listen().await;
    let url = |ticket: &str| format!("ws://{address}/api/v1/share/123456/ws?ticket={ticket}");
    let status = async |url: String| match tokio_tungstenite::connect_async(url).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(reply)) => reply.status().as_u16(),
        other => panic!("not a refusal: {other:?}"),
    };
    assert_eq!(status(url("made-up")).await, 401);
    assert_eq!(status(format!("{}&role=host", url(&ticket))).await, 401, "it does not host");
    let (mut first, _) = tokio_tungstenite::connect_async(url(&ticket)).await.expect("it opens");
    text(&mut first, "hello").await;
    assert_eq!(status(url(&ticket)).await, 409, "one at once");
    server.advance(60_000);
    assert_eq!(status(url(&ticket)).await, 401, "its time is over");
    first.send(Message::Text(json!({"type": "time", "t0": 7}).to_string().into())).await.expect("it is sent");
    let time = text(&mut first, "time").await;
    assert_eq!((&time["t0"], &time["t1"]), (&json!(7), &json!(server.relay.micros())), "who is in stays in");
    server.tasks.shutdown(Duration::from_secs(5)).await;
    loop {
        if let Message::Close(frame) = message(&mut first).await {
            assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1001));
            break;
        }
    }
}

#[tokio::test]
async fn two_starts_in_one_millisecond_are_two_sessions() {
    let server = server(|_| {});
    server.start().await;
    let issued = server.post("/api/v1/share/123456/tickets", json!({})).await.json();
    let path = format!("/api/v1/share/123456/chat?ticket={}", issued["ticket"].as_str().expect("a ticket"));
    let line = json!({"text": "hi"}).to_string();
    assert_eq!(server.send("POST", &path, &[], line.clone()).await.status, 200);
    assert_eq!(server.post("/api/share/123456/stop", json!(null)).await.status, 200);
    server.start().await;
    assert_eq!(server.send("POST", &path, &[], line).await.status, 401, "it was for the one before");
}

#[tokio::test]
async fn the_cover_is_for_those_who_know_it() {
    let server = server(|_| {});
    server.start().await;
    assert_eq!(server.get("/api/v1/share/123456/thumb").await.status, 404);
    let cover = STANDARD.encode([0xff, 0xd8, 0xff, 0xe0, 1, 2, 3]);
    server.post("/api/share/123456/metadata", json!({"title": "x", "thumbnailData": cover})).await;
    let shown = server.get("/api/v1/share/123456/thumb").await;
    assert_eq!((shown.status, &shown.body[..]), (200, &[0xff, 0xd8, 0xff, 0xe0, 1, 2, 3][..]));
    assert_eq!(shown.headers["content-type"], "image/jpeg");
    let mut socket = server.socket("").await;
    let tag = text(&mut socket, "hello").await["meta"]["thumb"].as_str().expect("a tag").to_owned();
    let bare_tag = shown.headers["etag"].to_str().expect("text").trim_matches('"').to_owned();
    let bare =
        async |query: &str| server.send("GET", &format!("/api/v1/share/123456/thumb{query}"), &[], "").await.status;
    assert_eq!(bare("").await, 401);
    assert_eq!(bare("?v=other").await, 401);
    assert_eq!(bare(&format!("?v={bare_tag}")).await, 401, "who has the picture has its digest");
    assert_eq!(server.send("GET", &format!("/api/v1/share/000001/thumb?v={tag}"), &[], "").await.status, 401);
    assert_eq!(bare(&format!("?v={tag}")).await, 200);
    let polled = server.get("/api/share/123456/metadata?thumb=0").await;
    assert_eq!(polled.json()["thumbnailData"], Value::Null);
    let known = polled.headers["etag"].to_str().expect("text").to_owned();
    let headers = [("authorization", "Bearer Token"), ("if-none-match", known.as_str())];
    assert_eq!(server.send("GET", "/api/share/123456/metadata?thumb=0", &headers, "").await.status, 304);
    server.advance(30_000);
    assert_eq!(server.get("/api/share/123456/metadata").await.status, 404, "metadata is fresh for 30 seconds");
}

#[tokio::test]
async fn pages_of_localhost_may_call_where_the_operator_says_so() {
    let preflight = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization"),
        ]
    };
    let (open, closed) = (server(|settings| settings.allow_localhost = true), server(|_| {}));
    for (origin, allowed) in [
        ("http://localhost:3000", true),
        ("https://localhost", true),
        ("http://127.0.0.1:8080", true),
        ("http://localhost.evil.example", false),
        ("http://evil.example:80", false),
        ("http://localhost:80.evil.example", false),
    ] {
        let reply = open.send("OPTIONS", "/api/share/start", &preflight(origin), "").await;
        assert_eq!(reply.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(reply.status, 204);
        let refused = open.send("GET", "/api/share/123456/status", &[("origin", origin)], "").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.headers.contains_key("access-control-allow-origin"), allowed, "{origin}: errors too");
    }
    let reply = closed.send("OPTIONS", "/api/share/start", &preflight("http://localhost:3000"), "").await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_ticket_for_a_host_lets_its_holder_send() {
    let server = server(|_| {});
    server.start().await;
    let issued = server.post("/api/v1/share/123456/tickets", json!({"role": "host", "ttl": 60})).await.json();
    let ticket = issued["ticket"].as_str().expect("a ticket");
    let url = format!("ws://{}/api/v1/share/123456/ws?role=host&ticket={ticket}", server.listen().await);
    let (mut host, _) = tokio_tungstenite::connect_async(url).await.expect("it opens");
    text(&mut host, "welcome").await;
}
