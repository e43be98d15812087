//! File of a page, with its headers.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use http_semantics::etag::{ETag, ETagCondition};

/// Time for which browsers keep a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Asked about each time: the parts of a page belong together, so after an update none may be an old one.
    Revalidated,
    /// Kept for a year: the name says which version it is.
    Immutable,
}

impl Lifetime {
    fn header(self) -> HeaderValue {
        match self {
            Self::Revalidated => HeaderValue::from_static("no-cache"),
            Self::Immutable => HeaderValue::from_static("public, max-age=31536000, immutable"),
        }
    }
}

/// File of a page. Clones share its text.
#[derive(Clone, Debug)]
pub struct StaticFile(Arc<FileParts>);

#[derive(Debug)]
struct FileParts {
    name: String,
    whole: Representation,
    /// Made when somebody first asks for it: most processes serve few of their pages.
    compressed: OnceLock<Representation>,
}

/// File in one content coding.
#[derive(Debug)]
struct Representation {
    text: Bytes,
    tag: ETag,
    head: HeaderMap,
}

impl StaticFile {
    /// Creates a file that is sent with the content security policy `policy`. The ending of `name` is its media type.
    pub fn new(name: &str, text: impl Into<Bytes>, policy: &HeaderValue, lifetime: Lifetime) -> Self {
        let text: Bytes = text.into();
        let tag = entity_tag(&text, "");
        let head: [(HeaderName, HeaderValue); 7] = [
            (header::CONTENT_TYPE, HeaderValue::from_static(media_type(name))),
            (header::CACHE_CONTROL, lifetime.header()),
            (header::CONTENT_SECURITY_POLICY, policy.clone()),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
            (header::ETAG, tag.to_header()),
        ];
        let whole = Representation { text, tag, head: head.into_iter().collect() };
        Self(Arc::new(FileParts { name: name.to_owned(), whole, compressed: OnceLock::new() }))
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Answers a request with these headers: the file, compressed where the client takes that, or 304 where it has it.
    pub fn answer(&self, headers: &HeaderMap) -> Response {
        let file = match accepts_gzip(headers) {
            true => self.0.compressed.get_or_init(|| self.0.whole.compress()),
            false => &self.0.whole,
        };
        let known = ETagCondition::parse(headers.get_all(header::IF_NONE_MATCH));
        if known.is_some_and(|known| known.matches_weak(Some(&file.tag))) {
            return (StatusCode::NOT_MODIFIED, file.head.clone()).into_response();
        }
        (file.head.clone(), Body::from(file.text.clone())).into_response()
    }
}

impl Representation {
    fn compress(&self) -> Self {
        let mut encoder = GzEncoder::new(Vec::with_capacity(self.text.len() / 2), Compression::default());
        encoder.write_all(&self.text).expect("memory takes everything");
        let text = Bytes::from(encoder.finish().expect("memory takes everything"));
        // Another representation has another strong tag (RFC 9110 §8.8.3.3).
        let tag = entity_tag(&self.text, "-gzip");
        let mut head = self.head.clone();
        head.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        head.insert(header::ETAG, tag.to_header());
        Self { text, tag, head }
    }
}

fn entity_tag(text: &[u8], coding: &str) -> ETag {
    let digest: String = Sha256::digest(text)[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    ETag::parse(format!("\"{digest}{coding}\"").as_bytes()).expect("letters and digits in quotes are a tag")
}

/// Returns true where a client takes gzip (RFC 9110 §12.5.3); a wildcard alone is not taken for it.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(',')).map(|coding| coding.split(';').map(str::trim));
    codings.any(|mut coding| {
        let is_gzip = coding.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = coding.find_map(|parameter| parameter.strip_prefix("q=")?.parse::<f32>().ok());
        is_gzip && weight.is_none_or(|weight| weight > 0.0)
    })
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_client_has_is_not_sent_again_and_one_with_a_version_is_kept() {
        let policy = HeaderValue::from_static("default-src 'none'");
        for (lifetime, kept) in
            [(Lifetime::Revalidated, "no-cache"), (Lifetime::Immutable, "public, max-age=31536000, immutable")]
        {
            let file = StaticFile::new("a-1.2.js", "let a;", &policy, lifetime);
            let first = file.answer(&HeaderMap::new());
            assert_eq!(
                (first.status(), &first.headers()["cache-control"]),
                (StatusCode::OK, &HeaderValue::from_static(kept))
            );
            assert_eq!(first.headers()["content-security-policy"], policy);
            assert_eq!(first.headers()["content-type"], "text/javascript; charset=utf-8");
            let known = [(header::IF_NONE_MATCH, first.headers()["etag"].clone())].into_iter().collect();
            assert_eq!(file.answer(&known).status(), StatusCode::NOT_MODIFIED);
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_gzip_gets_the_file_compressed_under_another_tag() {
        let text = "let a;\n".repeat(1000);
        let file = StaticFile::new("a.js", text.clone(), &HeaderValue::from_static("x"), Lifetime::Revalidated);
        let ask = |coding: &'static str| {
            let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(coding))].into_iter().collect();
            file.answer(&headers)
        };
        let plain = file.answer(&HeaderMap::new());
        for coding in ["br", "gzip;q=0", "*", "identity"] {
            assert!(!ask(coding).headers().contains_key("content-encoding"), "{coding}");
        }
        for coding in ["gzip", "br, GZIP;q=0.5", "deflate, gzip"] {
            let answer = ask(coding);
            assert_eq!(answer.headers()["content-encoding"], "gzip", "{coding}");
            assert_eq!(answer.headers()["vary"], plain.headers()["vary"]);
            assert_ne!(answer.headers()["etag"], plain.headers()["etag"]);
            let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            assert!(bytes.len() < 200, "{} bytes", bytes.len());
            let mut whole = String::new();
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut whole).unwrap();
            assert_eq!(whole, text);
        }
    }
}
