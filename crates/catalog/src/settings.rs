//! Settings of the authorities over access (`Policies.Authorization.<name>.GrantStore`, `.Http`).

use std::time::Duration;

use url::Url;

use http_semantics::placeholders::{self, TemplatePart};
use primitives::ids::is_name;

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
    pub url: UrlTemplate,
    /// Timeout of connection and response together.
    pub timeout: Duration,
    /// Time for which an answer is cached.
    pub cache_ttl: Duration,
    /// Allows access while the service does not answer.
    pub allow_on_failure: bool,
    /// Sends the player's own token along.
    pub forward_token: bool,
}

/// URL with `{userId}` and `{trackId}` in its path or query; each may be absent or repeated. It may name an internal host: `Debug` hides it.
///
/// Not a `CaptureTemplate` of routing, whose values are percent-encoded already, or go into a key without encoding: here
/// ids are encoded whole, and the result must be a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Parses a template; `None` if it is no http or https URL, has user information or a fragment, has other names in
    /// braces, or has one in the host.
    pub fn parse(text: &str) -> Option<Self> {
        let template = Self(text.to_owned());
        let url = template.fill("u", "t")?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        // A placeholder in the host would let a user's id choose the server. It shows by another host for another user.
        let host = url.has_host() && template.fill("v", "w")?.host() == url.host();
        (matches!(url.scheme(), "http" | "https") && plain && host).then_some(template)
    }

    /// Returns the URL for this user and this track; `None` if one of them is no name, such as `..`, which a URL would
    /// resolve to another path.
    pub fn fill(&self, user: &str, track: &str) -> Option<Url> {
        if !is_name(user) || !is_name(track) {
            return None;
        }
        let escape =
            // NON_ALPHANUMERIC also encodes `/`, `?` and `#`, so an id stays one segment or one value.
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let part = |part| match part {
            TemplatePart::Literal(text) => (!text.contains(['{', '}'])).then(|| text.to_owned()),
            TemplatePart::Name("userId") => Some(escape(user)),
            TemplatePart::Name("trackId") => Some(escape(track)),
            TemplatePart::Name(_) => None,
        };
        Url::parse(&placeholders::parts(&self.0).into_iter().map(part).collect::<Option<String>>()?).ok()
    }
}

impl std::fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::UrlTemplate;

    #[test]
    fn ids_stay_in_their_places() {
        let template =
            UrlTemplate::parse("http://users:8000/access/{userId}/{trackId}?u={userId}").expect("a template");
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
            assert!(UrlTemplate::parse(text).is_none(), "{text}");
        }
    }
}
