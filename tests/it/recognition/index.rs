//! An index that follows the catalogue.

use super::songs::song;
use super::*;
use crate::support::Minio;

/// The middle of a song, as a WAVE of its own.
fn middle(song: &[u8]) -> Vec<u8> {
    let data = song[44..].as_chunks::<2>().0;
    let samples: Vec<i16> = data.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect();
    super::songs::wave(&samples[5 * 16_000..15 * 16_000])
}

#[tokio::test]
async fn an_index_follows_the_catalogue_while_it_is_asked() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("recognition");
    let config = recognition(&minio.url(), &sqlite(&folder), &folder);
    let gate = Gate::start(&config).await;
    let songs: Vec<Vec<u8>> = (10..13).map(|number| song(number, 20)).collect();
    identify(&gate, "bob", &middle(&songs[0])).await.problem(503);
    add_track(&gate, &minio, "first", "first.wav", songs[0].clone()).await;
    add_track(&gate, &minio, "text", "text.mp3", b"no music at all".to_vec()).await;
    let said = run_index(&config, &folder, &["--jobs", "1"]).await;
    assert!(said.contains("1 tracks indexed, 0 known, 0 removed, 1 without sound, 0 not read"), "{said}");
    assert!(said.contains("without sound: text:"), "{said}");
    let found = async |song: &[u8]| recognised(&gate, "bob", &middle(song)).await["track_id"].clone();
    assert_eq!((found(&songs[0]).await, found(&songs[1]).await), (json!("first"), json!(null)));
    add_track(&gate, &minio, "second", "second.wav", songs[1].clone()).await;
    let said = run_index(&config, &folder, &[]).await;
    assert!(said.contains("1 tracks indexed, 2 known, 0 removed, 0 without sound, 0 not read"), "{said}");
    assert_eq!((found(&songs[0]).await, found(&songs[1]).await), (json!("first"), json!("second")));
    // A deleted track is not named, also before the index knows.
    send(&gate, Method::DELETE, "/api/v1/admin/tracks/first", &admin(), None).await.is(204);
    assert_eq!((found(&songs[0]).await, found(&songs[1]).await), (json!(null), json!("second")));
    let said = run_index(&config, &folder, &[]).await;
    assert!(said.contains("0 tracks indexed, 2 known, 1 removed"), "{said}");
    let said = run_index(&config, &folder, &["--rebuild"]).await;
    assert!(said.contains("1 tracks indexed, 0 known, 0 removed, 1 without sound"), "{said}");
    assert_eq!(found(&songs[1]).await, json!("second"));
}

#[tokio::test]
async fn a_track_that_the_caller_may_not_stream_is_not_named() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("recognition");
    let mut config = recognition(&minio.url(), &sqlite(&folder), &folder);
    config["Policies"]["Authorization"]["granted"] = json!({ "Grants": true });
    config["ReverseProxy"]["Routes"]["track"]["AuthorizationPolicy"] = json!("granted");
    let gate = Gate::start(&config).await;
    let song = song(20, 20);
    add_track(&gate, &minio, "secret", "secret.wav", song.clone()).await;
    run_index(&config, &folder, &[]).await;
    let clip = middle(&song);
    assert_eq!(recognised(&gate, "alice", &clip).await["track_id"], json!("secret"));
    let unknown = recognised(&gate, "bob", &clip).await;
    assert_eq!((&unknown["matched"], &unknown["title"]), (&json!(false), &json!(null)));
}

#[tokio::test]
async fn a_store_that_is_away_is_tried_again_and_a_wrong_configuration_is_said() {
    let folder = TempFolder::new("recognition");
    let config = recognition("http://127.0.0.1:9", &sqlite(&folder), &folder);
    let gate = Gate::start(&config).await;
    let track = json!({ "id": "one", "store": "main", "bucket": "audio", "key": "one.mp3", "ownerId": "alice" });
    send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    let run = async |config: &Value| {
        let file = folder.path().join("index.yaml");
        std::fs::write(&file, config.to_string()).expect("a file");
        gate::run(&["index", "-c", &file.display().to_string()], &folder).await
    };
    let ended = run(&config).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("1 not read; run it again"), "{}", ended.stdout);
    let mut without = config.clone();
    without["Recognition"] = json!({ "Enabled": false });
    let ended = run(&without).await;
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
}
