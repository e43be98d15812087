//! Section `Player`.

use url::{Host, Url};

use super::ConfigLocation;
use super::policy::origin;
use crate::config::file;
use crate::config::report::ConfigProblem;
use player_page::settings::{Settings, SignIn};

/// Resolves the player page; `Some(None)` if there is none.
pub fn player(at: &ConfigLocation<'_>, raw: Option<&file::Player>) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let sign_in = raw.sign_in.as_ref().map(|raw| sign_in(&at.key("SignIn"), raw));
    let sign_in = match sign_in {
        Some(resolved) => Some(resolved?),
        None => None,
    };
    Some(Some(Settings { sign_in, whole_library: matches!(raw.library, Some(file::Library::All)), token: None }))
}

fn sign_in(at: &ConfigLocation<'_>, raw: &file::SignIn) -> Option<SignIn> {
    let issuer = issuer(&raw.issuer.0);
    if issuer.is_none() {
        let problem = ConfigProblem::new(format!("`{}` cannot be an issuer", raw.issuer.0));
        at.key("Issuer")
            .report(problem.expected("an https:// URL without query or fragment; http:// on loopback only"));
    }
    let is_text = |text: &str| !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control);
    let scope = raw.scope.clone().unwrap_or_else(|| "openid".to_owned());
    let mut is_good = true;
    for (key, text) in [("ClientId", &raw.client_id), ("Scope", &scope)] {
        if !is_text(text) {
            let problem = ConfigProblem::new("this cannot be sent to the provider");
            at.key(key).report(problem.expected("1 to 256 bytes without control characters"));
            is_good = false;
        }
    }
    let origins: Vec<String> = raw.origins.iter().filter_map(|text| origin(text)).collect();
    if origins.len() < raw.origins.len() {
        let problem = ConfigProblem::new("one of these is no origin");
        at.key("Origins").report(problem.expected("scheme, host and port only, such as https://login.example.com"));
        is_good = false;
    }
    is_good.then_some(())?;
    Some(SignIn { issuer: issuer?, client_id: raw.client_id.clone(), scope, origins })
}

/// Parses an issuer: in the clear it is taken on loopback only, since whoever is in between could sign in as the user.
fn issuer(text: &str) -> Option<Url> {
    let url = super::http_url(text).filter(|url| url.query().is_none())?;
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    (url.scheme() == "https" || is_loopback).then_some(url)
}
