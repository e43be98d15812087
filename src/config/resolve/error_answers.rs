//! Key `Errors` of `PresignedUrl`: pages and cache times of errors.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::ConfigLocation;
use crate::config::file::{self, PresignedUrl};
use crate::config::report::ConfigProblem;
use crate::config::shape::one_of;
use crate::proxy::settings::{ErrorAnswer, ErrorPage};
use http_semantics::media_type::key_extension;
use primitives::regular_file;
use routing::pattern::Captures;
use routing::template::CaptureTemplate;

/// Most bytes of a file: it is held in memory, and sent to whoever meets the error.
const MOST_BYTES: u64 = 64 << 10;
/// Statuses that say something of the object, which the store has been asked for. To others it must not be asked, for the
/// caller may have been refused, or the store be what failed.
const OF_OBJECTS: [StatusCode; 3] = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::GONE];
/// Media types of pages by their extensions.
const MEDIA_TYPES: [(&str, &str); 3] =
    [("html", "text/html; charset=utf-8"), ("txt", "text/plain; charset=utf-8"), ("json", "application/json")];

/// Resolves the answers to errors of an object route.
pub fn error_answers(at: &ConfigLocation<'_>, presigned: &PresignedUrl) -> Option<Vec<ErrorAnswer>> {
    let has_bucket = presigned.track.is_none();
    at.key("Errors").all(&presigned.errors, |at, status, raw| error_answer(at, status, raw, has_bucket))
}

fn error_answer(
    at: &ConfigLocation<'_>,
    status: &str,
    raw: &file::ErrorAnswer,
    has_bucket: bool,
) -> Option<ErrorAnswer> {
    let parsed = status.parse::<StatusCode>().ok();
    // 499 is in the log only: nobody is there to be answered.
    let Some(status) = parsed.filter(|it| (400..=599).contains(&it.as_u16()) && it.as_u16() != 499) else {
        let problem = ConfigProblem::new(format!("`{status}` is no status of an error"));
        at.report(problem.expected("a number such as 404, from 400 to 599"));
        return None;
    };
    if raw.key.is_none() && raw.file.is_none() && raw.cache_for.is_none() {
        at.report(ConfigProblem::new("nothing says what is answered").expected("`Key`, `File` or `CacheFor`"));
        return None;
    }
    let cache_for = cache_for(at, status, raw);
    let page = page(at, status, raw, has_bucket);
    Some(ErrorAnswer { status, cache_for: cache_for?, page: page? })
}

fn cache_for(at: &ConfigLocation<'_>, status: StatusCode, raw: &file::ErrorAnswer) -> Option<Option<Duration>> {
    if raw.cache_for.is_none() {
        return Some(None);
    }
    let (at, second) = (at.key("CacheFor"), Duration::from_secs(1));
    if !OF_OBJECTS.contains(&status) {
        let problem = ConfigProblem::new(format!("caches would go on with {status} when its cause is gone"));
        at.report(problem.help("remove it; 403, 404 and 410 can be kept"));
        return None;
    }
    at.span(raw.cache_for, second, second, Duration::from_secs(86_400)).map(Some)
}

fn page(
    at: &ConfigLocation<'_>,
    status: StatusCode,
    raw: &file::ErrorAnswer,
    has_bucket: bool,
) -> Option<Option<ErrorPage>> {
    match (&raw.key, &raw.file) {
        (Some(_), Some(_)) => {
            at.key("File").report(ConfigProblem::new("`Key` is there too").help("remove one of the two"));
            None
        }
        (Some(key), None) => object(&at.key("Key"), status, key, has_bucket).map(Some),
        (None, Some(path)) => {
            let at = at.key("File");
            file(&at, at.text(path)?).map(Some)
        }
        (None, None) => Some(None),
    }
}

fn object(at: &ConfigLocation<'_>, status: StatusCode, key: &str, has_bucket: bool) -> Option<ErrorPage> {
    if !has_bucket {
        at.report(ConfigProblem::new("the tracks of a catalogue may lie in any bucket").help("use `File`"));
        return None;
    }
    if !OF_OBJECTS.contains(&status) {
        let problem = ConfigProblem::new(format!("the store is not asked for a page after {status}"));
        at.report(problem.help("use `File`; pages of 403, 404 and 410 can be objects"));
        return None;
    }
    let parsed = CaptureTemplate::parse(key).ok().and_then(|it| it.render_key(&Captures::default()).ok());
    let Some(key) = parsed.filter(|key| s3::is_key_length_valid(key)) else {
        let problem = ConfigProblem::new(format!("`{key}` is no key of one object"));
        at.report(problem.expected("a key such as errors/404.html, without values of the path"));
        return None;
    };
    Some(ErrorPage::Object(Arc::from(key)))
}

fn file(at: &ConfigLocation<'_>, path: String) -> Option<ErrorPage> {
    let extension = key_extension(&path).unwrap_or_default();
    let Some((_, content_type)) = MEDIA_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)) else {
        let problem = ConfigProblem::new("the extension does not say what the file is");
        at.report(problem.expected(one_of(MEDIA_TYPES.map(|(extension, _)| extension))));
        return None;
    };
    match regular_file::read(&PathBuf::from(path), MOST_BYTES) {
        Ok(body) => {
            Some(ErrorPage::File { content_type: HeaderValue::from_static(content_type), body: Bytes::from(body) })
        }
        Err(error) => {
            let problem = ConfigProblem::new(format!("the file cannot be read: {error}"));
            at.report(problem.help("a relative path starts at the folder that Tidegate is started in"));
            None
        }
    }
}
