//! The film page in a real browser, before a real MinIO: what counts is what the element plays.

mod journey;
mod looks;
mod measured;
mod outages;
mod playing;
mod sessions;
mod state;

use std::fs::DirEntry;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::films::Viewer;
use crate::support::chromium::Chromium;
use crate::support::tools::{self, TempFolder};
use crate::support::{Gate, Minio, eventually, token};

const MOVIE: &str = "dune";
/// Seconds of the film.
const LENGTH: u32 = 120;

/// What the scripts below share.
const TOOLS: &str = r#"
    const element = id => document.getElementById(id);
    const video = element("video");
    const state = wanted => until(wanted, () => document.body.dataset.state === wanted);
    const plays = async () => {
        await until("a film that plays", async () => {
            if (document.body.dataset.state === "ready") element("start").click();
            const before = video.currentTime;
            await new Promise(done => setTimeout(done, 300));
            return !video.paused && video.currentTime > before;
        });
        return video.currentTime;
    };
    const past = seconds => until(`second ${seconds}`, () => video.currentTime > seconds);
    const ahead = () => {
        const parts = Array.from(video.buffered, (_, n) => [video.buffered.start(n), video.buffered.end(n)]);
        return (parts.find(([from, to]) => from <= video.currentTime && to > video.currentTime)?.[1] ?? 0) - video.currentTime;
    };
    const seek = to => { element("seek").value = to; element("seek").dispatchEvent(new Event("input")); };
    const choose = (id, value) => { element(id).value = value; element(id).dispatchEvent(new Event("change")); };
    const options = id => [...element(id).options].map(option => option.text);
    const loaded = () => performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname);
"#;

/// Makes the film in `folder`: two qualities, sound in two languages, subtitles; as HLS and as DASH.
fn film(ffmpeg: &Path, folder: &Path) {
    let run = |arguments: &[&str]| {
        let made = Command::new(ffmpeg).args(["-v", "error", "-y"]).args(arguments).current_dir(folder).status();
        assert!(made.expect("ffmpeg starts").success(), "{arguments:?}");
    };
    let h264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "20"];
    for (name, size) in [("low.mp4", "320x180"), ("high.mp4", "640x360")] {
        let source = format!("testsrc2=size={size}:rate=10:duration={LENGTH}");
        run(&[&["-f", "lavfi", "-i", source.as_str()][..], &h264[..], &[name][..]].concat());
    }
    for (name, hertz) in [("en.m4a", 440), ("es.m4a", 880)] {
        let source = format!("sine=frequency={hertz}:duration={LENGTH}");
        run(&["-f", "lavfi", "-i", source.as_str(), "-c:a", "aac", "-b:a", "64k", name]);
    }
    for name in ["low.mp4", "high.mp4", "en.m4a", "es.m4a"] {
        let (of, _) = name.split_once('.').expect("an ending");
        let (segments, playlist) = (format!("{of}_%03d.ts"), format!("{of}.m3u8"));
        let hls = ["-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod", "-hls_segment_filename"];
        run(&[&["-i", name, "-c", "copy"][..], &hls[..], &[segments.as_str(), playlist.as_str()][..]].concat());
    }
    let cues: String =
        (0..60).map(|n| format!("{}.000 --> {}.900\nLine {n}\n\n", clock(2 * n), clock(2 * n + 1))).collect();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    write("en.vtt", &format!("WEBVTT\n\n{cues}"));
    write(
        "subtitles.m3u8",
        &format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:{LENGTH}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:{LENGTH},\nen.vtt\n#EXT-X-ENDLIST\n"
        ),
    );
    write("index.m3u8", MASTER);
    let maps = ["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c", "copy"];
    let languages = ["-metadata:s:a:0", "language=en", "-metadata:s:a:1", "language=es"];
    let dash =
        ["-f", "dash", "-seg_duration", "2", "-adaptation_sets", "id=0,streams=0,1 id=1,streams=2 id=2,streams=3"];
    let inputs = ["-i", "low.mp4", "-i", "high.mp4", "-i", "en.m4a", "-i", "es.m4a"];
    run(&[&inputs[..], &maps[..], &languages[..], &dash[..], &["index.mpd"][..]].concat());
    let mpd = std::fs::read_to_string(folder.join("index.mpd")).expect("a manifest");
    let text = r#"<AdaptationSet id="9" contentType="text" mimeType="text/vtt" lang="en"><Role schemeIdUri="urn:mpeg:dash:role:2011" value="subtitle"/><Representation id="sub" bandwidth="100"><BaseURL>en.vtt</BaseURL></Representation></AdaptationSet>"#;
    write("index.mpd", &mpd.replacen("</Period>", &format!("{text}</Period>"), 1));
}

