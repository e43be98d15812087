//! Files beside tracks.

use super::*;
use crate::support::{curl, token};

#[tokio::test]
async fn files_beside_a_track_are_its_lyrics_on_both_databases() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("lyrics");
    let Some(postgres) = Postgres::database().await else { return };
    let ttml = r#"<tt xml:lang="en"><body><p begin="1s" end="2s"><span begin="1s" end="1.5s">One </span><span begin="1.5s" end="2s">word</span></p></body></tt>"#;
    for (key, text) in [
        ("a/song.mp3", "music"),
        ("a/song.lrc", "\u{feff}[ar:Ada]\r\n[00:02.00]Second\r\n[00:01.000]First\r\n"),
        ("a/song.txt", "never"),
        ("a/song.ru.lrc", "[00:01.00]Первая\n[00:02.00]Вторая\n"),
        ("a/song.en-Latn.pronunciation.txt", "ferst"),
        ("a/song 2.ttml", "<tt/>"),
        ("a/words.mp3", "music"),
        ("a/words.ttml", ttml),
        ("a/words.lrc", "[00:01.00]never"),
        ("a/subtitles.mp3", "music"),
        ("a/subtitles.srt", "1\n00:00:01,500 --> 00:00:02,000\n<i>Line</i>\n"),
        ("a/plain.mp3", "music"),
        ("a/plain.txt", "One\n\nTwo <script>alert(1)</script>\n"),
        ("a/bare.mp3", "music"),
    ] {
        minio.put(key, text).await;
    }
    for database in [sqlite(&folder), postgres] {
        let gate = Gate::start(&lyrics(&minio.url(), &database)).await;
        let described = Described::by(&gate.client()).await;
        for id in ["song", "words", "subtitles", "plain", "bare"] {
            add(&gate, id, minio.name(), &format!("a/{id}.mp3")).await;
        }
        let song = get(&gate, "song", "bob").await;
        assert_eq!(lines(&song["synced"]), ["1000 First", "2000 Second"]);
        assert_eq!(
            (&song["artist"], &song["source"], &song["may_edit"]),
            (&json!("Ada"), &json!("sidecar"), &json!(false))
        );
        assert_eq!(song["lrc"], "[00:01.00]First\n[00:02.00]Second");
        assert_eq!((&song["synced"][0]["end_ms"], &song["synced"][1]["end_ms"]), (&json!(2000), &json!(null)));
        let texts: Vec<_> =
            song["texts"].as_array().expect("texts").iter().map(|it| (&it["kind"], &it["lang"])).collect();
        let (ru, latin) = (json!("ru"), json!("en-Latn"));
        let kinds = [json!("main"), json!("translation"), json!("pronunciation")];
        assert_eq!(texts, [(&kinds[0], &json!(null)), (&kinds[1], &ru), (&kinds[2], &latin)]);
        let words = get(&gate, "words", "bob").await;
        assert_eq!((&words["lang"], &words["plain"]), (&json!("en"), &json!("One word")));
        assert_eq!(words["synced"][0]["words"][1], json!({ "start_ms": 1500, "end_ms": 2000, "text": "word" }));
        assert_eq!(lines(&get(&gate, "subtitles", "bob").await["synced"]), ["1500 Line"]);
        let plain = get(&gate, "plain", "bob").await;
        assert_eq!(
            (&plain["synced"], &plain["lrc"], &plain["plain"]),
            (&json!([]), &json!(null), &json!("One\n\nTwo alert(1)"))
        );
        ask(&gate, "bare", "bob").await.problem(404);
        for what in ["song", "words", "subtitles", "plain", "bare", "none", "cache/status", "search?artist=a&song=b"] {
            described.checks("GET", &format!("/api/v1/lyrics/{what}"), &ask(&gate, what, "bob").await);
        }
        let status = send(&gate, Method::GET, "/api/v1/lyrics/cache/status", &admin(), None).await;
        described.checks("GET", "/api/v1/lyrics/cache/status", &status);
        let status: Value = serde_json::from_slice(&status.is(200).body).expect("JSON");
        assert_eq!(status, json!({ "total": 6, "active": 6, "expired": 0, "misses": 2, "edited": 0 }));
        assert!(!gate.log().contains("lyrics cannot be kept"), "{}", gate.log());
    }
}

