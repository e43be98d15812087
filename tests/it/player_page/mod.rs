//! The player page in a real browser, before the shipped binary and its store of a folder.

mod continued;
mod controls;
mod library;
mod looks;
mod lyrics;
mod playing;
mod queue;
mod radio;
mod signin;
mod small;
mod sound;
mod states;
mod stations;
mod windows;

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::{admin, send, sqlite, tracks};
use crate::radio::station::Station;
use crate::support::chromium::Chromium;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, eventually, token};

/// Seconds of each track.
const LENGTH: u32 = 60;
/// Samples per second of the tracks.
const RATE: u32 = 8000;

/// What the scripts below share.
const TOOLS: &str = r#"
    const element = id => document.getElementById(id);
    const audio = element("audio");
    const wait = ms => new Promise(done => setTimeout(done, ms));
    const state = wanted => until(wanted, () => document.body.dataset.state === wanted);
    const listed = () => [...document.querySelectorAll("ol#library .title")].map(node => node.textContent);
    const choose = (id, value) => { element(id).value = value; element(id).dispatchEvent(new Event("change")); };
    const slide = (id, value) => { element(id).value = value; element(id).dispatchEvent(new Event("input")); };
    const plays = async title => {
        await until("the list", () => listed().includes(title));
        [...document.querySelectorAll("ol#library .track-play")].find(node => node.querySelector(".title").textContent === title).click();
        await until("sound", () => !audio.paused && audio.currentTime > 0.2);
    };
"#;

/// A WAVE file of 8 bits, of the samples that a function of the seconds gives.
fn wave(sample: impl Fn(f64) -> f64) -> Vec<u8> {
    wave_of(LENGTH, sample)
}

/// As [`wave`], of so many seconds.
fn wave_of(seconds: u32, sample: impl Fn(f64) -> f64) -> Vec<u8> {
    let at = |n: u32| f64::from(n) / f64::from(RATE);
    let samples: Vec<u8> = (0..seconds * RATE).map(|n| (128.0 + 127.0 * sample(at(n))).round() as u8).collect();
    let length = u32::try_from(samples.len()).expect("short");
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(RATE.to_le_bytes());
    file.extend(RATE.to_le_bytes());
    file.extend(b"\x01\0\x08\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

fn sine(hertz: f64, seconds: f64) -> f64 {
    (std::f64::consts::TAU * hertz * seconds).sin()
}

/// Goes from 440 to 880 Hz and back at each half second of the clock.
fn two_tones(seconds: f64) -> f64 {
    let is_high = (seconds + 0.5).rem_euclid(2.0) >= 1.0;
    0.4 * sine(if is_high { 880.0 } else { 440.0 }, seconds)
}

/// Sound of a track: Low Tide is a tone of 440 Hz; Night Ferry has three tones, each at a band of the equalizer; Вітер goes
/// from 440 to 880 Hz and back at each half second of the clock.
fn sound_of(id: &str) -> Vec<u8> {
    match id {
        "t2" => wave(|seconds| [62.5, 250.0, 1000.0].iter().map(|hertz| 0.2 * sine(*hertz, seconds)).sum()),
        "t3" => wave(two_tones),
        _ => wave(|seconds| 0.4 * sine(440.0, seconds)),
    }
}

/// Tracks of the library: id and key.
const TRACKS: [(&str, &str); 4] = [
    ("t1", "Ada Lindqvist/Harbour/01 Low Tide.wav"),
    ("t2", "Ada Lindqvist/Harbour/02 Night Ferry.wav"),
    ("t3", "Мар’яна Гай/Степ/01 Вітер.wav"),
    ("t4", "Of Others/Secret/01 Hidden.wav"),
];

/// A gate with the library, and a browser before it.
struct Room {
    gate: Gate,
    browser: Chromium,
    folder: TempFolder,
}

/// Puts an object into the store.
fn write(folder: &TempFolder, key: &str, bytes: &[u8]) {
    let path = folder.path().join("objects/audio").join(key);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, bytes).expect("a file");
}

fn configuration(folder: &Path, database: &str) -> Value {
    let mut config = tracks("http://127.0.0.1:1", database);
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.join("objects") });
    config["Auth"]["PathToken"] = json!({});
    config["Positions"] = json!({ "MinDuration": "30s" });
    config["Playback"] = json!({});
    config["Player"] = json!({});
    config
}

/// Puts the tracks of ada, and one of somebody else, into the folder and the catalogue.
async fn fill(gate: &Gate) {
    for (id, key) in TRACKS {
        let owner = if id == "t4" { "bob" } else { "ada" };
        let track = json!({ "id": id, "store": "main", "bucket": "audio", "key": key, "contentType": "audio/wav", "ownerId": owner });
        send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    }
}

impl Room {
    /// Opens one, with `change` made to its configuration; `None` where a tool is missing and not required.
    async fn open(change: impl FnOnce(&mut Value)) -> Option<Self> {
        Self::open_before(Chromium::start().await?, change).await
    }

    /// As [`Self::open`], before this browser.
    async fn open_before(browser: Chromium, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let folder = TempFolder::new("player-page");
        for (id, key) in TRACKS {
            write(&folder, key, &sound_of(id));
        }
        let mut config = configuration(folder.path(), &sqlite(&folder));
        change(&mut config);
        let gate = Gate::start(&config).await;
        fill(&gate).await;
        Some(Self { gate, browser, folder })
    }

    /// As [`Self::open`], with a station of the name One, and with lyrics of Вітер.
    async fn with_everything(station: &Station) -> Option<Self> {
        let change = |config: &mut Value| {
            config["Radio"] = json!({ "AllowedNetworks": ["127.0.0.1/32"] });
            config["Lyrics"] = json!({});
        };
        let room = Self::open(change).await?;
        write(&room.folder, "Мар’яна Гай/Степ/01 Вітер.lrc", b"[00:00.50]One\n[00:01.50]Two\n");
        let one = json!({ "name": "One", "url": station.url("/live.mp3"), "genre": "jazz", "country": "UA" });
        send(&room.gate, Method::POST, "/api/v1/radio/streams", &admin(), Some(one)).await.is(201);
        Some(room)
    }

    /// Opens the page, signed in as `user`.
    async fn visit(&self, user: &str) {
        self.open_page().await;
        let signed = format!(
            r#"await state("signin");
               element("token").value = "{}";
               element("signin").requestSubmit();
               await until("the list", () => document.querySelector(".track, .empty"));
               return null;"#,
            token::of(user)
        );
        self.run(&signed).await;
    }

    async fn open_page(&self) {
        self.browser.open(&format!("{}/player/", self.gate.url())).await;
    }

    /// Runs the body of an async function in the page.
    async fn run(&self, body: &str) -> Value {
        self.browser.run(&format!("{TOOLS}{body}")).await
    }

    /// Milliseconds at which the user is in a track; `null` where none is known.
    async fn position(&self, user: &str, id: &str) -> Value {
        let path = format!("/api/v1/tracks/{id}/position");
        let reply = ApiUser::new(&self.gate, user).send(Method::GET, &path, None).await;
        serde_json::from_slice::<Value>(&reply.is(200).body).expect("JSON")["positionMs"].clone()
    }

    async fn position_becomes(&self, user: &str, id: &str, wanted: impl Fn(i64) -> bool) -> i64 {
        eventually("the position", async || self.position(user, id).await.as_i64().filter(|at| wanted(*at))).await
    }
}
