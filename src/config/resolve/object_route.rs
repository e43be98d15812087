//! The handler of a route with `PresignedUrl`: the object, and what is changed of its responses.

use std::sync::Arc;

use http::HeaderValue;
use http::header::CONTENT_DISPOSITION;

use super::route::RouteScope;
use super::{ConfigLocation, error_answers, transform};
use crate::config::file::{self, PresignedUrl};
use crate::config::report::ConfigProblem;
use crate::proxy::settings::{CodingSettings, HandlerSettings, ObjectResponseSettings, ObjectSettings, TrackSettings};
use http_semantics::content_coding::ContentCoding;
use object_engine::cache::CachePolicy;
use routing::template::CaptureTemplate;
use routing::transform::{
    ObjectHeaderChange, ObjectHeaderChanges, ObjectHeaderValue, ProtectedHeader, Transform, protection,
};
use s3::settings::StoreSettings;
use upstream::settings::ClusterSettings;

/// Resolves the handler of a route with `PresignedUrl`.
pub fn handler(
    at: &ConfigLocation<'_>,
    raw: &file::Route,
    captured: Option<&[&str]>,
    cluster: Option<Option<Arc<ClusterSettings>>>,
    cache: Option<CachePolicy>,
    scope: &RouteScope<'_>,
) -> Option<HandlerSettings> {
    let transforms = at.key("Transforms");
    let presigned = |(number, raw): (usize, &file::Transform)| raw.presigned_url.is_some().then_some(number);
    let mut numbers = raw.transforms.iter().enumerate().filter_map(presigned);
    let number = numbers.next()?;
    if let Some(second) = numbers.next() {
        transforms.item(second).report(ConfigProblem::new("a route has one object").help("keep one `PresignedUrl`"));
    }
    let others = transforms.each(&raw.transforms, |at, raw| beside_presigned_url(at, raw, captured));
    let presigned = raw.transforms[number].presigned_url.as_ref()?;
    let at = transforms.item(number).key("PresignedUrl");
    let content_type = content_type(&at, presigned);
    let headers = others.and_then(|others| header_changes(&at, presigned, others.into_iter().flatten().collect()));
    let errors = error_answers::error_answers(&at, presigned);
    let codings = codings(&at, presigned);
    let index = index_document(&at, presigned);
    let lists_folders = lists_folders(&at, presigned);
    let response = || {
        Some(ObjectResponseSettings {
            content_type: content_type?,
            cache,
            headers: headers?,
            errors: errors?,
            codings: codings?,
        })
    };
    match &presigned.track {
        Some(track) => {
            let track_id = track_id(&at, presigned, track, captured);
            if raw.cluster_id.is_some() {
                let problem =
                    ConfigProblem::new("the tracks of a catalogue may lie in any store, not behind one cluster");
                at.key("Track").report(problem.help("remove `ClusterId`"));
            }
            track_id
                .and_then(|track_id| Some(HandlerSettings::Track(TrackSettings { track_id, response: response()? })))
        }
        None => object(&at, presigned, captured, scope).and_then(|(store, bucket, key)| {
            let (cluster, response) = (cluster?, response()?);
            let (index, lists_folders) = (index?, lists_folders?);
            Some(HandlerSettings::Object(ObjectSettings {
                store,
                bucket,
                key,
                index,
                lists_folders,
                cluster,
                response,
            }))
        }),
    }
}

/// Puts the change of `Download` before those of the transforms.
fn header_changes(
    at: &ConfigLocation<'_>,
    raw: &PresignedUrl,
    others: Vec<ObjectHeaderChange>,
) -> Option<ObjectHeaderChanges> {
    let is_download = raw.download.is_some_and(|flag| flag.0);
    if is_download && others.iter().any(|change| *change.name() == CONTENT_DISPOSITION) {
        let problem = ConfigProblem::new("a transform writes `Content-Disposition` too");
        at.key("Download")
            .report(problem.help("remove one of the two; `attachment; {filename}` is what `Download` writes"));
        return None;
    }
    let download = is_download.then(ObjectHeaderChange::download);
    Some(ObjectHeaderChanges::new(download.into_iter().chain(others).collect()))
}

