//! Listings of folders of a real MinIO, as curl sees them: pages, forms, names that are hostile, and who may see them.

use serde_json::{Value, json};

use crate::support::curl::{self, Transfer, Version};
use crate::support::{Gate, Minio, config, token};

const JSON: &[&str] = &["-H", "Accept: application/json"];

/// `/files/…` for everybody, `/site/…` with index documents too, `/users/{id}/…` for each user's own.
fn configuration(bucket: &Minio) -> Value {
    let mut config = config::objects(&bucket.url(), bucket.name());
    config["Auth"] = config::jwt();
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    config["Policies"]["Authorization"]["owner"] = json!({ "Require": [{ "Claim": "sub", "Equals": "{id}" }] });
    for (id, path, key) in [
        ("files", "/files/{**key}", "secret-prefix/{**key}"),
        ("site", "/site/{**key}", "secret-prefix/{**key}"),
        ("users", "/users/{id}/{**key}", "users/{id}/{**key}"),
    ] {
        let mut route = config::object_route(path, "main", bucket.name(), key);
        route["Transforms"][0]["PresignedUrl"]["DirectoryListing"] = json!(true);
        if id == "site" {
            route["Transforms"][0]["PresignedUrl"]["IndexDocument"] = json!("index.html");
        }
        if id == "users" {
            route["AuthorizationPolicy"] = json!("owner");
        }
        config["ReverseProxy"]["Routes"][id] = route;
    }
    config
}

fn status(transfer: &Transfer) -> u16 {
    assert_eq!(transfer.exit, 0, "{transfer:?}");
    transfer.heads.last().expect("a head").status
}

fn field<'a>(transfer: &'a Transfer, name: &str) -> &'a str {
    transfer.heads.last().expect("a head").field(name).unwrap_or_default()
}

/// The listing, and the names in it.
fn listing(transfer: &Transfer) -> (Value, Vec<String>) {
    assert_eq!((status(transfer), field(transfer, "content-type")), (200, "application/json"), "{transfer:?}");
    let said: Value = serde_json::from_slice(&transfer.body).expect("JSON");
    let entries = said["entries"].as_array().expect("entries").clone();
    (said, entries.iter().map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect())
}

#[tokio::test]
async fn a_folder_is_listed_in_pages_as_html_and_json() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    for key in ["a b.txt", "<b>&\".txt", "deep/er/x.txt", "deep/y.txt", "ü.txt"] {
        bucket.put(&format!("secret-prefix/{key}"), "12345").await;
    }
    for number in 0..501 {
        bucket.put(&format!("secret-prefix/many/{number:03}"), "x").await;
    }
    let gate = Gate::start(&configuration(&bucket)).await;
    let url = |path: &str| format!("{}{path}", gate.url());
    for version in [Version::Http1, Version::Http2] {
        let root = curl::get(&url("/files/"), version, JSON).await;
        let (said, names) = listing(&root);
        assert_eq!(names, ["deep", "many", "<b>&\".txt", "a b.txt", "ü.txt"]);
        assert_eq!((&said["entries"][0]["kind"], &said["entries"][2]["size"]), (&json!("folder"), &json!(5)));
        assert!(said["entries"][2]["modified"].as_str().is_some_and(|time| time.ends_with('Z')), "{said}");
        assert_eq!((field(&root, "cache-control"), field(&root, "vary")), ("no-store", "accept"));
        let html = curl::get(&url("/files/"), version, &["-H", "Accept: text/html,*/*"]).await;
        assert_eq!((status(&html), field(&html, "content-type")), (200, "text/html; charset=utf-8"));
        assert!(field(&html, "content-security-policy").starts_with("default-src 'none'"));
        let page = String::from_utf8(html.body.clone()).expect("text");
        assert!(page.contains("<a href=\"./%3Cb%3E%26%22.txt\">&lt;b&gt;&amp;&quot;.txt</a>"), "{page}");
        let head = curl::get(&url("/files/"), version, &["-I"]).await;
        assert_eq!((status(&head), field(&head, "content-length")), (200, &*page.len().to_string()));
        for body in [&page, &String::from_utf8(root.body.clone()).expect("text")] {
            assert!(!body.contains("secret-prefix") && !body.contains(bucket.name()), "{body}");
        }
        // Every link works as it stands.
        let linked = curl::get(&url("/files/%3Cb%3E%26%22.txt"), version, &[]).await;
        assert_eq!((status(&linked), &*linked.body), (200, &b"12345"[..]));
    }
    let (said, first) = listing(&curl::get(&url("/files/many/"), Version::Http1, JSON).await);
    let cursor = said["nextCursor"].as_str().expect("a next page");
    let (said, second) =
        listing(&curl::get(&url(&format!("/files/many/?cursor={cursor}")), Version::Http1, JSON).await);
    assert_eq!((first.len(), second.as_slice(), &said["nextCursor"]), (500, &["500".to_owned()][..], &Value::Null));
    for path in [format!("/files/deep/?cursor={cursor}"), "/files/many/?cursor=x".to_owned()] {
        assert_eq!(status(&curl::get(&url(&path), Version::Http1, JSON).await), 400, "{path}");
    }
    for (path, expected) in [("/files/none/", 404), ("/files/deep", 302), ("/files", 302), ("/files/none", 404)] {
        assert_eq!(status(&curl::get(&url(path), Version::Http1, JSON).await), expected, "{path}");
    }
}

#[tokio::test]
async fn an_index_document_comes_before_the_listing_of_its_folder() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    bucket.put("secret-prefix/with/index.html", "index").await;
    bucket.put("secret-prefix/without/x.txt", "x").await;
    let gate = Gate::start(&configuration(&bucket)).await;
    let url = |path: &str| format!("{}{path}", gate.url());
    assert_eq!(curl::get(&url("/site/with/"), Version::Http1, JSON).await.body, b"index");
    assert_eq!(listing(&curl::get(&url("/site/without/"), Version::Http1, JSON).await).1, ["x.txt"]);
    assert_eq!(listing(&curl::get(&url("/site/"), Version::Http1, JSON).await).1, ["with", "without"]);
    for path in ["/site/with", "/site/without"] {
        assert_eq!(status(&curl::get(&url(path), Version::Http1, &[]).await), 302, "{path}");
    }
}

#[tokio::test]
async fn a_listing_is_authorized_as_the_objects_are() {
    let (Some(bucket), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    bucket.put("users/ann/song.mp3", "x").await;
    bucket.put("users/bob/song.mp3", "x").await;
    let gate = Gate::start(&configuration(&bucket)).await;
    let bearer = |user| format!("Authorization: Bearer {}", token::of(user));
    let (ann, bob) = (bearer("ann"), bearer("bob"));
    let url = format!("{}/users/ann/", gate.url());
    for (arguments, expected) in [(vec![], 401), (vec!["-H", &*bob], 403), (vec!["-H", &*ann], 200)] {
        let arguments: Vec<&str> = arguments.into_iter().chain(JSON.iter().copied()).collect();
        let transfer = curl::get(&url, Version::Http1, &arguments).await;
        assert_eq!(status(&transfer), expected, "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&transfer.body).contains("song"), expected == 200, "{arguments:?}");
    }
    // A switch that is off: the folder is a key like others.
    assert_eq!(status(&curl::get(&format!("{}/stream/users/", gate.url()), Version::Http1, JSON).await), 404);
}
