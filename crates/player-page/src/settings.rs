//! Settings of the player page.

use url::Url;

/// Settings of the player page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Provider of OpenID Connect that signs users in; without one the page asks for a token.
    pub sign_in: Option<SignIn>,
    /// True where users see every track of the catalogue, and not only their own and granted ones.
    pub whole_library: bool,
    /// Token that the page is given by itself: whoever loads the page acts for its user. For the demo on loopback only.
    pub token: Option<String>,
}

/// Provider of OpenID Connect, by the authorization code flow with PKCE (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The issuer; its description is at `/.well-known/openid-configuration` below it.
    pub issuer: Url,
    /// Id of the page as a public client of the provider.
    pub client_id: String,
    /// Scopes that are asked for, separated by spaces.
    pub scope: String,
    /// Origins besides the issuer's that the page may talk to, such as that of the token endpoint.
    pub origins: Vec<String>,
}
