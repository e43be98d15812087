//! Events as they come in, from players and from streams.

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{PATH, id, lines, post, to_file, to_kafka, with_events};
use crate::support::kafka;
use crate::support::origin::pattern;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually, token};

#[tokio::test]
async fn the_body_is_the_documents_and_the_rest_is_in_headers() {
    let Some(topic) = kafka::topic().await else { return };
    let folder = TempFolder::new("events");
    let gate = Gate::start(&with_events(to_kafka(&topic), &folder)).await;
    let given = json!({ "action": "Pause", "positionMs": 42_000, "timestamp": "2026-01-02T04:05:06.789+01:00" });
    let reply = post(&gate.client(), "alice", &given).await;
    assert_eq!(reply.is(202).text(), r#"{"accepted":1,"duplicates":0}"#);
    let received = eventually("it arrives", async || topic.read().await.into_iter().next()).await;
    assert_eq!(
        received.body,
        r#"{"trackId":"song","userId":"alice","action":"Pause","positionMs":42000,"timestamp":"2026-01-02T03:05:06.789+00:00"}"#
    );
    assert_eq!(received.key, "alice");
    let id = Uuid::parse_str(received.header("event-id")).expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!((received.header("schema-version"), received.header("time-zone")), ("1", "UTC"));
    eventually("Kafka is seen", async || {
        let health: Value = serde_json::from_slice(&gate.client().get("/health", &[]).await.body).expect("JSON");
        (health["kafka"] == "enabled").then_some(())
    })
    .await;
    eventually("nothing waits any more", async || {
        let waiting = gate.metric("tidegate_events_backlog_events", "").await;
        (waiting == 0.0 && gate.metric("tidegate_events_backlog_bytes", "").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(gate.metric("tidegate_events_published_total", "sink=\"kafka\"").await, 1.0);
}

#[tokio::test]
async fn an_event_with_an_id_counts_once_and_a_list_is_taken_whole() {
    let folder = TempFolder::new("events");
    let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    let event = |number: u64| json!({ "action": "Seek", "positionMs": number, "eventId": id(number).to_string() });
    let client = gate.client();
    let reply = post(&client, "alice", &json!([event(1), event(2), event(1)])).await;
    assert_eq!(reply.is(202).text(), r#"{"accepted":2,"duplicates":1}"#);
    assert_eq!(post(&client, "alice", &event(2)).await.is(202).text(), r#"{"accepted":0,"duplicates":1}"#);
    assert_eq!(post(&client, "bob", &event(2)).await.is(202).text(), r#"{"accepted":1,"duplicates":0}"#);
    post(&client, "alice", &json!([event(3), { "action": "Seek", "positionMs": -1 }])).await.problem(422);
    let path = folder.path().join("events.jsonl");
    let arrived = eventually("they arrive", async || Some(lines(&path)).filter(|lines| lines.len() == 3)).await;
    let ids: Vec<String> = arrived.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, [1, 2, 2].map(|number| id(number).to_string()));
}

#[tokio::test]
async fn an_event_that_comes_many_times_at_once_counts_once() {
    let folder = TempFolder::new("events");
    let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    // One event in all of them, and lists that share it in another order: nobody waits for the other for ever.
    let shared = |number: u64| json!({ "action": "Seek", "positionMs": number, "eventId": id(number).to_string() });
    let client = gate.client();
    for round in (0..400).step_by(2) {
        let lists = [json!([shared(round), shared(round + 1)]), json!([shared(round + 1), shared(round)])];
        let posts = (0..8).map(|number| {
            let (client, list) = (client.clone(), lists[number % 2].clone());
            tokio::spawn(async move { post(&client, "alice", &list).await })
        });
        let mut accepted = 0;
        for reply in futures::future::join_all(posts).await {
            let answer: Value = serde_json::from_slice(&reply.expect("it is answered").is(202).body).expect("JSON");
            accepted += answer["accepted"].as_u64().expect("a number");
        }
        assert_eq!(accepted, 2, "round {round}");
    }
    let path = folder.path().join("events.jsonl");
    eventually("they arrive", async || (lines(&path).len() >= 400).then_some(())).await;
    assert_eq!(lines(&path).len(), 400);
}

#[tokio::test]
async fn what_is_no_event_or_nobodys_is_refused() {
    let folder = TempFolder::new("events");
    let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    let client = gate.client();
    let good = json!({ "action": "Start", "positionMs": 0 });
    client.send(Method::POST, PATH, &[("content-type", "application/json")]).await.problem(401);
    for (body, status) in [
        (json!({ "action": "Dance", "positionMs": 0 }), 400),
        (json!({ "action": "Start" }), 400),
        (json!({ "action": "Start", "positionMs": -1 }), 422),
        (json!({ "action": "Start", "positionMs": 0, "timestamp": "2999-01-01T00:00:00Z" }), 422),
        (json!(vec![good.clone(); 101]), 413),
        (json!({ "action": "Start", "positionMs": 0, "more": "x".repeat(70_000) }), 413),
    ] {
        post(&client, "alice", &body).await.problem(status);
    }
    let long = format!("/api/v1/tracks/{}/events", "x".repeat(257));
    let request = client.request(Method::POST, &long).bearer_auth(token::of("alice")).json(&good);
    assert_eq!(request.send().await.expect("an answer").status(), 400);
    assert!(lines(&folder.path().join("events.jsonl")).is_empty());
}

#[tokio::test]
async fn without_events_no_path_takes_them() {
    let gate = Gate::start(&config::private_objects("http://127.0.0.1:1", "audio")).await;
    post(&gate.client(), "alice", &json!({ "action": "Start", "positionMs": 0 })).await.problem(404);
}

#[tokio::test]
async fn streams_tell_of_start_and_complete_once() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/tracks/song.mp3", Object::new(pattern(100_000)));
    let folder = TempFolder::new("events");
    let mut config = with_events(to_file(&folder), &folder);
    config["ObjectStores"]["main"] = config::store(&origin.url());
    let mut route = config::object_route("/tracks/{id}", "main", "audio", "tracks/{id}.mp3");
    route["AuthorizationPolicy"] = json!("Default");
    config["ReverseProxy"]["Routes"]["tracks"] = route;
    config["Events"]["FromStreams"] = json!(true);
    let gate = Gate::start(&config).await;
    let bearer = |user: &str| format!("Bearer {}", token::of(user));
    let get = async |user: &str, range: &str| {
        let headers = [("authorization", bearer(user)), ("range", range.to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        gate.client().get("/tracks/song", &headers).await.is(206);
    };
    get("alice", "bytes=-100").await;
    get("alice", "bytes=0-49999").await;
    // A subject that cannot be an id is no user's.
    let nobody = bearer(&"u".repeat(300));
    gate.client().get("/tracks/song", &[("authorization", &nobody), ("range", "bytes=0-99")]).await.problem(401);
    get("bob", "bytes=0-99").await;
    gate.client().head("/tracks/song", &[("authorization", &bearer("carol"))]).await.is(200);
    get("alice", "bytes=50000-").await;
    get("alice", "bytes=50000-").await;
    let path = folder.path().join("events.jsonl");
    let heard = || -> Vec<(String, String)> {
        let field = |body: &str| serde_json::from_str::<Value>(body).expect("JSON")["action"].to_string();
        lines(&path).into_iter().map(|(_, key, body)| (key, field(&body))).collect()
    };
    let told = |user: &str, action: &str| (user.to_owned(), format!("\"{action}\""));
    let heard = eventually("they arrive", async || Some(heard()).filter(|heard| heard.len() >= 3)).await;
    assert_eq!(heard, [told("alice", "Start"), told("bob", "Start"), told("alice", "Complete")]);
}

#[tokio::test]
async fn an_event_has_the_servers_time_unless_it_names_one_however_old() {
    let folder = TempFolder::new("events");
    let gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    let old = "1999-12-31T23:59:59.000+00:00";
    let event = json!({ "action": "Pause", "positionMs": 1 });
    let mut dated = event.clone();
    dated["timestamp"] = json!(old);
    post(&gate.client(), "alice", &json!([event, dated])).await.is(202);
    let path = folder.path().join("events.jsonl");
    let arrived = eventually("they arrive", async || Some(lines(&path)).filter(|lines| lines.len() == 2)).await;
    let time = |body: &str| serde_json::from_str::<Value>(body).expect("JSON")["timestamp"].as_str().map(str::to_owned);
    let given = time(&arrived[0].2).expect("a time").replace("+00:00", "Z");
    let given = humantime::parse_rfc3339(&given).expect("RFC 3339");
    let given = given.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(given.abs_diff(token::now().try_into().expect("after 1970")) < 60, "{given}");
    assert_eq!(time(&arrived[1].2).as_deref(), Some(old));
    // The outbox is one process's: nobody else opens its file.
    let outbox = format!("sqlite://{}", folder.path().join("outbox/outbox.db").display());
    let read = async {
        let pool = sqlx::SqlitePool::connect(&outbox).await?;
        sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(&pool).await
    };
    assert!(read.await.is_err(), "somebody else can read the outbox of a running process");
}

#[tokio::test]
async fn a_stream_names_the_track_by_its_id_or_its_key_and_counts_for_users_alone() {
    let origin = ScriptedOrigin::start().await;
    let long = "x".repeat(257);
    for key in ["tracks/song.mp3".to_owned(), long.clone()] {
        origin.put(&format!("/audio/{key}"), Object::new("music"));
    }
    let folder = TempFolder::new("events");
    let mut config = with_events(to_file(&folder), &folder);
    config["Events"]["FromStreams"] = json!(true);
    config["ObjectStores"]["main"] = config::store(&origin.url());
    for (name, path, key, policy) in [
        ("open", "/open/{**key}", "{**key}", "Anonymous"),
        ("keys", "/keys/{**key}", "{**key}", "Default"),
        ("ids", "/ids/{id}", "tracks/{id}.mp3", "Default"),
    ] {
        let mut route = config::object_route(path, "main", "audio", key);
        route["AuthorizationPolicy"] = json!(policy);
        config["ReverseProxy"]["Routes"][name] = route;
    }
    let gate = Gate::start(&config).await;
    let bearer = format!("Bearer {}", token::of("alice"));
    let by = [("authorization", bearer.as_str())];
    gate.client().get("/open/tracks/song.mp3", &by).await.is(200);
    gate.client().get(&format!("/keys/{long}"), &by).await.is(200);
    gate.client().get("/keys/tracks/song.mp3", &by).await.is(200);
    gate.client().get("/ids/song", &by).await.is(200);
    let path = folder.path().join("events.jsonl");
    let told = || -> Vec<(String, i64)> {
        let field = |body: &str| -> Value { serde_json::from_str(body).expect("JSON") };
        let told = lines(&path).into_iter().map(|(.., body)| field(&body));
        told.map(|body| {
            (body["trackId"].as_str().unwrap_or_default().to_owned(), body["positionMs"].as_i64().unwrap_or(-1))
        })
        .collect()
    };
    // Start and Complete of each.
    let told = eventually("they arrive", async || Some(told()).filter(|told| told.len() >= 4)).await;
    let expected = ["tracks/song.mp3", "tracks/song.mp3", "song", "song"].map(|track| (track.to_owned(), 0));
    assert_eq!(told, expected);
}
