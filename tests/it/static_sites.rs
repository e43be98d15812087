//! Static sites: index documents, the slash of a folder, pages and cache times of errors, as curl sees them from a real MinIO.

use serde_json::{Value, json};

use crate::support::curl::{self, Transfer, Version};
use crate::support::fault;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Minio, Object, ScriptedOrigin, config, token};

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

/// `/site/…` and through the cache `/cached/…`, for everybody; `/own/…` for users. `File` is the page of refusals and of a store that
/// fails.
fn configuration(endpoint: &str, bucket: &str, file: &str) -> Value {
    let mut config = config::objects(endpoint, bucket);
    config["Auth"] = config::jwt();
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    for id in ["site", "cached", "own"] {
        let mut route = config::object_route(&format!("/{id}/{{**key}}"), "main", bucket, "pages/{**key}");
        let presigned = &mut route["Transforms"][0]["PresignedUrl"];
        presigned["IndexDocument"] = json!("index.html");
        presigned["Errors"] = json!({
            "404": { "Key": "pages/404.html", "CacheFor": "30s" },
            "403": { "CacheFor": "5s" },
            "401": { "File": file },
            "502": { "File": file },
            "503": { "File": file },
        });
        route["Transforms"].as_array_mut().expect("a list").extend([
            json!({ "ResponseHeader": "X-Frame-Options", "Set": "DENY", "When": "Always" }),
            json!({ "ResponseHeader": "Cache-Control", "Set": "max-age=3600" }),
        ]);
        if id == "cached" {
            route["OutputCachePolicy"] = json!("Default");
        }
        if id == "own" {
            route["AuthorizationPolicy"] = json!("Default");
        }
        config["ReverseProxy"]["Routes"][id] = route;
    }
    config
}

fn page_file(folder: &TempFolder) -> String {
    let file = folder.path().join("sorry.html");
    std::fs::write(&file, "<p>sorry</p>").expect("a file");
    file.display().to_string()
}

/// Status, and the values of these fields.
fn told<'a, const N: usize>(transfer: &'a Transfer, names: [&str; N]) -> (u16, [&'a str; N]) {
    assert_eq!(transfer.exit, 0, "{transfer:?}");
    let head = transfer.heads.last().expect("a head");
    (head.status, names.map(|name| head.field(name).unwrap_or_default()))
}

#[tokio::test]
async fn an_index_document_answers_for_a_folder_which_is_redirected_to_its_slash() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    for (key, text) in [("index.html", "root"), ("docs/index.html", "docs"), ("docs/a:b/index.html", "deep")] {
        bucket.put_as(&format!("pages/{key}"), text, &[HTML]).await;
    }
    bucket.put("pages/plain.txt", "plain").await;
    let folder = TempFolder::new("site");
    let gate = Gate::start(&configuration(&bucket.url(), bucket.name(), &page_file(&folder))).await;
    for (base, version) in ["site", "cached"].iter().flat_map(|it| [Version::Http1, Version::Http2].map(|v| (it, v))) {
        let url = |path: &str| format!("{}/{base}{path}", gate.url());
        for (path, text) in [("/", "root"), ("/docs/", "docs"), ("/docs%2F", "docs"), ("/plain.txt", "plain")] {
            let transfer = curl::get(&url(path), version, &[]).await;
            let (status, [frame, length]) = told(&transfer, ["x-frame-options", "content-length"]);
            assert_eq!((status, frame, length), (200, "DENY", &*text.len().to_string()), "{path}");
            assert_eq!(transfer.body, text.as_bytes(), "{path}");
        }
        for (path, location) in [("/docs", "./docs/"), ("", &*format!("./{base}/")), ("/docs/a:b?x=1", "./a:b/?x=1")] {
            for arguments in [&[][..], &["-I"]] {
                let transfer = curl::get(&url(path), version, arguments).await;
                let (status, [to, cached]) = told(&transfer, ["location", "cache-control"]);
                assert_eq!((status, to, cached), (302, location, "no-store"), "{path}");
            }
        }
        // Not over HTTP/2: this version of curl asks twice over one connection only where TLS has chosen the protocol.
        let followed = curl::get(&url("/docs/a:b"), Version::Http1, &["-L"]).await;
        assert_eq!((told(&followed, []).0, &*followed.body), (200, &b"deep"[..]));
        let part = curl::get(&url("/docs/"), version, &["-r", "1-2"]).await;
        assert_eq!((told(&part, ["content-range"]), &*part.body), ((206, ["bytes 1-2/4"]), &b"oc"[..]));
        for path in ["/none", "/none/", "/plain.txt/", "/docs//"] {
            assert_eq!(told(&curl::get(&url(path), version, &[]).await, []).0, 404, "{path}");
        }
    }
}

