use std::collections::{BTreeMap, BTreeSet};

use axum::body::to_bytes;
use http::Request;
use serde_json::Value;
use tower::ServiceExt;

use super::*;

async fn get(path: &str, known: Option<&HeaderValue>) -> Response {
    let mut request = Request::get(path);
    if let Some(known) = known {
        request = request.header(header::IF_NONE_MATCH, known);
    }
    routes().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn text(answer: Response) -> String {
    String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

fn pages() -> [(&'static str, &'static str); 2] {
    [("/listen/000042", include_str!("listen.html")), ("/listen/host", include_str!("host.html"))]
}

#[tokio::test]
async fn the_pages_and_their_parts_are_served_under_a_strict_policy() {
    let parts = ASSETS.iter().map(|(name, _)| format!("/listen/assets/{name}"));
    for path in parts.chain(pages().map(|(path, _)| path.to_owned())) {
        let answer = get(&path, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'; ") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(policy.contains("frame-ancestors 'none'"), path == "/listen/host", "{path}");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        let tag = answer.headers()["etag"].clone();
        let again = get(&path, Some(&tag)).await;
        assert_eq!((again.status(), again.headers()["etag"].clone()), (StatusCode::NOT_MODIFIED, tag), "{path}");
        assert_eq!(text(again).await, "", "{path}");
    }
}

#[tokio::test]
async fn only_six_digits_have_a_page() {
    for path in ["/listen/12345", "/listen/1234567", "/listen/abcdef", "/listen/%3Cb%3E", "/listen/assets/none.js"] {
        assert!(get(path, None).await.status().is_client_error(), "{path}");
    }
}

#[tokio::test]
async fn everything_that_a_page_or_a_part_names_is_there() {
    let is_file =
        |word: &&str| word.rsplit_once('.').is_some_and(|(_, end)| ["js", "css", "json", "svg"].contains(&end));
    let mut named = 0;
    for (of, whole) in ASSETS.into_iter().chain(pages()) {
        for name in whole.split('"').filter(is_file) {
            let name = name.trim_start_matches("./").trim_start_matches("/listen/assets/");
            let answer = get(&format!("/listen/assets/{name}"), None).await;
            assert_eq!(answer.status(), StatusCode::OK, "{of} names {name}");
            named += 1;
        }
    }
    assert!(named > 15, "only {named} files are named: the test no longer sees them");
}

#[test]
fn nothing_is_inline_and_nothing_is_from_elsewhere() {
    for (path, page) in pages() {
        for barred in ["style=\"", "<style", "onclick=", "onload=", "javascript:", "http:", "https:", "<script>"] {
            assert!(!page.contains(barred), "{path}: {barred}");
        }
    }
    for (name, part) in ASSETS.iter().filter(|(name, _)| !name.ends_with(".svg")) {
        for barred in ["http://", "https://", "innerHTML", "eval(", "console."] {
            assert!(!part.contains(barred), "{name}: {barred}");
        }
    }
}

fn languages() -> BTreeMap<String, BTreeMap<String, Value>> {
    serde_json::from_str(TEXTS).expect("texts.json is languages with texts")
}

/// The values that a text takes.
fn places(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

#[test]
fn every_language_has_every_text_with_its_plurals() {
    // The categories that Unicode (CLDR) gives these languages.
    let plurals: [(&str, &[&str]); 4] = [
        ("en", &["one", "other"]),
        ("es", &["many", "one", "other"]),
        ("ru", &["few", "many", "one", "other"]),
        ("uk", &["few", "many", "one", "other"]),
    ];
    let languages = languages();
    assert!(languages.keys().map(String::as_str).eq(plurals.map(|(language, _)| language)));
    let keys: Vec<&String> = languages["en"].keys().collect();
    for (language, categories) in plurals {
        let texts = &languages[language];
        assert_eq!(texts.keys().collect::<Vec<_>>(), keys, "{language}");
        for (key, text) in texts {
            let forms: Vec<&str> = match text {
                Value::Object(forms) => {
                    assert!(forms.keys().eq(categories.iter()), "{language}: {key}");
                    forms.values().filter_map(Value::as_str).collect()
                }
                text => text.as_str().into_iter().collect(),
            };
            let english = &languages["en"][key];
            let wanted = places(english.as_str().or(english["other"].as_str()).expect("a text"));
            assert!(!forms.is_empty() && forms.iter().all(|form| !form.trim().is_empty()), "{language}: {key}");
            assert!(forms.iter().all(|form| places(form) == wanted), "{language}: {key} takes other values");
        }
    }
}

#[test]
fn every_text_that_is_named_is_there_and_every_text_is_named() {
    let texts = languages().remove("en").expect("English is there");
    let scripts: String = ASSETS.iter().map(|(_, part)| part.replace("getContext(", "")).collect();
    let pages: String = pages().iter().map(|(_, page)| *page).collect();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for start in ["data-text=\"", "data-label=\"", "text(\""] {
        let whole = if start.starts_with("data") { &pages } else { &scripts };
        named.extend(whole.split(start).skip(1).filter_map(|rest| rest.split_once('"').map(|(key, _)| key)));
    }
    for key in &named {
        assert!(texts.contains_key(*key), "{key} is named and is not there");
    }
    // What is put together of a word and a state cannot be seen; its beginning can.
    let composed = |key: &str| ["state.", "figure.", "host."].iter().any(|start| key.starts_with(start));
    for key in texts.keys().filter(|key| !composed(key)) {
        assert!(named.contains(key.as_str()) || scripts.contains(&format!("\"{key}\"")), "{key} is not used");
    }
}