/// Resolves a transform of an object route besides `PresignedUrl`: a change of the response's headers, or `Some(None)`
/// for one that changes nothing. `captured` are the names that the path captures, if known.
fn beside_presigned_url(
    at: &ConfigLocation<'_>,
    raw: &file::Transform,
    captured: Option<&[&str]>,
) -> Option<Option<ObjectHeaderChange>> {
    let kind = transform::kind(at)?;
    let host = raw.request_header.as_ref().is_some_and(|name| name.eq_ignore_ascii_case("Host"));
    match kind {
        "PresignedUrl" => Some(None),
        // A configuration of YARP has them for its own destination; the object's key is decided elsewhere.
        "PathRemovePrefix" | "PathPattern" => transform::transform(at, raw, captured).map(|_| None),
        "RequestHeader" if host => Some(None),
        "ResponseHeader" | "ResponseHeaderRemove" => header_change(at, raw, kind).map(Some),
        _ => {
            let why = match kind {
                kind if kind.starts_with("Path") => "the `Key` of `PresignedUrl` alone decides the object",
                kind if kind.starts_with("Query") => "the query of a signed request cannot be changed",
                kind if kind.starts_with("Response") => "of the store's headers only those of the object pass",
                "HttpMethodChange" => "an object is read with GET and HEAD",
                _ => "a store is told nothing of the client's request",
            };
            let problem = ConfigProblem::new(format!("`{kind}` has no place beside `PresignedUrl`: {why}"));
            at.key(kind).report(problem.expected(
                "`ResponseHeader` or `ResponseHeaderRemove`; or, as YARP's files have them, `PathRemovePrefix`, `PathPattern` or \
                 `RequestHeader: Host`",
            ));
            None
        }
    }
}

/// Resolves a change of a header, which must not be one that ranges, conditions and caches depend on.
fn header_change(at: &ConfigLocation<'_>, raw: &file::Transform, kind: &'static str) -> Option<ObjectHeaderChange> {
    let change = match transform::transform(at, raw, None)? {
        Transform::ResponseHeader { name, value, write, when } => {
            let text = value.to_str().unwrap_or_default();
            let value = ObjectHeaderValue::parse(&name, text).unwrap_or(ObjectHeaderValue::Fixed(value));
            ObjectHeaderChange::Write { name, value, write, when }
        }
        Transform::ResponseHeaderRemove { name, when } => ObjectHeaderChange::Remove { name, when },
        _ => return None,
    };
    let (ObjectHeaderChange::Write { name, when, .. } | ObjectHeaderChange::Remove { name, when }) = &change;
    if let Some(ProtectedHeader(why)) = protection(name, *when) {
        let problem = ConfigProblem::new(format!("`{name}` cannot be changed on an object route: {why}"));
        at.key(kind).report(problem.help("remove this transform"));
        return None;
    }
    Some(change)
}

/// Resolves the name of index documents; `Some(None)` is none.
fn index_document(at: &ConfigLocation<'_>, raw: &PresignedUrl) -> Option<Option<Arc<str>>> {
    let Some(name) = raw.index_document.as_deref() else { return Some(None) };
    let at = at.key("IndexDocument");
    if raw.track.is_some() {
        at.report(ConfigProblem::new("tracks of a catalogue have no folders").help("remove `IndexDocument`"));
        return None;
    }
    let is_name =
        !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\\']) && !name.contains(char::is_control);
    if !is_name {
        at.report(
            ConfigProblem::new(format!("`{name}` is not a name in a folder")).expected("a name such as index.html"),
        );
    }
    (is_name && name != "." && name != "..").then(|| Some(name.into()))
}

/// Resolves the switch of directory listings.
fn lists_folders(at: &ConfigLocation<'_>, raw: &PresignedUrl) -> Option<bool> {
    let is_on = raw.directory_listing.is_some_and(|flag| flag.0);
    if is_on && raw.track.is_some() {
        let problem = ConfigProblem::new("tracks of a catalogue have no folders");
        at.key("DirectoryListing").report(problem.help("remove `DirectoryListing`"));
        return None;
    }
    Some(is_on)
}

