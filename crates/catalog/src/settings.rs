//! Settings of the authorities over access (`Policies.Authorization.<name>.GrantStore`, `.Http`).

use std::time::Duration;

use percent_encoding::NON_ALPHANUMERIC;
use url::Url;

use primitives::ids::is_name;
use server_kit::url_template::UrlTemplate;

/// Authorities that are asked beyond the rules over a token's claims; all of them must allow it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessSettings {
    /// True if the database's grants are asked.
    pub grants: bool,
    /// The service that is asked, if any.
    pub service: Option<AuthorizationServiceSettings>,
}

/// Settings of an authorization service over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationServiceSettings {
    /// URL, with `{userId}` and `{trackId}`.
    pub url: AccessUrlTemplate,
    /// Timeout of connection and response together.
    pub timeout: Duration,
    /// Time for which an answer is cached.
    pub cache_ttl: Duration,
    /// Allows access while the service does not answer.
    pub allow_on_failure: bool,
    /// Sends the player's own token along.
    pub forward_token: bool,
}

/// URL with `{userId}` and `{trackId}` in its path or query; each may be absent or repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUrlTemplate(UrlTemplate);

impl AccessUrlTemplate {
    /// Parses a template; `None` if it is none, as [`UrlTemplate::parse`] has it.
    pub fn parse(text: &str) -> Option<Self> {
        UrlTemplate::parse(text, &["userId", "trackId"], NON_ALPHANUMERIC).map(Self)
    }

    /// Returns the URL for this user and this track; `None` if one of them is no name, such as `..`, which a URL would
    /// resolve to another path.
    pub fn fill(&self, user: &str, track: &str) -> Option<Url> {
        if !is_name(user) || !is_name(track) {
            return None;
        }
        self.0.fill(&[("userId", user), ("trackId", track)])
    }
}

#[cfg(test)]
mod tests {
    use super::AccessUrlTemplate;

    #[test]
    fn ids_stay_in_their_places() {
        let template =
            AccessUrlTemplate::parse("http://users:8000/access/{userId}/{trackId}?u={userId}").expect("a template");
        let table = [
            ("u1", "t1", "http://users:8000/access/u1/t1?u=u1"),
            ("../x", "a/b?c#d", "http://users:8000/access/%2E%2E%2Fx/a%2Fb%3Fc%23d?u=%2E%2E%2Fx"),
            ("{trackId}", "t", "http://users:8000/access/%7BtrackId%7D/t?u=%7BtrackId%7D"),
        ];
        for (user, track, expected) in table {
            assert_eq!(template.fill(user, track).expect("a URL").as_str(), expected);
        }
        for (user, track) in [("..", "t"), (".", "t"), ("u", ".."), ("u", "a\0"), ("", "t")] {
            assert!(template.fill(user, track).is_none(), "{user:?} {track:?}");
        }
        for text in ["users/{userId}", "ftp://h/{userId}", "http://h/{user}", "http://u:p@h/", "http://h/#{userId}", ""]
            .into_iter()
            .chain(["http://{userId}/x", "http://{userId}.h/x", "http://h.{trackId}:80/", "http://h:{trackId}/"])
        {
            assert!(AccessUrlTemplate::parse(text).is_none(), "{text}");
        }
    }
}
