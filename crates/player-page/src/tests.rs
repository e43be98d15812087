use std::collections::{BTreeMap, BTreeSet};

use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{Request, StatusCode};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::settings::SignIn;
use super::*;
use web_pages::checks;

/// Most bytes of the page before the first sound, compressed.
const MAX_PAGE_BYTES: usize = 150_000;

async fn ask(settings: &Settings, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    page_router(settings).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn bytes(answer: Response) -> Vec<u8> {
    to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()
}

fn with_provider() -> Settings {
    let provider = SignIn {
        issuer: "https://id.example/realm".parse().unwrap(),
        client_id: "page".to_owned(),
        scope: "openid".to_owned(),
        origins: vec!["https://login.example".to_owned()],
    };
    Settings { sign_in: Some(provider), ..Settings::default() }
}

#[tokio::test]
async fn the_page_and_its_parts_are_served_under_a_strict_policy() {
    let settings = Settings::default();
    let parts = ASSETS.iter().chain(&SHARED).chain(&audio::SCRIPTS).map(|(name, _)| format!("{ASSETS_PATH}{name}"));
    for path in parts.chain(["/player/".to_owned()]) {
        let answer = ask(&settings, &path, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe-inline"), "{path}: {policy}");
        assert!(
            policy.contains("connect-src 'self';") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert_eq!(answer.headers()["cache-control"], "no-cache", "{path}");
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        let again = ask(&settings, &path, &[("if-none-match", &tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
}

#[tokio::test]
async fn the_page_talks_to_the_provider_of_its_settings_and_learns_no_more_than_it_needs() {
    let settings = with_provider();
    let page = ask(&settings, "/player/", &[]).await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("connect-src 'self' https://login.example https://id.example;"), "{policy}");
    let answer = ask(&settings, "/player/settings.json", &[]).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let told: serde_json::Value = serde_json::from_slice(&bytes(answer).await).unwrap();
    let provider = json!({ "issuer": "https://id.example/realm", "clientId": "page", "scope": "openid" });
    assert_eq!(told, json!({ "signIn": provider, "token": null }));
}

#[tokio::test]
async fn what_others_have_made_is_kept_under_names_with_its_version() {
    for (name, _) in VENDORED.iter().chain(&audio::VENDORED) {
        let answer = ask(&Settings::default(), &format!("{ASSETS_PATH}{name}"), &[]).await;
        assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable", "{name}");
    }
}

#[test]
fn lit_is_the_one_that_was_published() {
    let sums = include_str!("page/vendor/SHA256SUMS");
    assert_eq!(sums.lines().count(), VENDORED.len());
    for (name, text) in VENDORED {
        let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(sums.contains(&sum), "{name} is not in SHA256SUMS: {sum}");
    }
}

#[tokio::test]
async fn everything_that_the_page_or_a_part_names_is_there() {
    let mut named = 0;
    for (of, whole) in ASSETS.into_iter().chain(SHARED).chain(audio::SCRIPTS).chain([("player.html", PAGE)]) {
        let folder = if of.starts_with("audio/") { "audio/" } else { "" };
        for name in checks::named_files(whole, ASSETS_PATH).filter(|name| !name.contains(':')) {
            let name = name.strip_prefix("../").unwrap_or(name);
            let places = [format!("{ASSETS_PATH}{folder}{name}"), format!("{ASSETS_PATH}{name}")];
            let found = ask(&Settings::default(), &places[0], &[]).await.status() == StatusCode::OK
                || ask(&Settings::default(), &places[1], &[]).await.status() == StatusCode::OK
                || name == "/player/settings.json";
            assert!(found, "{of} names {name}");
            named += 1;
        }
    }
    assert!(named > 40, "only {named} files are named: the test no longer sees them");
}

/// Returns the paths that a script imports before it runs, as they are asked for.
fn imports(name: &str, script: &str) -> Vec<String> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let lines = script.lines().filter(|line| line.starts_with("import ") || line.starts_with("export {"));
    let named = lines.filter_map(|line| line.split_once("from \"").and_then(|(_, rest)| rest.split_once('"')));
    let path = |(given, _): (&str, &str)| match given.strip_prefix("./") {
        Some(name) if folder.is_empty() => name.to_owned(),
        Some(name) => format!("{folder}/{name}"),
        None => given.replace("../", ""),
    };
    named.map(path).collect()
}

/// Returns the names of all scripts that run before the first sound: the page's own, and what they import.
fn loaded_scripts() -> BTreeSet<String> {
    let all: BTreeMap<&str, &str> = ASSETS.into_iter().chain(SHARED).chain(audio::SCRIPTS).collect();
    let (mut found, mut left) = (BTreeSet::new(), vec!["app.js".to_owned()]);
    while let Some(name) = left.pop() {
        if let Some(script) = all.get(&*name).filter(|_| !found.contains(&name)) {
            left.extend(imports(&name, script));
        }
        found.insert(name);
    }
    found
}

#[test]
fn the_page_names_each_script_that_it_loads() {
    let named: BTreeSet<String> = checks::named_files(PAGE, ASSETS_PATH).map(str::to_owned).collect();
    let scripts = loaded_scripts();
    assert!(scripts.contains("audio/response.js") && scripts.contains("lit.js"), "{scripts:?}");
    assert_eq!(scripts.difference(&named).collect::<Vec<_>>(), [""; 0], "each waits for the one that imports it");
}

#[tokio::test]
async fn all_that_is_loaded_before_the_first_sound_is_small() {
    let named = checks::named_files(PAGE, ASSETS_PATH).map(str::to_owned);
    let named: BTreeSet<String> = named.chain(loaded_scripts()).collect();
    let mut sum = 0;
    for name in named {
        let part = ask(&Settings::default(), &format!("{ASSETS_PATH}{name}"), &[("accept-encoding", "gzip")]).await;
        assert_eq!(part.status(), StatusCode::OK, "{name}");
        sum += bytes(part).await.len();
    }
    sum += bytes(ask(&Settings::default(), "/player/", &[("accept-encoding", "gzip")]).await).await.len();
    assert!((10_000..=MAX_PAGE_BYTES).contains(&sum), "{sum} bytes");
}

#[test]
fn nothing_on_the_page_is_inline_or_from_elsewhere() {
    // The one address is a name: that of the namespace of the logo.
    assert_eq!(checks::page_faults(PAGE), [""; 0]);
    for (name, part) in ASSETS {
        assert!(checks::part_faults(part).is_empty(), "{name}: {:?}", checks::part_faults(part));
    }
}

#[test]
fn every_language_of_the_page_has_every_text_and_nothing_else() {
    let texts = checks::parse_texts(TEXTS).expect("texts.json is languages with texts");
    assert_eq!(checks::language_faults(&texts), [""; 0]);
    let scripts: String = ASSETS.iter().map(|(_, part)| part.replace("{text(\"", "{ text(\"")).collect();
    let composed = ["repeat.", "preset.", "panel.", "problem.", "time.", "keys."];
    assert_eq!(checks::naming_faults(&texts, PAGE, &scripts, &composed), [""; 0]);
}

/// Returns the words between tags in the templates of a script: texts that stand in no catalogue.
fn words_between_tags(script: &str) -> Vec<String> {
    // Types in comments have angle brackets too.
    let is_code = |line: &&str| !["/**", "*", "//"].iter().any(|sign| line.trim_start().starts_with(sign));
    let code: String = script.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect();
    let texts = code.split('>').skip(1).filter_map(|rest| rest.split_once('<').map(|(text, _)| text));
    let plain = texts.filter(|text| !text.contains(['$', '{', '}', '(', ';', '=', '`', '\n', '?', ':', '_', '&']));
    plain.filter(|text| text.chars().any(char::is_alphabetic)).map(str::to_owned).collect()
}

#[test]
fn no_text_stands_outside_the_catalogues() {
    assert_eq!(words_between_tags("html`<p>Words</p><b>${text(\"a\")}</b>`"), ["Words"]);
    assert_eq!(words_between_tags("/** @type {() => Promise<void>} */\nhtml`<p>Words</p>`"), ["Words"]);
    for (name, script) in ASSETS.iter().filter(|(name, _)| name.ends_with(".js")) {
        assert_eq!(words_between_tags(script), [""; 0], "{name}");
    }
    // The product's name is the same in all languages.
    let body = PAGE.split_once("<body").map(|(_, body)| body.to_owned()).unwrap_or_default();
    assert_eq!(words_between_tags(&body), ["Tidegate"]);
}
