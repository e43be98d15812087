//! `Player`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, ConfigText};

/// The page `/player/`, which plays the catalogue in a browser, and the list of tracks that it shows.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Player {
    /// Whether there is one. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Which tracks a user sees. Default: `Granted`.
    pub library: Option<Library>,
    /// The provider that signs users in. Default: none, and the page asks for a token.
    pub sign_in: Option<SignIn>,
}

/// Tracks that a user sees.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum Library {
    /// Their own, and those that they or everybody were granted.
    Granted,
    /// All of the catalogue. Which of them plays is still the route's decision.
    All,
}

/// Provider of OpenID Connect, used by the authorization code flow with PKCE.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct SignIn {
    /// The issuer: `https://`, or `http://` on loopback. Its access tokens must be such as `Auth` believes.
    pub issuer: ConfigText,
    /// Id of the page as a public client there; its redirect URI is `/player/` of this server.
    pub client_id: String,
    /// Scopes that are asked for. Default: `openid`.
    pub scope: Option<String>,
    /// Further origins of the provider, such as that of its token endpoint: the page talks to no other.
    #[serde(default)]
    pub origins: Vec<String>,
}
