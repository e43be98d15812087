//! A channel plays: tracks out of MinIO, decoded, faded into each other, and heard by players, pollers and a browser's page.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::*;
use crate::support::store::StoreBucket;
use crate::support::{Minio, eventually, in_time, tools};

const HOST: &str = "the token of sharing";
/// Samples a second of what is heard.
const RATE: usize = 8_000;
/// Samples in which tones are measured: a twentieth of a second.
const WINDOW: usize = RATE / 20;

/// A track: its id, its file, its tone in hertz, its seconds.
type Tone = (&'static str, &'static str, u32, u32);

/// Channels over MinIO, with sharing.
fn over_minio(minio: &StoreBucket, folder: &TempFolder) -> Value {
    let mut config = tracks(&minio.url(), &sqlite(folder));
    config["Channels"] = json!({ "Names": ["main", "lounge"] });
    config["Share"] = json!({ "Token": "env:BEARER_TOKEN" });
    config
}

async fn start_playing(config: &Value) -> Gate {
    Gate::start_with(config, &[("BEARER_TOKEN", HOST)]).await
}

/// Puts tones into the bucket, as ffmpeg encodes them, and into the catalogue.
async fn put_tones(gate: &Gate, minio: &StoreBucket, ffmpeg: &Path, folder: &TempFolder, tones: &[Tone]) {
    for (id, file, hertz, seconds) in tones {
        let path = folder.path().join(file);
        let source = format!("sine=frequency={hertz}:sample_rate=44100:duration={seconds}");
        let mut command = Command::new(ffmpeg);
        command.args(["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-ac", "2", "-af", "volume=12dB"]).arg(&path);
        let output = in_time("it ends", command.kill_on_drop(true).output()).await.expect("ffmpeg starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        minio.put(file, std::fs::read(path).expect("a file")).await;
        add_track(gate, minio, id, file).await;
    }
}

async fn add_track(gate: &Gate, minio: &StoreBucket, id: &str, key: &str) {
    let track = json!({ "id": id, "store": "main", "bucket": minio.name(), "key": key, "ownerId": "alice" });
    send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
}

async fn get(gate: &Gate, path: &str) -> Value {
    let reply = send(gate, Method::GET, &format!("/api/v1/channels{path}"), &bearer("alice"), None).await;
    serde_json::from_slice(&reply.is(200).body).expect("JSON")
}

/// Where a channel is heard, once it is.
async fn listen(gate: &Gate, channel: &str) -> Value {
    let path = format!("/api/v1/channels/{channel}/listen");
    let heard = async || {
        let reply = send(gate, Method::POST, &path, &bearer("bob"), None).await;
        (reply.status == 200).then(|| serde_json::from_slice(&reply.body).expect("JSON"))
    };
    eventually("the channel is heard", heard).await
}

/// What was played, the first first: track and outcome.
async fn history(gate: &Gate, channel: &str, count: usize) -> Vec<(String, String)> {
    let played = async || {
        let items = get(gate, &format!("/{channel}/history")).await["items"].as_array().expect("a list").clone();
        (items.len() >= count).then_some(items)
    };
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut items = eventually("it was played", played).await;
    items.reverse();
    items.iter().map(|item| (text(&item["track_id"]), text(&item["outcome"]))).collect()
}

/// Records so many seconds of a stream as ffmpeg hears it.
async fn record(ffmpeg: &Path, gate: &Gate, stream: &str, seconds: u32, into: PathBuf) -> Vec<f32> {
    let (url, seconds) = (format!("{}{stream}", gate.url()), seconds.to_string());
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-y", "-i", &url, "-t", &seconds, "-ac", "1", "-ar", &RATE.to_string()]);
    command.args(["-f", "f32le"]).arg(&into);
    let output = in_time("it ends", command.kill_on_drop(true).output()).await.expect("ffmpeg starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(into).expect("a file");
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Amplitude of a tone in a window (Goertzel's algorithm).
fn amplitude(window: &[f32], hertz: f64) -> f64 {
    let step = std::f64::consts::TAU * hertz / RATE as f64;
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (number, sample) in window.iter().enumerate() {
        let angle = step * number as f64;
        real += f64::from(*sample) * angle.cos();
        imaginary += f64::from(*sample) * angle.sin();
    }
    2.0 * (real * real + imaginary * imaginary).sqrt() / window.len() as f64
}

#[tokio::test]
async fn tracks_are_heard_one_after_another_and_fade_into_each_other() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let folder = TempFolder::new("channels");
    let gate = start_playing(&over_minio(&minio, &folder)).await;
    put_tones(&gate, &minio, &ffmpeg, &folder, &[("low", "low.mp3", 400, 9), ("high", "high.flac", 1000, 9)]).await;
    for track in ["low", "high"] {
        queue(&gate, "main", &bearer("alice"), track).await;
    }
    let heard = listen(&gate, "main").await;
    let stream = heard["stream_url"].as_str().expect("a text");
    let sound = record(&ffmpeg, &gate, stream, 14, folder.path().join("heard.raw")).await;
    let windows: Vec<(f64, f64)> =
        sound.chunks_exact(WINDOW).map(|window| (amplitude(window, 400.0), amplitude(window, 1000.0))).collect();
    let loudest = |tone: fn(&(f64, f64)) -> f64| windows.iter().map(tone).fold(0.0, f64::max);
    let (low, high) = (loudest(|tones| tones.0), loudest(|tones| tones.1));
    assert!(low > 0.2 && high > 0.2, "both are heard: {low} {high}");
    let levels: Vec<(f64, f64)> = windows.iter().map(|(a, b)| (a / low, b / high)).collect();
    // From the first sound to the end of the second track.
    let is_heard = |(a, b): &(f64, f64)| a.hypot(*b) > 0.5;
    let first = levels.iter().position(is_heard).expect("something is heard");
    let last = levels.iter().rposition(is_heard).expect("something is heard");
    let music = &levels[first..=last];
    let silent = music.iter().filter(|level| !is_heard(level)).count();
    assert_eq!(silent, 0, "there is a gap: {music:?}");
    // The power stays that of one song, within a decibel.
    for (a, b) in &music[2..music.len() - 4] {
        assert!((0.79..1.26).contains(&(a * a + b * b)), "{a} and {b} in {music:?}");
    }
    // Both are heard for three seconds, but for the ends of the fade, where one is too soft.
    let both = music.iter().filter(|(a, b)| *a > 0.1 && *b > 0.1).count() as f64 / 20.0;
    assert!((2.3..3.1).contains(&both), "the fade is {both} s long: {music:?}");
    let overlap = music.iter().position(|(_, b)| *b > 0.1).expect("the second is heard");
    assert!(music[overlap..].is_sorted_by(|one, next| next.0 < one.0 + 0.1), "the first only becomes softer");
    assert_eq!(history(&gate, "main", 2).await, [("low".into(), "played".into()), ("high".into(), "played".into())]);
    assert!(order(&gate, "main").await.is_empty(), "what was played is out of the queue");
}

#[tokio::test]
async fn a_track_is_read_by_the_route_under_whose_host_it_was_queued() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let folder = TempFolder::new("channels");
    let mut config = over_minio(&minio, &folder);
    // There is no route of tracks without a host.
    config["ReverseProxy"]["Routes"]["track"]["Match"]["Hosts"] = json!(["music.example"]);
    let gate = start_playing(&config).await;
    put_tones(&gate, &minio, &ffmpeg, &folder, &[("t1", "a.wav", 500, 1)]).await;
    let ask = async |host: &str| {
        let request = gate.client().request(Method::POST, &items_of("main")).header("host", host);
        let request = request.header("authorization", bearer("alice")).json(&json!({ "track_id": "t1" }));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask("other.example").await, 404, "no such track there");
    assert_eq!(ask("music.example").await, 201);
    assert_eq!(history(&gate, "main", 1).await, [("t1".to_owned(), "played".to_owned())]);
}

#[tokio::test]
async fn a_track_that_cannot_be_played_is_skipped_and_said() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let folder = TempFolder::new("channels");
    let gate = start_playing(&over_minio(&minio, &folder)).await;
    minio.put("text.mp3", "this is a text and no music at all").await;
    minio.put("empty.mp3", "").await;
    for (id, key) in [("text", "text.mp3"), ("empty", "empty.mp3"), ("gone", "gone.mp3")] {
        add_track(&gate, &minio, id, key).await;
    }
    let formats: [Tone; 5] = [
        ("opus", "a.opus", 500, 2),
        ("m4a", "a.m4a", 500, 2),
        ("ogg", "a.ogg", 500, 2),
        ("wav", "a.wav", 500, 2),
        ("mp3", "a.mp3", 500, 2),
    ];
    put_tones(&gate, &minio, &ffmpeg, &folder, &formats).await;
    let wanted = ["text", "m4a", "empty", "ogg", "gone", "wav", "mp3", "opus"];
    for track in wanted {
        queue(&gate, "main", &bearer("alice"), track).await;
    }
    let expected = |track: &str| {
        let outcome = if matches!(track, "text" | "empty" | "gone") { "failed" } else { "played" };
        (track.to_owned(), outcome.to_owned())
    };
    let mut played = history(&gate, "main", wanted.len()).await;
    played.sort();
    let mut all = wanted.map(expected);
    all.sort();
    assert_eq!(played, all);
    let items = get(&gate, "/main/history").await;
    let failed = items["items"].as_array().expect("a list").iter().filter(|item| item["outcome"] == "failed");
    let causes = ["unreadable", "unknown-format", "damaged"].map(Value::from);
    assert!(failed.into_iter().all(|item| causes.contains(&item["reason"]) && item["detail"].is_null()), "{items}");
    let told = send(&gate, Method::GET, "/api/v1/channels/main/history", &admin(), None).await.is(200).text();
    assert!(told.contains("\"detail\":\""), "admins are told more: {told}");
    let metrics = gate.admin().get("/metrics", &[]).await.text();
    assert!(metrics.contains("tidegate_channel_tracks_total{outcome=\"failed\"} 3"), "{metrics}");
    assert!(metrics.contains("tidegate_channel_tracks_total{outcome=\"played\"} 5"));
    let lines = gate.log_lines();
    let said = lines.iter().filter(|line| line["fields"]["track"].is_string() || line["track"].is_string()).count();
    assert!(said >= 3, "the log says so");
}

#[tokio::test]
async fn a_channel_is_heard_by_pollers_and_shown_and_another_channel_is_silent() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let folder = TempFolder::new("channels");
    let gate = start_playing(&over_minio(&minio, &folder)).await;
    put_tones(&gate, &minio, &ffmpeg, &folder, &[("long", "a long song.mp3", 400, 60), ("next", "n.mp3", 800, 5)])
        .await;
    let item = queue(&gate, "main", &bearer("alice"), "long").await;
    let heard = listen(&gate, "main").await;
    let id = heard["session_id"].as_str().expect("a text");
    let host = format!("Bearer {HOST}");
    let chunks = async || {
        let path = format!("/api/share/{id}/audio?since=-1");
        let reply = gate.client().get(&path, &[("authorization", &host)]).await;
        (reply.status == 200).then(|| serde_json::from_slice::<Value>(&reply.body).expect("JSON"))
    };
    let chunks = eventually("a poller hears it", chunks).await;
    assert_eq!((&chunks[0]["sampleRate"], &chunks[0]["channels"]), (&json!(48_000), &json!(2)));
    let status = async || {
        let reply = gate.client().get(&format!("/api/share/{id}/status"), &[("authorization", &host)]).await;
        let status: Value = serde_json::from_slice(&reply.body).expect("JSON");
        (status["currentMetadata"]["title"] == "a long song").then_some(())
    };
    eventually("listeners see the title", status).await;
    let page = gate.client().get(heard["listen_url"].as_str().expect("a text"), &[]).await;
    assert!(page.is(200).header("content-type").starts_with("text/html"));
    let now = async || {
        let now = get(&gate, "/main").await;
        (now["now"]["duration_ms"].is_number()).then_some(now)
    };
    let now = eventually("the channel is shown", now).await;
    assert_eq!((&now["now"]["track_id"], &now["session_id"]), (&json!("long"), &json!(id)));
    let millis = now["now"]["duration_ms"].as_i64().expect("a number");
    assert!((59_900..60_200).contains(&millis), "{millis}");
    // Nothing of it is in the other channel.
    let list = get(&gate, "").await;
    assert_eq!(list["items"].as_array().expect("a list").len(), 2);
    let lounge = get(&gate, "/lounge").await;
    assert_eq!((&lounge["session_id"], &lounge["now"]), (&Value::Null, &Value::Null));
    send(&gate, Method::POST, "/api/v1/channels/lounge/listen", &bearer("bob"), None).await.problem(409);
    assert_eq!(get(&gate, "/lounge/history").await["items"], json!([]));
    // What is played is taken out: the next one is heard.
    queue(&gate, "main", &bearer("alice"), "next").await;
    delete(&gate, "main", &bearer("alice"), &item["item_id"]).await.is(204);
    let played = history(&gate, "main", 2).await;
    assert_eq!(played, [("long".into(), "skipped".into()), ("next".into(), "played".into())]);
}

