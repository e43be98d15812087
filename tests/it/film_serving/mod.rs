//! Films below `/v/{token}/movies/{id}/`: what a grant opens, what becomes of manifests, and that players play them.

mod grants;
mod manifests;
mod players;

use std::sync::Arc;
use std::time::Duration;

use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::secret::Secret;
use serde_json::{Value, json};
use vod::grant::{self, GrantKeys};
use vod::session::{FilmSession, GrantPolicy, ManifestType, SessionId};
use vod::settings::{GrantKeySettings, GrantSettings};

use crate::support::{Gate, config};

const KEYS: [(&str, &str); 2] = [
    ("OLD_GRANT_KEY", "the old key of grants, 32 bytes or more"),
    ("NEW_GRANT_KEY", "the new key of grants, 32 bytes or more"),
];

/// Films of `bucket` in the store at `endpoint`.
fn films(endpoint: &str, bucket: &str) -> Value {
    let mut config = config::empty();
    config["ObjectStores"]["main"] = config::store(endpoint);
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

async fn start(config: &Value) -> Gate {
    Gate::start_with(config, &KEYS).await
}

/// The token of a new session for a film, by the old key.
fn token(movie: &str) -> String {
    token_by(movie, 0)
}

fn token_by(movie: &str, key: usize) -> String {
    let clock = Clock::system();
    let id = u8::try_from(key + 1).expect("two keys");
    let keys = vec![GrantKeySettings { id, key: Secret::new(KEYS[key].1) }];
    let keys = GrantKeys::new(&GrantSettings { keys, ..GrantSettings::default() }, clock.clone());
    keys.issue(&FilmSession {
        id: SessionId(rand::random()),
        user: UserId::parse("alice").expect("an id"),
        generation: 0,
        movie: film(movie),
        prefix: Arc::from(format!("movies/{movie}/")),
        manifest_type: ManifestType::Hls,
        policy: GrantPolicy::default(),
        opened_at: clock.unix_millis(),
        expires_at: clock.unix_millis() + Duration::from_secs(3600),
    })
}

fn film(movie: &str) -> TrackId {
    TrackId::parse(movie).expect("an id")
}

/// The path of a file of a film, with a new session's token.
fn path(movie: &str, file: &str) -> String {
    grant::path_with_token(&token(movie), &film(movie), file)
}
