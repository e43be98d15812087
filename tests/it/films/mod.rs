//! Films, through the shipped binary: a client that knows only the document, subscriptions, sessions, and positions that
//! are written back.

mod document;
mod progress;
mod purges;
mod sessions;
mod subscriptions;
mod views;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, Minio, config, token};

/// A configuration of films in `bucket` of the store at `endpoint`, positions in a file in `folder`.
pub fn films(endpoint: &str, bucket: &str, folder: &TempFolder) -> Value {
    let mut config = config::empty();
    config["ObjectStores"]["main"] = config::store(endpoint);
    config["Auth"] = config::jwt();
    config["Database"]["Url"] = json!(format!("sqlite://{}", folder.path().join("data/tidegate.db").display()));
    config["Vod"] = json!({ "Store": "main", "Bucket": bucket });
    config
}

/// As [`films`], in a folder that is an embedded store with the film `dune`.
pub fn embedded(folder: &TempFolder) -> Value {
    let film = folder.path().join("objects/vod/movies/dune");
    std::fs::create_dir_all(&film).expect("a folder");
    for (name, text) in [("index.m3u8", "#EXTM3U\n"), ("index.mpd", "<MPD/>")] {
        std::fs::write(film.join(name), text).expect("a file");
    }
    let mut config = films("http://127.0.0.1:1", "vod", folder);
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config
}

/// Puts the manifests of a film into a bucket.
async fn put_film(minio: &Minio, movie: &str) {
    minio.put(&format!("movies/{movie}/index.m3u8"), "#EXTM3U\n").await;
    minio.put(&format!("movies/{movie}/index.mpd"), "<MPD/>").await;
}

/// A viewer with a token of the shared secret.
#[derive(Clone)]
pub struct Viewer(pub ApiUser);

impl Viewer {
    pub fn new(gate: &Gate, user: &str) -> Self {
        Self(ApiUser::new(gate, user))
    }

    pub fn admin(gate: &Gate) -> Self {
        let mut claims = token::claims("operator");
        claims["role"] = json!("admin");
        Self(ApiUser { client: gate.client(), authorization: format!("Bearer {}", token::with(&claims)) })
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.0.send(method, path, body).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, &format!("/api/v1/stream/{path}"), Some(&body)).await
    }

    pub async fn start(&self, movie: &str) -> Reply {
        self.post(movie, json!({ "manifest_type": "hls" })).await
    }

    pub async fn report(&self, movie: &str, seconds: i64) -> Reply {
        self.post(&format!("{movie}/progress"), json!({ "position_seconds": seconds })).await
    }

    pub async fn stop(&self, movie: &str, seconds: i64) -> Reply {
        self.post(&format!("{movie}/stop"), json!({ "position_seconds": seconds })).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let reply = self.send(Method::GET, path, None).await;
        serde_json::from_slice(&reply.is(200).body).expect("JSON")
    }

    pub async fn position(&self, movie: &str) -> i64 {
        let answer = self.get(&format!("/api/v1/stream/{movie}/progress")).await;
        answer["position_seconds"].as_i64().expect("a number")
    }
}

/// JSON of a reply.
pub fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// The service that knows subscriptions, which answers as it is told.
pub struct UserService {
    address: SocketAddr,
    state: Arc<UserServiceState>,
}

#[derive(Default)]
struct UserServiceState {
    answers: Mutex<HashMap<String, UserAnswer>>,
    asked: AtomicUsize,
}

/// An answer of the service.
#[derive(Clone)]
pub enum UserAnswer {
    /// Status and body.
    Says(u16, Value),
    /// None at all.
    Hangs,
    /// First the one, then the other.
    Once(Box<UserAnswer>, Box<UserAnswer>),
}

impl UserService {
    pub async fn start() -> Self {
        let state = Arc::new(UserServiceState::default());
        let router =
            Router::new().route("/api/v1/users/{user}/subscription", get(answer)).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn template(&self) -> String {
        format!("{}/api/v1/users/{{user_id}}/subscription", self.url())
    }

    fn set(&self, user: &str, answer: UserAnswer) {
        self.state.answers.lock().insert(user.to_owned(), answer);
    }

    pub fn says(&self, user: &str, status: u16, body: Value) {
        self.set(user, UserAnswer::Says(status, body));
    }

    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }
}

async fn answer(State(state): State<Arc<UserServiceState>>, Path(user): Path<String>) -> Response {
    state.asked.fetch_add(1, Ordering::Relaxed);
    let answer = state.answers.lock().get(&user).cloned();
    let answer = match answer {
        Some(UserAnswer::Once(now, then)) => {
            state.answers.lock().insert(user, *then);
            Some(*now)
        }
        answer => answer,
    };
    match answer {
        Some(UserAnswer::Says(status, body)) => {
            (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
        }
        Some(UserAnswer::Hangs | UserAnswer::Once(..)) => std::future::pending().await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
