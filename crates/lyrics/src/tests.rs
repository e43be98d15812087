//! Lyrics over a database in a file, with a server that is a store and LRCLIB at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::{BoxFuture, ready};
use http::request::Parts;
use http::{Method, StatusCode, Uri};
use parking_lot::Mutex;
use prometheus::Registry;
use tempfile::TempDir;
use tokio::task::JoinSet;
use url::Url;

use crate::service::{LyricsService, LyricsServiceParts, MAX_LOOKUPS_PER_USER, TrackAnswer};
use crate::settings::{ServiceSettings, Settings};
use crate::sources::LyricsSource;
use crate::sources::object_reader::TrackBucket;
use crate::text::{self, TextBudget, TextFormat};
use crate::track_lyrics::{SongQuery, TrackLyrics};
use crate::{Error, LyricsTrack, TrackResolver};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use s3::settings::{SecretSource, StoreCredentials, StoreEndpoint, StoreKeys, StoreSettings};
use s3::signer::Signer;
use server_kit::api::error::Error as ApiError;
use server_kit::api::user::User;
use server_kit::database::Database;

/// Answers of LRCLIB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LrclibMode {
    /// It has no record.
    #[default]
    Missing,
    /// A record of 2 MiB.
    TooLong,
    /// 500.
    Broken,
    /// None.
    Hangs,
}

#[derive(Default)]
struct ServerState {
    /// Texts by their paths.
    objects: Mutex<HashMap<String, String>>,
    lrclib: Mutex<LrclibMode>,
    /// Requests to LRCLIB.
    asked: Mutex<Vec<String>>,
}

async fn answer(State(state): State<Arc<ServerState>>, method: Method, uri: Uri) -> Response {
    if let Some(text) = state.objects.lock().get(uri.path()) {
        return text.clone().into_response();
    }
    if !uri.path().starts_with("/api/") {
        let is_listing = method == Method::GET && uri.query().is_some_and(|query| query.contains("list-type"));
        return if is_listing { StatusCode::FORBIDDEN } else { StatusCode::NOT_FOUND }.into_response();
    }
    state.asked.lock().push(uri.to_string());
    let mode = *state.lrclib.lock();
    match mode {
        LrclibMode::Missing if uri.path() == "/api/search" => "[]".into_response(),
        LrclibMode::Missing => StatusCode::NOT_FOUND.into_response(),
        LrclibMode::TooLong => Body::from(vec![b' '; 2 << 20]).into_response(),
        LrclibMode::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        LrclibMode::Hangs => std::future::pending().await,
    }
}

/// A resolver that is asked by paths alone.
struct NoTracks;

impl TrackResolver for NoTracks {
    fn resolve<'a>(
        &'a self,
        _: &'a TrackId,
        _: &'a Parts,
        _: &'a User,
    ) -> BoxFuture<'a, Result<LyricsTrack, ApiError>> {
        Box::pin(ready(Err(ApiError::internal())))
    }
}

struct Stage {
    lyrics: LyricsService,
    server: Arc<ServerState>,
    bucket: TrackBucket,
    clock: Clock,
    _folder: TempDir,
    _server: JoinSet<()>,
}

