//! Keys survive the way byte for byte, however the client spells them, and whatever they are made of.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::raw::RawResponse;
use crate::support::store::StoreBucket;
use crate::support::{Gate, LIMIT, Minio, Object, ScriptedOrigin, StoreKind, config};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Keys that some proxy somewhere has mangled.
const KEYS: [&str; 22] = [
    "plain.mp3",
    "Upper/Lower/MiXeD.mp3",
    "with space.mp3",
    "plus+plus.mp3",
    "per%cent.mp3",
    "an%2Fescaped%2Fslash.mp3",
    "twice%252Fescaped.mp3",
    "ünïcödé/日本語/🎵.mp3",
    "e\u{301}-combined-é.mp3",
    "quotes'and\"quotes.mp3",
    "(parentheses) [brackets] {braces}.mp3",
    "semi;colon,comma&ampersand=equals.mp3",
    "question?mark.mp3",
    "hash#sign.mp3",
    "dollar$star*bang!at@colon:.mp3",
    "tilde~dash-under_dot.mp3",
    "less<than>more|pipe^caret`tick.mp3",
    "trailing.dots...mp3",
    "..dotted/a..b/...mp3",
    "no-ending",
    "key=value&X-Amz-Signature=abc.mp3",
    "deep/er/and/deep/er/still.mp3",
];

async fn get(gate: &Gate, path: &str) -> RawResponse {
    ask(gate, "GET", path, "").await
}

