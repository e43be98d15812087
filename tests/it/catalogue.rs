//! The catalogue: where a track is, who may have it by grants and by a service, what operators change, and the import;
//! on SQLite and on PostgreSQL, with MinIO behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Minio, Postgres, ScriptedOrigin, config, eventually, gate, token};
use primitives::clock::monotonic_now;

/// `/api/v1/tracks/{id}/stream` by the catalogue in `database`.
pub fn tracks(endpoint: &str, database: &str) -> Value {
    let mut config = config::empty();
    config["ObjectStores"]["main"] = config::store(endpoint);
    config["Database"] = json!({ "Url": database });
    config["Auth"] = config::jwt();
    config["ReverseProxy"]["Routes"]["track"] = json!({
        "Match": { "Path": "/api/v1/tracks/{id}/stream" },
        "Transforms": [{ "PresignedUrl": { "Track": "{id}" } }],
    });
    config
}

/// The address of a fresh SQLite in `folder`.
pub fn sqlite(folder: &TempFolder) -> String {
    format!("sqlite://{}/tidegate.db", folder.path().display())
}

/// `Authorization` of an operator.
pub fn admin() -> String {
    let mut claims = token::claims("root");
    claims["role"] = json!("admin");
    format!("Bearer {}", token::with(&claims))
}

/// `Authorization` of a user.
pub fn bearer(user: &str) -> String {
    format!("Bearer {}", token::of(user))
}

