//! Real players: ffprobe and ffmpeg seek near the end, and a browser's `<audio>` plays and seeks.

use std::path::Path;

use axum::response::Html;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::chromium::Chromium;
use crate::support::{Gate, Minio, config, eventually, in_time, token, tools};

const SECONDS: u32 = 60;
const RATE: u32 = 44_100;

/// A minute of a quiet tone: 16-bit stereo WAV, 10 MB.
fn wav() -> Vec<u8> {
    let bytes_per_second = RATE * 4;
    let length = bytes_per_second * SECONDS;
    let mut file = Vec::with_capacity(44 + length as usize);
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    file.extend(RATE.to_le_bytes());
    file.extend(bytes_per_second.to_le_bytes());
    file.extend(b"\x04\0\x10\0data");
    file.extend(length.to_le_bytes());
    for sample in 0..RATE * SECONDS {
        let phase = f64::from(sample) * 440.0 * std::f64::consts::TAU / f64::from(RATE);
        #[expect(clippy::cast_possible_truncation, reason = "the tone stays within the range")]
        let value = (phase.sin() * 3000.0) as i16;
        file.extend(value.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file
}

/// A gate before MinIO with the tone, for pages of `origin`, and the path with its token.
async fn stage(origin: &str) -> Option<(Minio, Gate, String)> {
    let minio = Minio::bucket().await?;
    minio.put_as("tone.wav", wav(), &[("Content-Type", "audio/wav")]).await;
    let mut config = config::private_objects(&minio.url(), minio.name());
    config["Policies"]["Cors"]["app"] =
        json!({ "Origins": [origin], "ExposedHeaders": ["Content-Range", "Accept-Ranges", "Content-Length"] });
    config["ReverseProxy"]["Routes"]["stream"]["CorsPolicy"] = json!("app");
    let gate = Gate::start(&config).await;
    let path = format!("/stream/tone.wav?access_token={}", token::of("listener"));
    Some((minio, gate, path))
}

async fn run(program: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = in_time("it ends", output).await.expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

#[tokio::test]
async fn ffprobe_reads_the_length_and_ffmpeg_seeks_near_the_end() {
    let (Some(ffprobe), Some(ffmpeg)) = (tools::find("ffprobe"), tools::find("ffmpeg")) else { return };
    let Some((_minio, gate, path)) = stage("https://app.test").await else { return };
    let url = format!("{}{path}", gate.url());
    let probe = ["-v", "error", "-show_entries", "format=duration:stream=codec_name,channels", "-of", "json", &url];
    let (out, err) = run(&ffprobe, &probe).await;
    let found: serde_json::Value = serde_json::from_str(&out).expect("ffprobe speaks JSON");
    assert_eq!(found["format"]["duration"], "60.000000", "{out} {err}");
    assert_eq!(found["streams"][0]["channels"], 2);
    let seek = ["-v", "error", "-seekable", "1", "-ss", "57", "-i", &url, "-f", "s16le", "-y", "-"];
    let output = Command::new(ffmpeg).args(seek).kill_on_drop(true).output();
    let output = in_time("it ends", output).await.expect("ffmpeg starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.len(), 3 * 44_100 * 4, "exactly the last three seconds");
    let tail = async || gate.access_lines().into_iter().find(|line| line["status"] == 206 && is_tail(line));
    eventually("a request for the end of the file alone", tail).await;
}

/// Three seconds are 529,200 bytes; what ffmpeg reads before it seeks is more or less.
fn is_tail(line: &serde_json::Value) -> bool {
    line["sent"].as_u64().is_some_and(|sent| (529_200..600_000).contains(&sent))
}

/// The page that plays.
const PAGE: &str = r#"<!doctype html><title>player</title><audio id="player" crossorigin="anonymous"></audio>"#;

#[tokio::test]
async fn a_browser_plays_and_seeks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let page = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let Some((_minio, gate, path)) = stage(&page).await else { return };
    let Some(browser) = Chromium::start().await else { return };
    let server = tokio::spawn(async move {
        let _ = axum::serve(listener, axum::Router::new().route("/", get(|| async { Html(PAGE) }))).await;
    });
    browser.open(&page).await;
    let script = r#"
        const player = document.getElementById("player");
        const event = name => new Promise((done, fail) => {
            player.addEventListener(name, done, { once: true });
            player.addEventListener("error", () => fail("error " + player.error.code + player.error.message));
            setTimeout(() => fail("no " + name), 15000);
        });
        const passed = async from => { while (player.currentTime < from + 0.3) await event("timeupdate"); };
        const ready = event("loadedmetadata");
        player.src = URL;
        await ready;
        await player.play();
        await passed(0);
        const heard = player.currentTime;
        for (const place of [55, 5, 30]) {
            const sought = event("seeked");
            player.currentTime = place;
            await sought;
            await passed(place);
        }
        const ended = event("ended");
        player.currentTime = player.duration - 0.5;
        await ended;
        return { duration: player.duration, heard, end: player.currentTime };
    "#;
    let result = browser.run(&script.replace("URL", &json!(format!("{}{path}", gate.url())).to_string())).await;
    assert_eq!(result["duration"], 60, "{result}");
    assert!(result["heard"].as_f64().is_some_and(|heard| heard > 0.2), "{result}");
    assert_eq!(result["end"], 60, "{result}");
    browser.close().await;
    server.abort();
}
