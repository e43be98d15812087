//! Section `ReverseProxy.Clusters.<id>.SessionAffinity`.

use std::time::Duration;

use http::HeaderName;

use super::ConfigLocation;
use crate::config::file;
use crate::config::report::ConfigProblem;
use primitives::secret::Secret;
use upstream::session_affinity::{
    AffinityCookieSettings, AffinityFailurePolicy, AffinityPolicy, CookieSecurePolicy, SessionAffinitySettings,
};

/// Most keys, and fewest characters of one: as of streaming URLs.
const MOST_KEYS: usize = 4;
const LEAST_KEY: usize = 32;
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Resolves the affinity; `Some(None)` where it is switched off, after its values were checked all the same. `is_store` is true if
/// object routes use the cluster.
pub fn session_affinity(
    at: &ConfigLocation<'_>,
    raw: Option<&file::SessionAffinity>,
    is_store: bool,
) -> Option<Option<SessionAffinitySettings>> {
    let Some(raw) = raw else { return Some(None) };
    let is_on = raw.enabled.is_some_and(|flag| flag.0);
    let policy = match raw.policy {
        file::AffinityPolicy::HashCookie => AffinityPolicy::HashCookie,
        file::AffinityPolicy::ArrCookie => AffinityPolicy::ArrCookie,
        file::AffinityPolicy::Cookie => AffinityPolicy::Cookie,
        file::AffinityPolicy::CustomHeader => AffinityPolicy::CustomHeader,
    };
    if is_on && is_store {
        let problem =
            ConfigProblem::new("object routes use this cluster, and an object is read from any of its servers");
        at.report(problem.help("remove it or write `Enabled: false`, or give plain routes a cluster of their own"));
    }
    let name = key_name(&at.key("AffinityKeyName"), raw.affinity_key_name.as_deref(), is_on);
    let cookie = cookie(&at.key("Cookie"), &raw.cookie);
    let keys = keys(&at.key("Keys"), raw);
    let (name, cookie, keys) = (name?, cookie?, keys?);
    let on_failure = match raw.failure_policy {
        file::AffinityFailurePolicy::Redistribute => AffinityFailurePolicy::Redistribute,
        file::AffinityFailurePolicy::Return503Error => AffinityFailurePolicy::Return503,
    };
    Some(is_on.then(|| SessionAffinitySettings { policy, on_failure, key_name: name.into(), cookie, keys }))
}

/// Parses the name of the cookie or header: both are tokens (RFC 6265 §4.1.1, RFC 9110 §5.1).
fn key_name<'a>(at: &ConfigLocation<'_>, name: Option<&'a str>, is_needed: bool) -> Option<&'a str> {
    match name {
        None if is_needed => {
            let problem = ConfigProblem::new("the key `AffinityKeyName` is missing");
            at.report(problem.expected("the name of the cookie or header, another one for each cluster"));
            None
        }
        None => Some(""),
        Some(name) => {
            let good = HeaderName::try_from(name).is_ok();
            if !good {
                at.report(
                    ConfigProblem::new(format!("`{name}` is not a cookie's or header's name"))
                        .expected("a name such as .App.Server"),
                );
            }
            good.then_some(name)
        }
    }
}

fn keys(at: &ConfigLocation<'_>, raw: &file::SessionAffinity) -> Option<Vec<Secret>> {
    let references = raw.keys.as_deref().unwrap_or_default();
    if references.len() > MOST_KEYS {
        at.report(ConfigProblem::new(format!("{} keys are too many", references.len())).expected("at most four"));
        return None;
    }
    at.each(references, |at, reference| {
        let key = at.secret(reference)?.value;
        let is_long = key.expose().chars().count() >= LEAST_KEY;
        if !is_long {
            at.report(ConfigProblem::new("this key could be found by trying").expected("at least 32 characters"));
        }
        is_long.then_some(key)
    })
}

fn cookie(at: &ConfigLocation<'_>, raw: &file::AffinityCookie) -> Option<AffinityCookieSettings> {
    let default = AffinityCookieSettings::default();
    let span = |key: &str, raw: Option<_>| match raw {
        None => Some(None),
        raw => at.key(key).span(raw, Duration::ZERO, Duration::ZERO, YEAR).map(Some),
    };
    let (max_age, expiration) = (span("MaxAge", raw.max_age), span("Expiration", raw.expiration));
    let attribute = |key: &str, text: &Option<String>| {
        // A semicolon would begin another attribute.
        let good =
            text.as_ref().is_none_or(|text| text.bytes().all(|c| c.is_ascii_graphic() && c != b';' && c != b','));
        if !good {
            at.key(key).report(
                ConfigProblem::new("this cannot stand in a cookie").expected("a text without blanks, `;` and `,`"),
            );
        }
        good.then(|| text.clone())
    };
    let (path, domain) = (attribute("Path", &raw.path), attribute("Domain", &raw.domain));
    let same_site = raw.same_site.and_then(|same_site| match same_site {
        file::SameSite::Unspecified => None,
        file::SameSite::None => Some("none"),
        file::SameSite::Lax => Some("lax"),
        file::SameSite::Strict => Some("strict"),
    });
    let secure = match raw.secure_policy {
        None | Some(file::CookieSecurePolicy::None) => CookieSecurePolicy::None,
        Some(file::CookieSecurePolicy::Always) => CookieSecurePolicy::Always,
        Some(file::CookieSecurePolicy::SameAsRequest) => CookieSecurePolicy::SameAsRequest,
    };
    Some(AffinityCookieSettings {
        path: path?.unwrap_or(default.path),
        domain: domain?,
        same_site,
        http_only: raw.http_only.is_none_or(|flag| flag.0),
        max_age: max_age?,
        expiration: expiration?,
        secure,
    })
}
