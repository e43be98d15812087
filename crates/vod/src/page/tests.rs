use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{Request, StatusCode, header};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::*;
use web_pages::checks;

/// Policy of the page with this host allowed.
fn policy(hosts: &[&str]) -> String {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    content_security_policy(&hosts).to_str().unwrap().to_owned()
}

fn router() -> Router {
    page_router(&[], Duration::from_secs(10))
}

async fn get(path: &str, known: Option<&HeaderValue>) -> Response {
    let mut request = Request::get(path);
    if let Some(known) = known {
        request = request.header(header::IF_NONE_MATCH, known);
    }
    router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn text(answer: Response) -> String {
    String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn the_film_page_and_its_parts_are_served_under_a_strict_policy() {
    let parts = ASSETS.iter().chain(&SHARED).map(|(name, _)| format!("{ASSETS_PATH}{name}"));
    for path in parts.chain(["/watch/".to_owned(), "/watch/dune".to_owned(), "/watch/d%C3%BCne".to_owned()]) {
        let answer = get(&path, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()["content-security-policy"], policy(&[]), "{path}");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers()["cache-control"], "no-cache", "{path}");
        let tag = answer.headers()["etag"].clone();
        assert_eq!(get(&path, Some(&tag)).await.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
    let strict = policy(&[]);
    assert!(strict.starts_with("default-src 'none'; ") && !strict.contains("unsafe"), "{strict}");
    assert!(strict.contains("frame-ancestors 'none'"), "{strict}");
    assert!(
        policy(&["cdn.example"])
            .contains("connect-src 'self' cdn.example:*; media-src 'self' blob: data: cdn.example:*;")
    );
}

#[tokio::test]
async fn players_of_others_are_kept_under_names_with_their_version() {
    for (name, _) in PLAYERS {
        let answer = get(&format!("{ASSETS_PATH}{name}"), None).await;
        assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable", "{name}");
        assert!(name.contains("-1.7.4.") || name.contains("-5.2.12."), "{name}");
    }
}

#[test]
fn players_of_others_are_those_that_were_published() {
    let sums = include_str!("vendor/SHA256SUMS");
    let files = ["hls.min.js", "hls.worker.js", "hls.LICENSE", "shaka-player.dash.js", "shaka-player.LICENSE"];
    assert_eq!(sums.lines().count(), files.len());
    for (file, (name, text)) in files.iter().zip(PLAYERS) {
        let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(sums.contains(&format!("{sum}  {file}\n")), "{name} is not {file} of SHA256SUMS: {sum}");
    }
}

#[tokio::test]
async fn the_page_knows_how_often_to_report() {
    assert!(text(get("/watch/dune", None).await).await.contains("data-interval=\"10\""));
}

#[tokio::test]
async fn an_id_that_cannot_be_has_no_page() {
    for path in ["/watch/a%2Fb", "/watch/..%5Cx", "/watch/assets/none.js"] {
        assert!(get(path, None).await.status().is_client_error(), "{path}");
    }
}

#[tokio::test]
async fn everything_that_the_film_page_or_a_part_names_is_there() {
    let mut named = 0;
    for (of, whole) in ASSETS.into_iter().chain(SHARED).chain([("watch.html", PAGE)]) {
        for name in checks::named_files(whole, ASSETS_PATH) {
            let answer = get(&format!("{ASSETS_PATH}{name}"), None).await;
            assert_eq!(answer.status(), StatusCode::OK, "{of} names {name}");
            named += 1;
        }
    }
    assert!(named > 30, "only {named} files are named: the test no longer sees them");
}

#[test]
fn nothing_on_the_film_page_is_inline_or_from_elsewhere() {
    assert_eq!(checks::page_faults(PAGE), [""; 0]);
    for (name, part) in ASSETS {
        assert!(checks::part_faults(part).is_empty(), "{name}: {:?}", checks::part_faults(part));
    }
}

#[test]
fn every_language_of_the_film_page_has_every_text_and_nothing_else() {
    let texts = checks::parse_texts(TEXTS).expect("texts.json is languages with texts");
    assert_eq!(checks::language_faults(&texts), [""; 0]);
    let scripts: String = ASSETS.iter().map(|(_, part)| *part).collect();
    assert_eq!(checks::naming_faults(&texts, PAGE, &scripts, &["state.", "notice.", "time."]), [""; 0]);
}
