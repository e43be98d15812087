//! `Auth`.

use std::time::Duration;

use super::{At, http_url};
use crate::auth::settings::{Auth, Issuer, KeySource, TokenSource};
use crate::config::file;
use crate::config::report::Problem;
use crate::config::value::SecretRef;

const LEEWAY: Duration = Duration::from_secs(30);
const MOST_LEEWAY: Duration = Duration::from_secs(300);

pub fn auth(at: &At<'_>, raw: &file::Auth) -> Option<Auth> {
    let Some(jwt) = &raw.jwt else {
        return Some(Auth { issuers: Vec::new(), token_from: vec![TokenSource::Header], leeway: LEEWAY });
    };
    let at = at.key("Jwt");
    if jwt.issuers.is_empty() {
        at.key("Issuers").report(Problem::new("no token could be valid").expected("at least one issuer"));
    }
    let issuers = at.key("Issuers").each(&jwt.issuers, issuer);
    let token_from = match &jwt.token_from {
        None => Some(vec![TokenSource::Header]),
        Some(sources) => at.key("TokenFrom").each(sources, |at, text| token_source(at, text)),
    };
    let leeway = at.key("Leeway").span(jwt.leeway, LEEWAY, Duration::ZERO, MOST_LEEWAY);
    Some(Auth { issuers: issuers?, token_from: token_from?, leeway: leeway? })
}

fn issuer(at: &At<'_>, raw: &file::Issuer) -> Option<Issuer> {
    let issuer = raw.issuer.as_ref().map(|issuer| at.key("Issuer").text(issuer));
    let audiences = raw.audience.as_ref().map(|audience| {
        let texts = audience.texts();
        match texts {
            [one] => at.key("Audience").text(one).map(|text| vec![text]),
            _ => at.key("Audience").each(texts, At::text),
        }
    });
    let keys = match (&raw.secret, &raw.public_key, &raw.jwks) {
        (Some(secret), None, None) => at.key("Secret").secret(secret).map(|secret| KeySource::Secret(secret.value)),
        (None, Some(key), None) => public_key(&at.key("PublicKey"), key),
        (None, None, Some(url)) => {
            let expected = "an http or https URL without user, such as https://auth.example/.well-known/jwks.json";
            at.key("Jwks").parse(url, expected, http_url).map(KeySource::Jwks)
        }
        _ => {
            at.report(
                Problem::new("the issuer's keys are not clear")
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

fn public_key(at: &At<'_>, reference: &SecretRef) -> Option<KeySource> {
    let text = at.secret(reference)?.value.expose().to_owned();
    let good = text.contains("-----BEGIN PUBLIC KEY-----") || text.contains("-----BEGIN RSA PUBLIC KEY-----");
    if !good {
        let what = if text.contains("PRIVATE KEY-----") { "this is a private key" } else { "this is not a public key" };
        at.report(Problem::new(what).expected("a PEM text with `BEGIN PUBLIC KEY`"));
    }
    good.then(|| KeySource::PublicKey(text.into_bytes()))
}

fn token_source(at: &At<'_>, text: &str) -> Option<TokenSource> {
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
            let problem = Problem::new(format!("`{text}` is not a place for a token"));
            at.report(
                problem
                    .expected("`Header`, `Cookie:name` or `Query:name`")
                    .suggest(kind, ["Header", "Cookie", "Query"]),
            );
            None
        }
    }
}
