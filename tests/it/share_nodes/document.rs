//! The session in Redis, in the form of the document.

use super::*;

#[tokio::test]
async fn a_program_that_knows_only_the_document_reads_the_session_in_redis() {
    let Some((redis, one, other)) = nodes(json!({"Compatibility": true})).await else { return };
    start(&one).await;
    // What can be shown as text.
    let data = STANDARD.encode([b'A'; 4096 * 8]);
    let mut pace = tokio::time::interval(CHUNK / 2);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for sequence in 0..60 {
        pace.tick().await;
        let body = json!({"data": data, "sampleRate": 44100, "channels": 2, "timestamp": 1_700_000_000_000_i64,
            "sequenceNumber": sequence});
        post(&one, "/api/share/123456/audio", body).await.is(200);
    }
    let song = json!({"title": "Song", "artist": "Artist", "lyrics": "[00:12.50]Line", "hasSyncedLyrics": true,
        "elapsedSeconds": 45.2, "totalSeconds": 180.5, "thumbnailData": COVER, "timestamp": 1_234_567_890_123_i64});
    post(&one, "/api/share/123456/metadata", song).await.is(200);
    let _listener = Socket::listen(&other, "opus").await;
    count(&one, 1).await;
    let field = |key: &str, field: &str| {
        let said = redis.ask(&format!("HGET {key} {field}"));
        said.split_once("\r\n").map_or(said.clone(), |(_, value)| value.trim_end().to_owned())
    };
    let session = |name: &str| field("session:123456", name);
    assert_eq!((session("active"), session("listenerCount")), ("true".to_owned(), "1".to_owned()));
    assert!(session("startTime").len() == 13 && session("lastActivity") > session("startTime"));
    eventually("the song is there", async || (field("session:123456:metadata", "title") == "Song").then_some(())).await;
    for (name, value) in [
        ("artist", "Artist"),
        ("lyrics", "[00:12.50]Line"),
        ("hasSyncedLyrics", "true"),
        ("elapsedSeconds", "45.2"),
        ("totalSeconds", "180.5"),
        ("thumbnailData", COVER),
        ("timestamp", "1234567890123"),
    ] {
        assert_eq!(field("session:123456:metadata", name), value, "{name}");
    }
    let number =
        |command: &str| redis.ask(command).trim_start_matches(':').trim_end().parse::<i64>().expect("a number");
    assert!((850_000..=900_000).contains(&number("PTTL session:123456")));
    assert!((1..=30_000).contains(&number("PTTL session:123456:metadata")));
    assert!((1..=10_000).contains(&number("PTTL session:123456:audio")));
    assert_eq!(number("XLEN session:123456:audio"), 54, "five seconds");
    let last = redis.ask("XREVRANGE session:123456:audio + - COUNT 1");
    let entry: Vec<&str> = last.split("\r\n").filter(|line| !line.starts_with(['$', '*'])).collect();
    let value = |name: &str| entry.iter().skip_while(|line| **line != name).nth(1).copied().unwrap_or_default();
    assert_eq!((value("sequenceNumber"), value("sampleRate"), value("channels")), ("59", "44100", "2"));
    assert_eq!((value("timestamp"), value("data")), ("1700000000000", "A".repeat(4096 * 8).as_str()));

    post(&other, "/api/share/123456/stop", Value::Null).await.is(200);
    assert_eq!(session("active"), "false");
    assert!((1..=300_000).contains(&number("PTTL session:123456")));
    assert_eq!(number("EXISTS session:123456:audio session:123456:metadata"), 0);
}
