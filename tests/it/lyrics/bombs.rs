//! Texts that become far more than their bytes, from sources that nobody here has written: each is as if it were not there.

use super::embedded::{tagged, uslt, with_id3};
use super::stand_ins::{StandIn, bomb};
use super::*;
use crate::support::{Object, tools};

#[tokio::test]
async fn a_bomb_in_a_file_a_tag_or_a_record_is_no_lyrics_and_nothing_of_it_is_kept() {
    let Some(ffmpeg) = tools::find("ffmpeg") else { return };
    let (origin, folder) = (ScriptedOrigin::start().await, TempFolder::new("lyrics"));
    let lrclib = StandIn::lrclib().await;
    let mut config = lyrics(&origin.url(), &sqlite(&folder));
    config["Lyrics"] = json!({ "Sources": ["Sidecar", "Embedded", "Lrclib"], "Lrclib": { "Url": lrclib.url() } });
    let gate = Gate::start(&config).await;
    let sound = tagged(&ffmpeg, &folder, "sound.mp3", 2, &["-id3v2_version", "0", "-write_id3v1", "0"]).await;
    let repeated = "[00:01.00]".repeat(20_000);
    let lines = "a\n".repeat(100_000);
    for (title, file, tag) in [
        ("File", Some(bomb()), None),
        ("Stamps", Some(repeated.clone()), None),
        ("Tag", None, Some(bomb())),
        ("Lines", None, Some(lines)),
        // That of LRCLIB is in its record.
        ("Bomb", None, None),
    ] {
        let key = format!("Ada - {title}.mp3");
        let frames: Vec<_> = tag.iter().map(|text| uslt("eng", text)).collect();
        origin.put(&format!("/audio/{key}"), Object::new(with_id3(&frames, &sound)));
        if let Some(text) = file {
            origin.put(&format!("/audio/Ada - {title}.lrc"), Object::new(text));
        }
        add(&gate, title, "audio", &key).await;
        ask(&gate, title, "bob").await.problem(404);
    }
    assert_eq!(lrclib.gets().len(), 5, "the next source is asked");
    let status = send(&gate, Method::GET, "/api/v1/lyrics/cache/status", &admin(), None).await;
    let status: Value = serde_json::from_slice(&status.is(200).body).expect("JSON");
    let counts = (&status["total"], &status["misses"], &status["edited"]);
    assert_eq!(counts, (&json!(5), &json!(5), &json!(0)), "only that the tracks have none");
    let search = get(&gate, "search?artist=Ada&song=Bomb", "bob").await;
    assert_eq!(search["results"], json!([]));
}