impl Stage {
    async fn start() -> Self {
        let server = Arc::<ServerState>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url: Url = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("a URL");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&server));
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        let folder = tempfile::tempdir().expect("a folder");
        let file = server_kit::database::settings::Settings::Sqlite(folder.path().join("lyrics.db"));
        let database = Database::open(&file).await.expect("a database");
        database.migrate().await.expect("tables");
        let lrclib = ServiceSettings { url: url.clone(), timeout: Duration::from_secs(60), token: None };
        let settings = Settings {
            sources: vec![LyricsSource::Sidecar, LyricsSource::Embedded, LyricsSource::Lrclib],
            lrclib: Some(lrclib),
            ..Settings::default()
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        let (tracks, store_client) = (Arc::new(NoTracks), client.clone());
        let parts =
            LyricsServiceParts { settings, database, tracks, client, events: None, store_client, clock: clock.clone() };
        let lyrics = LyricsService::start(parts, &BackgroundTasks::default(), &Registry::new());
        let key = || SecretSource { value: Default::default(), file: None };
        let store = StoreSettings {
            name: "store".into(),
            endpoint: StoreEndpoint::Remote(url.clone()),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: StoreCredentials::Keys(StoreKeys {
                access_key: key(),
                secret_key: key(),
                session_token: None,
            }),
            presign_expiry: Duration::from_secs(900),
        };
        let signer = Arc::new(Signer::new(store, url, Clock::system()));
        let bucket = TrackBucket { signer, name: "audio".into() };
        Self { lyrics: lyrics.expect("free names"), server, bucket, clock, _folder: folder, _server: task }
    }

    fn put(&self, key: &str, text: &str) {
        self.server.objects.lock().insert(format!("/audio/{}", key.replace(' ', "%20")), text.to_owned());
    }

    fn lrclib(&self, mode: LrclibMode) {
        *self.server.lrclib.lock() = mode;
    }

    fn asked(&self) -> usize {
        self.server.asked.lock().len()
    }

    /// A track of the catalogue whose object is `Ada - {name}.mp3`.
    fn track(&self, name: &str) -> LyricsTrack {
        let key = format!("Ada - {name}.mp3");
        self.put(&key, "music");
        let at = Some(UnixMillis::new(1));
        let id = TrackId::parse(name).expect("an id");
        LyricsTrack { id, bucket: self.bucket.clone(), key, owner: None, created_at: at, updated_at: at }
    }

    async fn get(&self, track: &LyricsTrack, user: &str) -> Result<Option<String>, Error> {
        text_of(self.lyrics.lyrics(track, &user_id(user), false).await)
    }
}

fn user_id(user: &str) -> UserId {
    UserId::parse(user).expect("an id")
}

fn text_of(answer: Result<TrackAnswer, Error>) -> Result<Option<String>, Error> {
    Ok(answer?.lyrics.map(|lyrics| text::to_plain(&lyrics.texts[0])))
}

#[tokio::test]
async fn slow_questions_of_one_user_hold_up_nobody_else() {
    let stage = Stage::start().await;
    stage.lrclib(LrclibMode::Hangs);
    let mut slow = JoinSet::new();
    for number in 0..10 {
        let (lyrics, track) = (stage.lyrics.clone(), stage.track(&number.to_string()));
        slow.spawn(async move { lyrics.lyrics(&track, &user_id("a"), false).await.is_ok() });
    }
    while stage.asked() < MAX_LOOKUPS_PER_USER {
        tokio::task::yield_now().await;
    }
    let track = stage.track("Prelude");
    stage.put("Ada - Prelude.txt", "Words");
    assert_eq!(stage.get(&track, "b").await, Ok(Some("Words".to_owned())));
    assert_eq!(stage.get(&track, "a").await, Ok(Some("Words".to_owned())), "what is kept needs no room");
    assert_eq!(stage.asked(), MAX_LOOKUPS_PER_USER);
}

#[tokio::test]
async fn a_question_that_failed_is_not_asked_again_at_once() {
    let stage = Stage::start().await;
    stage.lrclib(LrclibMode::Broken);
    let track = stage.track("Prelude");
    for user in ["a", "b", "c"] {
        assert_eq!(stage.get(&track, user).await, Err(Error::SourcesUnavailable));
    }
    let query = SongQuery { artist: "Ada".to_owned(), title: "Fugue".to_owned(), album: None, duration: None };
    for user in ["a", "b"] {
        assert_eq!(stage.lyrics.search(&query, &user_id(user)).await.err(), Some(Error::SourcesUnavailable));
    }
    assert_eq!(stage.asked(), 2, "once for the track, once for the search");
    stage.lrclib(LrclibMode::Missing);
    assert_eq!(text_of(stage.lyrics.lyrics(&track, &user_id("a"), true).await), Ok(None), "a refresh asks");
    assert_eq!(stage.get(&track, "b").await, Ok(None));
}

