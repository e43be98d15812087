//! What owners and admins set.

use super::*;
use crate::support::described::Described;
use crate::support::tools::json_lines;

async fn put(gate: &Gate, id: &str, who: &str, body: Value) -> Reply {
    send(gate, Method::PUT, &format!("/api/v1/lyrics/{id}"), who, Some(body)).await
}

#[tokio::test]
async fn the_owner_and_an_admin_set_lyrics_and_nobody_else_does() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("lyrics"));
    origin.put("/audio/track.lrc", crate::support::Object::new("[00:01.00]File"));
    let config = lyrics(&origin.url(), &sqlite(&folder));
    let gate = Gate::start(&config).await;
    let described = Described::by(&gate.client()).await;
    add(&gate, "track", "audio", "track.mp3").await;
    let body = json!({ "artist": "Ada", "texts": [
        { "lang": "ru", "kind": "translation", "text": "[00:01.00]Раз\n[00:02.00]Два" },
        { "lang": "en", "text": "[ti:Prelude]\n[00:02.00]<00:02.00>I <00:02.50><3 you\n[00:01.00]One" } ] });
    for (who, status) in [(bearer("bob"), 403), (String::new(), 401), (bearer("alice"), 200), (admin(), 200)] {
        let reply = put(&gate, "track", &who, body.clone()).await;
        assert_eq!(reply.status, status, "{who}");
        described.checks("PUT", "/api/v1/lyrics/track", &reply);
    }
    let found = get(&gate, "track", "bob").await;
    assert_eq!(lines(&found["synced"]), ["1000 One", "2000 I <3 you"]);
    assert_eq!(
        (&found["source"], &found["expires_at"], &found["may_edit"]),
        (&json!("edited"), &json!(null), &json!(false))
    );
    assert_eq!((&found["artist"], &found["title"], &found["lang"]), (&json!("Ada"), &json!("Prelude"), &json!("en")));
    assert_eq!((&found["texts"][1]["kind"], &found["texts"][1]["lang"]), (&json!("translation"), &json!("ru")));
    assert_eq!(get(&gate, "track", "alice").await["may_edit"], true);
    assert_eq!(gate.metric("tidegate_lyrics_edits_total", "").await, 2.0);
    drop(gate);
    let gate = Gate::start(&config).await;
    assert_eq!(get(&gate, "track", "bob").await["source"], "edited", "it outlives the process");
    put(&gate, "track", &bearer("alice"), json!({ "instrumental": true })).await.is(200);
    assert_eq!(get(&gate, "track", "bob").await["instrumental"], true);
    let path = "/api/v1/lyrics/track";
    send(&gate, Method::DELETE, path, &bearer("bob"), None).await.problem(403);
    let deleted = send(&gate, Method::DELETE, path, &bearer("alice"), None).await;
    described.checks("DELETE", path, deleted.is(204));
    assert_eq!(get(&gate, "track", "bob").await["plain"], "File", "the sources count again");
}

#[tokio::test]
async fn edits_are_published_as_events_without_their_texts() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("lyrics"));
    let mut config = lyrics(&origin.url(), &sqlite(&folder));
    let file = folder.path().join("events.jsonl");
    config["Events"] = json!({ "File": file, "Outbox": { "Path": folder.path().join("outbox") } });
    config["Lyrics"]["PublishEvents"] = json!(true);
    let gate = Gate::start(&config).await;
    add(&gate, "track", "audio", "track.mp3").await;
    put(&gate, "track", &bearer("bob"), json!({ "texts": [{ "text": "Bob's" }] })).await.problem(403);
    let texts =
        json!([{ "lang": "en", "text": "[00:01.00]Secret" }, { "lang": "ru", "kind": "translation", "text": "Тайна" }]);
    put(&gate, "track", &bearer("alice"), json!({ "texts": texts })).await.is(200);
    for _ in 0..2 {
        // The second one removes nothing.
        send(&gate, Method::DELETE, "/api/v1/lyrics/track", &bearer("alice"), None).await.is(204);
    }
    put(&gate, "track", &admin(), json!({ "instrumental": true })).await.is(200);
    let published = async || Some(json_lines::<Value>(&file)).filter(|lines| lines.len() >= 3);
    let lines = eventually("the events are published", published).await;
    let told = |line: &Value| {
        assert_eq!((&line["topic"], &line["key"]), (&json!("lyrics.events"), &line["body"]["trackId"]));
        let mut body = line["body"].clone();
        let timestamp = body["timestamp"].take();
        assert!(timestamp.as_str().is_some_and(|text| text.ends_with("+00:00")), "{line}");
        body
    };
    let told: Vec<Value> = lines.iter().map(told).collect();
    let of =
        |user: &str, action: &str| json!({ "trackId": "track", "userId": user, "action": action, "timestamp": null });
    let (mut set, mut silent) = (of("alice", "Set"), of("root", "Set"));
    for (body, what) in [(&mut set, (json!(["en", "ru"]), true, false)), (&mut silent, (json!([]), false, true))] {
        (body["languages"], body["isSynced"], body["instrumental"]) = (what.0, json!(what.1), json!(what.2));
    }
    assert_eq!(told, [set, of("alice", "Remove"), silent]);
}

#[tokio::test]
async fn what_was_set_ends_with_its_track() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("lyrics"));
    let gate = Gate::start(&lyrics(&origin.url(), &sqlite(&folder))).await;
    add(&gate, "track", "audio", "track.mp3").await;
    put(&gate, "track", &bearer("alice"), json!({ "texts": [{ "text": "Alice's" }] })).await.is(200);
    send(&gate, Method::DELETE, "/api/v1/admin/tracks/track", &admin(), None).await.is(204);
    ask(&gate, "track", "bob").await.problem(410);
    put(&gate, "track", &bearer("alice"), json!({ "texts": [{ "text": "x" }] })).await.problem(410);
    let track = json!({ "id": "track", "store": "main", "bucket": "audio", "key": "track.mp3", "ownerId": "carol" });
    send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    ask(&gate, "track", "bob").await.problem(404);
    put(&gate, "track", &bearer("alice"), json!({ "texts": [{ "text": "x" }] })).await.problem(403);
    put(&gate, "track", &bearer("carol"), json!({ "texts": [{ "text": "x" }] })).await.is(200);
}
