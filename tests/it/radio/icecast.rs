//! A real Icecast with ffmpeg as its source, HLS from ffmpeg behind nginx, and curl and ffmpeg as listeners.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::*;
use crate::support::service::{Service, free_port};
use crate::support::{curl, eventually, in_time, nginx, tools};
use crate::tls::Certificates;

/// An Icecast on loopback.
pub struct Icecast {
    _service: Service,
    port: u16,
}

impl Icecast {
    /// Starts it; `None` where it is missing and not required.
    pub fn start() -> Option<Self> {
        let program = tools::find("icecast2")?;
        let (folder, port) = (TempFolder::new("icecast"), free_port());
        let file = folder.path().join("icecast.xml");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("its owner may");
        // It refuses to run as root.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        let owner = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>";
        let text = format!(
            "<icecast><limits><sources>5</sources></limits>
            <authentication><source-password>in</source-password><admin-password>in</admin-password></authentication>
            <hostname>localhost</hostname><listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
            <paths><basedir>/usr/share/icecast2</basedir><logdir>{}</logdir><webroot>/usr/share/icecast2/web</webroot>
            <adminroot>/usr/share/icecast2/admin</adminroot></paths>
            <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog></logging>
            <security><chroot>0</chroot>{}</security></icecast>",
            folder.path().display(),
            if is_root { owner } else { "" },
        );
        std::fs::write(&file, text).expect("the file can be written");
        let command: Vec<OsString> = vec![program.into(), "-c".into(), file.into()];
        let service =
            Service::start(folder, command, move || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { _service: service, port })
    }

    /// Address of a mount.
    pub fn url(&self, mount: &str) -> String {
        format!("http://127.0.0.1:{}{mount}", self.port)
    }

    /// A source that sends a tone of 440 Hz, encoded by these arguments.
    pub fn source(&self, mount: &str, encoding: &[&str]) -> Option<Child> {
        let mut command = Command::new(tools::find("ffmpeg")?);
        command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]).args(encoding);
        command.arg(format!("icecast://source:in@127.0.0.1:{}{mount}", self.port));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Some(command.spawn().expect("ffmpeg starts"))
    }

    /// Listeners that it counts at all mounts.
    async fn listeners(&self) -> u64 {
        let client = crate::support::client::Client::new(format!("http://127.0.0.1:{}", self.port));
        let status: Value = serde_json::from_slice(&client.get("/status-json.xsl", &[]).await.body).expect("JSON");
        let sources = &status["icestats"]["source"];
        let of = |source: &Value| source["listeners"].as_u64().unwrap_or(0);
        sources.as_array().map_or_else(|| of(sources), |sources| sources.iter().map(of).sum())
    }

    /// Tells it a title, as sources of MP3 do.
    pub async fn tell_title(&self, mount: &str, title: &str) {
        let client = crate::support::client::Client::new(format!("http://127.0.0.1:{}", self.port));
        let song = title.replace(' ', "+");
        let path = format!("/admin/metadata?mount={mount}&mode=updinfo&song={song}");
        // source:in
        client.get(&path, &[("authorization", "Basic c291cmNlOmlu")]).await.is(200);
    }

    /// Waits until the source of a mount is there.
    pub async fn has_mount(&self, mount: &str) {
        let client = crate::support::client::Client::new(format!("http://127.0.0.1:{}", self.port));
        eventually("the source is there", async || {
            client.get("/status-json.xsl", &[]).await.text().contains(mount).then_some(())
        })
        .await;
    }
}

/// Serves what ffmpeg writes.
const HLS_SERVER: &str =
    "server { listen 127.0.0.1:{port}; root {folder}; types { application/vnd.apple.mpegurl m3u8; } }";
/// Arguments of ffmpeg for MP3.
pub const MP3: &[&str] = &["-c:a", "libmp3lame", "-b:a", "128k", "-content_type", "audio/mpeg", "-f", "mp3"];
const OPUS: &[&str] = &[
    "-c:a",
    "libopus",
    "-b:a",
    "64k",
    "-metadata",
    "artist=Nina",
    "-metadata",
    "title=Sinnerman",
    "-content_type",
    "application/ogg",
    "-f",
    "ogg",
];

