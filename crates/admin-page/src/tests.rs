use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;
use web_pages::checks;

/// Most bytes of the page with all its parts, as they stand in the binary.
const MAX_PAGE_BYTES: usize = 100 * 1024;

async fn ask(path: &str, headers: &[(&str, &str)]) -> Response {
    let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    routes().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn all() -> impl Iterator<Item = (String, &'static str)> {
    let parts = ASSETS.into_iter().chain(SHARED).chain([("texts.json", TEXTS)]);
    parts.map(|(name, text)| (format!("{ASSETS_PATH}{name}"), text)).chain([("/".to_owned(), PAGE)])
}

#[tokio::test]
async fn the_admin_page_and_its_parts_are_served_under_a_strict_policy() {
    for (path, text) in all() {
        let answer = ask(&path, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()["content-security-policy"], POLICY, "{path}");
        assert_eq!(answer.headers()["cache-control"], "no-cache", "{path}");
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(ask(&path, &[("if-none-match", &tag)]).await.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(to_bytes(answer.into_body(), usize::MAX).await.unwrap(), text, "{path}");
    }
}

#[tokio::test]
async fn everything_that_the_admin_page_or_a_part_names_is_there() {
    let mut named = 0;
    for (of, whole) in all().filter(|(of, _)| !of.ends_with(".json")) {
        for name in checks::named_files(whole, ASSETS_PATH) {
            assert_eq!(ask(&format!("{ASSETS_PATH}{name}"), &[]).await.status(), StatusCode::OK, "{of} names {name}");
            named += 1;
        }
    }
    assert!(named > 15, "only {named} files are named: the test no longer sees them");
}

#[test]
fn the_admin_page_and_its_parts_are_small() {
    let sum: usize = all().map(|(_, text)| text.len()).sum();
    assert!((10_000..=MAX_PAGE_BYTES).contains(&sum), "{sum} bytes");
}

#[test]
fn nothing_on_the_admin_page_is_inline_or_from_elsewhere() {
    assert_eq!(checks::page_faults(PAGE), [""; 0]);
    for (name, part) in ASSETS {
        assert!(checks::part_faults(part).is_empty(), "{name}: {:?}", checks::part_faults(part));
    }
}

#[test]
fn every_language_of_the_admin_page_has_every_text_and_nothing_else() {
    let texts = checks::parse_texts(TEXTS).expect("texts.json is languages with texts");
    assert_eq!(checks::language_faults(&texts), [""; 0]);
    let scripts: String = ASSETS.iter().map(|(_, part)| *part).collect();
    let composed = ["state.", "health.", "handler.", "cache."];
    assert_eq!(checks::naming_faults(&texts, PAGE, &scripts, &composed), [""; 0]);
}