#[tokio::test]
async fn what_is_kept_is_looked_for_again_after_its_time_or_when_the_owner_says_so() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("lyrics");
    minio.put("song.mp3", "music").await;
    let mut config = lyrics(&minio.url(), &sqlite(&folder));
    let gate = Gate::start(&config).await;
    add(&gate, "song", minio.name(), "song.mp3").await;
    ask(&gate, "song", "bob").await.problem(404);
    minio.put("song.lrc", "[00:01.00]One").await;
    ask(&gate, "song", "bob").await.problem(404);
    refresh(&gate, "song", "bob").await.problem(403);
    // A page of another site may have a browser send a GET.
    ask(&gate, "song?refresh=true", "alice").await.problem(400);
    let refreshed: Value = serde_json::from_slice(&refresh(&gate, "song", "alice").await.is(200).body).expect("JSON");
    assert_eq!(refreshed["plain"], "One");
    assert_eq!(get(&gate, "song", "bob").await["plain"], "One");
    minio.put("song.lrc", "[00:01.00]Two").await;
    assert_eq!(get(&gate, "song", "bob").await["plain"], "One", "it is kept");
    assert!(gate.metric("tidegate_lyrics_requests_total", "outcome=\"cached\"").await >= 2.0);
    drop(gate);
    config["Lyrics"]["CacheFor"] = json!("1s");
    let gate = Gate::start(&config).await;
    assert_eq!(get(&gate, "song", "bob").await["plain"], "One", "it outlives the process");
    refresh(&gate, "song", "alice").await.is(200);
    assert_eq!(get(&gate, "song", "bob").await["plain"], "Two");
    minio.put("song.lrc", "[00:01.00]Three").await;
    let newer = async || (get(&gate, "song", "bob").await["plain"] == "Three").then_some(());
    eventually("it is looked for again", newer).await;
}

#[tokio::test]
async fn lyrics_are_served_on_while_the_store_is_away() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("lyrics");
    origin.put("/audio/track.lrc", crate::support::Object::new("[00:01.00]One"));
    // Keys that may not list: each name is tried.
    let mut config = lyrics(&origin.url(), &sqlite(&folder));
    config["Lyrics"]["CacheFor"] = json!("1s");
    let gate = Gate::start(&config).await;
    add(&gate, "track", "audio", "track.mp3").await;
    add(&gate, "other", "audio", "other.mp3").await;
    origin.always(crate::support::fault::Step::Edit(|answer| {
        if answer.status == 404 {
            answer.status = 403;
        }
    }));
    assert_eq!(get(&gate, "track", "bob").await["plain"], "One");
    origin.always(crate::support::fault::Step::Silence(crate::support::fault::End::Close));
    let stale = async || (get(&gate, "track", "bob").await["is_stale"] == json!(true)).then_some(());
    eventually("it is older than its time", stale).await;
    let refused = ask(&gate, "other", "bob").await;
    assert_eq!(refused.problem(503)["code"], "unavailable");
    assert_ne!(refused.header("retry-after"), "");
    assert!(gate.metric("tidegate_lyrics_source_requests_total", "outcome=\"failed\",source=\"sidecar\"").await >= 1.0);
}

#[tokio::test]
async fn curl_reads_lyrics_over_both_versions_of_http() {
    let (Some(minio), Some(_)) = (Minio::bucket().await, curl::find()) else { return };
    let folder = TempFolder::new("lyrics");
    minio.put("song.mp3", "music").await;
    minio.put("song.lrc", "[00:01.00]One").await;
    let mut config = lyrics(&minio.url(), &sqlite(&folder));
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    let gate = Gate::start(&config).await;
    add(&gate, "song", minio.name(), "song.mp3").await;
    let url = format!("{}/api/v1/lyrics/song", gate.url());
    let authorization = format!("Authorization: Bearer {}", token::of("bob"));
    for version in [curl::Version::Http1, curl::Version::Http2] {
        let transfer = curl::get(&url, version, &["-H", &authorization]).await;
        let head = transfer.heads.last().expect("a head");
        assert_eq!((transfer.exit, head.status, head.field("cache-control")), (0, 200, Some("no-store")));
        let body: Value = serde_json::from_slice(&transfer.body).expect("JSON");
        assert_eq!(body["plain"], "One");
    }
}

#[tokio::test]
async fn an_elrc_file_is_read_with_the_times_of_its_words_before_an_lrc_file() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("lyrics");
    for (key, text) in [
        ("a/karaoke.mp3", "music"),
        ("a/karaoke.elrc", "[la:en]\n[00:01.00]<00:01.00>Low <00:01.50>tide<00:02.00>\n[00:03.00]Plain\n"),
        ("a/karaoke.lrc", "[00:01.00]never"),
        ("a/karaoke.de.elrc", "[00:01.00]<00:01.00>Ebbe<00:02.00>\n"),
    ] {
        minio.put(key, text).await;
    }
    let gate = Gate::start(&lyrics(&minio.url(), &sqlite(&folder))).await;
    add(&gate, "karaoke", minio.name(), "a/karaoke.mp3").await;
    let found = get(&gate, "karaoke", "bob").await;
    assert_eq!((&found["source"], &found["lang"]), (&json!("sidecar"), &json!("en")));
    assert_eq!(lines(&found["synced"]), ["1000 Low tide", "3000 Plain"]);
    let words = json!([{ "start_ms": 1000, "end_ms": 1500, "text": "Low " }, { "start_ms": 1500, "end_ms": 2000, "text": "tide" }]);
    assert_eq!(found["synced"][0]["words"], words);
    assert_eq!(found["synced"][1]["words"], json!([]));
    let other = &found["texts"][1];
    assert_eq!(
        (&other["kind"], &other["lang"], &other["lines"][0]["text"]),
        (&json!("translation"), &json!("de"), &json!("Ebbe"))
    );
}
