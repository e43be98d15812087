//! `ReverseProxy.Clusters.<id>.SessionAffinity`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, SecretRef, TimeSpan};

/// How the requests of a session go to one server.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct SessionAffinity {
    /// Whether they do. Default: `false`.
    pub enabled: Option<ConfigFlag>,
    /// How the client is told which server it is. Default: `HashCookie`.
    #[serde(default)]
    pub policy: AffinityPolicy,
    /// What becomes of a session whose server is gone or not available. Default: `Redistribute`.
    #[serde(default)]
    pub failure_policy: AffinityFailurePolicy,
    /// Name of the cookie, or of the header; another one for each cluster.
    pub affinity_key_name: Option<String>,
    /// Attributes of the cookie.
    #[serde(default)]
    pub cookie: AffinityCookie,
    /// With `Cookie` and `CustomHeader`: what the server's id is encrypted with; at most four, each at least 32 characters; the
    /// first encrypts, all decrypt. Default: a random one, which ends with the process and is no other node's.
    pub keys: Option<Vec<SecretRef>>,
}

/// How a client is told which server has its session.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum AffinityPolicy {
    /// A cookie with a hash of the server's id.
    #[default]
    HashCookie,
    /// A cookie with the server's id, encrypted.
    Cookie,
    /// A cookie as IIS's Application Request Routing writes it.
    ArrCookie,
    /// A header of the response, with the server's id encrypted, which the client sends with its requests.
    CustomHeader,
}

/// What becomes of a session whose server is gone.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum AffinityFailurePolicy {
    /// Another server has it from now on.
    #[default]
    Redistribute,
    /// The answer is 503.
    Return503Error,
}

/// Attributes of a cookie.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct AffinityCookie {
    /// `Path`. Default: `/`.
    pub path: Option<String>,
    /// `Domain`. Default: the host alone.
    pub domain: Option<String>,
    /// `SameSite`. Default: `Unspecified`.
    pub same_site: Option<SameSite>,
    /// Whether scripts cannot read it. Default: `true`.
    pub http_only: Option<ConfigFlag>,
    /// Time to `Expires`. Default: none; the browser drops it at its end.
    pub expiration: Option<TimeSpan>,
    /// `Max-Age`. Default: none.
    pub max_age: Option<TimeSpan>,
    /// Whether it is sent over TLS alone. Default: `None`.
    pub secure_policy: Option<CookieSecurePolicy>,
    /// Accepted and without effect: Tidegate has no consent of visitors.
    #[serde(rename = "IsEssential")]
    pub _is_essential: Option<ConfigFlag>,
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum SameSite {
    /// The attribute is left out.
    Unspecified,
    /// `None`.
    None,
    /// `Lax`.
    Lax,
    /// `Strict`.
    Strict,
}

/// Whether a cookie is `Secure`.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum CookieSecurePolicy {
    /// It is not.
    None,
    /// It is.
    Always,
    /// It is where the request came over TLS.
    SameAsRequest,
}
