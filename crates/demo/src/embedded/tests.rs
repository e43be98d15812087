//! The store as a client sees it: through a socket, with requests that another project's signer made.

use std::future::pending;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use reqwest::{Client, Response, StatusCode, Url};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::EmbeddedStore;
use super::folder::{file_path, segment};
use primitives::clock::Clock;
use primitives::secret::Secret;

const MINUTE: Duration = Duration::from_secs(60);

/// A store on a folder and a port of its own.
struct Running {
    folder: TempDir,
    endpoint: Url,
    bucket: Bucket,
    keys: Credentials,
    client: Client,
    _serving: JoinSet<()>,
}

impl Running {
    async fn start() -> Self {
        // Another test may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("audio")).unwrap();
        let store = EmbeddedStore::open(folder.path(), "key-id", &Secret::new("secret"), Clock::system()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let bucket = Bucket::new(endpoint.clone(), UrlStyle::Path, "audio", "us-east-1").unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(store.serve(listener, pending()));
        let client = Client::builder().no_proxy().timeout(MINUTE).build().unwrap();
        Self { folder, endpoint, bucket, keys: Credentials::new("key-id", "secret"), client, _serving: serving }
    }

    fn get_url(&self, key: &str) -> Url {
        self.bucket.get_object(Some(&self.keys), key).sign(MINUTE)
    }

    async fn get(&self, key: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.client.get(self.get_url(key));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    }

    async fn head(&self, key: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.client.head(self.bucket.head_object(Some(&self.keys), key).sign(MINUTE));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    }

    async fn put(&self, key: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = self.bucket.put_object(Some(&self.keys), key).sign(MINUTE);
        self.client.put(url).body(body).send().await.unwrap()
    }

    async fn delete(&self, key: &str) -> Response {
        let url = self.bucket.delete_object(Some(&self.keys), key).sign(MINUTE);
        self.client.delete(url).send().await.unwrap()
    }

    /// The keys, the prefixes rolled up, and the token of the next page.
    async fn list(&self, query: &[(&'static str, &str)]) -> (Vec<String>, Vec<String>, Option<String>) {
        let mut action = self.bucket.get_object(Some(&self.keys), "");
        for (name, value) in query.iter().chain(&[("list-type", "2"), ("encoding-type", "url")]) {
            action.query_mut().insert(*name, (*value).to_owned());
        }
        let answer = self.client.get(action.sign(MINUTE)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let page = answer.text().await.unwrap();
        let rolled: String = elements(&page, "CommonPrefixes").concat();
        let decoded = |text: &String| percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let keys = elements(&page, "Key").iter().map(decoded).collect();
        let prefixes = elements(&rolled, "Prefix").iter().map(decoded).collect();
        (keys, prefixes, elements(&page, "NextContinuationToken").pop())
    }

    /// Drops a file in, as a user would.
    fn drop_in(&self, path: &str, content: &[u8]) {
        let file = self.folder.path().join("audio").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// Texts of all elements `name` of an XML text.
fn elements(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
}

/// The code in an error's XML.
async fn code(answer: Response) -> String {
    let text = answer.text().await.unwrap();
    elements(&text, "Code").pop().unwrap_or_else(|| panic!("no code in {text:?}"))
}

#[tokio::test]
async fn a_file_dropped_into_the_folder_is_an_object_at_once() {
    let store = Running::start().await;
    store.drop_in("album/song.flac", b"0123456789");
    let answer = store.get("album/song.flac", &[]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "content-type"), "audio/flac");
    assert_eq!(header(&answer, "content-length"), "10");
    assert_eq!(header(&answer, "accept-ranges"), "bytes");
    let tag = header(&answer, "etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "{tag}");
    assert_eq!(answer.bytes().await.unwrap(), "0123456789");

    let head = store.head("album/song.flac", &[("range", "bytes=0-1")]).await;
    assert_eq!(head.status(), StatusCode::OK, "ranges are for GET");
    assert_eq!((header(&head, "content-length"), header(&head, "etag")), ("10", tag.as_str()));

    store.drop_in("album/song.flac", b"abcdefghij");
    assert_ne!(header(&store.head("album/song.flac", &[]).await, "etag"), tag);
}

#[tokio::test]
async fn ranges_are_those_of_rfc_9110() {
    let store = Running::start().await;
    let content: Vec<u8> = (0..=255).cycle().take(600_000).collect();
    store.drop_in("o", &content);
    let table: [(&str, u16, &str); 16] = [
        ("bytes=0-0", 206, "bytes 0-0/600000"),
        ("bytes=0-599999", 206, "bytes 0-599999/600000"),
        ("bytes=100-", 206, "bytes 100-599999/600000"),
        ("bytes=262143-262144", 206, "bytes 262143-262144/600000"),
        ("bytes=300000-9999999", 206, "bytes 300000-599999/600000"),
        ("bytes=-1", 206, "bytes 599999-599999/600000"),
        ("bytes=-500", 206, "bytes 599500-599999/600000"),
        ("bytes=-9999999", 206, "bytes 0-599999/600000"),
        ("bytes=-0", 416, "bytes */600000"),
        ("bytes=600000-", 416, "bytes */600000"),
        ("bytes=600000-700000", 416, "bytes */600000"),
        ("bytes=9-0", 200, ""),
        ("bytes=abc", 200, ""),
        ("items=0-1", 200, ""),
        ("bytes=0-1,4-5", 200, ""),
        ("bytes=99999999999999999999-", 200, ""),
    ];
    for (range, status, content_range) in table {
        let answer = store.get("o", &[("range", range)]).await;
        assert_eq!(answer.status().as_u16(), status, "{range}");
        assert_eq!(header(&answer, "content-range"), content_range, "{range}");
        if status == 416 {
            assert_eq!(code(answer).await, "InvalidRange", "{range}");
            continue;
        }
        let expected = match content_range.strip_prefix("bytes ").and_then(|text| text.split_once('/')) {
            Some((span, _)) => {
                let (first, last) = span.split_once('-').unwrap();
                &content[first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap()]
            }
            None => &content[..],
        };
        assert_eq!(header(&answer, "content-length"), expected.len().to_string(), "{range}");
        assert!(answer.bytes().await.unwrap() == expected, "{range}: other bytes");
    }
}

#[tokio::test]
async fn an_empty_object_has_no_range() {
    let store = Running::start().await;
    store.drop_in("empty", b"");
    let whole = store.get("empty", &[]).await;
    assert_eq!((whole.status(), header(&whole, "content-length")), (StatusCode::OK, "0"));
    for range in ["bytes=0-0", "bytes=0-", "bytes=-5"] {
        let answer = store.get("empty", &[("range", range)]).await;
        assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(header(&answer, "content-range"), "bytes */0", "{range}");
    }
    assert_eq!(header(&store.head("empty", &[]).await, "content-length"), "0");
}

#[tokio::test]
async fn conditions_are_those_of_rfc_9110() {
    let store = Running::start().await;
    store.drop_in("o", b"0123456789");
    let file = std::fs::File::options().write(true).open(store.folder.path().join("audio/o")).unwrap();
    file.set_modified(httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap()).unwrap();
    let tag = header(&store.head("o", &[]).await, "etag").to_owned();
    let (weak, list) = (format!("W/{tag}"), format!("\"x\", {tag}"));
    let (same, earlier, later) =
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
    let part = ("range", "bytes=2-3");
    let table: [(&[(&str, &str)], u16); 21] = [
        (&[("if-match", &tag)], 200),
        (&[("if-match", &list)], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", &weak)], 412),
        (&[("if-match", "\"x\"")], 412),
        (&[("if-unmodified-since", same)], 200),
        (&[("if-unmodified-since", earlier)], 412),
        (&[("if-none-match", &tag)], 304),
        (&[("if-none-match", &weak)], 304),
        (&[("if-none-match", &list)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"x\"")], 200),
        (&[("if-modified-since", same)], 304),
        (&[("if-modified-since", later)], 304),
        (&[("if-modified-since", earlier)], 200),
        (&[("if-none-match", "\"x\""), ("if-modified-since", same)], 200),
        (&[("if-match", "\"x\""), ("range", "bytes=50-")], 412),
        (&[("if-range", &tag), part], 206),
        (&[("if-range", "\"x\""), part], 200),
        (&[("if-range", same), part], 206),
        (&[("if-range", earlier), part], 200),
    ];
    for (headers, status) in table {
        let answer = store.get("o", headers).await;
        assert_eq!(answer.status().as_u16(), status, "{headers:?}");
        assert_eq!(header(&answer, "etag"), tag, "{headers:?}");
        assert_eq!(header(&answer, "last-modified"), same, "{headers:?}");
        let body = match status {
            200 => "0123456789",
            206 => "23",
            304 => "",
            _ => {
                assert_eq!(code(answer).await, "PreconditionFailed", "{headers:?}");
                continue;
            }
        };
        assert_eq!(answer.text().await.unwrap(), body, "{headers:?}");
    }
}

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
async fn readers_see_one_whole_version_while_others_write() {
    let store = Running::start().await;
    const SIZE: usize = 700_000;
    store.put("o", vec![b'0'; SIZE]).await;
    let writing = async {
        for version in b'1'..=b'9' {
            assert_eq!(store.put("o", vec![version; SIZE]).await.status(), StatusCode::OK);
        }
    };
    let reading = async {
        for _ in 0..20 {
            let body = store.get("o", &[]).await.bytes().await.unwrap();
            assert_eq!(body.len(), SIZE);
            assert!(body.iter().all(|byte| *byte == body[0]), "two versions in one body");
        }
    };
    tokio::join!(writing, reading);
    assert_eq!(std::fs::read_dir(store.folder.path().join(".uploads")).unwrap().count(), 0, "no upload is left over");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_breaks_the_body_off() {
    let store = Running::start().await;
    store.drop_in("o", &vec![b'a'; 24 << 20]);
    let mut answer = store.get("o", &[]).await;
    assert!(answer.chunk().await.unwrap().is_some());
    std::fs::File::options().write(true).open(store.folder.path().join("audio/o")).unwrap().set_len(100).unwrap();
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "the body ended as if it were whole");
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

#[tokio::test]
async fn after_the_signal_the_store_ends_when_its_exchanges_have() {
    let folder = TempDir::new().unwrap();
    let store = EmbeddedStore::open(folder.path(), "key-id", &Secret::new("secret"), Clock::system()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let idle = async {
        let connection = tokio::net::TcpStream::connect(address).await.unwrap();
        stop.send(()).unwrap();
        connection
    };
    let serving = store.serve(listener, async { stopped.await.unwrap() });
    tokio::time::timeout(MINUTE, async { tokio::join!(serving, idle) }).await.expect("an idle connection holds it up");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let error = EmbeddedStore::open(&file, "k", &Secret::new("s"), Clock::system()).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()) && error.contains("embedded object store"), "{error}");
}
