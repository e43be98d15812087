//! What is sent: ids, numbers, times, members, media types; and pages of lists.

use http::Method;
use serde_json::{Value, json};

use super::{HOST, everything, get, start};
use crate::catalogue::{admin, bearer, send};
use crate::support::client::Reply;
use crate::support::tools::TempFolder;
use crate::support::{Gate, ScriptedOrigin, config, token};

/// A body as it stands, under a media type.
async fn post(gate: &Gate, path: &str, media_type: &str, body: &str) -> Reply {
    let request = gate.client().request(Method::POST, path).header("authorization", bearer("alice"));
    let response = request.header("content-type", media_type).body(body.to_owned()).send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

#[tokio::test]
async fn an_id_that_cannot_be_is_400_wherever_it_stands() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let long = "x".repeat(257);
    let position = json!({ "positionMs": 1 });
    let event = json!({ "action": "Pause", "positionMs": 1 });
    for bad in [long.as_str(), "a%00b", "a%C2%85b", "a%FFb"] {
        for (method, path, body) in [
            ("POST", format!("/api/v1/tracks/{bad}/position"), Some(&position)),
            ("GET", format!("/api/v1/tracks/{bad}/position"), None),
            ("DELETE", format!("/api/v1/tracks/{bad}/position"), None),
            ("POST", format!("/api/v1/tracks/{bad}/events"), Some(&event)),
            ("GET", format!("/api/v1/tracks/{bad}/stream-url"), None),
            ("GET", format!("/api/v1/admin/tracks/{bad}"), None),
            ("DELETE", format!("/api/v1/admin/tracks/{bad}"), None),
            ("GET", format!("/api/v1/admin/grants?user_id={bad}"), None),
            ("DELETE", format!("/api/v1/admin/grants?user_id={bad}&track_id=t"), None),
            ("DELETE", format!("/api/v1/admin/grants?user_id=u&track_id={bad}"), None),
            ("DELETE", format!("/api/v1/admin/stream-cache?user_id={bad}"), None),
            ("DELETE", format!("/api/v1/admin/stream-cache?user_id=u&track_id={bad}"), None),
            ("GET", format!("/api/v1/usage?user_id={bad}"), None),
            ("GET", format!("/api/v1/lyrics/{bad}"), None),
            ("DELETE", format!("/api/v1/lyrics/{bad}"), None),
            ("GET", format!("/api/v1/playback/settings?track_id={bad}"), None),
            ("GET", format!("/api/v1/playback/position?channel_id={bad}"), None),
            ("GET", format!("/api/v1/playback/events?channel_id={bad}"), None),
        ] {
            let method = method.parse().expect("a method");
            let reply = send(&gate, method, &path, &admin(), body.cloned()).await;
            // A query is decoded as browsers do it (URL standard): a byte that is no UTF-8 is replaced, not refused.
            if !(bad == "a%FFb" && path.contains('?')) {
                assert_eq!(reply.problem(400)["code"], "bad_request", "{path}");
            }
        }
    }
    let track = json!({ "id": "", "store": "main", "bucket": "audio", "key": "one.mp3" });
    for (path, body) in [
        ("/api/v1/admin/tracks", track),
        ("/api/v1/admin/grants", json!({ "userId": long, "trackId": "t" })),
        ("/api/v1/admin/grants", json!({ "userId": "u", "trackPrefix": "" })),
    ] {
        send(&gate, Method::POST, path, &admin(), Some(body)).await.problem(400);
    }
    // Nobody is a user under a name that cannot be kept.
    for user in [long.as_str(), "a\u{0}b"] {
        for path in ["/api/v1/tracks/t/position", "/api/v1/progress", "/api/v1/usage", "/api/v1/tracks/t/stream-url"] {
            send(&gate, Method::GET, path, &bearer(user), None).await.problem(401);
        }
    }
}