#[tokio::test]
async fn an_error_is_answered_with_the_page_of_its_status() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    let folder = TempFolder::new("site");
    let gate = Gate::start(&configuration(&bucket.url(), bucket.name(), &page_file(&folder))).await;
    let (site, own) = (format!("{}/site/none", gate.url()), format!("{}/own/none", gate.url()));
    let none = curl::get(&site, Version::Http1, &[]).await;
    let names = ["content-type", "cache-control"];
    assert_eq!(told(&none, names), (404, ["application/problem+json", "max-age=30"]), "there is no page yet");
    bucket.put_as("pages/404.html", "<p>nothing</p>", &[HTML]).await;
    for version in [Version::Http1, Version::Http2] {
        let none = curl::get(&site, version, &[]).await;
        assert_eq!(told(&none, names), (404, [HTML.1, "max-age=30"]));
        assert_eq!(none.body, b"<p>nothing</p>");
        let fields = ["content-length", "x-frame-options", "etag", "accept-ranges"];
        assert_eq!(told(&none, fields), (404, ["14", "DENY", "", ""]));
        let head = curl::get(&site, version, &["-I"]).await;
        assert_eq!(told(&head, ["content-length", "content-type"]), (404, ["14", HTML.1]));
        let refused = curl::get(&own, version, &[]).await;
        assert_eq!((told(&refused, names), &*refused.body), ((401, [HTML.1, "no-store"]), &b"<p>sorry</p>"[..]));
        assert!(!told(&refused, ["www-authenticate"]).1[0].is_empty());
        let own = curl::get(&own, version, &["-H", &format!("Authorization: Bearer {}", token::of("ann"))]).await;
        assert_eq!(told(&own, names), (404, [HTML.1, "private, max-age=30"]));
    }
    bucket.put_as("pages/404.html", vec![b'x'; (256 << 10) + 1], &[HTML]).await;
    let long = curl::get(&site, Version::Http1, &[]).await;
    assert_eq!(told(&long, names).1[0], "application/problem+json", "a page that is too long is none");
}

#[tokio::test]
async fn a_page_is_not_asked_of_a_store_that_fails() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/pages/404.html", Object::new("never"));
    origin.always(fault::INTERNAL_ERROR);
    let folder = TempFolder::new("site");
    let gate = Gate::start(&configuration(&origin.url(), "audio", &page_file(&folder))).await;
    origin.take_seen();
    let reply = gate.client().get("/site/a.txt", &[]).await;
    assert_eq!((reply.is(502).text().as_str(), reply.header("content-type")), ("<p>sorry</p>", HTML.1));
    let seen = origin.take_seen();
    assert!(seen.iter().all(|seen| !seen.target.contains("404.html")), "{seen:?}");
}

#[tokio::test]
async fn a_denial_is_kept_as_long_as_the_policy_says_and_no_longer() {
    let origin = ScriptedOrigin::start().await;
    let mut config = configuration(&origin.url(), "audio", "unused.txt");
    config["ReverseProxy"]["Routes"].as_object_mut().expect("routes").retain(|id, _| id == "cached");
    let route = &mut config["ReverseProxy"]["Routes"]["cached"];
    route["Transforms"] = json!([{ "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "{**key}" } }]);
    route["OutputCachePolicy"] = json!("denials");
    config["Policies"]["OutputCache"]["denials"] = json!({ "DeniedTtl": "1m" });
    let gate = Gate::start(&config).await;
    origin.always(fault::DENIED);
    gate.client().get("/cached/a.txt", &[]).await.problem(404);
    origin.take_seen();
    gate.client().get("/cached/a.txt", &[]).await.problem(404);
    assert!(origin.take_seen().is_empty(), "it is known");
}
