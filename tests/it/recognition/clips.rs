//! Clips as people record them.

use super::songs::{DISTORTIONS, clip, convert, song};
use super::*;
use crate::support::{Minio, tools};

/// Seconds of a song.
const LENGTH: usize = 30;

#[tokio::test]
async fn clips_are_recognised_however_they_were_recorded() {
    let (Some(minio), Some(ffmpeg)) = (Minio::bucket().await, tools::find("ffmpeg")) else { return };
    let folder = TempFolder::new("recognition");
    let config = recognition(&minio.url(), &sqlite(&folder), &folder);
    let gate = Gate::start(&config).await;
    let songs: Vec<Vec<u8>> = (0..6).map(|number| song(number, LENGTH)).collect();
    // The catalogue has all formats; the last song is not in it.
    for (number, format) in ["mp3", "flac", "ogg", "m4a", "wav"].into_iter().enumerate() {
        let content = convert(&ffmpeg, &folder, &songs[number], &[], format).await;
        add_track(
            &gate,
            &minio,
            &format!("song-{number}"),
            &format!("Ada/Sea/0{number} Song_{number}.{format}"),
            content,
        )
        .await;
    }
    let said = run_index(&config, &folder, &[]).await;
    assert!(said.contains("5 tracks indexed, 0 known, 0 removed, 0 without sound, 0 not read"), "{said}");
    let (mut right, mut all) = (0, 0);
    for distortion in &DISTORTIONS {
        for (number, song) in songs.iter().enumerate() {
            let start = 2 + 3 * u32::try_from(number).expect("a small number");
            let clip = clip(&ffmpeg, &folder, song, start, distortion).await;
            let found = recognised(&gate, "bob", &clip).await;
            if number == 5 {
                assert_eq!(
                    (&found["matched"], &found["confidence"]),
                    (&json!(false), &json!(0.0)),
                    "{}",
                    distortion.name
                );
                continue;
            }
            all += 1;
            // A wrong answer is worse than none.
            assert!(
                found["matched"] == json!(false) || found["track_id"] == json!(format!("song-{number}")),
                "{found}"
            );
            right += usize::from(found["matched"] == json!(true));
            if distortion.name == "clean" {
                let offset = found["offset_ms"].as_f64().expect("a place");
                assert!((offset - f64::from(start) * 1000.0).abs() < 150.0, "{found}");
                let names = (&found["title"], &found["artist"], &found["source"]);
                let title = format!("Song {number}");
                assert_eq!(names, (&json!(title), &json!("Ada"), &json!("catalogue")));
                assert!(found["confidence"].as_f64().is_some_and(|confidence| confidence > 0.8), "{found}");
            }
        }
    }
    assert!(right * 100 >= all * 95, "{right} of {all} clips");
    assert!(gate.metric("tidegate_recognition_clips_total", "outcome=\"matched\"").await >= 19.0);
    assert!((gate.metric("tidegate_recognition_indexed_tracks", "").await - 5.0).abs() < 0.1);
}