/// A request with a JSON body, as `who`.
pub async fn send(gate: &Gate, method: Method, path: &str, who: &str, body: Option<Value>) -> Reply {
    let mut request = gate.client().request(method, path).header("authorization", who);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.expect("the gate answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

async fn add(gate: &Gate, track: Value) -> Reply {
    send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await
}

async fn stream(gate: &Gate, id: &str, user: &str) -> Reply {
    gate.client().get(&format!("/api/v1/tracks/{id}/stream"), &[("authorization", &bearer(user))]).await
}

async fn streams(gate: &Gate, id: &str, user: &str) -> u16 {
    stream(gate, id, user).await.status.as_u16()
}

#[tokio::test]
async fn the_catalogue_says_where_a_track_is_on_both_databases() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("catalogue");
    let Some(postgres) = Postgres::database().await else { return };
    minio.put("deep/one.bin", "music").await;
    for database in [sqlite(&folder), postgres] {
        let mut config = tracks(&minio.url(), &database);
        config["ReverseProxy"]["Routes"]["typed"] = json!({ "Match": { "Path": "/typed/{id}" },
            "Transforms": [{ "PresignedUrl": { "Track": "{id}", "ContentType": "audio/x-own" } }] });
        let gate = Gate::start(&config).await;
        assert_eq!(streams(&gate, "one", "alice").await, 404);
        let mut track = json!({ "id": "one", "store": "main", "bucket": minio.name(), "key": "deep/one.bin",
            "contentType": "audio/flac", "ownerId": "alice" });
        let added = add(&gate, track.clone()).await;
        let entry: Value = serde_json::from_slice(&added.is(201).body).expect("JSON");
        assert_eq!(
            (&entry["id"], &entry["contentType"], &entry["deletedAt"]),
            (&json!("one"), &json!("audio/flac"), &json!(null))
        );
        add(&gate, track.clone()).await.is(200);
        // What was 404 a moment ago is there at once.
        let reply = stream(&gate, "one", "bob").await;
        assert_eq!((reply.is(200).text().as_str(), reply.header("content-type")), ("music", "audio/flac"));
        let typed = gate.client().get("/typed/one", &[("authorization", &bearer("bob"))]).await;
        assert_eq!(typed.is(200).header("content-type"), "audio/x-own", "the route's goes before the catalogue's");
        let path = "/api/v1/tracks/one/stream";
        let part = gate.client().get(path, &[("authorization", &bearer("bob")), ("range", "bytes=1-2")]).await;
        assert_eq!(part.is(206).text(), "us");
        assert_eq!(gate.client().get(path, &[]).await.status, StatusCode::UNAUTHORIZED);
        send(&gate, Method::DELETE, "/api/v1/admin/tracks/one", &admin(), None).await.is(204);
        assert_eq!(stream(&gate, "one", "bob").await.problem(410)["code"], "gone");
        // Whoever adds it again has it again, as it is then.
        track["contentType"] = json!("audio/ogg");
        add(&gate, track).await.is(201);
        assert_eq!(stream(&gate, "one", "bob").await.is(200).header("content-type"), "audio/ogg");
    }
}

#[tokio::test]
async fn a_deleted_track_is_gone_from_the_cache_too() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("catalogue");
    let mut config = tracks(&origin.url(), &sqlite(&folder));
    config["ReverseProxy"]["Routes"]["track"]["OutputCachePolicy"] = json!("Default");
    config["ReverseProxy"]["Routes"]["direct"] = json!({ "Match": { "Path": "/direct/{**key}" }, "OutputCachePolicy": "Default",
            "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "{key}" } }] });
    let gate = Gate::start(&config).await;
    add(&gate, json!({ "id": "one", "store": "main", "bucket": "audio", "key": "track.mp3" })).await.is(201);
    stream(&gate, "one", "bob").await.is(200);
    origin.take_seen();
    stream(&gate, "one", "bob").await.is(200);
    assert!(origin.take_seen().is_empty(), "the second was a hit");
    send(&gate, Method::DELETE, "/api/v1/admin/tracks/one", &admin(), None).await.is(204);
    assert_eq!(streams(&gate, "one", "bob").await, 410);
    let said = async |path: &str| -> Value {
        let reply = send(&gate, Method::GET, path, &admin(), None).await;
        serde_json::from_slice(&reply.is(200).body).expect("JSON")
    };
    let (list, one) = (said("/api/v1/admin/tracks").await, said("/api/v1/admin/tracks/one").await);
    assert_eq!((&list["items"][0], &one["id"]), (&one, &json!("one")), "operators see deleted ones");
    assert!(one["deletedAt"].is_string(), "{one}");
    gate.client().get("/direct/track.mp3", &[("authorization", &bearer("bob"))]).await.is(200);
    assert!(!origin.take_seen().is_empty(), "nothing of it was left in the cache");
}

#[tokio::test]
async fn a_database_that_is_away_ends_no_known_track() {
    let origin = ScriptedOrigin::with_track("music").await;
    let Some(mut postgres) = Postgres::start() else { return };
    let gate = Gate::start(&tracks(&origin.url(), &postgres.url())).await;
    add(&gate, json!({ "id": "one", "store": "main", "bucket": "audio", "key": "track.mp3" })).await.is(201);
    stream(&gate, "one", "bob").await.is(200);
    postgres.kill();
    let began = monotonic_now();
    while began.elapsed() < Duration::from_secs(3) {
        stream(&gate, "one", "bob").await.is(200);
    }
    let unknown = stream(&gate, "two", "bob").await;
    assert_eq!(unknown.problem(503)["code"], "catalog_unavailable");
    assert_eq!(unknown.header("retry-after"), "1");
    for outcome in ["answered", "failed"] {
        let labels = format!("of=\"track\",outcome=\"{outcome}\"");
        assert!(gate.metric("tidegate_catalog_questions_total", &labels).await >= 1.0, "{outcome}");
    }
    send(&gate, Method::GET, "/api/v1/admin/tracks", &admin(), None).await.problem(503);
    postgres.restart();
    let back = async || (streams(&gate, "two", "bob").await == 404).then_some(());
    eventually("the database is asked again", back).await;
}

#[tokio::test]
async fn only_operators_change_the_catalogue_and_only_to_what_makes_sense() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("catalogue");
    let gate = Gate::start(&tracks(&origin.url(), &sqlite(&folder))).await;
    let track = json!({ "id": "one", "store": "main", "bucket": "audio", "key": "track.mp3" });
    let path = "/api/v1/admin/tracks";
    send(&gate, Method::POST, path, &bearer("alice"), Some(track.clone())).await.problem(403);
    gate.client().get(path, &[]).await.problem(401);
    let with = |name: &str, value: Value| {
        let mut track = track.clone();
        track[name] = value;
        track
    };
    let table = [
        (with("store", json!("other")), 422),
        (with("bucket", json!("A")), 422),
        (with("key", json!("a/../b")), 422),
        (with("key", json!("")), 422),
        (with("id", json!("")), 400),
        (with("id", json!("x".repeat(257))), 400),
        (with("contentType", json!("music")), 422),
        (with("sizeBytes", json!(u64::MAX)), 422),
        (with("sizeBytes", json!(-1)), 400),
        (with("colour", json!("red")), 400),
    ];
    for (body, status) in table {
        assert_eq!((add(&gate, body.clone()).await.status.as_u16(), &body), (status, &body));
    }
    add(&gate, track.clone()).await.is(201);
    add(&gate, with("key", json!("other.mp3"))).await.problem(409);
    for number in 0..25 {
        add(&gate, with("id", json!(format!("t{number:02}")))).await.is(201);
    }
    let (mut cursor, mut ids) = (String::new(), Vec::new());
    loop {
        let page = send(&gate, Method::GET, &format!("{path}?limit=10{cursor}"), &admin(), None).await;
        let page: Value = serde_json::from_slice(&page.is(200).body).expect("JSON");
        ids.extend(page["items"].as_array().expect("items").iter().map(|item| item["id"].to_string()));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ids.len(), 26);
    assert!(ids.is_sorted() && ids[0] == "\"one\"");
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?cursor=%25", "?colour=red"] {
        let status = send(&gate, Method::GET, &format!("{path}{query}"), &admin(), None).await.status;
        assert!(status.is_client_error(), "{query}: {status}");
    }
    send(&gate, Method::GET, &format!("{path}/one"), &admin(), None).await.is(200);
    send(&gate, Method::GET, &format!("{path}/none"), &admin(), None).await.problem(404);
    send(&gate, Method::DELETE, &format!("{path}/none"), &admin(), None).await.problem(404);
}

