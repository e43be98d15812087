//! Objects in content codings, as curl decodes them: stored beside others in a real MinIO, and compressed for each request.

use serde_json::{Value, json};

use crate::support::curl::{self, Transfer, Version};
use crate::support::{Gate, Minio, config};

/// `/plain/…` compresses, `/ready/…` has stored ones; both are cached.
fn configuration(bucket: &Minio) -> Value {
    let mut config = config::objects(&bucket.url(), bucket.name());
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    for (id, key) in [("plain", "Compression"), ("ready", "Precompressed")] {
        let mut route = config::object_route(&format!("/{id}/{{**key}}"), "main", bucket.name(), "{**key}");
        route["Transforms"][0]["PresignedUrl"][key] = json!(["br", "zstd", "gzip"]);
        route["OutputCachePolicy"] = json!("Default");
        config["ReverseProxy"]["Routes"][id] = route;
    }
    config
}

fn told<'a, const N: usize>(transfer: &'a Transfer, names: [&str; N]) -> (u16, [&'a str; N]) {
    assert_eq!(transfer.exit, 0, "{transfer:?}");
    let head = transfer.heads.last().expect("a head");
    (head.status, names.map(|name| head.field(name).unwrap_or_default()))
}

fn text() -> String {
    "a line of a text that is repeated\n".repeat(500)
}

#[tokio::test]
async fn texts_are_compressed_and_media_and_parts_are_not() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    let text = text();
    bucket.put_as("a.txt", text.clone(), &[("content-type", "text/plain; charset=utf-8")]).await;
    bucket.put_as("a.mp3", text.clone(), &[("content-type", "audio/mpeg")]).await;
    bucket.put_as("tiny.txt", "tiny", &[("content-type", "text/plain")]).await;
    bucket.put_as("kept.txt", text.clone(), &[("content-type", "text/plain"), ("cache-control", "no-transform")]).await;
    let gate = Gate::start(&configuration(&bucket)).await;
    let url = |key: &str| format!("{}/plain/{key}", gate.url());
    let names = ["content-encoding", "vary"];
    for version in [Version::Http1, Version::Http2] {
        for coding in ["br", "zstd", "gzip"] {
            let accept = format!("Accept-Encoding: {coding}");
            let raw = curl::get(&url("a.txt"), version, &["-H", &accept]).await;
            assert_eq!(told(&raw, names), (200, [coding, "accept-encoding"]));
            let (_, [tag, length, ranges]) = told(&raw, ["etag", "content-length", "accept-ranges"]);
            assert!(tag.starts_with("W/\"") && raw.body.len() < 1000, "{tag}, {} bytes", raw.body.len());
            assert_eq!((length, ranges), (&*raw.body.len().to_string(), "none"));
            assert_eq!(told(&raw, ["last-modified"]), (200, [""]), "a download would be continued by it");
            // curl is the judge of those that it knows.
            let decoded = curl::get(&url("a.txt"), version, &["-H", &accept, "--compressed"]).await;
            assert!(coding == "zstd" && decoded.exit != 0 || decoded.body == text.as_bytes(), "{coding}: {decoded:?}");
            let same = format!("If-None-Match: {tag}");
            let unchanged = curl::get(&url("a.txt"), version, &["-H", &accept, "-H", &same]).await;
            assert_eq!(told(&unchanged, ["etag", "vary"]), (304, [tag, "accept-encoding"]));
            let head = curl::get(&url("a.txt"), version, &["-I", "-H", &accept]).await;
            assert_eq!(told(&head, ["content-encoding", "etag"]), (200, [coding, tag]));
            let part = curl::get(&url("a.txt"), version, &["-H", &accept, "-r", "2-5"]).await;
            assert_eq!((told(&part, names), &*part.body), ((206, ["", "accept-encoding"]), &b"line"[..]));
        }
        for key in ["a.mp3", "tiny.txt", "kept.txt"] {
            let plain = curl::get(&url(key), version, &["-H", "Accept-Encoding: gzip"]).await;
            assert_eq!(told(&plain, names), (200, ["", "accept-encoding"]), "{key}");
        }
        let plain = curl::get(&url("a.txt"), version, &[]).await;
        let (_, [tag, ranges]) = told(&plain, ["etag", "accept-ranges"]);
        assert_eq!((told(&plain, names), ranges), ((200, ["", "accept-encoding"]), "bytes"));
        assert!(tag.starts_with('"') && plain.body == text.as_bytes());
    }
}

#[tokio::test]
async fn what_is_stored_compressed_is_sent_to_who_takes_it() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    let gzip = |text: &str| {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).expect("memory");
        encoder.finish().expect("memory")
    };
    bucket.put_as("a.json", "as it is", &[("content-type", "application/json")]).await;
    bucket.put_as("a.json.gz", gzip("from gzip"), &[("content-type", "application/gzip")]).await;
    bucket.put("only.txt", "as it is").await;
    let gate = Gate::start(&configuration(&bucket)).await;
    let url = |key: &str| format!("{}/ready/{key}", gate.url());
    let names = ["content-encoding", "content-type", "vary"];
    for version in [Version::Http1, Version::Http2] {
        let accept = ["-H", "Accept-Encoding: br, gzip"];
        let decoded = curl::get(&url("a.json"), version, &[accept[0], accept[1], "--compressed"]).await;
        assert_eq!(told(&decoded, names), (200, ["gzip", "application/json", "accept-encoding"]));
        assert_eq!(decoded.body, b"from gzip");
        let (_, [tag, modified]) = told(&decoded, ["etag", "last-modified"]);
        assert_eq!(modified, "", "a download would be continued by it with bytes of the other form");
        let same = format!("If-None-Match: {tag}");
        assert_eq!(told(&curl::get(&url("a.json"), version, &[accept[0], accept[1], "-H", &same]).await, []).0, 304);
        let head = curl::get(&url("a.json"), version, &["-I", accept[0], accept[1]]).await;
        assert_eq!(told(&head, ["content-encoding", "etag"]), (200, ["gzip", tag]));
        // A resumed download of the other form is not mixed with it.
        let range = format!("If-Range: {tag}");
        let part = curl::get(&url("a.json"), version, &[accept[0], accept[1], "-r", "3-", "-H", &range]).await;
        assert_eq!((told(&part, ["content-encoding"]), &*part.body), ((200, [""]), &b"as it is"[..]));
        for (key, arguments) in [("only.txt", &accept[..]), ("a.json", &[]), ("a.json", &["-H", "Accept-Encoding: br"])]
        {
            let plain = curl::get(&url(key), version, arguments).await;
            let (status, [coding, vary]) = told(&plain, ["content-encoding", "vary"]);
            assert_eq!((status, coding, vary, &*plain.body), (200, "", "accept-encoding", &b"as it is"[..]), "{key}");
        }
        assert_eq!(told(&curl::get(&url("none.txt"), version, &accept).await, []).0, 404);
    }
}
