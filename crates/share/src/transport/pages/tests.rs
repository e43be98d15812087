use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{Request, StatusCode, header};
use tower::ServiceExt;

use super::*;
use web_pages::checks;

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
    let mut named = 0;
    for (of, whole) in ASSETS.into_iter().chain(SHARED).chain(pages()) {
        for name in checks::named_files(whole, "/listen/assets/") {
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
        assert!(checks::page_faults(page).is_empty(), "{path}: {:?}", checks::page_faults(page));
    }
    for (name, part) in ASSETS.iter().chain(&SHARED).filter(|(name, _)| !name.ends_with(".svg")) {
        assert!(checks::part_faults(part).is_empty(), "{name}: {:?}", checks::part_faults(part));
    }
}

#[test]
fn every_language_has_every_text_with_its_plurals() {
    let texts = checks::parse_texts(TEXTS).expect("texts.json is languages with texts");
    assert_eq!(checks::language_faults(&texts), [""; 0]);
}

#[test]
fn every_text_that_is_named_is_there_and_every_text_is_named() {
    let texts = checks::parse_texts(TEXTS).expect("texts.json is languages with texts");
    let scripts: String = ASSETS.iter().map(|(_, part)| *part).collect();
    let pages: String = pages().iter().map(|(_, page)| *page).collect();
    assert_eq!(checks::naming_faults(&texts, &pages, &scripts, &["state.", "figure.", "host."]), [""; 0]);
}
