//! Films: their objects below `/v/{token}/movies/{id}/`, through the same engine as those of object routes, and their manifests.
//! The token is no part of a key: all viewers share one cached copy. Admission is in `admission/film_requests.rs`.

mod credential;
mod live_playlist;
mod manifest;

pub use credential::{FilmCredential, extract_credential};

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};

use super::context::RequestContext;
use super::objects;
use super::route::{Route, RouteHandler};
use super::settings::{FilmSettings, RouteSettings};
use super::tracks::{ObjectSource, RequestedObject};
use crate::proxy::failure::ProxyFailure;
use http_semantics::media_type;
use http_server::{Downstream, DownstreamError};
use object_engine::{ObjectBody, ObjectOrigin};
use routing::pattern::{Captures, PathPattern, Separator};
use s3::signer::authority;
use server_kit::telemetry::metrics::Metrics;
use vod::cmcd;
use vod::manifest::{self as manifests, FilmFolder, ManifestChecks, ManifestRefusal, ManifestRules};
use vod::session::{ManifestType, SessionEnd};
use vod::settings::ManifestNames;

/// Paths of films, the token taken off.
const PATTERN: &str = "/{folder}/{id}/{**rest}";
/// Extension of encryption keys that lie in a film's folder.
const KEY_EXTENSION: &str = "key";
/// A segment of that name does not change: a film that is encoded anew gets other names, or another id. Not for shared caches,
/// which would go on serving it after a session has ended.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");
/// Everything else of a film, and manifests that do not change.
const SHORT: HeaderValue = HeaderValue::from_static("private, max-age=60");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Time after which the admission of a request for a key is not new any more.
const LONG: Duration = Duration::from_secs(1);
/// Bytes that are read to see what an object is. The rest of it may go from socket to socket, unread.
const BEGINNING: usize = 4 << 10;

/// The routes of films.
pub struct FilmRoutes {
    /// Route of objects and manifests.
    pub films: Arc<Route>,
    /// Route of encryption keys.
    pub keys: Arc<Route>,
    prefix: Arc<str>,
    pattern: PathPattern,
}

/// A request for something of a film.
pub struct FilmRequest {
    /// Values of its path.
    pub captures: Captures,
    /// Prefix of the film's keys in the bucket, for which a grant is.
    pub prefix: String,
    /// True for an encryption key.
    pub is_key: bool,
}

impl FilmRoutes {
    /// Builds the routes of `settings`; `object_route` builds one that serves objects. Fails only where that does.
    pub fn build<E>(
        settings: &FilmSettings,
        mut object_route: impl FnMut(&RouteSettings) -> Result<Route, E>,
    ) -> Result<Self, E> {
        let mut route = |route: &RouteSettings| {
            let Route { id, policies, response_headers, codings, error_answers, handler } = object_route(route)?;
            let handler = match handler {
                RouteHandler::Object(objects) => {
                    RouteHandler::Film(Box::new(FilmHandler::new(objects.origin, settings)))
                }
                other => other,
            };
            Ok(Arc::new(Route { id, policies, response_headers, codings, error_answers, handler }))
        };
        let (films, keys) = (route(&settings.films)?, route(&settings.keys)?);
        let pattern = PathPattern::parse(PATTERN).expect("it is a pattern");
        Ok(Self { films, keys, prefix: Arc::clone(&settings.prefix), pattern })
    }

    /// Reads a path without its token; `None` where nothing of a film can be meant.
    pub fn read(&self, path: &str) -> Option<FilmRequest> {
        let captures = self.pattern.matches(path, Separator::Slash)?;
        let movie = captures.decoded("id")?.ok()?;
        let is_in_keys = match captures.get("folder")? {
            "movies" => false,
            "keys" => true,
            _ => return None,
        };
        let rest = captures.decoded("rest")?.ok().filter(|rest| !rest.is_empty())?;
        let is_key =
            is_in_keys || media_type::key_extension(&rest).is_some_and(|it| it.eq_ignore_ascii_case(KEY_EXTENSION));
        Some(FilmRequest { prefix: format!("{}{movie}/", self.prefix), captures, is_key })
    }
}

/// Serves the objects of films.
pub struct FilmHandler {
    /// The bucket, with its store, cluster and cache.
    pub origin: Arc<ObjectOrigin>,
    prefix: Arc<str>,
    key_prefix: Option<Arc<str>>,
    names: ManifestNames,
    rules: ManifestRules,
    checks: ManifestChecks,
}

/// Place of an object in a film's folder.
struct FilmPath {
    movie: String,
    /// The rest of the path, decoded.
    rest: String,
    /// The object's key.
    key: String,
    is_in_keys: bool,
}

impl FilmHandler {
    /// Creates the handler of a bucket.
    pub fn new(origin: Arc<ObjectOrigin>, settings: &FilmSettings) -> Self {
        let host = authority(origin.signer.endpoint());
        let rules = ManifestRules {
            store_hosts: vec![format!("{}.{host}", origin.bucket), host],
            allowed_hosts: settings.allowed_hosts.clone(),
            bucket: origin.bucket.to_string(),
        };
        let (prefix, key_prefix) = (Arc::clone(&settings.prefix), settings.key_prefix.clone());
        let (names, checks) = (settings.manifests.clone(), ManifestChecks::default());
        Self { origin, prefix, key_prefix, names, rules, checks }
    }

