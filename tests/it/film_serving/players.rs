//! Real players: what ffmpeg has made, from a real MinIO, by a URL alone.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Cinema, films};
use crate::support::h2::H2;
use crate::support::tools::{self, TempFolder};
use crate::support::{Minio, in_time};
use crate::tls::{Certificates, FIRST};

/// The film.
pub const MOVIE: &str = "6f1d9c5e-8f0b-4f4e-9b63-2c7d0a7e2b11";
/// Seconds of the film.
const LENGTH: f64 = 8.0;

/// Makes the film: HLS in two qualities, one encrypted with a key, and DASH; and both once more as byte ranges of whole files.
fn film(ffmpeg: &Path, folder: &Path) {
    let run = |arguments: &[&str]| {
        let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=8"];
        let sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=8"];
        let codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"];
        let made = std::process::Command::new(ffmpeg)
            .args(source)
            .args(sound)
            .args(codec)
            .args(arguments)
            .current_dir(folder)
            .status();
        assert!(made.expect("ffmpeg starts").success(), "{arguments:?}");
    };
    for name in ["low", "secret", "ranges"] {
        std::fs::create_dir(folder.join(name)).expect("a folder");
    }
    let hls = ["-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod"];
    run(&[&hls[..], &["-hls_segment_filename", "low/chunk_%05d.ts", "low/index.m3u8"]].concat());
    std::fs::write(folder.join("k.key"), [7; 16]).expect("a key");
    // Where a packager puts it: beside the films.
    std::fs::write(folder.join("k.info"), format!("/vod/keys/{MOVIE}/k.key\nk.key\n")).expect("its place");
    let key = ["-hls_key_info_file", "k.info", "-hls_segment_filename", "secret/chunk_%05d.ts", "secret/index.m3u8"];
    run(&[&hls[..], &key].concat());
    let both = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=300000,RESOLUTION=320x180\nlow/index.m3u8\n\
                #EXT-X-STREAM-INF:BANDWIDTH=600000,RESOLUTION=320x180\nsecret/index.m3u8\n";
    std::fs::write(folder.join("index.m3u8"), both).expect("a playlist");
    run(&["-f", "dash", "-seg_duration", "2", "index.mpd"]);
    let single = ["-hls_flags", "single_file", "-hls_segment_filename", "ranges/all.ts", "ranges/index.m3u8"];
    run(&[&hls[..], &single].concat());
    run(&["-f", "dash", "-seg_duration", "2", "-single_file", "1", "ranges/index.mpd"]);
}

/// A gate before MinIO with the film in it, with TLS and in the clear.
pub struct Theatre {
    cinema: Cinema,
    certificates: Certificates,
    _minio: Minio,
}

/// Opens one, for pages of `origin`; `None` where MinIO or ffmpeg is missing and not required.
pub async fn theatre(origin: &str) -> Option<Theatre> {
    let minio = Minio::bucket().await?;
    let ffmpeg = tools::find("ffmpeg")?;
    let folder = TempFolder::new("film");
    film(&ffmpeg, folder.path());
    let mut files: Vec<PathBuf> = Vec::new();
    for at in ["", "low", "secret", "ranges"] {
        let entries = std::fs::read_dir(folder.path().join(at)).expect("readable");
        files.extend(entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()));
    }
    for file in files {
        let name = file.strip_prefix(folder.path()).expect("it is below").display().to_string();
        let key = if name == "k.key" { format!("keys/{MOVIE}/k.key") } else { format!("movies/{MOVIE}/{name}") };
        let bytes = std::fs::read(&file).expect("readable");
        // The key's place names the bucket.
        let bytes = match name.ends_with(".m3u8") {
            true => {
                String::from_utf8_lossy(&bytes).replace("/vod/keys/", &format!("/{}/keys/", minio.name())).into_bytes()
            }
            false => bytes,
        };
        minio.put(&key, bytes).await;
    }
    let mut config = films(&minio.url(), minio.name());
    config["Policies"]["Cors"]["page"] = json!({ "Origins": [origin], "AllowCredentials": true });
    config["Api"] = json!({ "CorsPolicy": "page" });
    let certificates = Certificates::make();
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0" }, certificates.listener()]);
    Some(Theatre { cinema: Cinema::open(config).await, certificates, _minio: minio })
}

impl Theatre {
    /// The URL of a file of the film, for a new viewer.
    pub async fn url(&self, name: &str) -> String {
        format!("http://{}{}", self.cinema.gate.address(), self.cinema.path(MOVIE, name).await)
    }

    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        self.cinema.gate.metric(name, labels).await
    }

    pub fn access_lines(&self) -> Vec<Value> {
        self.cinema.gate.access_lines()
    }

    /// The origin of its listener with TLS.
    pub fn tls_origin(&self) -> String {
        format!("https://{}", self.cinema.gate.listeners()[1])
    }

    async fn tls_url(&self, name: &str) -> String {
        format!("{}{}", self.tls_origin(), self.cinema.path(MOVIE, name).await)
    }
}

