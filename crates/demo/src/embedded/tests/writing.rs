//! Objects put, listed and deleted.

use reqwest::StatusCode;
use rusty_s3::{Bucket, S3Action, UrlStyle};

use super::{MINUTE, Running, header};

#[tokio::test]
async fn what_was_put_is_read_listed_and_deleted() {
    let store = Running::start().await;
    let keys =
        ["a b+c.mp3", "käse/日本語.ogg", "x//y", "z/", "100%25.wav", "it's (1)'~*!.mp3", "q?a=b&c#d.wav", "@:$,;="];
    for key in keys {
        let body = format!("content of {key}");
        let answer = store.put(key, body.clone()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{key}");
        let tag = header(&answer, "etag").to_owned();
        let read = store.get(key, &[("if-match", &tag)]).await;
        assert_eq!(read.status(), StatusCode::OK, "{key}");
        assert_eq!(read.text().await.unwrap(), body, "{key}");
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(store.list(&[]).await.0, sorted);
    for key in keys {
        assert_eq!(store.delete(key).await.status(), StatusCode::NO_CONTENT, "{key}");
        assert_eq!(store.get(key, &[]).await.status(), StatusCode::NOT_FOUND, "{key}");
        assert_eq!(store.delete(key).await.status(), StatusCode::NO_CONTENT, "{key}: deleted twice");
    }
    assert!(store.list(&[]).await.0.is_empty());
    let left = std::fs::read_dir(store.folder.path().join("audio")).unwrap().count();
    assert_eq!(left, 0, "empty folders are removed with what was in them");
}

#[tokio::test]
async fn listings_come_in_pages_and_roll_up() {
    let store = Running::start().await;
    for key in ["a.mp3", "a/1", "a/2", "a/deep/3", "b", "b-side", "c/4"] {
        store.drop_in(key, b"x");
    }
    let all = store.list(&[]).await.0;
    assert_eq!(all, ["a.mp3", "a/1", "a/2", "a/deep/3", "b", "b-side", "c/4"]);
    assert_eq!(store.list(&[("prefix", "a/")]).await.0, ["a/1", "a/2", "a/deep/3"]);
    assert_eq!(store.list(&[("prefix", "b")]).await.0, ["b", "b-side"]);
    assert_eq!(store.list(&[("start-after", "a/deep/3")]).await.0, ["b", "b-side", "c/4"]);
    let (keys, prefixes, _) = store.list(&[("delimiter", "/")]).await;
    assert_eq!((keys, prefixes), (vec!["a.mp3".into(), "b".into(), "b-side".into()], vec!["a/".into(), "c/".into()]));
    let (keys, prefixes, _) = store.list(&[("delimiter", "/"), ("prefix", "a/")]).await;
    assert_eq!((keys, prefixes), (vec!["a/1".into(), "a/2".into()], vec!["a/deep/".to_owned()]));

    let (mut seen, mut token) = (Vec::new(), None::<String>);
    for _ in 0..5 {
        let mut query = vec![("delimiter", "/"), ("max-keys", "2")];
        if let Some(token) = &token {
            query.push(("continuation-token", token));
        }
        let (keys, prefixes, next) = store.list(&query).await;
        assert!(keys.len() + prefixes.len() <= 2);
        seen.extend(keys.into_iter().chain(prefixes));
        token = next;
        if token.is_none() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, ["a.mp3", "a/", "b", "b-side", "c/"]);
    assert_eq!(token, None);
}

#[tokio::test]
async fn buckets_are_folders() {
    let store = Running::start().await;
    let other = Bucket::new(store.endpoint.clone(), UrlStyle::Path, "video", "us-east-1").unwrap();
    let head = || store.client.head(other.head_bucket(Some(&store.keys)).sign(MINUTE)).send();
    assert_eq!(head().await.unwrap().status(), StatusCode::NOT_FOUND);
    let create = || store.client.put(other.create_bucket(&store.keys).sign(MINUTE)).send();
    assert_eq!(create().await.unwrap().status(), StatusCode::OK);
    assert_eq!(create().await.unwrap().status(), StatusCode::CONFLICT);
    assert_eq!(head().await.unwrap().status(), StatusCode::OK);
    assert!(store.folder.path().join("video").is_dir());
}