#[tokio::test]
async fn the_last_page_says_that_it_is_the_last() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    for track in ["one", "two", "three", "four"] {
        let body = json!({ "positionMs": 300_000, "durationMs": 600_000 });
        let path = format!("/api/v1/tracks/{track}/position");
        send(&gate, Method::POST, &path, &bearer("alice"), Some(body)).await.is(204);
        let body = json!({ "id": track, "store": "main", "bucket": "audio", "key": track });
        send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(body)).await.is(201);
        let body = json!({ "userId": "alice", "trackId": track });
        send(&gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(body)).await.is(201);
        let others = json!({ "userId": "bob", "trackId": track });
        send(&gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(others)).await.is(201);
    }
    for list in ["/api/v1/progress?", "/api/v1/admin/tracks?", "/api/v1/admin/grants?user_id=alice&"] {
        for (limit, pages) in [(4, 1), (2, 2), (3, 2), (5, 1)] {
            let (mut cursor, mut read) = (String::new(), 0);
            for page in 1..=pages {
                let reply =
                    send(&gate, Method::GET, &format!("{list}limit={limit}{cursor}"), &admin_alice(), None).await;
                let said: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
                read += said["items"].as_array().expect("items").len();
                assert_eq!(said["nextCursor"].is_null(), page == pages, "{list} {limit}: {said}");
                cursor = format!("&cursor={}", said["nextCursor"].as_str().unwrap_or_default());
            }
            assert_eq!(read, 4, "{list} {limit}");
        }
    }
    for (list, most) in [("/api/v1/progress", 100), ("/api/v1/admin/tracks", 1000)] {
        for (limit, status) in [(0, 422), (1, 200), (most, 200), (most + 1, 422)] {
            let path = format!("{list}?limit={limit}");
            assert_eq!(send(&gate, Method::GET, &path, &admin_alice(), None).await.status, status, "{path}");
        }
    }
}

/// Alice, who may do everything.
fn admin_alice() -> String {
    let mut claims = token::claims("alice");
    claims["role"] = json!("admin");
    format!("Bearer {}", token::with(&claims))
}

#[tokio::test]
async fn numbers_and_times_are_taken_as_players_send_them() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let (json_type, text_type) = ("application/json", "text/plain;charset=UTF-8");
    for (number, (media_type, position)) in
        [(json_type, "93500.0"), (text_type, "93500.7"), (text_type, "9.35e4")].into_iter().enumerate()
    {
        let path = format!("/api/v1/tracks/{number}/position");
        let now = format!("{}123.5", token::now());
        let body = format!("{{\"positionMs\": {position}, \"durationMs\": 240000.25, \"timestamp\": {now}}}");
        post(&gate, &path, media_type, &body).await.is(204);
        assert_eq!(get(&gate, &path).await["positionMs"], 93_500);
        for timestamp in ["1770000000123.0", "\"2026-02-02T03:40:00+01:00\""] {
            let body = format!("{{\"action\": \"Pause\", \"positionMs\": {position}, \"timestamp\": {timestamp}}}");
            post(&gate, &format!("/api/v1/tracks/{number}/events"), media_type, &body).await.is(202);
        }
    }
    for path in ["/api/v1/tracks/t/position", "/api/v1/tracks/t/events"] {
        for (body, status) in [
            (json!({ "action": "Pause", "positionMs": -0.5 }), 422),
            (json!({ "action": "Pause", "positionMs": "1" }), 400),
            (json!({ "action": "Pause", "positionMs": 1, "timestamp": "yesterday" }), 400),
            (json!({ "action": "Pause", "positionMs": 1, "timestamp": "2026-01-02T03:04:05" }), 400),
        ] {
            post(&gate, path, json_type, &body.to_string()).await.problem(status);
        }
        post(&gate, path, "application/x-www-form-urlencoded", "{\"positionMs\":1}").await.problem(415);
    }
}