#[tokio::test]
async fn another_node_takes_a_channel_over_when_its_own_dies() {
    let (Some(minio), Some(ffmpeg), Some(redis)) = (Minio::bucket().await, tools::find("ffmpeg"), Redis::start())
    else {
        return;
    };
    let folder = TempFolder::new("channels");
    let mut config = over_minio(&minio, &folder);
    config["State"] = json!({ "Url": redis.url(), "Prefix": "tide:" });
    config["Channels"]["ClaimLease"] = json!("5s");
    let first = start_playing(&config).await;
    put_tones(&first, &minio, &ffmpeg, &folder, &[("song", "song.mp3", 400, 60)]).await;
    queue(&first, "main", &bearer("alice"), "song").await;
    let before = listen(&first, "main").await;
    let second = start_playing(&config).await;
    let held = async |gate: &Gate| {
        let page = gate.admin().get("/metrics", &[]).await.text();
        crate::support::gate::sum(&page, "tidegate_channels", "")
    };
    assert_eq!((held(&first).await, held(&second).await), (2.0, 0.0), "one node plays");
    first.signal("KILL").await;
    let after = async || {
        let station = get(&second, "/main").await;
        let is_new = station["session_id"].is_string() && station["session_id"] != before["session_id"];
        (is_new && station["now"]["track_id"] == "song").then_some(())
    };
    eventually("the other node plays the same song", after).await;
    assert_eq!(held(&second).await, 2.0);
    let sound = listen(&second, "main").await;
    let stream = sound["stream_url"].as_str().expect("a text");
    let heard = record(&ffmpeg, &second, stream, 2, folder.path().join("heard.raw")).await;
    assert!(amplitude(&heard[heard.len() / 2..][..WINDOW], 400.0) > 0.1);
}
