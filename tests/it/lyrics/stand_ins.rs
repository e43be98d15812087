//! Servers that speak the published APIs of LRCLIB (`lrclib.net/docs`) and Genius (`docs.genius.com`), with invented words, and
//! that fail as they are told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The token that Genius knows.
pub const TOKEN: &str = "the-token-of-genius";

/// What a stand-in does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Answers.
    #[default]
    Good,
    /// No answer.
    Hangs,
    /// This status.
    Status(u16),
    /// 429, with this many seconds.
    Throttles(u64),
    /// 200, and no JSON.
    Nonsense,
    /// 200, and a body without an end.
    Endless,
    /// 200, and a body that ends before its length.
    Cut,
    /// 200, and JSON whose members are of other types.
    OtherTypes,
}

/// A stand-in.
pub struct StandIn {
    address: SocketAddr,
    state: Arc<StandInState>,
}

#[derive(Default)]
struct StandInState {
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    agents: Mutex<Vec<String>>,
    /// Queries of LRCLIB's `get`.
    gets: Mutex<Vec<HashMap<String, String>>>,
}

impl StandIn {
    /// Starts LRCLIB.
    pub async fn lrclib() -> Self {
        Self::start(|state| {
            Router::new().route("/api/get", get(lrclib_get)).route("/api/search", get(lrclib_search)).with_state(state)
        })
        .await
    }

    /// Starts Genius.
    pub async fn genius() -> Self {
        Self::start(|state| Router::new().route("/search", get(genius_search)).with_state(state)).await
    }

    async fn start(router: impl FnOnce(Arc<StandInState>) -> Router) -> Self {
        let state = Arc::<StandInState>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = router(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does from now on.
    pub fn is(&self, mood: Mood) {
        *self.state.mood.lock() = mood;
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// Queries of LRCLIB's `get` so far.
    pub fn gets(&self) -> Vec<HashMap<String, String>> {
        self.state.gets.lock().clone()
    }

    /// The clients' names so far.
    pub fn agents(&self) -> Vec<String> {
        self.state.agents.lock().clone()
    }
}

impl StandInState {
    /// Counts the request; the answer that the mood gives, if it is not a good one.
    async fn answer(&self, headers: &HeaderMap) -> Option<Response> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let agent = headers.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        self.agents.lock().push(agent.to_owned());
        let mood = *self.mood.lock();
        match mood {
            Mood::Good => None,
            Mood::Hangs => std::future::pending().await,
            Mood::Status(status) => Some(StatusCode::from_u16(status).expect("a status").into_response()),
            Mood::Throttles(seconds) => {
                Some((StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response())
            }
            Mood::Nonsense => Some("<html>".into_response()),
            Mood::Endless => {
                let more = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 65_536]));
                Some(axum::body::Body::from_stream(more).into_response())
            }
            Mood::Cut => {
                let part = [Ok("{\"trackName\":"), Err(std::io::Error::other("the rest is missing"))];
                let body = axum::body::Body::from_stream(futures::stream::iter(part));
                Some(([("content-length", "500")], body).into_response())
            }
            Mood::OtherTypes => {
                Some(axum::Json(json!({ "trackName": 5, "response": { "hits": "none" } })).into_response())
            }
        }
    }
}

type Words = Query<HashMap<String, String>>;

/// A record as LRCLIB has it.
fn record(artist: &str, track: &str, duration: f64, plain: Option<&str>, synced: Option<&str>) -> Value {
    json!({ "id": 1, "name": track, "trackName": track, "artistName": artist, "albumName": "Notes", "duration": duration,
        "instrumental": plain.is_none() && synced.is_none(), "plainLyrics": plain, "syncedLyrics": synced })
}

fn records() -> Vec<Value> {
    vec![
        record("Ada", "Prelude", 5.0, Some("First\nSecond"), Some("[00:01.00]First\n[00:02.50]Second")),
        record("Ada", "Fugue", 200.0, Some("<b>Only</b> words"), None),
        record("Ada", "Silence", 60.0, None, None),
        record("Other", "Prelude", 5.0, Some("wrong"), None),
        record("Ada", "Bomb", 5.0, None, Some(&bomb())),
    ]
}

/// A text of lyrics that would become 300 MB.
pub fn bomb() -> String {
    format!("{}{}", "[00:01.00]".repeat(3_000), "x".repeat(100_000))
}

fn is(record: &Value, member: &str, wanted: Option<&String>) -> bool {
    wanted.is_some_and(|wanted| record[member].as_str().is_some_and(|found| found.eq_ignore_ascii_case(wanted)))
}

async fn lrclib_get(State(state): State<Arc<StandInState>>, headers: HeaderMap, Query(words): Words) -> Response {
    if let Some(answer) = state.answer(&headers).await {
        return answer;
    }
    state.gets.lock().push(words.clone());
    let duration = words.get("duration").and_then(|text| text.parse::<f64>().ok());
    let is_near = |record: &Value| {
        duration.is_none_or(|wanted| record["duration"].as_f64().is_some_and(|found| (found - wanted).abs() <= 2.0))
    };
    let found = records().into_iter().find(|record| {
        is(record, "trackName", words.get("track_name"))
            && is(record, "artistName", words.get("artist_name"))
            && words.get("album_name").is_none_or(|album| is(record, "albumName", Some(album)))
            && is_near(record)
    });
    let none = json!({ "message": "Failed to find specified track", "name": "TrackNotFound", "statusCode": 404 });
    found.map_or_else(|| (StatusCode::NOT_FOUND, axum::Json(none)).into_response(), |it| axum::Json(it).into_response())
}

/// Searches loosely: one of the words is enough.
async fn lrclib_search(State(state): State<Arc<StandInState>>, headers: HeaderMap, Query(words): Words) -> Response {
    if let Some(answer) = state.answer(&headers).await {
        return answer;
    }
    let mut found = records();
    found.retain(|record| {
        is(record, "trackName", words.get("track_name")) || is(record, "artistName", words.get("artist_name"))
    });
    axum::Json(found).into_response()
}

async fn genius_search(State(state): State<Arc<StandInState>>, headers: HeaderMap, Query(words): Words) -> Response {
    if let Some(answer) = state.answer(&headers).await {
        return answer;
    }
    if headers.get("authorization").is_none_or(|sent| sent != &format!("Bearer {TOKEN}")) {
        let refused = json!({ "error": "invalid_token", "error_description": "The access token is invalid" });
        return (StatusCode::UNAUTHORIZED, axum::Json(refused)).into_response();
    }
    let song = |title: &str, url: &str| {
        json!({ "type": "song", "result": { "id": 1, "title": title, "url": url, "path": "/x", "lyrics_state": "complete",
            "primary_artist": { "id": 2, "name": "Ada" } } })
    };
    let all = [song("Sonata", "https://genius.com/Ada-sonata-lyrics"), song("Trap", "javascript:alert(1)")];
    let asked = words.get("q").cloned().unwrap_or_default();
    let hits: Vec<_> =
        all.into_iter().filter(|hit| asked.contains(hit["result"]["title"].as_str().unwrap_or("?"))).collect();
    axum::Json(json!({ "meta": { "status": 200 }, "response": { "hits": hits } })).into_response()
}
