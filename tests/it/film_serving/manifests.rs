//! Manifests: as they are, made relative, or refused.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::{Cinema, films};
use crate::support::fault::{Step, refuse};
use crate::support::origin_http::Seen;
use crate::support::{Gate, Object, ScriptedOrigin, eventually, in_time};

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
    let read = origin.seen().iter().filter(|seen| is_read(seen)).count();
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

/// Requests that read the object of this name from the store.
fn reads(origin: &ScriptedOrigin, name: &str) -> usize {
    let end = format!("/{name}");
    origin.seen().iter().filter(|seen| is_read(seen) && seen.path().ends_with(&end)).count()
}

/// A start asks for the first byte of a manifest, and does not read it.
fn is_read(seen: &Seen) -> bool {
    seen.method == "GET" && seen.header("range") != Some("bytes=0-0")
}

#[tokio::test]
async fn a_live_playlist_is_kept_for_half_its_target_duration_whatever_the_policy_of_the_cache_says() {
    let origin = ScriptedOrigin::start().await;
    let mut config = films(&origin.url(), "vod");
    config["Vod"]["OutputCachePolicy"] = json!("long");
    config["Policies"]["OutputCache"]["long"] =
        json!({ "Ttl": "1h", "StaleWhileRevalidate": "1h", "StaleIfError": "1h" });
    let live = |first: u32| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXTINF:2,\n{first}.ts\n")
    };
    origin.put("/vod/movies/b1/index.m3u8", Object::new(PLAYLIST));
    origin.put("/vod/movies/b1/live.m3u8", Object::new(live(1)));
    let cinema = Cinema::open(config).await;
    let (client, token) = (cinema.gate.client(), cinema.path("b1", "").await);
    let get = async |name: &str| client.get(&format!("{token}{name}"), &[]).await.is(200).text();
    for first in 2..4 {
        assert_eq!(get("index.m3u8").await, PLAYLIST);
        assert_eq!(get("live.m3u8?_HLS_msn=9&_HLS_part=0").await, live(first - 1));
        origin.put("/vod/movies/b1/live.m3u8", Object::new(live(first)));
        eventually("players see what is new", async || (get("live.m3u8").await == live(first)).then_some(())).await;
    }
    // While the store fails, players get what is there.
    origin.always(refuse(503, "SlowDown", "Please reduce your request rate."));
    origin.put("/vod/movies/b1/live.m3u8", Object::new(live(4)));
    let before = origin.seen().len();
    eventually("the store is asked", async || {
        assert_eq!(get("live.m3u8").await, live(3));
        (origin.seen().len() > before).then_some(())
    })
    .await;
    origin.always(Step::Serve);
    eventually("players see what is new", async || (get("live.m3u8").await == live(4)).then_some(())).await;
    // One that has ended is read once, and each version of a live one, however many ask.
    assert_eq!(get("index.m3u8").await, PLAYLIST);
    assert_eq!((reads(&origin, "index.m3u8"), reads(&origin, "live.m3u8")), (1, 4));
}

/// Viewers that ask for a manifest and read none of it.
const SLOW_VIEWERS: usize = 30;
/// Manifests that each may have under way.
const AT_ONCE: usize = 4;

/// A connection that takes a few KiB without being read.
async fn small_connection(cinema: &Cinema) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("it can be small");
    socket.connect(cinema.gate.address()).await.expect("the gate listens")
}

/// A playlist of some 4 MB, in which `name` names the segments.
fn long_playlist(name: usize) -> String {
    let line =
        format!("#EXTINF:6,\nSTORE/vod/movies/b1/{name}-a-segment-with-a-long-name-so-that-the-playlist-is-long.ts\n");
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n{}#EXT-X-ENDLIST\n", line.repeat(40_000))
}

/// Requests for each of these paths, as many as a viewer may have under way, which are answered and not read.
async fn read_slowly(cinema: &Cinema, paths: &[String]) -> Vec<TcpStream> {
    let mut slow = Vec::new();
    for path in paths.iter().flat_map(|path| [path; AT_ONCE]) {
        let mut connection = small_connection(cinema).await;
        connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await.expect("sent");
        slow.push(connection);
    }
    slow
}

/// The most by which memory grows over `before` while it is looked at.
async fn growth(gate: &Gate, before: u64) -> u64 {
    let mut most = 0;
    for _ in 0..100 {
        gate.client().get("/health", &[]).await;
        most = most.max(gate.memory().saturating_sub(before));
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_that_read_no_manifest_take_no_more_memory_than_manifests_may() {
    let (origin, cinema) = with(&[]).await;
    let mut paths = Vec::new();
    for number in 0..SLOW_VIEWERS {
        let text = long_playlist(number).replace("STORE", &origin.url());
        origin.put(&format!("/vod/movies/b1/{number}.m3u8"), Object::new(text));
        paths.push(cinema.path("b1", &format!("{number}.m3u8")).await);
    }
    let length = cinema.gate.client().get(&paths[0], &[]).await.is(200).body.len();
    assert!(length > 2 << 20, "{length}");
    let before = cinema.gate.memory();
    let slow = read_slowly(&cinema, &paths).await;
    let mut begun: FuturesUnordered<_> = slow.iter().map(|connection| connection.readable()).collect();
    for _ in 0..8 {
        in_time("some are being sent", begun.next()).await.expect("there are more").expect("it is open");
    }
    let (most, all) = (growth(&cinema.gate, before).await, length * slow.len());
    assert!(all > 300 << 20, "{all}");
    assert!(most < 200 << 20, "{} MiB for {} MiB of manifests that nobody reads", most >> 20, all >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_that_read_one_manifest_slowly_hold_one_copy_and_keep_nobody_from_another() {
    let (_origin, cinema) = with(&[("long.m3u8", &long_playlist(0)), ("index.m3u8", PLAYLIST)]).await;
    let mut paths = Vec::new();
    for _ in 0..SLOW_VIEWERS {
        paths.push(cinema.path("b1", "long.m3u8").await);
    }
    let length = cinema.gate.client().get(&paths[0], &[]).await.is(200).body.len();
    let before = cinema.gate.memory();
    let slow = read_slowly(&cinema, &paths).await;
    for connection in &slow {
        in_time("each is being sent", connection.readable()).await.expect("it is open");
    }
    let (most, all) = (growth(&cinema.gate, before).await, length * slow.len());
    assert!(most < 64 << 20, "{} MiB for {} MiB of manifests that nobody reads", most >> 20, all >> 20);
    assert_eq!(cinema.gate.client().get(&cinema.path("b1", "index.m3u8").await, &[]).await.is(200).text(), PLAYLIST);
}
