//! The catalogue and its grants, on SQLite; `tests/it/catalogue.rs` has the same on PostgreSQL.

use std::time::Duration;

use super::access::{AccessChecker, AccessDecision};
use super::*;
use primitives::ids::UserId;

/// A database in `folder`.
async fn database(folder: &tempfile::TempDir) -> Database {
    let settings = server_kit::database::settings::Settings::Sqlite(folder.path().join("t.db"));
    let database = Database::open(&settings).await.expect("SQLite opens");
    database.migrate().await.expect("it is migrated");
    database
}

fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis)
}

fn track_id(text: &str) -> TrackId {
    TrackId::parse(text).expect("an id")
}

fn user_id(text: &str) -> UserId {
    UserId::parse(text).expect("an id")
}

fn new(id: &str) -> NewTrack {
    let (content_type, size, owner) = (Some("audio/mpeg".to_owned()), Some(5), UserId::parse("alice"));
    let (store, bucket, key) = ("minio".to_owned(), "audio".to_owned(), format!("tracks/{id}.mp3"));
    NewTrack { id: track_id(id), store, bucket, key, content_type, size, owner }
}

#[tokio::test]
async fn a_track_is_added_once_found_deleted_and_added_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::new(database(&folder).await, None);
    assert_eq!(catalog.find("a").await, Err(TrackLookupError::Unknown));
    assert!(matches!(catalog.add(&new("a"), at(1)).await, Ok(AddOutcome::New(track)) if track.created_at == at(1)));
    // What was unknown a moment ago is known at once.
    assert_eq!(catalog.find("a").await.map(|track| track.key.to_string()), Ok("tracks/a.mp3".to_owned()));
    assert!(matches!(catalog.add(&new("a"), at(2)).await, Ok(AddOutcome::Same(track)) if track.created_at == at(1)));
    let other = NewTrack { size: Some(6), ..new("a") };
    assert_eq!(catalog.add(&other, at(2)).await, Ok(AddOutcome::Conflict));
    assert!(matches!(catalog.delete(&track_id("a"), at(3)).await, Ok(Some(track)) if track.deleted_at == Some(at(3))));
    assert_eq!(catalog.find("a").await, Err(TrackLookupError::Deleted));
    assert!(matches!(catalog.delete(&track_id("a"), at(4)).await, Ok(Some(track)) if track.deleted_at == Some(at(3))));
    // An import does not bring it back; whoever adds it does, with what is said then.
    assert_eq!(catalog.import(std::slice::from_ref(&other), at(4)).await.map(|it| it.added), Ok(0));
    assert_eq!(catalog.find("a").await, Err(TrackLookupError::Deleted));
    assert!(matches!(catalog.add(&other, at(5)).await, Ok(AddOutcome::New(track)) if track.created_at == at(5)));
    assert_eq!(catalog.find("a").await.map(|track| (track.size, track.deleted_at)), Ok((Some(6), None)));
    assert!(matches!(catalog.add(&other, at(6)).await, Ok(AddOutcome::Same(_))));
    assert_eq!(catalog.add(&new("a"), at(6)).await, Ok(AddOutcome::Conflict));
    assert_eq!(catalog.delete(&track_id("b"), at(5)).await, Ok(None));
    assert_eq!(catalog.find(&"x".repeat(ids::MAX_ID_BYTES + 1)).await, Err(TrackLookupError::Unknown));
}

#[tokio::test]
async fn an_import_run_again_changes_only_what_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::new(database(&folder).await, None);
    let mut tracks: Vec<NewTrack> = (0..25).map(|number| new(&format!("{number:02}"))).collect();
    let imported = |added, changed, unchanged| Ok(ImportSummary { added, changed, unchanged });
    assert_eq!(catalog.import(&tracks, at(1)).await, imported(25, 0, 0));
    tracks[3].size = Some(99);
    // What the listing does not say is not forgotten.
    tracks.iter_mut().for_each(|track| (track.owner, track.content_type) = (None, None));
    assert_eq!(catalog.import(&tracks, at(2)).await, imported(0, 1, 24));
    let track = catalog.find("03").await.expect("it is there");
    assert_eq!((track.size, track.owner.as_deref(), track.updated_at), (Some(99), Some("alice"), at(2)));
    let (mut after, mut pages) = (String::new(), Vec::new());
    loop {
        let page = catalog.list(&after, 10).await.expect("SQLite answers");
        let Some(last) = page.last() else { break };
        after = last.id.to_string();
        pages.push(page.len());
    }
    assert_eq!(pages, [10, 10, 5]);
}

#[tokio::test]
async fn a_database_that_is_away_keeps_known_tracks_playing() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = database(&folder).await;
    let catalog = Catalog::with_cache_ttl(database.clone(), None, Duration::ZERO);
    catalog.add(&new("a"), at(1)).await.expect("SQLite answers");
    catalog.find("a").await.expect("it is there");
    database.close().await;
    assert!(catalog.find("a").await.is_ok());
    assert_eq!(catalog.find("b").await, Err(TrackLookupError::Unavailable));
}

#[tokio::test]
async fn grants_are_by_track_by_prefix_by_everybody_and_by_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = database(&folder).await;
    let (catalog, grants) = (Catalog::new(database.clone(), None), GrantStore::new(database));
    catalog.add(&new("own"), at(1)).await.expect("SQLite answers");
    for (user, track, prefix) in [("bob", "one", false), ("bob", "album-", true), ("*", "free", false)] {
        let grant = Grant { user: user_id(user), track: track.into(), is_prefix: prefix, created_at: at(1) };
        assert_eq!(grants.add(&grant).await, Ok(true));
        assert_eq!(grants.add(&grant).await, Ok(false));
    }
    let settings = settings::AccessSettings { grants: true, service: None };
    let client = reqwest_client();
    let access = AccessChecker::new(&settings, Some(grants.clone()), &client, None);
    let table = [
        ("alice", "own", AccessDecision::Allowed),
        ("bob", "own", AccessDecision::Denied),
        ("bob", "one", AccessDecision::Allowed),
        ("bob", "one-more", AccessDecision::Denied),
        ("bob", "album-7", AccessDecision::Allowed),
        ("bob", "album", AccessDecision::Denied),
        ("alice", "one", AccessDecision::Denied),
        ("carol", "free", AccessDecision::Allowed),
    ];
    for (user, track, expected) in table {
        assert_eq!(access.permits(user, track, None).await, expected, "{user} {track}");
    }
    let listed = grants.list(&user_id("bob"), ("", false), 10).await.expect("SQLite answers");
    assert_eq!(listed.iter().map(|grant| grant.track.as_str()).collect::<Vec<_>>(), ["album-", "one"]);
    assert_eq!(grants.remove(&user_id("bob"), &track_id("one"), false).await, Ok(true));
    assert_eq!(grants.remove(&user_id("bob"), &track_id("one"), false).await, Ok(false));
    access.clear_cache();
    assert_eq!(access.permits("bob", "one", None).await, AccessDecision::Denied);
}

fn reqwest_client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(1)).build().expect("a client")
}