#[tokio::test]
async fn grants_open_a_track_at_once_and_close_it_at_once() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("catalogue");
    let Some(postgres) = Postgres::database().await else { return };
    for database in [sqlite(&folder), postgres] {
        let mut config = tracks(&origin.url(), &database);
        config["Policies"]["Authorization"]["granted"] = json!({ "Grants": true });
        config["ReverseProxy"]["Routes"]["track"]["AuthorizationPolicy"] = json!("granted");
        let gate = Gate::start(&config).await;
        let track = json!({ "id": "one", "store": "main", "bucket": "audio", "key": "track.mp3", "ownerId": "alice" });
        add(&gate, track).await.is(201);
        assert_eq!(streams(&gate, "one", "alice").await, 200);
        assert_eq!(stream(&gate, "one", "bob").await.problem(403)["code"], "forbidden");
        let path = "/api/v1/admin/grants";
        for (body, query) in [
            (json!({ "userId": "bob", "trackId": "one" }), "?user_id=bob&track_id=one"),
            (json!({ "userId": "bob", "trackPrefix": "o" }), "?user_id=bob&track_prefix=o"),
            (json!({ "userId": "*", "trackId": "one" }), "?user_id=*&track_id=one"),
        ] {
            send(&gate, Method::POST, path, &admin(), Some(body.clone())).await.is(201);
            send(&gate, Method::POST, path, &admin(), Some(body)).await.is(200);
            assert_eq!(streams(&gate, "one", "bob").await, 200, "{query}");
            send(&gate, Method::DELETE, &format!("{path}{query}"), &admin(), None).await.is(204);
            assert_eq!(streams(&gate, "one", "bob").await, 403, "{query}");
            send(&gate, Method::DELETE, &format!("{path}{query}"), &admin(), None).await.problem(404);
        }
        for id in ["one", "two"] {
            let body = json!({ "userId": "bob", "trackId": id });
            send(&gate, Method::POST, path, &admin(), Some(body)).await.is(201);
        }
        let page = send(&gate, Method::GET, &format!("{path}?user_id=bob&limit=1"), &admin(), None).await;
        let page: Value = serde_json::from_slice(&page.is(200).body).expect("JSON");
        assert_eq!(page["items"][0]["trackId"], "one");
        let next = page["nextCursor"].as_str().expect("there is another page");
        let page = send(&gate, Method::GET, &format!("{path}?user_id=bob&cursor={next}"), &admin(), None).await;
        assert_eq!(serde_json::from_slice::<Value>(&page.body).expect("JSON")["items"][0]["trackId"], "two");
        for body in [json!({ "userId": "bob" }), json!({ "userId": "b", "trackId": "a", "trackPrefix": "a" })] {
            send(&gate, Method::POST, path, &admin(), Some(body)).await.problem(400);
        }
        send(&gate, Method::GET, &format!("{path}?user_id=bob"), &bearer("bob"), None).await.problem(403);
    }
}

