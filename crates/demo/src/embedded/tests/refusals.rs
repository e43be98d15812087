//! Signatures, keys and names that are refused.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::super::folder::{file_path, segment};
use super::{MINUTE, Running, code};

#[tokio::test]
async fn only_requests_signed_in_time_with_the_right_key_are_answered() {
    let store = Running::start().await;
    store.drop_in("o", b"content");
    let other_secret = Credentials::new("key-id", "another");
    let other_key = Credentials::new("other-id", "secret");
    let ago = Timestamp::now() - Duration::from_secs(61);
    let ahead = Timestamp::now() + Duration::from_secs(20 * 60);
    let sign =
        |keys: Option<&Credentials>, at: Timestamp| store.bucket.get_object(keys, "o").sign_with_time(MINUTE, &at);
    let mut other_path = store.get_url("o");
    other_path.set_path("/audio/p");
    let mut more = store.get_url("o");
    more.query_pairs_mut().append_pair("x-id", "GetObject");
    let table = [
        ("expired", sign(Some(&store.keys), ago), "AccessDenied"),
        ("not yet valid", sign(Some(&store.keys), ahead), "RequestTimeTooSkewed"),
        ("wrong secret", sign(Some(&other_secret), Timestamp::now()), "SignatureDoesNotMatch"),
        ("unknown key", sign(Some(&other_key), Timestamp::now()), "InvalidAccessKeyId"),
        ("another object", other_path, "SignatureDoesNotMatch"),
        ("a parameter more", more, "SignatureDoesNotMatch"),
        ("not signed", sign(None, Timestamp::now()), "AccessDenied"),
    ];
    for (what, url, expected) in table {
        let answer = store.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{what}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(&format!("<Code>{expected}</Code>")), "{what}: {text}");
        assert_eq!(what == "expired", text.contains("Request has expired"), "{what}: {text}");
    }
    let head_url = store.bucket.get_object(Some(&store.keys), "o").sign(MINUTE);
    let answer = store.client.head(head_url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "a signature is for one method");
}

#[tokio::test]
async fn what_is_not_there_is_said_by_its_code() {
    let store = Running::start().await;
    store.drop_in("folder/o", b"content");
    for key in ["missing", "folder", "folder/missing", "folder/o/below", &"n".repeat(300)] {
        let answer = store.get(key, &[]).await;
        let status = answer.status().as_u16();
        let code = code(answer).await;
        let expected = if key.len() > 255 { (400, "KeyTooLongError") } else { (404, "NoSuchKey") };
        assert_eq!((status, code.as_str()), expected, "{key}");
        assert_eq!(store.head(key, &[]).await.status().as_u16(), status, "{key}");
    }
    let other = Bucket::new(store.endpoint.clone(), UrlStyle::Path, "video", "us-east-1").unwrap();
    let answer = store.client.get(other.get_object(Some(&store.keys), "o").sign(MINUTE)).send().await.unwrap();
    assert_eq!((answer.status(), code(answer).await.as_str()), (StatusCode::NOT_FOUND, "NoSuchBucket"));
    let mut versions = store.bucket.get_object(Some(&store.keys), "folder/o");
    versions.query_mut().insert("versionId", "1");
    let answer = store.client.get(versions.sign(MINUTE)).send().await.unwrap();
    assert_eq!((answer.status(), code(answer).await.as_str()), (StatusCode::NOT_IMPLEMENTED, "NotImplemented"));
}

#[tokio::test]
async fn no_key_leaves_the_bucket() {
    let store = Running::start().await;
    std::fs::write(store.folder.path().join("outside"), b"private").unwrap();
    let bucket = store.folder.path().join("audio");
    store.drop_in("inside", b"public");
    symlink("../outside", bucket.join("link")).unwrap();
    symlink(store.folder.path(), bucket.join("above")).unwrap();
    symlink("inside", bucket.join("alias")).unwrap();
    let raw = |path: &str| {
        let mut url = store.endpoint.clone();
        url.set_path(path);
        url
    };
    // The signer will not write these, and the client's URL type resolves dots: so they are sent encoded, and the
    // refusal of the key, not that of the signature, is looked for in the folder's own table below.
    for path in ["/audio/%2e%2e/outside", "/audio/..%2foutside", "/audio/a%2f..%2f..%2foutside"] {
        let answer = store.client.get(raw(path)).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{path}");
        assert!(!answer.text().await.unwrap().contains("private"), "{path}");
    }
    for key in ["link", "above/outside"] {
        let answer = store.get(key, &[]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{key}");
        assert_eq!(code(answer).await, "AccessDenied", "{key}");
    }
    for key in ["above/written", "link/written"] {
        assert!(store.put(key, "x").await.status().is_client_error(), "{key}");
    }
    assert!(!store.folder.path().join("written").exists());
    assert_eq!(store.get("alias", &[]).await.text().await.unwrap(), "public");
    assert_eq!(store.list(&[]).await.0, ["alias", "inside"]);
}

#[test]
fn every_key_has_a_file_of_its_own_or_is_refused() {
    for key in ["a", "a/b", "a//b", "a/", "//", "/a", "%", "%%/%", "100%", "%41", "ü ö/+&", "a\\b", ".hidden", "..."]
    {
        let path = file_path(key).unwrap_or_else(|fault| panic!("{key}: {fault}"));
        assert!(path.is_relative(), "{key}");
        let names = path.iter().map(|name| segment(name.to_str().unwrap()).to_owned());
        assert_eq!(names.collect::<Vec<_>>().join("/"), key);
    }
    for key in ["..", ".", "../a", "a/../b", "a/./b", "a/..", "a\0b", &"n".repeat(256)] {
        assert!(file_path(key).is_err(), "{key:?}");
    }
    assert_eq!(file_path("100%.mp3").unwrap(), Path::new("100%.mp3"));
}

#[tokio::test]
async fn a_key_through_another_object_is_refused() {
    let store = Running::start().await;
    store.put("a/b", "x").await;
    for key in ["a", "a/b/c"] {
        let answer = store.put(key, "y").await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{key}");
        assert_eq!(code(answer).await, "InvalidArgument", "{key}");
    }
    assert_eq!(store.get("a/b", &[]).await.text().await.unwrap(), "x");
}