    /// Returns the prefix of all films' keys in the bucket.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the object that the captured path values name.
    pub fn find_object(&self, captures: &Captures) -> Result<RequestedObject, ProxyFailure> {
        let path = self.path(captures)?;
        let extension = media_type::key_extension(&path.rest).unwrap_or_default();
        let cache_control = match () {
            () if path.is_in_keys || extension.eq_ignore_ascii_case(KEY_EXTENSION) => NO_STORE,
            () if is_segment(extension) => IMMUTABLE,
            () => SHORT,
        };
        // A store may have taken a `.ts` for a translation of Qt.
        let content_type = media_type::from_key_extension(&path.key).map(HeaderValue::from_static);
        Ok(RequestedObject::with_headers(Arc::clone(&self.origin), path.key, cache_control, content_type))
    }

    fn path(&self, captures: &Captures) -> Result<FilmPath, ProxyFailure> {
        let unreadable = || ProxyFailure::BadRequest("the path is not UTF-8 after decoding".into());
        let value = |name| captures.decoded(name).and_then(Result::ok).ok_or_else(unreadable);
        let (movie, rest) = (value("id")?, value("rest")?);
        let is_in_keys = captures.get("folder") == Some("keys");
        let prefix = if is_in_keys { self.key_prefix.as_ref() } else { Some(&self.prefix) };
        let key = format!("{}{movie}/{rest}", prefix.ok_or(ProxyFailure::NoRoute)?);
        // On the decoded whole, as for every route: the raw path was checked already.
        if key.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
            return Err(ProxyFailure::BadRequest("the key has a `.` or `..` segment".into()));
        }
        Ok(FilmPath { movie, rest, key, is_in_keys })
    }
}

impl FilmPath {
    fn manifest_type(&self, names: &ManifestNames) -> Option<ManifestType> {
        let named = match &*self.rest {
            name if *name == *names.hls => Some(ManifestType::Hls),
            name if *name == *names.dash => Some(ManifestType::Dash),
            _ => None,
        };
        named.or_else(|| manifests::kind_of(&self.rest)).filter(|_| !self.is_in_keys)
    }
}

/// Answers a request for something of a film.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    route: &Route,
    handler: &FilmHandler,
    metrics: &Arc<Metrics>,
) -> Result<(), DownstreamError> {
    count_playback(downstream, ctx);
    let path = handler.path(&ctx.captures).ok();
    if let Some((path, kind)) = path.and_then(|path| path.manifest_type(&handler.names).map(|kind| (path, kind))) {
        // Boxed: a paused player of a segment keeps no room for it.
        return Box::pin(manifest::serve(downstream, ctx, route, handler, (path, kind), metrics)).await;
    }
    objects::serve(downstream, ctx, route, ObjectSource::Film(handler), metrics).await
}

/// Counts what the player says of its playback, where it does: for metrics alone.
fn count_playback(downstream: &impl Downstream, ctx: &RequestContext) {
    let request = downstream.request();
    let Some(metrics) = ctx.runtime.process.film_player_metrics.as_ref().filter(|_| request.method == Method::GET)
    else {
        return;
    };
    if let Some(said) = cmcd::read(request.uri.query(), &request.headers) {
        metrics.count(&said);
    }
}

/// Makes the first bytes of an object available, and refuses a manifest under another name; returns false for an empty body.
pub async fn begin(downstream: &mut impl Downstream, body: &mut ObjectBody) -> Result<bool, ProxyFailure> {
    // Bytes of the cache are in memory already: as many as may be written at once.
    let room = if body.is_cached() { downstream.writable_bytes() } else { BEGINNING };
    let has_begun = tokio::select! {
        biased;
        more = body.fill(room, false) => more.map_err(ProxyFailure::Object)?,
        () = downstream.closed() => return Err(ProxyFailure::ClientLeft),
    };
    match has_begun && manifests::is_manifest(body.available()) {
        true => Err(ProxyFailure::Manifest(Box::new(ManifestRefusal {
            line: 1,
            fault: manifests::ManifestFault::Disguised,
        }))),
        false => Ok(has_begun),
    }
}

/// Refuses an encryption key where the session has ended since the request was admitted: a store that was away may have let it
/// wait.
pub async fn confirm_key(ctx: &RequestContext) -> Result<(), ProxyFailure> {
    let routes = ctx.runtime.films.as_ref().zip(ctx.route.as_ref());
    let is_key = routes.is_some_and(|(routes, route)| Arc::ptr_eq(&routes.keys, route));
    let (Some(grant), Some(grants), true) = (&ctx.film_grant, &ctx.runtime.process.film_verifier, is_key) else {
        return Ok(());
    };
    if ctx.started.elapsed() < LONG {
        return Ok(());
    }
    Ok(Box::pin(grants.confirm(grant)).await?)
}

/// Resolves when the session of a film that is being sent has ended.
pub fn wait_until_ended(ctx: &RequestContext) -> impl Future<Output = SessionEnd> + use<> {
    let watched = ctx.film_grant.as_ref().map(|grant| grant.session).zip(ctx.runtime.process.film_verifier.clone());
    async move {
        match watched {
            // Boxed: a stream that nobody can end so, which is most, does not keep room for it.
            Some((session, grants)) => Box::pin(grants.wait_until_ended(session)).await,
            None => std::future::pending().await,
        }
    }
}

/// Returns true for what media are cut into.
fn is_segment(extension: &str) -> bool {
    const SEGMENTS: [&str; 14] =
        ["ts", "m4s", "mp4", "m4v", "m4a", "m4f", "cmfv", "cmfa", "cmft", "aac", "ac3", "ec3", "mp3", "webm"];
    SEGMENTS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Removes what a client must not do with a body that is made here: ask for a part of it by the object's size.
fn without_ranges(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers.remove(header::CONTENT_RANGE);
}
