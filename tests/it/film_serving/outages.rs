//! The store is away for ten seconds in the middle of a film, which players play that keep next to nothing ahead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use primitives::clock::monotonic_now;
use serde_json::{Value, json};

use super::grants::revoke;
use super::players::{MOVIE, play};
use super::{Cinema, films};
use crate::support::minio::OwnMinio;
use crate::support::tools::{self, TempFolder};
use crate::support::{Minio, Object, ScriptedOrigin, eventually, fault};

/// Seconds of the film.
const LENGTH: usize = 24;
/// Pictures in a second.
const RATE: usize = 25;
/// How ffmpeg makes the film, with segments of two seconds.
const HLS: &[&str] = &[
    "-f",
    "hls",
    "-hls_time",
    "2",
    "-hls_playlist_type",
    "vod",
    "-hls_segment_filename",
    "chunk_%05d.ts",
    "index.m3u8",
];
const DASH: &[&str] = &["-f", "dash", "-seg_duration", "2", "index.mpd"];
/// Statuses of what was sent whole.
const SENT: &[u64] = &[200, 206];
/// How long the store is away.
const AWAY: Duration = Duration::from_secs(10);

/// Puts a film into the bucket, as HLS and as DASH; returns its bytes in a second. `None` where ffmpeg is missing and not required.
async fn put_film(minio: &Minio) -> Option<usize> {
    let ffmpeg = tools::find("ffmpeg")?;
    let folder = TempFolder::new("long-film");
    for arguments in [HLS, DASH] {
        let made = tokio::process::Command::new(&ffmpeg)
            .args(["-v", "error", "-f", "lavfi", "-i"])
            .arg(format!("testsrc2=size=320x180:rate={RATE}:duration={LENGTH}"))
            .args(["-f", "lavfi", "-i"])
            .arg(format!("sine=frequency=440:duration={LENGTH}"))
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"])
            .args(arguments)
            .current_dir(folder.path())
            .status();
        assert!(made.await.expect("ffmpeg starts").success());
    }
    let mut bytes = 0;
    for file in std::fs::read_dir(folder.path()).expect("readable") {
        let file = file.expect("readable");
        let content = std::fs::read(file.path()).expect("readable");
        bytes += content.len();
        minio.put(&format!("movies/{MOVIE}/{}", file.file_name().to_string_lossy()), content).await;
    }
    // Each of them has the whole film.
    Some(bytes / 2 / LENGTH)
}

/// Players that play in real time, and what they are told so that they keep little ahead.
fn players() -> Vec<(PathBuf, Vec<&'static str>)> {
    [
        ("ffmpeg", vec!["-v", "error", "-re", "-i", "URL", "-map", "0:v", "-f", "framemd5", "-"]),
        ("mpv", vec!["--no-config", "--vo=null", "--ao=null", "--really-quiet", "--no-terminal", "--cache=no", "URL"]),
        ("cvlc", vec!["--no-audio", "--vout", "dummy", "--play-and-exit", "-q", "URL", "vlc://quit"]),
        (
            "gst-launch-1.0",
            vec!["-q", "playbin3", "uri=URL", "video-sink=fakesink sync=true", "audio-sink=fakesink sync=true"],
        ),
    ]
    .into_iter()
    .filter_map(|(name, arguments)| Some((tools::find(name)?, arguments)))
    .collect()
}

/// Lines of segments that were sent with one of these statuses, by the player that asked and the ending of their names.
fn segments<'a>(lines: &'a [Value], statuses: &[u64]) -> impl Iterator<Item = ((&'a str, &'a str), &'a Value)> {
    lines.iter().filter_map(|line| {
        let path = line["path"].as_str()?;
        let ending = ["ts", "m4s"].into_iter().find(|ending| path.ends_with(ending))?;
        let player = line["user_agent"].as_str()?;
        statuses.contains(&line["status"].as_u64()?).then_some(((player, ending), line))
    })
}