/// Has ffmpeg hear a second of `url` and measures the tone: the crossings of zero.
async fn tone_of(url: &str) -> f64 {
    let mut command = Command::new(tools::find("ffmpeg").expect("it was there"));
    command.args(["-v", "error"]);
    if url.starts_with("https:") {
        command.args(["-tls_verify", "0"]);
    }
    command.args(["-i", url, "-t", "1", "-ac", "1", "-ar", "48000", "-f", "s16le", "-"]);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = in_time("ffmpeg hears a second", output).await.expect("it runs");
    let samples: Vec<i16> = output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    assert!(samples.len() > 40_000, "{}", String::from_utf8_lossy(&output.stderr));
    // The first tenth may be what a decoder makes of half a frame.
    let steady = &samples[4800..];
    let crossings = steady.windows(2).filter(|two| two[0] < 0 && two[1] >= 0).count();
    crossings as f64 * 48_000.0 / steady.len() as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_icecast_is_heard_by_many_over_one_connection_by_every_protocol() {
    let (Some(icecast), Some(_)) = (Icecast::start(), curl::find()) else { return };
    let Some(_source) = icecast.source("/live.mp3", MP3) else { return };
    icecast.has_mount("/live.mp3").await;
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    let certificates = Certificates::make();
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    config["Server"]["Listeners"].as_array_mut().expect("a list").push(certificates.listener());
    let gate = Gate::start(&config).await;
    let admin = Client::admin(&gate);
    let added = admin.add("Tone", &icecast.url("/live.mp3")).await;
    assert_eq!((&added["codec"], &added["bitrate_kbps"]), (&json!("mp3"), &json!(128)));
    let played = admin.play(id_of(&added)).await;
    let url = format!("{}{}", gate.url(), played["play_url"].as_str().expect("an address"));
    let mut held = admin.hear(id_of(&added)).await;
    let over_tls = url.replace(&gate.url(), &format!("https://{}", gate.listeners()[1]));
    for (url, version) in [
        (&url, curl::Version::Http1),
        (&url, curl::Version::Http2),
        (&over_tls, curl::Version::Http1),
        (&over_tls, curl::Version::Http2),
    ] {
        let heard = curl::get(url, version, &["--max-time", "3"]).await;
        let head = &heard.heads[0];
        assert_eq!((head.status, head.field("content-type")), (200, Some("audio/mpeg")), "{url} {version:?}");
        assert!(heard.body.len() > 30_000, "{url} {version:?}: {} bytes", heard.body.len());
    }
    let (one, two) = tokio::join!(tone_of(&url), tone_of(&over_tls));
    for tone in [one, two] {
        assert!((tone - 440.0).abs() < 5.0, "{tone} Hz");
    }
    held.hear(10_000).await;
    assert_eq!(icecast.listeners().await, 1, "one connection for all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_later_hears_an_ogg_stream_from_its_headers_on() {
    let Some(icecast) = Icecast::start() else { return };
    let Some(_source) = icecast.source("/live.ogg", OPUS) else { return };
    icecast.has_mount("/live.ogg").await;
    let folder = TempFolder::new("radio");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let admin = Client::admin(&gate);
    let added = admin.add("Tone", &icecast.url("/live.ogg")).await;
    assert_eq!((&added["codec"], &added["content_type"]), (&json!("opus"), &json!("audio/ogg")));
    let mut held = admin.hear(id_of(&added)).await;
    held.hear(60_000).await;
    let played = admin.play(id_of(&added)).await;
    let tone = tone_of(&format!("{}{}", gate.url(), played["play_url"].as_str().expect("an address"))).await;
    assert!((tone - 440.0).abs() < 5.0, "{tone} Hz");
    assert_eq!(admin.get(&format!("streams/{}", id_of(&added))).await["now_playing"], "Nina - Sinnerman");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_of_hls_segments_is_heard_as_one_stream() {
    let (Some(nginx), Some(ffmpeg)) = (nginx::start(HLS_SERVER), tools::find("ffmpeg")) else { return };
    let mut command = Command::new(ffmpeg);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:a", "aac", "-b:a", "128k"]);
    command.args(["-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments"]);
    command.arg(nginx.folder.join("live.m3u8")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _encoder = command.kill_on_drop(true).spawn().expect("ffmpeg starts");
    let playlist = format!("http://{}/live.m3u8", nginx.address);
    eventually("there are segments", async || {
        std::fs::read_to_string(nginx.folder.join("live.m3u8")).ok().filter(|text| text.matches("#EXTINF").count() > 2)
    })
    .await;
    let folder = TempFolder::new("radio");
    let gate = Gate::start(&in_a_file(&folder)).await;
    let admin = Client::admin(&gate);
    let added = admin.add("Tone", &playlist).await;
    assert_eq!((&added["codec"], &added["hls"]), (&json!("aac"), &json!(true)), "{added}");
    let played = admin.play(id_of(&added)).await;
    let mut held = admin.hear(id_of(&added)).await;
    let tone = tone_of(&format!("{}{}", gate.url(), played["play_url"].as_str().expect("an address"))).await;
    assert!((tone - 440.0).abs() < 5.0, "{tone} Hz");
    // Longer than what the playlist had at first: its new segments are fetched.
    held.hear(150_000).await;
}