/// An authorisation service that answers with `status`, and counts.
struct Users {
    url: String,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
    tokens: Arc<AtomicUsize>,
}

impl Users {
    async fn start() -> Self {
        let (status, asked, tokens) = (Arc::new(AtomicU16::new(200)), Arc::default(), Arc::default());
        let (answer, count, seen) = (Arc::clone(&status), Arc::clone(&asked), Arc::<AtomicUsize>::clone(&tokens));
        let count: Arc<AtomicUsize> = count;
        let service = axum::Router::new().fallback(move |request: axum::extract::Request| {
            count.fetch_add(1, Ordering::Relaxed);
            seen.fetch_add(usize::from(request.headers().contains_key("authorization")), Ordering::Relaxed);
            let status = answer.load(Ordering::Relaxed);
            let known = request.uri().path() == "/access/bob/one";
            async move {
                if status == 0 {
                    std::future::pending::<()>().await;
                }
                StatusCode::from_u16(if known { status } else { 403 }).expect("a status")
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { url, status, asked, tokens }
    }

    async fn gate(&self, origin: &ScriptedOrigin, more: Value) -> Gate {
        let mut config = config::private_objects(&origin.url(), "audio");
        let mut service = json!({ "Url": format!("{}/access/{{userId}}/{{trackId}}", self.url), "Timeout": "200ms", "CacheFor": "0s" });
        for (name, value) in more.as_object().expect("a map") {
            service[name] = value.clone();
        }
        config["Policies"]["Authorization"]["asked"] = json!({ "Http": service });
        config["ReverseProxy"]["Routes"]["stream"] = json!({
            "Match": { "Path": "/stream/{id}" }, "AuthorizationPolicy": "asked",
            "Transforms": [{ "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "track.mp3" } }],
        });
        Gate::start(&config).await
    }
}

async fn asks(gate: &Gate, id: &str) -> Reply {
    gate.client().get(&format!("/stream/{id}"), &[("authorization", &bearer("bob"))]).await
}

#[tokio::test]
async fn a_service_allows_denies_or_is_away() {
    let (origin, users) = (ScriptedOrigin::with_track("music").await, Users::start().await);
    let gate = users.gate(&origin, json!({})).await;
    let lenient = users.gate(&origin, json!({ "OnFailure": "Allow" })).await;
    for (status, expected, leniently) in [
        (200, 200, 200),
        (204, 200, 200),
        (403, 403, 403),
        (404, 403, 403),
        (500, 503, 200),
        (302, 503, 200),
        (0, 503, 200),
    ] {
        users.status.store(status, Ordering::Relaxed);
        assert_eq!(asks(&gate, "one").await.status.as_u16(), expected, "{status}");
        assert_eq!(asks(&lenient, "one").await.status.as_u16(), leniently, "{status}");
    }
    assert_eq!(asks(&gate, "one").await.problem(503)["code"], "access_unavailable");
    users.status.store(200, Ordering::Relaxed);
    // An id is one segment of the address, whatever it holds.
    assert_eq!(asks(&gate, "one%2Fx").await.status.as_u16(), 403);
    assert_eq!(users.tokens.load(Ordering::Relaxed), 0, "the token is the player's own");
    assert!(!gate.log().contains(&users.url), "the service's address is in the log");
}

#[tokio::test]
async fn a_service_is_asked_once_and_sees_the_token_only_where_it_may() {
    let (origin, users) = (ScriptedOrigin::with_track("music").await, Users::start().await);
    let gate = users.gate(&origin, json!({ "CacheFor": "1m", "ForwardToken": true })).await;
    let replies = futures::future::join_all((0..20).map(|_| asks(&gate, "one"))).await;
    assert!(replies.iter().all(|reply| reply.status == StatusCode::OK));
    assert_eq!(users.asked.load(Ordering::Relaxed), 1);
    assert_eq!(users.tokens.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_bucket_is_imported_and_imported_again() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("import");
    for number in 0..30 {
        minio.put(&format!("tracks/t {number:02}.mp3"), "x".repeat(number + 1)).await;
    }
    minio.put("tracks/cover.jpg", "not music").await;
    let config = tracks(&minio.url(), &sqlite(&folder));
    let file = folder.path().join("import.yaml");
    std::fs::write(&file, config.to_string()).expect("a file");
    let file = file.display().to_string();
    let import = async |owner: &str| {
        let arguments = [
            "import",
            "-c",
            &file,
            "--store",
            "main",
            "--bucket",
            minio.name(),
            "--prefix",
            "tracks/",
            "--id-pattern",
            "tracks/{id}.mp3",
            "--owner",
            owner,
        ];
        let ended = gate::run(&arguments, &folder).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout.trim().to_owned()
    };
    assert_eq!(import("bob").await, "31 objects: 30 tracks added, 0 changed, 0 unchanged; 1 keys passed over");
    minio.put("tracks/t 03.mp3", "longer than before").await;
    assert_eq!(import("bob").await, "31 objects: 0 tracks added, 1 changed, 29 unchanged; 1 keys passed over");
    let gate = Gate::start(&config).await;
    let reply = stream(&gate, "t%2003", "bob").await;
    assert_eq!((reply.is(200).text().as_str(), reply.header("content-type")), ("longer than before", "audio/mpeg"));
    for (arguments, code) in [
        (["import", "-c", &file, "--store", "other", "--bucket", "abc"], 64),
        (["import", "-c", &file, "--store", "main", "--bucket", "no-such-bucket"], 1),
    ] {
        let ended = gate::run(&arguments, &folder).await;
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(!ended.stderr.contains("X-Amz") && !ended.stderr.contains(&minio.url()), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn an_embedded_store_is_imported_too() {
    let folder = TempFolder::new("import");
    let bucket = folder.path().join("objects/music/a");
    std::fs::create_dir_all(&bucket).expect("a folder");
    for number in 0..1500 {
        std::fs::write(bucket.join(format!("{number}.ogg")), "x").expect("a file");
    }
    let mut config = tracks("http://127.0.0.1:9", &sqlite(&folder));
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    let file = folder.path().join("import.yaml");
    std::fs::write(&file, config.to_string()).expect("a file");
    let ended =
        gate::run(&["import", "-c", &file.display().to_string(), "--store", "main", "--bucket", "music"], &folder)
            .await;
    assert_eq!(
        ended.stdout.trim(),
        "1500 objects: 1500 tracks added, 0 changed, 0 unchanged; 0 keys passed over",
        "{}",
        ended.stderr
    );
    let gate = Gate::start(&config).await;
    assert_eq!(stream(&gate, "77", "bob").await.is(200).text(), "x");
}
