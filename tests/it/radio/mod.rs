//! Radio, through the shipped binary: the list over SQLite and PostgreSQL, a scripted station that behaves and misbehaves,
//! and a real Icecast with ffmpeg as its source.

mod changes;
mod directory;
mod dns;
mod ends;
pub mod icecast;
mod refusals;
mod relay;
pub mod station;
mod stations;
mod titles;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::sqlite;
use crate::support::client::Reply;
use crate::support::eventually::LIMIT;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, config, token};

/// Stations in a file in `folder`, which may be at 127.0.0.1.
fn in_a_file(folder: &TempFolder) -> Value {
    let mut config = config::empty();
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["ReverseProxy"]["Routes"]["stream"] = config::object_route("/stream/{**key}", "main", "audio", "{**key}");
    config["Auth"] = config::jwt();
    config["Database"]["Url"] = json!(sqlite(folder));
    config["Radio"] = json!({ "AllowedNetworks": ["127.0.0.1/32"] });
    config
}

/// A user's client.
struct Client(ApiUser);

impl Client {
    fn new(gate: &Gate, user: &str) -> Self {
        Self(ApiUser::new(gate, user))
    }

    /// An administrator's.
    fn admin(gate: &Gate) -> Self {
        let mut claims = token::claims("root");
        claims["role"] = json!("admin");
        let mut user = ApiUser::new(gate, "root");
        user.authorization = format!("Bearer {}", token::with(&claims));
        Self(user)
    }

    async fn send(&self, method: Method, what: &str, body: Option<&Value>) -> Reply {
        self.0.send(method, &path(what), body).await
    }

    /// Adds a station, which must succeed.
    async fn add(&self, name: &str, url: &str) -> Value {
        self.add_with(json!({ "name": name, "url": url })).await
    }

    async fn add_with(&self, body: Value) -> Value {
        json_of(self.send(Method::POST, "streams", Some(&body)).await.is(201))
    }

    async fn get(&self, what: &str) -> Value {
        json_of(self.send(Method::GET, what, None).await.is(200))
    }

    /// Begins a station, which must succeed.
    async fn play(&self, id: &str) -> Value {
        json_of(self.send(Method::POST, "play", Some(&json!({ "stream_id": id }))).await.is(200))
    }

    /// A user's whose token ends at this second.
    fn until(gate: &Gate, user: &str, end: i64) -> Self {
        let mut claims = token::claims(user);
        claims["exp"] = json!(end);
        let mut user = ApiUser::new(gate, user);
        user.authorization = format!("Bearer {}", token::with(&claims));
        Self(user)
    }

    /// Opens the sound of a station.
    async fn hear(&self, id: &str) -> Sound {
        // Streams go on for longer than an answer may take.
        let request = self.0.client.request(Method::GET, &path(&format!("{id}/live"))).timeout(LIMIT);
        let response = request.header("authorization", &self.0.authorization).send().await.expect("the gate answers");
        Sound::of(response)
    }
}

/// Sound as it comes.
struct Sound {
    response: reqwest::Response,
    heard: Vec<u8>,
}

impl Sound {
    fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        Self { response, heard: Vec::new() }
    }

    /// Waits until so many bytes more were heard.
    async fn hear(&mut self, more: usize) -> &[u8] {
        let (from, until) = (self.heard.len(), self.heard.len() + more);
        while self.heard.len() < until {
            let piece = self.response.chunk().await.expect("it goes on").expect("it does not end");
            self.heard.extend_from_slice(&piece);
        }
        &self.heard[from..]
    }

    /// Waits for the end.
    async fn end(mut self) {
        while let Ok(Some(_)) = self.response.chunk().await {}
    }
}

fn path(what: &str) -> String {
    format!("/api/v1/radio/{what}")
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

fn id_of(station: &Value) -> &str {
    station["id"].as_str().expect("an id")
}
