//! Answers with a manifest: read whole, checked, and sent as it is or with its URIs made relative.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{FilmFolder, FilmHandler, FilmPath, SHORT, live_playlist, without_ranges};
use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::objects::AnswerWait;
use crate::proxy::route::Route;
use crate::proxy::{live_stream, objects, respond};
use http_semantics::conditional::{PreconditionOutcome, Preconditions, Validators};
use http_semantics::etag::ETag;
use http_server::{Downstream, DownstreamError};
use object_engine::{ObjectError, ObjectResponse, RequestPlan};
use server_kit::telemetry::metrics::Metrics;
use vod::manifest::{
    MAX_MANIFEST_BYTES, ManifestFault, ManifestReader, ManifestRefusal, ServedManifest, SharedManifest, ViewerPlace,
};
use vod::session::ManifestType;

/// Bytes of a manifest that are read at once.
const PIECE: usize = 64 << 10;
/// Least speed at which a manifest is taken, in bytes per second: its memory is held for so long.
const LEAST_SPEED: usize = 64 << 10;
/// Time to take any manifest, before the speed counts.
const GRACE: Duration = Duration::from_secs(15);

/// A manifest for a client.
struct ManifestAnswer {
    status: StatusCode,
    headers: HeaderMap,
    /// Held, as its memory is, until it has been sent.
    manifest: Arc<SharedManifest>,
    _place: Option<ViewerPlace>,
}

/// Answers a request for a manifest.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    route: &Route,
    handler: &FilmHandler,
    manifest: (FilmPath, ManifestType),
    metrics: &Arc<Metrics>,
) -> Result<(), DownstreamError> {
    ctx.is_debugged = respond::has_debug_token(downstream, ctx);
    if !downstream.has_read_body()
        && let Err(failure) = objects::pass_over_body(downstream, route.policies.max_request_body).await
    {
        return respond::failure(downstream, ctx, failure).await;
    }
    let conditions = Preconditions::from_headers(&downstream.request().headers);
    let wait = AnswerWait::new(ctx, &handler.origin);
    let answer = wait.for_answer(downstream, answer(ctx, handler, &manifest, &conditions)).await;
    let ManifestAnswer { status, headers, manifest, _place } = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            ctx.failed_object = Some(Box::new(handler.origin.location(&manifest.0.key)));
            return respond::failure(downstream, ctx, failure).await;
        }
    };
    let head_only = status == StatusCode::NOT_MODIFIED || downstream.request().method == Method::HEAD;
    if !head_only {
        live_stream::register(downstream, ctx, status, &headers);
    }
    respond::head(downstream, ctx, status, headers, head_only).await?;
    if head_only {
        return Ok(());
    }
    let time = GRACE + Duration::from_secs((manifest.text().len() / LEAST_SPEED) as u64);
    let ended = live_stream::wait_until_ended(ctx);
    let sending = async {
        for piece in manifest.text().chunks(PIECE) {
            downstream.write(piece).await?;
            objects::count(ctx, metrics, piece.len());
        }
        downstream.end(None).await
    };
    let failure = tokio::select! {
        biased;
        reason = ended => reason,
        sent = tokio::time::timeout(time, sending) => match sent {
            Ok(sent) => return sent,
            Err(_) => ProxyFailure::ClientLeft,
        },
    };
    ctx.failure = Some(failure);
    downstream.abort().await;
    Ok(())
}

async fn answer(
    ctx: &mut RequestContext,
    handler: &FilmHandler,
    (path, kind): &(FilmPath, ManifestType),
    conditions: &Preconditions,
) -> Result<ManifestAnswer, ProxyFailure> {
    let place = match &ctx.film_grant {
        Some(grant) => {
            let user = ctx.claims.as_ref().map(|claims| claims.subject.clone());
            let reader = user.map_or(ManifestReader::Session(grant.session), ManifestReader::User);
            Some(handler.checks.enter(reader).await)
        }
        None => None,
    };
    let (mut headers, mut manifest) = read(ctx, handler, path, *kind).await?;
    let refresh = manifest.outcome.as_ref().as_ref().ok().and_then(|served| served.checked.refresh);
    if let Some(refresh) = refresh
        && live_playlist::renew(&handler.origin, &path.key, &mut headers, refresh).await?
    {
        // Its memory first: two at once would wait for each other.
        drop(manifest);
        (headers, manifest) = read(ctx, handler, path, *kind).await?;
    }
    let served = manifest.outcome.as_ref().as_ref().map_err(|refusal| refused(refusal.clone()))?;
    describe(&mut headers, *kind, served);
    headers.insert(header::CONTENT_LENGTH, manifest.text().len().into());
    conditioned(conditions, ManifestAnswer { status: StatusCode::OK, headers, manifest, _place: place })
}