/// Runs a player to its end; returns what it wrote.
pub async fn play(program: &Path, arguments: &[&str]) -> String {
    // VLC does not play for root.
    let mut command = match rustix::process::geteuid().is_root() && program.ends_with("cvlc") {
        true => {
            let mut command = tokio::process::Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
            command
        }
        false => tokio::process::Command::new(program),
    };
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = in_time("the player ends", command.output()).await.expect("the player starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {text}", program.display());
    text
}

/// The seconds of sound and of pictures that ffmpeg decodes at `url`.
async fn decoded(ffprobe: &Path, url: &str) -> (f64, usize) {
    let all = ["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries"];
    let frames = play(ffprobe, &[&all[..], &["stream=nb_read_frames", "-of", "csv=p=0", url]].concat()).await;
    let seconds = play(ffprobe, &["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", url]).await;
    let first = |text: &str| text.lines().next().unwrap_or_default().trim_end_matches(',').to_owned();
    (first(&seconds).parse().unwrap_or_default(), first(&frames).parse().unwrap_or_default())
}

#[tokio::test]
async fn ffmpeg_plays_hls_dash_byte_ranges_and_an_encrypted_playlist_by_the_url_alone() {
    let Some(ffprobe) = tools::find("ffprobe") else { return };
    let Some(theatre) = theatre("https://app.example").await else { return };
    // ffmpeg 5.1 reads byte ranges of DASH wrongly, from its own files too: shaka plays those.
    for name in ["index.m3u8", "low/index.m3u8", "secret/index.m3u8", "index.mpd", "ranges/index.m3u8"] {
        for url in [theatre.url(name).await, theatre.tls_url(name).await] {
            let (seconds, frames) = decoded(&ffprobe, &url).await;
            assert!((LENGTH - 0.3..LENGTH + 0.5).contains(&seconds), "{name}: {seconds} seconds");
            assert_eq!(frames, 200, "{name}: every picture");
        }
    }
    assert!(!theatre.cinema.gate.log().contains("manifest_refused"));
}

#[tokio::test]
async fn a_playlist_and_its_segments_come_over_http_2() {
    let Some(theatre) = theatre("https://app.example").await else { return };
    let listener = theatre.cinema.gate.listeners()[1];
    let connection = theatre.certificates.connect_to(listener, FIRST, true, &["h2"]).await;
    let connection = H2::over(connection).await.expect("the gate speaks HTTP/2");
    let playlist = theatre.cinema.path(MOVIE, "low/index.m3u8").await;
    let text = String::from_utf8(connection.get(&playlist, &[]).await.body).expect("UTF-8");
    let segments: Vec<&str> = text.lines().filter(|line| line.ends_with(".ts")).collect();
    assert_eq!(segments.len(), 4, "{text}");
    for segment in segments {
        let answer = connection.get(&playlist.replace("index.m3u8", segment), &[]).await;
        assert!(answer.status == 200 && answer.body.first() == Some(&0x47), "a transport stream");
    }
}

#[tokio::test]
async fn mpv_vlc_and_gstreamer_play_hls_and_dash_by_the_url_alone() {
    let players = [
        ("mpv", &["--no-config", "--vo=null", "--ao=null", "--untimed", "--really-quiet", "--no-terminal", "URL"][..]),
        ("cvlc", &["--no-audio", "--vout", "dummy", "--play-and-exit", "--run-time=3", "-q", "URL", "vlc://quit"][..]),
        ("gst-launch-1.0", &["-q", "playbin3", "uri=URL", "video-sink=fakesink", "audio-sink=fakesink"][..]),
    ];
    let found: Vec<_> = players.iter().filter_map(|(name, arguments)| Some((tools::find(name)?, arguments))).collect();
    if found.is_empty() {
        return;
    }
    let Some(theatre) = theatre("https://app.example").await else { return };
    let gate = &theatre.cinema.gate;
    for (program, arguments) in found {
        for name in ["low/index.m3u8", "index.mpd", "secret/index.m3u8"] {
            let asked = gate.access_lines().len();
            let url = theatre.url(name).await;
            let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("URL", &url)).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            play(&program, &arguments).await;
            let lines = gate.access_lines().split_off(asked);
            let fetched = lines.iter().filter(|line| {
                let path = line["path"].as_str().unwrap_or_default();
                (path.ends_with(".ts") || path.ends_with(".m4s"))
                    && [200, 206].contains(&line["status"].as_u64().unwrap_or(0))
            });
            assert!(fetched.count() >= 2, "{} fetched no segments of {name}: {lines:?}", program.display());
        }
    }
}
