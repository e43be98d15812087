//! Headers that the configuration writes on responses of object routes, as curl sees them from a real MinIO: over HTTP/1.1,
//! HTTP/2 and TLS, on whole objects, parts, 304 and HEAD, and on errors.

use serde_json::{Value, json};

use crate::support::curl::{self, Head, Version};
use crate::support::{Gate, Minio, config};
use crate::tls::Certificates;

/// Key that needs both forms of a file name.
const KEY: &str = "albums/Déjà vu.mp3";
const PATH: &str = "albums/D%C3%A9j%C3%A0%20vu.mp3";
const FILE_NAME: &str = "filename=\"D_j_ vu.mp3\"; filename*=UTF-8''D%C3%A9j%C3%A0%20vu.mp3";
const POLICY: &str = "default-src 'none'; sandbox";

/// `/pages/…` with headers of each kind, `/downloads/…` to be stored, `/private/…` for users; through the cache and past it.
fn configuration(bucket: &Minio, listeners: Value) -> Value {
    let mut config = config::private_objects(&bucket.url(), bucket.name());
    config["Server"]["Listeners"] = listeners;
    for (id, cache) in [("pages", "Disable"), ("cached", "Default")] {
        let mut route = config::object_route(&format!("/{id}/{{**key}}"), "main", bucket.name(), "{**key}");
        route["OutputCachePolicy"] = json!(cache);
        let transforms = route["Transforms"].as_array_mut().expect("a list");
        transforms.extend([
            json!({ "ResponseHeader": "Cache-Control", "Set": "public, max-age=31536000, immutable" }),
            json!({ "ResponseHeader": "Content-Disposition", "Set": "inline; {filename}" }),
            json!({ "ResponseHeader": "Content-Security-Policy", "Set": POLICY, "When": "Always" }),
            json!({ "ResponseHeader": "Strict-Transport-Security", "Set": "max-age=31536000", "When": "Always" }),
            json!({ "ResponseHeader": "X-Failed", "Set": "{filename}", "When": "Failure" }),
            json!({ "ResponseHeaderRemove": "Content-Language" }),
        ]);
        config["ReverseProxy"]["Routes"][id] = route;
    }
    let mut downloads = config::object_route("/downloads/{**key}", "main", bucket.name(), "{**key}");
    downloads["Transforms"][0]["PresignedUrl"]["Download"] = json!(true);
    config["ReverseProxy"]["Routes"]["downloads"] = downloads;
    let own = &mut config["ReverseProxy"]["Routes"]["stream"];
    own["Transforms"]
        .as_array_mut()
        .expect("a list")
        .push(json!({ "ResponseHeader": "Cache-Control", "Set": "public, max-age=60" }));
    config
}

async fn ask(url: &str, version: Version, arguments: &[&str]) -> Head {
    let transfer = curl::get(url, version, arguments).await;
    assert_eq!(transfer.exit, 0, "{url} {arguments:?}: {transfer:?}");
    transfer.heads.last().expect("a head").clone()
}

/// Deviations of an answer of `/pages` or `/cached` from what every success carries.
fn check_success(head: &Head, status: u16) {
    let field = |name| head.field(name);
    assert_eq!(head.status, status, "{head:?}");
    assert_eq!(field("cache-control"), Some("public, max-age=31536000, immutable"), "{head:?}");
    assert_eq!(field("content-disposition"), Some(&*format!("inline; {FILE_NAME}")), "{head:?}");
    assert_eq!(field("content-security-policy"), Some(POLICY), "{head:?}");
    assert_eq!(field("strict-transport-security"), Some("max-age=31536000"), "{head:?}");
    assert_eq!((field("x-failed"), field("content-language")), (None, None), "{head:?}");
}

async fn every_answer_has_them(base: &str, version: Version) {
    for id in ["pages", "cached"] {
        let url = format!("{base}/{id}/{PATH}");
        let whole = ask(&url, version, &[]).await;
        check_success(&whole, 200);
        assert_eq!(whole.field("content-length"), Some("5"));
        let tag = format!("If-None-Match: {}", whole.field("etag").expect("an entity tag"));
        check_success(&ask(&url, version, &["-H", &tag]).await, 304);
        let head = ask(&url, version, &["-I"]).await;
        check_success(&head, 200);
        assert_eq!(head.field("content-length"), Some("5"));
        let part = ask(&url, version, &["-r", "1-2"]).await;
        check_success(&part, 206);
        assert_eq!((part.field("content-range"), part.field("content-length")), (Some("bytes 1-2/5"), Some("2")));
        let failed = ask(&format!("{base}/{id}/none.mp3"), version, &[]).await;
        let field = |name| failed.field(name);
        assert_eq!((failed.status, field("cache-control")), (404, Some("no-store")));
        assert_eq!((field("content-disposition"), field("x-failed")), (None, Some("{filename}")));
        assert_eq!(
            (field("content-security-policy"), field("content-type")),
            (Some(POLICY), Some("application/problem+json"))
        );
    }
    let stored = ask(&format!("{base}/downloads/{PATH}"), version, &[]).await;
    assert_eq!(stored.field("content-disposition"), Some(&*format!("attachment; {FILE_NAME}")));
    let refused = ask(&format!("{base}/stream/{PATH}"), version, &[]).await;
    assert_eq!((refused.status, refused.field("cache-control")), (401, Some("no-store")));
}

#[tokio::test]
async fn headers_of_the_configuration_are_on_every_answer_that_they_are_for() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    bucket.put_as(KEY, "music", &[("content-language", "fr"), ("content-disposition", "attachment")]).await;
    let certificates = Certificates::make();
    let listeners = json!([{ "Address": "127.0.0.1:0", "H2c": true }, certificates.listener()]);
    let gate = Gate::start(&configuration(&bucket, listeners)).await;
    let [clear, tls] = gate.listeners() else { panic!("two listeners") };
    for base in [format!("http://{clear}"), format!("https://{tls}")] {
        for version in [Version::Http1, Version::Http2] {
            every_answer_has_them(&base, version).await;
        }
    }
    let token = format!("Authorization: Bearer {}", crate::support::token::of("ann"));
    let own = ask(&format!("http://{clear}/stream/{PATH}"), Version::Http1, &["-H", &token]).await;
    assert_eq!((own.status, own.field("cache-control")), (200, Some("private, max-age=60")));
    assert_eq!(
        own.field("content-disposition"),
        Some("attachment"),
        "the object's own stays where no transform writes it"
    );
}

#[tokio::test]
async fn curl_stores_a_download_under_the_file_name_of_its_key() {
    let (Some(bucket), Some(program)) = (Minio::bucket().await, curl::find()) else { return };
    bucket.put("albums/one/first track.mp3", "music").await;
    let gate = Gate::start(&configuration(&bucket, json!([{ "Address": "127.0.0.1:0" }]))).await;
    let folder = crate::support::tools::TempFolder::new("download");
    let url = format!("{}/downloads/albums/one/first%20track.mp3", gate.url());
    let status = tokio::process::Command::new(program)
        .current_dir(folder.path())
        .args(["-sS", "--max-time", "20", "-O", "-J", &url])
        .status()
        .await
        .expect("curl starts");
    assert!(status.success());
    assert_eq!(std::fs::read(folder.path().join("first track.mp3")).expect("the file"), b"music");
}