/// Reads a manifest whole and without conditions, whatever is asked for: only then is it known what the client gets. One that is
/// being sent to others is not read again.
async fn read(
    ctx: &mut RequestContext,
    handler: &FilmHandler,
    path: &FilmPath,
    kind: ManifestType,
) -> Result<(HeaderMap, Arc<SharedManifest>), ProxyFailure> {
    let plan = RequestPlan::from_request(&Method::GET, &HeaderMap::new(), PIECE);
    let question = object_engine::serve_object(&handler.origin, &plan, &path.key, &mut ctx.attempt_stats);
    let ObjectResponse { headers, body, .. } = question.await.map_err(ProxyFailure::Object)?;
    if headers.contains_key(header::CONTENT_ENCODING) {
        let fault = ManifestFault::Malformed("it is compressed (Content-Encoding), so it cannot be read");
        return Err(refused(ManifestRefusal { line: 1, fault }));
    }
    let etag = headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    let version = etag.map(|etag| format!("{}\n{etag}", path.key));
    if let Some(shared) = version.as_ref().and_then(|version| handler.checks.shared(version)) {
        return Ok((headers, shared));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // Before it is read, and until it has been sent.
    let memory = handler.checks.reserve(length).await.map_err(refused)?;
    let mut text = Vec::with_capacity(length.and_then(|length| usize::try_from(length).ok()).unwrap_or(PIECE));
    if let Some(mut body) = body {
        while body.fill(PIECE, false).await.map_err(ProxyFailure::Object)? {
            text.extend_from_slice(body.available());
            if text.len() > MAX_MANIFEST_BYTES {
                return Err(refused(ManifestRefusal { line: 1, fault: ManifestFault::TooLarge }));
            }
        }
        ctx.attempt_stats = std::mem::take(&mut ctx.attempt_stats).merged_with(body.attempt_stats());
    }
    let prefix = format!("{}{}/", handler.prefix, path.movie);
    let key_prefix = handler.key_prefix.as_ref().map(|prefix| format!("{prefix}{}/", path.movie));
    let folder =
        FilmFolder { rules: &handler.rules, movie: &path.movie, prefix: &prefix, key_prefix: key_prefix.as_deref() };
    Ok((headers, handler.checks.check(version, kind, (text, memory), &path.rest, &folder)))
}

fn refused(refusal: ManifestRefusal) -> ProxyFailure {
    ProxyFailure::Manifest(Box::new(refusal))
}

/// Puts in what is known of the manifest.
fn describe(headers: &mut HeaderMap, kind: ManifestType, served: &ServedManifest) {
    without_ranges(headers);
    let content_type = match kind {
        ManifestType::Hls => "application/vnd.apple.mpegurl",
        ManifestType::Dash => "application/dash+xml",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(etag) = served.etag.as_ref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(header::ETAG, etag);
    }
    let cache_control = match served.checked.refresh {
        None => SHORT,
        Some(refresh) => live(refresh),
    };
    headers.insert(header::CACHE_CONTROL, cache_control);
}

/// `Cache-Control` of a live manifest: no longer than until it is asked for again.
fn live(refresh: Duration) -> HeaderValue {
    match refresh.as_secs() {
        0 => HeaderValue::from_static("no-cache"),
        seconds => HeaderValue::try_from(format!("private, max-age={seconds}")).unwrap_or(SHORT),
    }
}

/// Applies the client's conditions to the manifest that it would get (RFC 9110 §13).
fn conditioned(conditions: &Preconditions, mut answer: ManifestAnswer) -> Result<ManifestAnswer, ProxyFailure> {
    let field = |name| answer.headers.get(name).map(HeaderValue::as_bytes);
    let last_modified: Option<SystemTime> = field(header::LAST_MODIFIED)
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| httpdate::parse_http_date(value).ok());
    let validators = Validators { etag: field(header::ETAG).and_then(ETag::parse), last_modified };
    match conditions.evaluate(&validators) {
        PreconditionOutcome::Proceed => Ok(answer),
        PreconditionOutcome::PreconditionFailed => Err(ProxyFailure::Object(ObjectError::PreconditionFailed)),
        PreconditionOutcome::NotModified => {
            answer.headers.remove(header::CONTENT_LENGTH);
            answer.headers.remove(header::CONTENT_TYPE);
            answer.status = StatusCode::NOT_MODIFIED;
            Ok(answer)
        }
    }
}
