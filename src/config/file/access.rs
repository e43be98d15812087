//! `Auth` and `Policies`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{NamedEntries, OutputCachePolicy, RateLimiterPolicy};
use crate::config::value::{ConfigText, OneOrMany, ScalarText, SecretRef, TimeSpan};

/// Whose tokens are believed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Auth {
    /// JSON Web Tokens. Default: none; then every route says `AuthorizationPolicy: Anonymous`.
    pub jwt: Option<Jwt>,
    /// Streaming URLs: paths with a token in them, for players that cannot set headers. Default: none are given out.
    pub path_token: Option<PathToken>,
    /// Whether `POST /api/v1/logout` ends the user's live streams, within 5 seconds. Default: `false`.
    #[serde(default)]
    pub end_revoked_streams: bool,
}

/// Streaming URLs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct PathToken {
    /// At most four, each at least 32 characters; the first signs, all verify: put a new one first. Default: a random one,
    /// which ends with the process and is no other node's.
    pub keys: Option<Vec<SecretRef>>,
    /// How long a streaming URL is good, `1m` to `7d`. Default: `1h`.
    pub ttl: Option<TimeSpan>,
}

/// How tokens are found and verified.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Jwt {
    /// Whose tokens are accepted; at least one.
    pub issuers: Vec<Issuer>,
    /// Where a token is looked for, in this order: `Header`, `Cookie:name`, `Query:name`. Default: `[Header]`.
    pub token_from: Option<Vec<String>>,
    /// Clock difference allowed for `exp` and `nbf`, at most `5m`. Default: `30s`.
    pub leeway: Option<TimeSpan>,
}

/// One issuer, with exactly one of `Secret`, `PublicKey` and `Jwks`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Issuer {
    /// What the claim `iss` must be. May be `env:NAME`. Default: `iss` is not looked at.
    pub issuer: Option<ConfigText>,
    /// What the claim `aud` must contain, one of these if several. May be `env:NAME`. Default: any.
    pub audience: Option<OneOrMany>,
    /// A shared secret, for HS256.
    pub secret: Option<SecretRef>,
    /// A public key in PEM, for RS256, ES256 or EdDSA by its kind.
    pub public_key: Option<SecretRef>,
    /// The URL of a JWKS document, fetched and rotated. May be `env:NAME`.
    pub jwks: Option<ConfigText>,
}

/// Named rules that routes refer to.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Policies {
    /// Who may use a route (`AuthorizationPolicy`), by name.
    #[serde(default)]
    pub authorization: NamedEntries<AuthorizationPolicy>,
    /// How much each may ask for and get (`RateLimiterPolicy`), by name. `standard`, `elevated`, `strict` and
    /// `recognition` are also the classes of the API.
    #[serde(default)]
    pub rate_limiter: NamedEntries<RateLimiterPolicy>,
    /// Cross-origin rules (`CorsPolicy`), by name.
    #[serde(default)]
    pub cors: NamedEntries<CorsPolicy>,
    /// Time limits toward the upstream (`TimeoutPolicy`), by name.
    #[serde(default)]
    pub timeout: NamedEntries<TimeoutPolicy>,
    /// How long objects are cached (`OutputCachePolicy`), by name.
    #[serde(default)]
    pub output_cache: NamedEntries<OutputCachePolicy>,
}

/// Who may use a route, beyond having a valid token.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct AuthorizationPolicy {
    /// Rules over the token's claims; all must hold. Default: none, where `Grants` or `Http` decides.
    #[serde(default)]
    pub require: Vec<Rule>,
    /// The track that `Grants` and `Http` are asked about, with the path's captured values. Default: `{id}`.
    pub track: Option<String>,
    /// Whether the user must own the track or have a grant for it in the database. Default: `false`.
    #[serde(default)]
    pub grants: bool,
    /// A service that must allow it.
    pub http: Option<AccessService>,
}

/// A service that decides: it is sent `GET`, and 2xx allows, while 401, 403, 404 and 410 do not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct AccessService {
    /// Its address, with `{userId}` (the token's `sub`) and `{trackId}`: `http://users:8000/access/{userId}/{trackId}`. May
    /// be `env:NAME`.
    pub url: ConfigText,
    /// For its answer, `10ms` to `30s`. Default: `1s`.
    pub timeout: Option<TimeSpan>,
    /// How long an answer is believed, up to `1h`. Default: `30s`.
    pub cache_for: Option<TimeSpan>,
    /// Where it does not answer, or with another status. Default: `Deny`, as 503.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether the player's own token is sent to it, as `Authorization`. Default: `false`.
    #[serde(default)]
    pub forward_token: bool,
}

/// What becomes of a request while the service does not answer.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum OnFailure {
    /// It is answered 503.
    #[default]
    Deny,
    /// It is allowed.
    Allow,
}

/// One rule: `Claim` with one of `Equals`, `In`, `Contains` and `Exists`; or `AnyOf`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Rule {
    /// The claim's name; dots reach into objects, as in `realm_access.roles`.
    pub claim: Option<String>,
    /// The claim equals this; `{name}` is the value that the route's path captured.
    pub equals: Option<ScalarText>,
    /// The claim equals one of these.
    pub r#in: Option<Vec<ScalarText>>,
    /// The claim is a list, or a text of words as `scope` is, that has this word.
    pub contains: Option<ScalarText>,
    /// The claim is there and neither null, false nor empty. Only `true`.
    pub exists: Option<bool>,
    /// At least one of these rules holds.
    pub any_of: Option<Vec<Rule>>,
}

/// Cross-origin rules. They go on every answer, errors too.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct CorsPolicy {
    /// Pages that may read the answers, such as `https://app.example`; `["*"]` is any.
    pub origins: Vec<String>,
    /// Methods allowed. Default: `["*"]`.
    pub methods: Option<Vec<String>>,
    /// Request headers allowed. Default: `["*"]`.
    pub headers: Option<Vec<String>>,
    /// Response headers that the page may read. Default: none beyond the safe ones.
    pub exposed_headers: Option<Vec<String>>,
    /// Whether cookies and `Authorization` may come along; not with `Origins: ["*"]`. Default: `false`.
    #[serde(default)]
    pub allow_credentials: bool,
    /// How long a browser may keep the answer to a preflight. Default: `10m`.
    pub max_age: Option<TimeSpan>,
}

/// Time limits toward the upstream. None of them cuts a stream that flows.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct TimeoutPolicy {
    /// To be connected, TLS included. Default: `2s`.
    pub connect: Option<TimeSpan>,
    /// From the request sent to the response header. Default: `5s`.
    pub first_byte: Option<TimeSpan>,
    /// Between two reads of a body; of a WebSocket, between two bytes in either direction. Default: `30s`.
    pub idle: Option<TimeSpan>,
    /// How long a request for an object is tried again while the store is away, before it is answered with an error, at most
    /// `5m`. Default: `0s`.
    pub unavailable: Option<TimeSpan>,
}
