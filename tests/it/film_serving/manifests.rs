//! Manifests: as they are, made relative, or refused.

use super::Cinema;
use crate::support::fault::Step;
use crate::support::{Object, ScriptedOrigin, eventually};

const PLAYLIST: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-1.ts\n#EXT-X-ENDLIST\n";

async fn with(objects: &[(&str, &str)]) -> (ScriptedOrigin, Cinema) {
    let origin = ScriptedOrigin::start().await;
    let cinema = Cinema::before(&origin).await;
    for (name, text) in objects {
        origin.put(&format!("/vod/movies/b1/{name}"), Object::new(text.replace("STORE", &origin.url())));
    }
    (origin, cinema)
}

#[tokio::test]
async fn a_manifest_whose_uris_stay_below_passes_byte_for_byte() {
    let dash = "<?xml version=\"1.0\"?>\n<MPD><Period><AdaptationSet><SegmentTemplate media=\"$Number$.m4s\"/>\
                </AdaptationSet></Period></MPD>";
    let (_origin, cinema) = with(&[("index.m3u8", PLAYLIST), ("index.mpd", dash)]).await;
    for (name, text, kind) in
        [("index.m3u8", PLAYLIST, "application/vnd.apple.mpegurl"), ("index.mpd", dash, "application/dash+xml")]
    {
        let path = cinema.path("b1", name).await;
        let reply = cinema.gate.client().get(&path, &[("range", "bytes=0-3")]).await;
        assert_eq!((reply.is(200).text().as_str(), reply.header("content-type")), (text, kind));
        assert_eq!(reply.header("etag"), Object::new(text).etag, "the object's own");
        assert_eq!((reply.header("cache-control"), reply.header("accept-ranges")), ("private, max-age=60", "none"));
        let etag = reply.header("etag");
        let same = cinema.gate.client().get(&path, &[("if-none-match", etag)]).await;
        assert_eq!((same.is(304).header("etag"), same.body.len()), (etag, 0));
        cinema.gate.client().get(&path, &[("if-match", "\"other\"")]).await.problem(412);
        let head = cinema.gate.client().head(&path, &[]).await;
        assert_eq!((head.is(200).header("content-length"), head.body.len()), (&*text.len().to_string(), 0));
    }
    // Of low latency: what is asked with the playlist does not change which object it is.
    let blocking = format!("{}?_HLS_msn=4&_HLS_part=1&_HLS_skip=YES", cinema.path("b1", "index.m3u8").await);
    assert_eq!(cinema.gate.client().get(&blocking, &[]).await.is(200).text(), PLAYLIST);
}

#[tokio::test]
async fn uris_of_the_store_become_relative_with_an_entity_tag_of_their_own() {
    let given = "#EXTM3U\r\n#EXT-X-TARGETDURATION:6\r\n#EXT-X-KEY:METHOD=AES-128,URI=\"/vod/keys/b1/k.key\"\r\n\
                 #EXTINF:6,\r\nSTORE/vod/movies/b1/720p/1.ts?X-Amz-Signature=0\r\n#EXTINF:6,\r\n//cdn.example/2.ts\r\n";
    let expected = "#EXTM3U\r\n#EXT-X-TARGETDURATION:6\r\n#EXT-X-KEY:METHOD=AES-128,URI=\"../../../keys/b1/k.key\"\r\n\
                    #EXTINF:6,\r\n1.ts\r\n#EXTINF:6,\r\n//cdn.example/2.ts\r\n";
    let dash = "<MPD><BaseURL>STORE/vod/movies/b1/</BaseURL><Period/></MPD>";
    let (origin, cinema) = with(&[("720p/index.m3u8", given), ("720p/index.mpd", dash)]).await;
    let path_of_playlist = cinema.path("b1", "720p/index.m3u8").await;
    let reply = cinema.gate.client().get(&path_of_playlist, &[]).await;
    assert_eq!(reply.is(200).text(), expected);
    assert_eq!(reply.header("cache-control"), "private, max-age=3", "live: half the target duration");
    let etag = reply.header("etag");
    assert_ne!(etag, Object::new(given.replace("STORE", &origin.url())).etag);
    cinema.gate.client().get(&path_of_playlist, &[("if-none-match", etag)]).await.is(304);
    assert_eq!(
        cinema.gate.client().get(&cinema.path("b1", "720p/index.m3u8").await, &[]).await.is(200).header("etag"),
        etag,
        "for all viewers"
    );
    let reply = cinema.gate.client().get(&cinema.path("b1", "720p/index.mpd").await, &[]).await;
    assert_eq!(reply.is(200).text(), "<MPD><BaseURL>../</BaseURL><Period/></MPD>");
    let read = origin.seen().into_iter().filter(|seen| seen.method == "GET").count();
    assert_eq!(read, 2, "one copy for all viewers: {:?}", origin.seen());
}

