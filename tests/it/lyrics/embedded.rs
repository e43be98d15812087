//! Tags of real files: what ffmpeg writes, and frames of ID3v2 that it does not.

use std::path::Path;

use tokio::process::Command;

use super::stand_ins::StandIn;
use super::*;
use crate::support::{Object, in_time, tools};

const LRC: &str = "[00:01.00]First\n[00:02.50]Second";

/// A file that ffmpeg makes: `seconds` of noise, with tags.
pub(super) async fn tagged(ffmpeg: &Path, folder: &TempFolder, name: &str, seconds: u32, more: &[&str]) -> Vec<u8> {
    let file = folder.path().join(name);
    let source = format!("anoisesrc=d={seconds}:c=pink:r=44100:a=0.5");
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", &source]);
    command.args(["-metadata", "artist=Ada", "-metadata", "title=Prelude", "-metadata", "album=Notes"]);
    command.args(more).arg(&file);
    let output = in_time("it ends", command.kill_on_drop(true).output()).await.expect("ffmpeg starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(file).expect("a file")
}

/// A frame of ID3v2.4.
fn frame(id: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut frame = id.to_vec();
    frame.extend(synchsafe(content.len()));
    frame.extend([0, 0]);
    frame.extend(content);
    frame
}

fn synchsafe(size: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (size >> shift) as u8 & 0x7F)
}

/// An ID3v2.4 tag with these frames, before the sound of an MP3.
pub(super) fn with_id3(frames: &[Vec<u8>], sound: &[u8]) -> Vec<u8> {
    let frames = frames.concat();
    let mut file = b"ID3\x04\0\0".to_vec();
    file.extend(synchsafe(frames.len()));
    file.extend(frames);
    file.extend(sound);
    file
}

pub(super) fn uslt(lang: &str, text: &str) -> Vec<u8> {
    frame(b"USLT", &[b"\x03".as_slice(), lang.as_bytes(), b"\0", text.as_bytes()].concat())
}

fn sylt(parts: &[(u32, &str)]) -> Vec<u8> {
    let parts = parts.iter().map(|(time, text)| [text.as_bytes(), b"\0", &time.to_be_bytes()].concat());
    frame(b"SYLT", &[b"\x03eng\x02\x01\0".to_vec(), parts.collect::<Vec<_>>().concat()].concat())
}

#[tokio::test]
async fn tags_that_ffmpeg_writes_are_read() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let folder = TempFolder::new("lyrics");
    let gate = Gate::start(&lyrics(&minio.url(), &sqlite(&folder))).await;
    let text = format!("lyrics={LRC}");
    // Long enough that head and tail are not all of them: the tags of an MP4 are at its end.
    for (name, seconds) in
        [("song.mp3", 5), ("song.flac", 5), ("song.ogg", 5), ("song.opus", 5), ("song.m4a", 60), ("front.m4a", 60)]
    {
        let mut more = vec!["-metadata", &*text];
        more.extend(name.ends_with("ogg").then_some(["-c:a", "libvorbis"]).into_iter().flatten());
        more.extend(name.starts_with("front").then_some(["-movflags", "+faststart"]).into_iter().flatten());
        minio.put(&format!("audio/{name}"), tagged(&ffmpeg, &folder, name, seconds, &more).await).await;
        add(&gate, name, minio.name(), &format!("audio/{name}")).await;
        let found = get(&gate, name, "bob").await;
        assert_eq!(lines(&found["synced"]), ["1000 First", "2500 Second"], "{name}");
        assert_eq!(
            (&found["artist"], &found["title"], &found["source"]),
            (&json!("Ada"), &json!("Prelude"), &json!("embedded"))
        );
        let millis = found["duration_ms"].as_u64().unwrap_or_default();
        assert!(millis.abs_diff(u64::from(seconds) * 1000) < 200, "{name}: {millis} ms");
    }
}

#[tokio::test]
async fn synchronized_frames_of_id3_have_times_of_lines_and_of_words() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let folder = TempFolder::new("lyrics");
    let gate = Gate::start(&lyrics(&minio.url(), &sqlite(&folder))).await;
    let sound = tagged(&ffmpeg, &folder, "sound.mp3", 2, &["-id3v2_version", "0", "-write_id3v1", "0"]).await;
    let picture = |size: usize| frame(b"APIC", &[b"\0image/png\0\x03\0".to_vec(), vec![7; size]].concat());
    let files = [
        ("plain", vec![uslt("eng", "One\nTwo"), uslt("rus", "Раз\nДва")]),
        ("lines", vec![uslt("eng", "never"), sylt(&[(1000, "One"), (2000, "Two")])]),
        ("words", vec![sylt(&[(1000, "One "), (1500, "word"), (2000, "\nTwo")])]),
        ("late", vec![picture(700_000), uslt("eng", LRC)]),
        ("huge", vec![picture(6 << 20), uslt("eng", LRC)]),
    ];
    for (name, frames) in files {
        minio.put(&format!("{name}.mp3"), with_id3(&frames, &sound)).await;
        add(&gate, name, minio.name(), &format!("{name}.mp3")).await;
    }
    let plain = get(&gate, "plain", "bob").await;
    assert_eq!((&plain["plain"], &plain["lang"]), (&json!("One\nTwo"), &json!("en")));
    assert_eq!((&plain["texts"][1]["kind"], &plain["texts"][1]["lang"]), (&json!("translation"), &json!("ru")));
    assert_eq!(lines(&get(&gate, "lines", "bob").await["synced"]), ["1000 One", "2000 Two"]);
    let words = get(&gate, "words", "bob").await;
    assert_eq!(lines(&words["synced"]), ["1000 One word", "2000 Two"]);
    assert_eq!(words["synced"][0]["words"][1], json!({ "start_ms": 1500, "end_ms": 2000, "text": "word" }));
    assert_eq!(lines(&get(&gate, "late", "bob").await["synced"]), ["1000 First", "2500 Second"], "behind a picture");
    // More than 4 MiB of a file are not read.
    ask(&gate, "huge", "bob").await.problem(404);
}