#[tokio::test]
async fn answers_that_cannot_be_read_leave_the_service_open() {
    let stage = Stage::start().await;
    stage.lrclib(LrclibMode::TooLong);
    for number in 0..10 {
        let track = stage.track(&number.to_string());
        assert_eq!(stage.get(&track, "a").await, Err(Error::SourcesUnavailable), "{number}");
    }
    assert_eq!(stage.asked(), 10);
    stage.lrclib(LrclibMode::Missing);
    assert_eq!(stage.get(&stage.track("Prelude"), "b").await, Ok(None), "the service is asked");
}

#[tokio::test]
async fn without_its_object_a_track_has_no_lyrics() {
    let stage = Stage::start().await;
    stage.put("Ada - Prelude.txt", "Not the track's");
    let track = stage.track("Prelude");
    stage.server.objects.lock().remove("/audio/Ada%20-%20Prelude.mp3");
    assert_eq!(stage.get(&track, "a").await, Ok(None));
    assert_eq!(stage.asked(), 0, "nor is a service asked for it");
}

#[tokio::test]
async fn what_is_kept_without_a_catalogue_is_the_objects_and_not_the_ids() {
    let stage = Stage::start().await;
    // A key with a claim of the user: one id stands for an object of each.
    let of_user = |user: &str| LyricsTrack {
        id: TrackId::parse("song").expect("an id"),
        key: format!("{user}/song.mp3"),
        created_at: None,
        updated_at: None,
        ..stage.track("song")
    };
    let (one, other) = (of_user("a"), of_user("b"));
    for key in ["a/song.mp3", "b/song.mp3"] {
        stage.put(key, "music");
    }
    let parsed = text::parse(b"Set", Some(TextFormat::Txt), None, &mut TextBudget::default()).expect("a text");
    let lyrics = TrackLyrics::from_parsed(parsed, LyricsSource::Edited);
    stage.lyrics.set(&one, lyrics, &user_id("a")).await.expect("kept");
    assert_eq!(stage.get(&one, "a").await, Ok(Some("Set".to_owned())));
    assert_eq!(stage.get(&other, "b").await, Ok(None));
    stage.lyrics.unset(&other, &user_id("a")).await.expect("dropped");
    assert_eq!(stage.get(&one, "a").await, Ok(Some("Set".to_owned())), "the other one's had none");
    let subjects: HashSet<_> = [&one, &other, &stage.track("song")].map(LyricsTrack::subject).into_iter().collect();
    assert_eq!(subjects.len(), 3);
    assert!(subjects.iter().all(|subject| subject == "song" || subject.starts_with('\u{1}')));
}

#[tokio::test]
async fn lyrics_are_kept_for_seven_days_and_their_absence_for_one() {
    const DAY: Duration = Duration::from_secs(86_400);
    for (before, life) in [(Some("Words"), 7 * DAY), (None, DAY)] {
        let stage = Stage::start().await;
        let track = stage.track("Prelude");
        before.into_iter().for_each(|text| stage.put("Ada - Prelude.txt", text));
        let answer = stage.lyrics.lyrics(&track, &user_id("a"), false).await.expect("an answer");
        assert_eq!(answer.expires_at, Some(UnixMillis::EPOCH + life), "{before:?}");
        stage.put("Ada - Prelude.txt", "Other words");
        let kept = before.map(str::to_owned);
        let instant = Duration::from_millis(1);
        for (passed, found) in [(life - instant, kept), (instant, Some("Other words".to_owned()))] {
            stage.clock.advance(passed);
            assert_eq!(stage.get(&track, "a").await, Ok(found), "{before:?}, {passed:?} later");
        }
    }
}