#[tokio::test]
async fn a_manifest_that_names_a_foreign_host_is_refused_and_the_operator_told_the_line() {
    let given = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nhttps://evil.example/canary.ts\n";
    let dash = "<MPD>\n<BaseURL>https://evil.example/canary</BaseURL></MPD>";
    let (_origin, cinema) =
        with(&[("index.m3u8", given), ("index.mpd", dash), ("up.m3u8", "#EXTM3U\n../b2/x.m3u8\n")]).await;
    for (name, line, said) in [
        ("index.m3u8", 4, "`evil.example`"),
        ("index.mpd", 2, "`evil.example`"),
        ("up.m3u8", 2, "out of the film's folder"),
    ] {
        let refused = cinema.gate.client().get(&cinema.path("b1", name).await, &[]).await;
        assert_eq!(refused.problem(502)["code"], "manifest_refused");
        assert!(!refused.text().contains("evil"), "{}", refused.text());
        let text = eventually("the operator is told", async || {
            let lines = cinema.gate.log_lines().into_iter();
            let mut told =
                lines.filter(|line| line["code"] == "manifest_refused" && line["key"] == format!("movies/b1/{name}"));
            told.next().map(|line| line.to_string())
        });
        let text = text.await;
        assert!(text.contains(&format!("line {line} of the manifest")) && text.contains(said), "{text}");
        assert!(!text.contains("canary"), "a URI may be signed: {text}");
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_refused() {
    let long = format!("#EXTM3U\n{}", "#\n".repeat(2_500_000));
    let (origin, cinema) = with(&[("long.m3u8", &long), ("index.m3u8", PLAYLIST)]).await;
    assert_eq!(
        cinema.gate.client().get(&cinema.path("b1", "long.m3u8").await, &[]).await.problem(502)["code"],
        "manifest_refused"
    );
    origin.always(Step::Edit(|answer| answer.set("Content-Encoding", "gzip")));
    assert_eq!(
        cinema.gate.client().get(&cinema.path("b1", "index.m3u8").await, &[]).await.problem(502)["code"],
        "manifest_refused"
    );
    cinema.gate.client().get(&cinema.path("b1", "none.m3u8").await, &[]).await.problem(404);
}

#[tokio::test]
async fn a_manifest_under_another_name_is_refused_and_no_playlist_leads_to_it() {
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nv.txt\n";
    let playlist = "#EXTM3U\n#EXTINF:6,\nhttp://evil.example/x.ts\n";
    let period = "<?xml version=\"1.0\"?><Period><BaseURL>http://evil.example/</BaseURL></Period>";
    let captions = "<?xml version=\"1.0\"?><tt xmlns=\"http://www.w3.org/ns/ttml\"/>";
    let objects =
        [("m.m3u8", master), ("v.txt", playlist), ("x.ts", playlist), ("period.xml", period), ("c.ttml", captions)];
    let (_origin, cinema) = with(&objects).await;
    let token = cinema.path("b1", "").await;
    for name in ["m.m3u8", "v.txt", "x.ts", "period.xml"] {
        let refused = cinema.gate.client().get(&format!("{token}{name}"), &[]).await;
        assert_eq!(refused.problem(502)["code"], "manifest_refused", "{name}");
        assert!(!refused.text().contains("evil"), "{name}");
    }
    assert_eq!(cinema.gate.client().get(&format!("{token}c.ttml"), &[]).await.is(200).text(), captions);
}