#[tokio::test]
async fn a_member_in_another_case_is_refused_and_not_passed_over() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let host = format!("Bearer {HOST}");
    let reply = send(&gate, Method::POST, "/api/share/start", &host, Some(json!({ "SessionId": "123456" }))).await;
    let said = reply.problem(400);
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("`sessionId`")), "{said}");
    send(&gate, Method::POST, "/api/share/start", &host, Some(json!({ "sessionId": "123456" }))).await.is(200);
}

#[tokio::test]
async fn a_purge_without_a_media_type_is_told_what_to_send() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");

    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    let gate = Gate::start(&config).await;
    for (path, body) in [("/cache/purge", r#"{"all": true}"#), ("/cache/refresh", r#"{"key": "track.mp3"}"#)] {
        let request = gate.admin().request(Method::POST, path).body(body);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 415, "{path}");
        let said = response.text().await.expect("a body");
        assert!(said.contains("Content-Type: application/json"), "{said}");
        let request = gate.admin().request(Method::POST, path).header("content-type", "application/json");
        let said = request.body("{\"al\": true}").send().await.expect("an answer").text().await.expect("a body");
        assert!(said.contains("unknown field `al`"), "{said}");
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_does_what_the_page_says() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let host = format!("Bearer {HOST}");
    let twice = async |method: Method, path: &str, who: &str, body: Value| {
        let mut replies = Vec::new();
        for _ in 0..2 {
            let request = gate.client().request(method.clone(), path).header("authorization", who);
            let response = request.header("idempotency-key", "one").json(&body).send().await.expect("an answer");
            let status = response.status().as_u16();
            let said: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or_default();
            replies.push((status, said));
        }
        let [first, second] = <[_; 2]>::try_from(replies).expect("two");
        (first, second)
    };
    let track = json!({ "id": "t", "store": "main", "bucket": "audio", "key": "t.mp3" });
    let grant = json!({ "userId": "alice", "trackId": "t" });
    // Those of which the second does no more.
    for (path, body) in [("/api/v1/admin/tracks", track), ("/api/v1/admin/grants", grant)] {
        let ((first, _), (second, _)) = twice(Method::POST, path, &admin(), body).await;
        assert_eq!((first, second), (201, 200), "{path}");
    }
    let alice = bearer("alice");
    let ((first, _), (second, _)) = twice(Method::POST, "/api/v1/logout", &alice, Value::Null).await;
    assert_eq!((first, second), (204, 204));
    let ((first, _), (second, _)) = twice(Method::DELETE, "/api/v1/tracks/t/position", &alice, Value::Null).await;
    assert_eq!((first, second), (204, 204));
    let mut event = json!({ "action": "Pause", "positionMs": 1 });
    let path = "/api/v1/tracks/t/events";
    let ((_, first), (_, second)) = twice(Method::POST, path, &alice, event.clone()).await;
    assert_eq!((&first["accepted"], &second["accepted"]), (&json!(1), &json!(1)), "no Idempotency-Key is read");
    event["eventId"] = json!("01997b6e-7c5e-7cc1-a1d5-3a2f4f6f0a11");
    let ((_, first), (_, second)) = twice(Method::POST, path, &alice, event).await;
    assert_eq!((&first["accepted"], &second["accepted"]), (&json!(1), &json!(0)));
    // Those that do something new each time.
    for (path, member, body) in [
        ("/api/v1/share/start", "sessionId", json!({})),
        ("/api/v1/share/123456/tickets", "ticket", json!({})),
        ("/api/v1/share/123456/chat", "id", json!({ "text": "hi" })),
    ] {
        if path.contains("123456") && !path.contains("chat") {
            let ((first, _), (second, _)) =
                twice(Method::POST, "/api/v1/share/start", &host, json!({ "sessionId": "123456" })).await;
            assert_eq!((first, second), (200, 409));
        }
        let ((_, first), (_, second)) = twice(Method::POST, path, &host, body).await;
        assert!(!first[member].is_null() && first[member] != second[member], "{path}: {first} {second}");
    }
}