#[tokio::test]
async fn only_the_head_and_the_tail_of_a_file_are_read() {
    let Some(ffmpeg) = tools::find("ffmpeg") else { return };
    let (origin, folder) = (ScriptedOrigin::start().await, TempFolder::new("lyrics"));
    let gate = Gate::start(&lyrics(&origin.url(), &sqlite(&folder))).await;
    let text = format!("lyrics={LRC}");
    let file = tagged(&ffmpeg, &folder, "long.m4a", 240, &["-metadata", &text]).await;
    assert!(file.len() > 1 << 20, "{}", file.len());
    origin.put("/audio/long.m4a", Object::new(file));
    add(&gate, "long", "audio", "long.m4a").await;
    origin.take_seen();
    assert_eq!(lines(&get(&gate, "long", "bob").await["synced"]), ["1000 First", "2500 Second"]);
    let seen = origin.take_seen();
    let reads: Vec<_> = seen.iter().filter(|seen| seen.target.starts_with("/audio/long.m4a")).collect();
    let range = |seen: &crate::support::origin_http::Seen| {
        let text = seen.header("range").expect("a range").trim_start_matches("bytes=").to_owned();
        let (from, to) =
            text.split_once('-').map(|(from, to)| (from.parse::<u64>(), to.parse::<u64>())).expect("two ends");
        to.expect("an end") + 1 - from.expect("a beginning")
    };
    let read: u64 = reads.into_iter().map(range).sum();
    assert!((1..=512 << 10).contains(&read), "{read} bytes");
}

#[tokio::test]
async fn files_that_are_none_have_no_lyrics() {
    let (origin, folder) = (ScriptedOrigin::start().await, TempFolder::new("lyrics"));
    let gate = Gate::start(&lyrics(&origin.url(), &sqlite(&folder))).await;
    let endless = [b"ID3\x04\0\0\x7F\x7F\x7F\x7F".to_vec(), vec![0; 300_000]].concat();
    let moov =
        [b"\0\0\0\x18ftypM4A \0\0\0\0M4A isom".to_vec(), b"\xFF\xFF\xFF\xFFmoov".to_vec(), vec![0; 300_000]].concat();
    let ogg = [b"OggS\0\x02".to_vec(), vec![0xFF; 300_000]].concat();
    let flac = [b"fLaC\x04\xFF\xFF\xFF".to_vec(), vec![0xFF; 300_000]].concat();
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("text", b"no sound at all".to_vec()),
        ("noise", crate::support::origin::pattern(400_000)),
        ("endless", endless),
        ("moov", moov),
        ("ogg", ogg),
        ("flac", flac),
    ] {
        origin.put(&format!("/audio/{name}.bin"), Object::new(bytes));
        add(&gate, name, "audio", &format!("{name}.bin")).await;
        ask(&gate, name, "bob").await.problem(404);
    }
}

#[tokio::test]
async fn lrclib_is_asked_by_the_names_the_album_and_the_length_of_the_tags() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let (folder, lrclib) = (TempFolder::new("lyrics"), StandIn::lrclib().await);
    let mut config = lyrics(&minio.url(), &sqlite(&folder));
    config["Lyrics"]["Lrclib"] = json!({ "Url": lrclib.url() });
    let gate = Gate::start(&config).await;
    // The record has 5 seconds: a recording that differs by more than two is another one, by a search too.
    for (seconds, album, is_found) in [(5, "Notes", true), (7, "Notes", true), (8, "Notes", false), (5, "Live", true)] {
        let id = format!("{album}-{seconds}");
        let key = format!("tagged/{id}.flac");
        let more = ["-metadata".to_owned(), format!("album={album}")];
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        minio.put(&key, tagged(&ffmpeg, &folder, &format!("{id}.flac"), seconds, &more).await).await;
        add(&gate, &id, minio.name(), &key).await;
        let reply = ask(&gate, &id, "bob").await;
        let sent = lrclib.gets().pop().expect("it was asked");
        let wanted = [("track_name", "Prelude"), ("artist_name", "Ada"), ("album_name", album)];
        for (name, value) in wanted {
            assert_eq!(sent[name], value, "{id}");
        }
        assert_eq!(sent["duration"], seconds.to_string(), "{id}");
        match is_found {
            true => {
                let found: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
                assert_eq!(
                    (&found["source"], &lines(&found["synced"])[0]),
                    (&json!("lrclib"), &"1000 First".to_owned()),
                    "{id}"
                );
            }
            false => drop(reply.problem(404)),
        }
    }
}
