//! Section `Auth`.

use std::time::Duration;

use super::{ConfigLocation, http_url};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::SecretRef;
use server_kit::auth::path_token;
use server_kit::auth::settings::{AuthSettings, Issuer, KeySource, TokenSource};

// Clocks of servers that use NTP differ by far less; more would only prolong expired tokens.
const LEEWAY: Duration = Duration::from_secs(30);
const MOST_LEEWAY: Duration = Duration::from_secs(300);

/// Shortest key in bytes: a shorter one can be guessed (RFC 2104 §3: no shorter than the hash).
const LEAST_KEY: usize = 32;
// Every key is tried for a token, so their number is a cost of each request.
const MOST_KEYS: usize = 4;

pub fn auth(at: &ConfigLocation<'_>, raw: &file::Auth) -> Option<AuthSettings> {
    let path_token = raw.path_token.as_ref().map(|raw| path_token(&at.key("PathToken"), raw));
    // Outer `None` is a failure that was reported, inner `None` a section that is absent.
    let path_token = path_token.map_or(Some(None), |settings| settings.map(Some));
    let end_revoked_streams = raw.end_revoked_streams;
    let Some(jwt) = &raw.jwt else {
        if raw.path_token.is_some() {
            let problem = ConfigProblem::new("streaming URLs are given to users, and nothing says who is one");
            at.key("PathToken").report(problem.help("configure `Auth.Jwt`, or remove `PathToken`"));
        }
        let (issuers, token_from) = (Vec::new(), vec![TokenSource::Header]);
        return Some(AuthSettings {
            issuers,
            token_from,
            leeway: LEEWAY,
            path_token: path_token?,
            end_revoked_streams,
        });
    };
    let at = at.key("Jwt");
    if jwt.issuers.is_empty() {
        at.key("Issuers").report(ConfigProblem::new("no token could be valid").expected("at least one issuer"));
    }
    // No `?` yet: all keys are checked before the first failure ends the section.
    let issuers = at.key("Issuers").each(&jwt.issuers, issuer);
    let token_from = match &jwt.token_from {
        None => Some(vec![TokenSource::Header]),
        Some(sources) => at.key("TokenFrom").each(sources, |at, text| token_source(at, text)),
    };
    let leeway = at.key("Leeway").span(jwt.leeway, LEEWAY, Duration::ZERO, MOST_LEEWAY);
    Some(AuthSettings {
        issuers: issuers?,
        token_from: token_from?,
        leeway: leeway?,
        path_token: path_token?,
        end_revoked_streams,
    })
}

fn path_token(at: &ConfigLocation<'_>, raw: &file::PathToken) -> Option<path_token::Settings> {
    let (minute, week) = (Duration::from_secs(60), Duration::from_secs(7 * 86_400));
    let ttl = at.key("Ttl").span(raw.ttl, Duration::from_secs(3600), minute, week);
    let references = raw.keys.as_deref().unwrap_or_default();
    if raw.keys.is_some() && !(1..=MOST_KEYS).contains(&references.len()) {
        let problem = ConfigProblem::new(format!("{} keys", references.len()));
        at.key("Keys").report(problem.expected("one to four; leave `Keys` out for a random one"));
    }
    let keys = at.key("Keys").each(references, |at, reference| {
        let key = at.secret(reference)?.value;
        let good = key.expose().len() >= LEAST_KEY;
        if !good {
            at.report(ConfigProblem::new("the key is too short").expected(format!("at least {LEAST_KEY} characters")));
        }
        good.then_some(key)
    });
    Some(path_token::Settings { keys: keys?, ttl: ttl? })
}

fn issuer(at: &ConfigLocation<'_>, raw: &file::Issuer) -> Option<Issuer> {
    let issuer = raw.issuer.as_ref().map(|issuer| at.key("Issuer").text(issuer));
    let audiences = raw.audience.as_ref().map(|audience| {
        let texts = audience.texts();
        match texts {
            [one] => at.key("Audience").text(one).map(|text| vec![text]),
            _ => at.key("Audience").each(texts, ConfigLocation::text),
        }
    });
    let keys = match (&raw.secret, &raw.public_key, &raw.jwks) {
        (Some(secret), None, None) => {
            let at = at.key("Secret");
            at.secret(secret).and_then(|secret| usable(&at, KeySource::Secret(secret.value)))
        }
        (None, Some(key), None) => public_key(&at.key("PublicKey"), key),
        (None, None, Some(url)) => {
            let expected = "an http or https URL without user, such as https://auth.example/.well-known/jwks.json";
            at.key("Jwks").parse(url, expected, http_url).map(KeySource::Jwks)
        }
        _ => {
            at.report(
                ConfigProblem::new("the issuer's keys are not clear")
                    .expected("exactly one of `Secret`, `PublicKey` and `Jwks`"),
            );
            None
        }
    };
    Some(Issuer {
        issuer: issuer.map_or(Some(None), |issuer| issuer.map(Some))?,
        audiences: audiences.unwrap_or_else(|| Some(Vec::new()))?,
        keys: keys?,
    })
}

fn public_key(at: &ConfigLocation<'_>, reference: &SecretRef) -> Option<KeySource> {
    let text = at.secret(reference)?.value.expose().to_owned();
    let good = text.contains("-----BEGIN PUBLIC KEY-----") || text.contains("-----BEGIN RSA PUBLIC KEY-----");
    if !good {
        // A private key in this place is a likely and dangerous slip, so it has its own message.
        let what = if text.contains("PRIVATE KEY-----") { "this is a private key" } else { "this is not a public key" };
        at.report(ConfigProblem::new(what).expected("a PEM text with `BEGIN PUBLIC KEY`"));
    }
    good.then(|| KeySource::PublicKey(text.into_bytes())).and_then(|key| usable(at, key))
}

/// Returns the key if tokens can be verified with it; otherwise reports the reason.
fn usable(at: &ConfigLocation<'_>, key: KeySource) -> Option<KeySource> {
    key.check().map_err(|error| at.report(ConfigProblem::new(error.to_string()))).ok().map(|()| key)
}

fn token_source(at: &ConfigLocation<'_>, text: &str) -> Option<TokenSource> {
    // RFC 6265 §4.1.1: a cookie's name is a token; the same set does for a query parameter.
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
    };
    match text.split_once(':') {
        None if text == "Header" => Some(TokenSource::Header),
        Some(("Cookie", name)) if is_name(name) => Some(TokenSource::Cookie(name.to_owned())),
        Some(("Query", name)) if is_name(name) => Some(TokenSource::Query(name.to_owned())),
        _ => {
            let kind = text.split(':').next().unwrap_or_default();
            let problem = ConfigProblem::new(format!("`{text}` is not a place for a token"));
            at.report(
                problem
                    .expected("`Header`, `Cookie:name` or `Query:name`")
                    .suggest(kind, ["Header", "Cookie", "Query"]),
            );
            None
        }
    }
}