const MASTER: &str = "#EXTM3U
#EXT-X-SESSION-DATA:DATA-ID=\"com.apple.hls.title\",VALUE=\"A Film of Sand\"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,URI=\"en.m3u8\"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Español\",LANGUAGE=\"es\",AUTOSELECT=YES,URI=\"es.m3u8\"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"English\",LANGUAGE=\"en\",URI=\"subtitles.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=400000,RESOLUTION=320x180,AUDIO=\"a\",SUBTITLES=\"s\"
low.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360,AUDIO=\"a\",SUBTITLES=\"s\"
high.m3u8
";

fn clock(seconds: u32) -> String {
    format!("00:{:02}:{:02}", seconds / 60, seconds % 60)
}

/// A gate with the film, and a browser before it.
struct Cinema {
    gate: Gate,
    browser: Chromium,
    _folder: TempFolder,
}

/// Files of the film, made once for all tests.
fn film_files(ffmpeg: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = TempFolder::new("watch-film");
    film(ffmpeg, folder.path());
    let read = |entry: std::io::Result<DirEntry>| {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(&path).expect("readable"))
    };
    std::fs::read_dir(folder.path()).expect("readable").map(read).collect()
}

/// Puts the film into a bucket; false where ffmpeg is missing and not required.
async fn put_film(minio: &Minio) -> bool {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    let Some(ffmpeg) = tools::find("ffmpeg") else { return false };
    for (name, content) in FILES.get_or_init(|| film_files(&ffmpeg)) {
        minio.put(&format!("movies/{MOVIE}/{name}"), content.clone()).await;
    }
    true
}

impl Cinema {
    /// Opens one, with `change` made to its configuration; `None` where a tool is missing and not required.
    async fn open(change: impl FnOnce(&mut Value)) -> Option<Self> {
        let minio = Minio::bucket().await?;
        Self::before(&minio, change).await
    }

    async fn before(minio: &Minio, change: impl FnOnce(&mut Value)) -> Option<Self> {
        if !put_film(minio).await {
            return None;
        }
        let browser = Chromium::start().await?;
        let folder = TempFolder::new("watch");
        let mut config = crate::films::films(&minio.url(), minio.name(), &folder);
        change(&mut config);
        Some(Self { gate: Gate::start(&config).await, browser, _folder: folder })
    }

    /// Gives the browser a cookie with a token of `user`.
    async fn sign_in(&self, user: &str) {
        self.browser.open(&format!("{}/watch/", self.gate.url())).await;
        self.browser.run(&format!("document.cookie = 'session={}; path=/'", token::of(user))).await;
    }

    /// Opens the page of the film.
    async fn visit(&self, query: &str) {
        self.browser.open(&format!("{}/watch/{MOVIE}{query}", self.gate.url())).await;
    }

    /// Runs the body of an async function in the page.
    async fn run(&self, body: &str) -> Value {
        self.browser.run(&format!("{TOOLS}{body}")).await
    }

    /// The user's position in the film.
    async fn position(&self, user: &str) -> i64 {
        Viewer::new(&self.gate, user).position(MOVIE).await
    }

    /// Waits until the user's position is as wanted; returns it.
    async fn position_becomes(&self, user: &str, what: &str, wanted: impl Fn(i64) -> bool) -> i64 {
        eventually(what, async || Some(self.position(user).await).filter(|position| wanted(*position))).await
    }
}

/// Fails where the browser has barred something by the page's policy.
async fn assert_nothing_was_barred(cinema: &Cinema) {
    let barred = r#"
        const seen = [];
        const observer = new ReportingObserver(reports => seen.push(...reports), { types: ["csp-violation"], buffered: true });
        observer.observe();
        seen.push(...observer.takeRecords());
        await new Promise(done => setTimeout(done, 100));
        return seen.map(({ body }) => `${body.effectiveDirective} ${body.blockedURL} ${body.sourceFile}`);
    "#;
    assert_eq!(cinema.run(barred).await, json!([]));
}