async fn ask(gate: &Gate, method: &str, path: &str, header: &str) -> RawResponse {
    let mut raw = gate.raw().await;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gate\r\n{header}Connection: close\r\n\r\n");
    raw.send(head.as_bytes()).await;
    raw.response(method, LIMIT).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

async fn every_key_comes_back(kind: StoreKind) {
    let Some(store) = kind.bucket().await else { return };
    let gate = Gate::start(&config::objects(&store.url(), store.name())).await;
    for key in KEYS {
        store.put(key, key.to_owned()).await;
        let path = format!("/stream/{}", utf8_percent_encode(key, UNRESERVED));
        let reply = get(&gate, &path).await;
        assert_eq!((key, reply.status, String::from_utf8_lossy(&reply.body).as_ref()), (key, 200, key), "{path}");
    }
    every_legal_spelling_is_the_same_key(&gate, &store).await;
    a_key_that_no_object_has_is_404(kind, &store).await;
}

#[tokio::test]
async fn every_key_comes_back_from_minio() {
    every_key_comes_back(StoreKind::Minio).await;
}

#[tokio::test]
async fn every_key_comes_back_from_versitygw() {
    every_key_comes_back(StoreKind::Versitygw).await;
}

#[tokio::test]
async fn every_key_comes_back_from_rclone() {
    every_key_comes_back(StoreKind::Rclone).await;
}

/// Keys that are legal, and that not every store can have; nor does any of them have one here.
async fn a_key_that_no_object_has_is_404(kind: StoreKind, store: &StoreBucket) {
    let gate = Gate::start(&config::objects_both_ways(&store.url(), store.name())).await;
    store.put("folder/inside.mp3", "x").await;
    let long = "x".repeat(300);
    // `folder/` is an object of no bytes to rclone, as it is in the consoles of others.
    let keys = [
        "none.mp3",
        "/",
        "//",
        "%2F",
        "%2f%2F",
        "/none.mp3",
        "%2Fnone.mp3",
        "none//",
        "none//none.mp3",
        "none/",
        "folder",
        "folder//",
        "folder/inside.mp3/",
        "folder/inside.mp3/none",
        &long,
        "a%5Cb",
        "a%01b",
        "%7F",
        "%EF%BF%BF",
        "%2E%2E%2E",
        "a%252F",
        "%25",
    ];
    let asked = [
        ("GET", ""),
        ("HEAD", ""),
        ("GET", "Range: bytes=0-9\r\n"),
        ("GET", "Range: bytes=-9\r\n"),
        ("GET", "If-None-Match: \"x\"\r\n"),
    ];
    let mut wrong = Vec::new();
    for key in keys {
        for (prefix, (method, header)) in
            ["/stream/", "/cached/"].into_iter().flat_map(|prefix| asked.map(|asked| (prefix, asked)))
        {
            let path = format!("{prefix}{key}");
            let status = ask(&gate, method, &path, header).await.status;
            if status != 404 {
                wrong.push(format!("{method} {path} {header:?}: {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{kind:?}: {wrong:#?}");
}

async fn every_legal_spelling_is_the_same_key(gate: &Gate, store: &StoreBucket) {
    let table = [
        ("a+b@c:d'e*f$g,h;i&j=k!l(m).mp3", "a+b@c:d'e*f$g,h;i&j=k!l(m).mp3"),
        ("tilde~.mp3", "tilde%7E.mp3"),
        ("tilde~.mp3", "tilde%7e.mp3"),
        ("ü.mp3", "%c3%bc.mp3"),
        ("ü.mp3", "%C3%BC.mp3"),
        ("plain.mp3", "%70lain%2Emp3"),
        ("a/b.mp3", "a%2Fb.mp3"),
        ("a/b.mp3", "a%2fb.mp3"),
        ("a%2Fb.mp3", "a%252Fb.mp3"),
        ("a b.mp3", "a%20b.mp3"),
        ("a+b.mp3", "a+b.mp3"),
        ("a+b.mp3", "a%2Bb.mp3"),
    ];
    for (key, spelling) in table {
        store.put(key, key.to_owned()).await;
        let reply = get(gate, &format!("/stream/{spelling}")).await;
        assert_eq!((spelling, reply.status), (spelling, 200));
        assert_eq!(String::from_utf8_lossy(&reply.body), key, "{spelling}");
    }
}

#[tokio::test]
async fn the_store_sees_the_key_and_nothing_else() {
    let origin = ScriptedOrigin::start().await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let table = [
        ("/stream/a//b.mp3", "/audio/a//b.mp3"),
        ("/stream//a.mp3", "/audio//a.mp3"),
        ("/stream/folder/", "/audio/folder/"),
        ("/stream/a%2F%2Fb.mp3", "/audio/a//b.mp3"),
        ("/STREAM/Case.MP3", "/audio/Case.MP3"),
        ("/stream/a.mp3?versionId=1#x", "/audio/a.mp3"),
        ("/stream/a%252fb", "/audio/a%252fb"),
        ("/stream/a'b(c)*!.mp3", "/audio/a%27b%28c%29%2A%21.mp3"),
    ];
    for (path, target) in table {
        origin.reset();
        let decoded = percent_encoding::percent_decode_str(target).decode_utf8_lossy().into_owned();
        origin.put(&decoded, Object::new(decoded.clone()));
        let reply = get(&gate, path).await;
        assert_eq!((path, reply.status), (path, 200), "{:?}", origin.seen());
        assert_eq!(origin.seen()[0].path(), target, "{path}");
    }
}

#[tokio::test]
async fn a_key_template_gives_the_prefix_and_the_ending() {
    let origin = ScriptedOrigin::start().await;
    let mut config = config::objects(&origin.url(), "audio");
    let route = config::object_route("/api/v1/tracks/{id}/stream", "main", "audio", "tracks/{id}.mp3");
    config["ReverseProxy"]["Routes"]["track"] = route;
    let gate = Gate::start(&config).await;
    origin.put("/audio/tracks/A 1.mp3", Object::new("one"));
    assert_eq!(get(&gate, "/api/v1/tracks/A%201/stream").await.body, b"one");
    // A value that would be two segments is one key all the same.
    origin.put("/audio/tracks/a/b.mp3", Object::new("two"));
    assert_eq!(get(&gate, "/api/v1/tracks/a%2Fb/stream").await.body, b"two");
    assert_eq!(get(&gate, "/api/v1/tracks/a/b/stream").await.status, 404);
}

#[tokio::test]
async fn an_empty_key_never_lists_a_bucket() {
    let origin = ScriptedOrigin::start().await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    for path in ["/stream/", "/stream", "/stream?list-type=2"] {
        let status = get(&gate, path).await.status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn the_content_type_is_the_routes_then_the_stores_then_the_endings() {
    let Some(minio) = Minio::bucket().await else { return };
    let mut config = config::objects(&minio.url(), minio.name());
    let mut route = config::object_route("/forced/{**key}", "main", minio.name(), "{**key}");
    route["Transforms"][0]["PresignedUrl"]["ContentType"] = "audio/x-forced".into();
    config["ReverseProxy"]["Routes"]["forced"] = route;
    let gate = Gate::start(&config).await;
    minio.put_as("told.flac", "x", &[("Content-Type", "audio/x-told")]).await;
    minio.put_as("untold.flac", "x", &[("Content-Type", "application/octet-stream")]).await;
    minio.put_as("untold.mp3", "x", &[]).await;
    let client = gate.client();
    for (path, content_type) in [
        ("/forced/told.flac", "audio/x-forced"),
        ("/stream/told.flac", "audio/x-told"),
        ("/stream/untold.flac", "audio/flac"),
        ("/stream/untold.mp3", "audio/mpeg"),
    ] {
        assert_eq!(client.get(path, &[]).await.is(200).header("content-type"), content_type, "{path}");
    }
}

#[tokio::test]
async fn a_key_longer_than_any_object_has_is_404_without_a_question_to_the_store() {
    let origin = ScriptedOrigin::start().await;
    let longest = "x".repeat(1024);
    origin.put(&format!("/audio/{longest}"), Object::new(b"there".to_vec()));
    for policy in [None, Some("Default")] {
        let mut config = config::objects(&origin.url(), "audio");
        if let Some(policy) = policy {
            config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = policy.into();
        }
        let gate = Gate::start(&config).await;
        for key in ["x".repeat(1025), "%C3%BC".repeat(513), "x".repeat(8000)] {
            for _ in 0..2 {
                gate.client().get(&format!("/stream/{key}"), &[]).await.problem(404);
                gate.client().head(&format!("/stream/{key}"), &[]).await.is(404);
            }
        }
        assert!(origin.take_seen().is_empty());
        assert_eq!(&gate.client().get(&format!("/stream/{longest}"), &[]).await.is(200).body[..], b"there");
        origin.take_seen();
    }
}
