//! Films below `/v/{token}/movies/{id}/`: what a grant opens, what becomes of manifests, and that players play them.

mod browser;
mod grants;
mod manifests;
mod metrics;
mod outages;
mod players;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::secret::Secret;
use serde_json::{Value, json};
use vod::grant::GrantKeys;
use vod::session::{FilmSession, GrantPolicy, ManifestType, SessionId};
use vod::settings::{GrantKeySettings, GrantSettings};

use crate::catalogue::bearer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Object, ScriptedOrigin, config};

const KEYS: [(&str, &str); 2] = [
    ("OLD_GRANT_KEY", "the old key of grants, 32 bytes or more"),
    ("NEW_GRANT_KEY", "the new key of grants, 32 bytes or more"),
];

/// A gate that serves films.
struct Cinema {
    gate: Gate,
    _folder: TempFolder,
}

/// Films of `bucket` in the store at `endpoint`.
fn films(endpoint: &str, bucket: &str) -> Value {
    let mut config = config::empty();
    config["ObjectStores"]["main"] = config::store(endpoint);
    config["Auth"] = config::jwt();
    config["Vod"] = json!({
        "Store": "main",
        "Bucket": bucket,
        "Keys": { "Prefix": "keys/" },
        "Grant": { "Keys": [{ "Id": 1, "Key": "env:OLD_GRANT_KEY" }] },
        "AllowedHosts": ["cdn.example"],
        "CorsPolicy": "page",
    });
    config["Policies"]["Cors"]["page"] = json!({ "Origins": ["https://app.example"] });
    config
}

impl Cinema {
    async fn open(mut config: Value) -> Self {
        let folder = TempFolder::new("cinema");
        config["Database"]["Url"] = json!(format!("sqlite://{}", folder.path().join("films.db").display()));
        Self { gate: Gate::start_with(&config, &KEYS).await, _folder: folder }
    }

    /// Before a scripted store; both films can be started.
    async fn before(origin: &ScriptedOrigin) -> Self {
        for movie in ["b1", "b2"] {
            origin.put(&format!("/vod/movies/{movie}/index.m3u8"), Object::new("#EXTM3U\n"));
        }
        Self::open(films(&origin.url(), "vod")).await
    }

    /// The path of a film's playlist, for a new viewer.
    async fn start(&self, movie: &str) -> String {
        static VIEWERS: AtomicUsize = AtomicUsize::new(0);
        self.start_as(&format!("viewer{}", VIEWERS.fetch_add(1, Ordering::Relaxed)), movie).await
    }

    async fn start_as(&self, user: &str, movie: &str) -> String {
        let request = self.gate.client().request(Method::POST, &format!("/api/v1/stream/{movie}"));
        let request = request.header("authorization", bearer(user)).json(&json!({ "manifest_type": "hls" }));
        let response = request.send().await.expect("it answers");
        let (status, text) = (response.status(), response.text().await.expect("a body"));
        assert_eq!(status, 200, "{text}");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        let url = url::Url::parse(said["manifest_url"].as_str().expect("a URL")).expect("a URL");
        url.path().to_owned()
    }

    /// The token of a new viewer's session.
    async fn token(&self, movie: &str) -> String {
        token_of(&self.start(movie).await).to_owned()
    }

    /// The path of a file of a film, for a new viewer.
    async fn path(&self, movie: &str, file: &str) -> String {
        self.start(movie).await.replace("index.m3u8", file)
    }
}

/// The token in a path.
fn token_of(path: &str) -> &str {
    path.split('/').nth(2).expect("a token")
}

/// The token of the same session by another key.
fn signed_anew(token: &str, movie: &str, key: usize) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(token).expect("base64url");
    let session = SessionId(bytes[11..27].try_into().expect("16 bytes"));
    let clock = Clock::system();
    let id = u8::try_from(key + 1).expect("two keys");
    let keys = vec![GrantKeySettings { id, key: Secret::new(KEYS[key].1) }];
    let keys = GrantKeys::new(&GrantSettings { keys, ..GrantSettings::default() }, clock.clone());
    keys.issue(&FilmSession {
        id: session,
        user: UserId::parse("alice").expect("an id"),
        generation: 0,
        movie: film(movie),
        prefix: format!("movies/{movie}/").into(),
        manifest_type: ManifestType::Hls,
        policy: GrantPolicy::default(),
        opened_at: clock.unix_millis(),
        expires_at: clock.unix_millis() + Duration::from_secs(3600),
    })
}

fn film(movie: &str) -> TrackId {
    TrackId::parse(movie).expect("an id")
}