/// Resolves the codings of objects, each once in each list.
fn codings(at: &ConfigLocation<'_>, raw: &PresignedUrl) -> Option<CodingSettings> {
    if raw.track.is_some() && !raw.precompressed.is_empty() {
        let problem = ConfigProblem::new("a track of a catalogue is one object, with nothing beside it");
        at.key("Precompressed").report(problem.help("remove `Precompressed`"));
        return None;
    }
    let list = |key: &str, raw: &[file::ContentCoding]| {
        let at = at.key(key);
        at.each(raw, |at, coding| {
            let is_once = raw.iter().filter(|other| *other == coding).count() == 1;
            if !is_once {
                at.report(ConfigProblem::new("it is there twice").help("remove one of the two"));
            }
            is_once.then_some(match coding {
                file::ContentCoding::Br => ContentCoding::Brotli,
                file::ContentCoding::Zstd => ContentCoding::Zstd,
                file::ContentCoding::Gzip => ContentCoding::Gzip,
            })
        })
    };
    let (stored, made) = (list("Precompressed", &raw.precompressed), list("Compression", &raw.compression));
    Some(CodingSettings { stored: stored?, made: made? })
}

/// Parses the `Content-Type` of the objects; `Some(None)` is the store's.
fn content_type(at: &ConfigLocation<'_>, raw: &PresignedUrl) -> Option<Option<HeaderValue>> {
    let Some(text) = raw.content_type.as_deref() else { return Some(None) };
    let value = HeaderValue::from_str(text).ok().filter(|_| text.contains('/'));
    if value.is_none() {
        let problem = ConfigProblem::new(format!("`{text}` cannot be read"));
        at.key("ContentType").report(problem.expected("a media type such as audio/mpeg"));
    }
    value.map(Some)
}

fn track_id(
    at: &ConfigLocation<'_>,
    raw: &PresignedUrl,
    track: &str,
    captured: Option<&[&str]>,
) -> Option<CaptureTemplate> {
    let at = at.key("Track");
    if raw.store.is_some() || raw.bucket.is_some() || raw.key.is_some() {
        let problem = ConfigProblem::new("the catalogue says where a track's object is");
        at.report(problem.help("remove `Store`, `Bucket` and `Key`, or remove `Track`"));
    }
    if at.root("Database").node().is_none() {
        let problem = ConfigProblem::new("the catalogue is in the database, and there is none");
        at.report(problem.help("configure `Database`, or give `Store`, `Bucket` and `Key`"));
    }
    template(&at, track, captured)
}

/// Resolves store, bucket and key.
fn object(
    at: &ConfigLocation<'_>,
    raw: &PresignedUrl,
    captured: Option<&[&str]>,
    scope: &RouteScope<'_>,
) -> Option<(Arc<StoreSettings>, Arc<str>, CaptureTemplate)> {
    let (Some(store), Some(bucket), Some(key)) = (&raw.store, &raw.bucket, &raw.key) else {
        let problem = ConfigProblem::new("nothing says which object");
        at.report(problem.expected("`Store`, `Bucket` and `Key`; or `Track`, for a track of the catalogue"));
        return None;
    };
    let known = at.key("Store").known(store, &at.root("ObjectStores"), &[]);
    // AWS, "General purpose buckets naming rules"; MinIO takes the same.
    let bucket = at
        .key("Bucket")
        .parse(bucket, "3 to 63 of a-z, 0-9, `-` and `.`", |text| s3::is_bucket_name(text).then(|| text.into()));
    let key = template(&at.key("Key"), key, captured);
    let store = scope.stores.get(store.as_str()).filter(|_| known);
    Some((Arc::clone(store?), bucket?, key?))
}

/// Parses a template, all of whose names the route's path captures.
fn template(at: &ConfigLocation<'_>, text: &str, captured: Option<&[&str]>) -> Option<CaptureTemplate> {
    let template =
        CaptureTemplate::parse(text).map_err(|error| at.report(ConfigProblem::new(error.to_string()))).ok()?;
    let good = template.names().all(|name| transform::is_captured(at, name, captured));
    good.then_some(template)
}
