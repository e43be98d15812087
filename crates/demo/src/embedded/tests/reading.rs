//! Whole objects, ranges and conditions; a file that changes under its readers.

use reqwest::StatusCode;

use super::{Running, code, header};

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