/// Plays the film at `url` to its end; returns how many pictures ffmpeg has seen.
async fn watch(program: &Path, arguments: &[&'static str], url: &str) -> Option<usize> {
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("URL", url)).collect();
    let said = play(program, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let pictures = said.lines().filter(|line| !line.starts_with('#')).count();
    program.ends_with("ffmpeg").then_some(pictures)
}

#[tokio::test]
async fn no_player_notices_that_the_store_is_away_for_ten_seconds() {
    let players = players();
    let Some(mut minio) = OwnMinio::start() else { return };
    let bucket = minio.bucket("films").await;
    let Some(bytes_per_second) = put_film(&bucket).await else { return };
    let mut config = films(&bucket.url(), bucket.name());
    // Whatever a player would keep ahead, it does not get the film much faster than it plays it; and each asks the store itself.
    config["Policies"]["RateLimiter"]["viewer"] =
        json!({ "Bandwidth": { "BytesPerSecond": bytes_per_second * 5 / 4, "Burst": bytes_per_second } });
    config["Vod"]["RateLimiterPolicy"] = json!("viewer");
    config["Vod"]["OutputCachePolicy"] = json!("Disable");
    let cinema = Cinema::open(config).await;
    let mut watched = Vec::new();
    for ((program, arguments), manifest) in players.iter().flat_map(|it| [(it, "index.m3u8"), (it, "index.mpd")]) {
        let url = format!("{}{}", cinema.gate.url(), cinema.path(MOVIE, manifest).await);
        watched.push(async move { watch(program, arguments, &url).await });
    }
    let count = watched.len();
    let outage = async {
        eventually("each has begun", async || {
            let lines = cinema.gate.access_lines();
            let begun: BTreeSet<_> = segments(&lines, SENT).map(|(player, _)| player).collect();
            (begun.len() == count).then_some(())
        })
        .await;
        minio.kill();
        let begun = monotonic_now();
        eventually("the outage is over", async || (begun.elapsed() >= AWAY).then_some(())).await;
        minio.restart();
    };
    let (pictures, ()) = tokio::join!(join_all(watched), outage);
    assert!(pictures.iter().flatten().all(|pictures| *pictures == LENGTH * RATE), "{pictures:?}");
    let lines = cinema.gate.access_lines();
    // A player may leave by itself and ask again.
    let is_refusal = |status: u64| status >= 400 && status != 499;
    let refused = lines.iter().filter(|line| line["status"].as_u64().is_some_and(is_refusal));
    assert_eq!(refused.collect::<Vec<_>>(), [&Value::Null; 0], "nobody was refused");
    let number = |line: &Value, name: &str| line[name].as_u64().unwrap_or(0);
    // What waits while the breaker keeps requests from the store is one attempt, late.
    let was_late = |line: &Value| line["first_byte_ms"].as_f64().is_some_and(|time| time >= 1000.0);
    let is_held = |line: &Value| number(line, "attempts") > 1 || number(line, "resumes") > 0 || was_late(line);
    let held = segments(&lines, &[200, 206, 499]).filter(|(_, line)| is_held(line));
    let held: BTreeSet<_> = held.map(|(player, _)| player).collect();
    assert_eq!(held.len(), count, "each was served over the outage: {held:?}");
    let chunks = LENGTH / 2;
    assert!(segments(&lines, SENT).count() >= count * chunks, "all segments were played by all");
}

#[tokio::test]
async fn a_request_that_waits_for_its_store_ends_with_its_client_and_its_session() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/vod/movies/b1/index.m3u8", Object::new("#EXTM3U\n"));
    let mut config = films(&origin.url(), "vod");
    config["Policies"]["Timeout"] = json!({ "patient": { "Unavailable": "5m" } });
    config["Vod"]["TimeoutPolicy"] = json!("patient");
    config["Vod"]["OutputCachePolicy"] = json!("Disable");
    let cinema = Cinema::open(config).await;
    let playlist = cinema.start_as("ada", "b1").await;
    let paths = ["seg-1.ts", "index.m3u8", "own.key"].map(|name| playlist.replace("index.m3u8", name));
    origin.always(fault::refuse(503, "SlowDown", "come back later"));
    origin.take_seen();
    let asked = async |count| {
        let all = async || (origin.seen().len() >= count).then_some(());
        eventually("the store is asked", all).await;
    };
    // One client closes a half, which looks as if it had closed both; the other is gone.
    let request = format!("GET {} HTTP/1.1\r\nHost: gate\r\n\r\n", paths[0]);
    let (mut half, mut gone) = (cinema.gate.raw().await, cinema.gate.raw().await);
    half.send(request.as_bytes()).await;
    gone.send(request.as_bytes()).await;
    asked(2).await;
    half.half_close().await;
    gone.reset();
    let left = async || {
        let lines = cinema.gate.access_lines();
        (lines.iter().filter(|line| line["status"] == 499).count() == 2).then_some(())
    };
    eventually("both requests have ended", left).await;
    origin.take_seen();
    let client = cinema.gate.client();
    let waiting = join_all(paths.iter().map(|path| client.get(path, &[])));
    let revoked = async {
        asked(3).await;
        revoke(&cinema, "ada").await;
    };
    let (answers, ()) = tokio::join!(waiting, revoked);
    for (answer, path) in answers.iter().zip(&paths) {
        assert_eq!(answer.problem(403)["code"], "session_ended", "{path}");
    }
}
