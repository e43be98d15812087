//! The demo: sample music, its configuration and a small page that plays it through the proxy.
//!
//! It must not know how the proxy works: the page is a client like any other.

pub mod embedded;
pub mod media;
mod score;
mod synth;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use media::AudioFile;

/// The demo's configuration, as an operator would write it.
const CONFIGURATION: &str = include_str!("tidegate.yaml");

/// Content security policy: nothing but the page's own files, and nowhere else to go.
const CONTENT_SECURITY_POLICY_VALUE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the YAML of the demo: the embedded store on `root` (the bucket is its folder `audio`), listening at
/// `listen`; the secret that signs tokens is expected as `env:TIDEGATE_DEMO_SECRET`.
pub fn configuration(root: &Path, listen: SocketAddr) -> String {
    // A JSON text is a YAML text, whatever the path holds.
    let quoted = serde_json::Value::from(root.to_string_lossy()).to_string();
    CONFIGURATION.replace("127.0.0.1:8080", &listen.to_string()).replace("\"./data/demo\"", &quoted)
}

/// Makes the router of the page at `/demo/`: it lists the tracks of `folder` (the bucket's), read anew each time, and
/// plays them from `stream_prefix` with `token` as the query parameter `access_token`. Whoever can load the page gets
/// the token: for loopback only.
pub fn router(folder: PathBuf, token: String, stream_prefix: &str) -> Router {
    let source = Arc::new(PageState { folder, token, prefix: stream_prefix.to_owned() });
    let page = || async { file("text/html; charset=utf-8", include_str!("page/index.html")) };
    let script = || async { file("text/javascript; charset=utf-8", include_str!("page/app.js")) };
    let style = || async { file("text/css; charset=utf-8", include_str!("page/style.css")) };
    Router::new()
        .route("/demo", get(|| async { Redirect::permanent("/demo/") }))
        .route("/demo/", get(page))
        .route("/demo/app.js", get(script))
        .route("/demo/style.css", get(style))
        .route("/demo/tracks.json", get(tracks))
        .with_state(source)
}

/// Folder, token and path with which the page plays tracks.
struct PageState {
    folder: PathBuf,
    token: String,
    prefix: String,
}

/// Body of `/demo/tracks.json`.
#[derive(Serialize)]
struct TrackList<'a> {
    prefix: &'a str,
    token: &'a str,
    tracks: Vec<AudioFile>,
}

async fn tracks(State(source): State<Arc<PageState>>) -> Response {
    let reading = Arc::clone(&source);
    let found = tokio::task::spawn_blocking(move || media::tracks(&reading.folder)).await;
    let tracks = match found.map_err(std::io::Error::other).and_then(|tracks| tracks) {
        Ok(tracks) => tracks,
        Err(error) => {
            tracing::warn!(%error, "the demo's folder cannot be listed");
            return (StatusCode::INTERNAL_SERVER_ERROR, security_headers("no-store")).into_response();
        }
    };
    // It has the token in it, which no cache may keep.
    (security_headers("no-store"), Json(TrackList { prefix: &source.prefix, token: &source.token, tracks }))
        .into_response()
}

fn file(media_type: &'static str, text: &'static str) -> Response {
    (security_headers("no-cache"), [(CONTENT_TYPE, media_type)], text).into_response()
}

fn security_headers(cache: &'static str) -> HeaderMap {
    let headers: [(HeaderName, &'static str); 4] = [
        (CACHE_CONTROL, cache),
        (CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_VALUE),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::body::{Body, to_bytes};
    use http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::{configuration, router};

    #[test]
    fn the_configuration_has_the_address_and_the_folder_whatever_it_is_named() {
        let text = configuration(Path::new("/srv/my \"music\": #1"), "127.0.0.1:0".parse().unwrap());
        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(yaml["Server"]["Listeners"][0]["Address"], "127.0.0.1:0");
        assert_eq!(yaml["ObjectStores"]["folder"]["Embedded"], "/srv/my \"music\": #1");
    }

    #[tokio::test]
    async fn the_page_and_all_that_it_names_are_served_under_a_strict_policy() {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("a song.mp3"), b"x").unwrap();
        let router = router(folder.path().into(), "the-token".into(), "/stream/");
        let table = [
            ("/demo/", "text/html; charset=utf-8", "<audio"),
            ("/demo/app.js", "text/javascript; charset=utf-8", "access_token"),
            ("/demo/style.css", "text/css; charset=utf-8", "prefers-color-scheme"),
            ("/demo/tracks.json", "application/json", r#""token":"the-token","tracks":[{"key":"a song.mp3""#),
        ];
        for (path, media_type, part) in table {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            assert_eq!(answer.headers()["content-type"], media_type, "{path}");
            assert!(answer.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(text.contains(part), "{path}: no {part}");
            assert!(!text.contains("style=\"") && !text.contains("onclick="), "{path}: inline, which the policy bars");
        }
    }
}
