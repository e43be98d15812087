//! Object routes: the engine's answer, written to the player as it comes, and the player's leaving noticed.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, OptionFuture};
use futures::{FutureExt, TryFutureExt};
use http::{HeaderMap, Method, header};

use super::admission::rate_limit;
use super::context::RequestContext;
use super::directory_listing;
use super::encoded;
use super::failure::ProxyFailure;
use super::films;
use super::live_stream;
use super::respond;
use super::route::{Route, RouteAuthorization};
use super::static_site;
use super::stream_observer::StreamObserverGuard;
use super::tracks::{ObjectSource, RequestedObject, RequestedPlace};
use http_semantics::private_caching::keep_out_of_shared_caches;
use http_server::downstream::BodyReadiness;
use http_server::{Downstream, DownstreamError};
use object_engine::{self, ObjectBody, ObjectOrigin, ObjectResponse, RequestPlan};
use server_kit::telemetry::metrics::Metrics;

/// Answers a request on an object route.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    route: &Route,
    source: ObjectSource<'_>,
    metrics: &Arc<Metrics>,
) -> Result<(), DownstreamError> {
    ctx.is_debugged = respond::has_debug_token(downstream, ctx);
    if !downstream.has_read_body()
        && let Err(failure) = Box::pin(pass_over_body(downstream, route.policies.max_request_body)).await
    {
        return respond::failure(downstream, ctx, failure).await;
    }
    let object = match source.find_object(&ctx.captures).await {
        Ok(object) => object,
        Err(failure) => return respond::failure(downstream, ctx, failure).await,
    };
    if object.folder().is_some() && !static_site::names_folder(downstream.request()) {
        return static_site::redirect_to_folder(downstream, ctx).await;
    }
    if object.place == RequestedPlace::Folder {
        let listing: BoxFuture<'_, _> = Box::pin(directory_listing::serve(downstream, ctx, &object));
        return listing.await;
    }
    let user = ctx.claims.as_ref().map(|claims| claims.subject.as_str());
    let _stream = metrics.stream_started(user);
    let asked = match route.codings.is_empty() {
        true => ask(downstream, ctx, (source, &object.origin), object.key()).await,
        false => {
            let asked: BoxFuture<'_, _> = Box::pin(encoded::ask(downstream, ctx, (route, source), &object));
            asked.await
        }
    };
    match asked {
        Err(failure) => {
            // Boxed: a stream keeps no room for it.
            let answered: BoxFuture<'_, _> = Box::pin(fail(downstream, ctx, source, &object, failure));
            answered.await
        }
        Ok((mut answer, has_begun)) => {
            write_headers(ctx, route, &object, &mut answer);
            if ctx.is_debugged {
                ctx.attempt_stats.cache =
                    answer.body.as_ref().and_then(ObjectBody::expected_cache_status).or(ctx.attempt_stats.cache);
            }
            let head_only = answer.body.is_none() || downstream.request().method == Method::HEAD;
            // A film is played in sessions, which report by themselves: a segment is no stream.
            let is_observed = !head_only && ctx.film_grant.is_none();
            let observer = if is_observed { StreamObserverGuard::start(ctx, object.key(), &answer) } else { None };
            if !head_only {
                live_stream::register(downstream, ctx, answer.status, &answer.headers);
            }
            respond::head(downstream, ctx, answer.status, answer.headers, head_only).await?;
            if let Some(body) = answer.body.filter(|_| !head_only) {
                deliver(downstream, ctx, (body, has_begun), observer, metrics).await;
                if ctx.failure.is_some() {
                    ctx.failed_object = Some(Box::new(object.origin.location(object.key())));
                }
            }
            Ok(())
        }
    }
}

/// Writes the headers that the route and the object ask for.
fn write_headers(ctx: &RequestContext, route: &Route, object: &RequestedObject, answer: &mut ObjectResponse) {
    let ObjectResponse { status, headers, .. } = answer;
    if let (Some(value), true) = (object.content_type(), headers.contains_key(header::CONTENT_TYPE)) {
        headers.insert(header::CONTENT_TYPE, value.clone());
    }
    if let Some(value) = &object.cache_control {
        headers.insert(header::CACHE_CONTROL, value.clone());
    }
    route.response_headers.apply(*status, Some(object.key()), headers);
    if matches!(route.policies.authorization, RouteAuthorization::Policy { .. }) {
        keep_private(ctx, headers);
    }
}

/// Answers where the object cannot be served: with the failure, or where there is a folder of that name, with its address.
async fn fail(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    source: ObjectSource<'_>,
    object: &RequestedObject,
    failure: ProxyFailure,
) -> Result<(), DownstreamError> {
    if let Some(site) = source.site().filter(|_| static_site::may_be_folder(&failure)) {
        if site.lists_folders && object.folder().is_some() {
            return directory_listing::serve(downstream, ctx, object).await;
        }
        let folder = static_site::is_folder_there(object, site, &mut ctx.attempt_stats);
        let is_folder = tokio::select! {
            biased;
            is_folder = folder => is_folder,
            () = downstream.closed() => return respond::failure(downstream, ctx, ProxyFailure::ClientLeft).await,
        };
        match is_folder {
            Ok(true) => return static_site::redirect_to_folder(downstream, ctx).await,
            Ok(false) => {}
            Err(error) => return respond::failure(downstream, ctx, ProxyFailure::Object(error)).await,
        }
    }
    ctx.failed_object = Some(Box::new(object.origin.location(object.key())));
    respond::failure(downstream, ctx, failure).await
}

/// Asks for the object `key` of `origin`; returns with the answer whether its first bytes are available already.
pub(super) async fn ask(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    (source, origin): (ObjectSource<'_>, &Arc<ObjectOrigin>),
    key: &str,
) -> Result<(ObjectResponse, bool), ProxyFailure> {
    let mut answer = {
        let plan = RequestPlan::from_request(
            &downstream.request().method,
            &downstream.request().headers,
            downstream.writable_bytes(),
        );
        let wait = AnswerWait::new(ctx, origin);
        let question = object_engine::serve_object(origin, &plan, key, &mut ctx.attempt_stats);
        wait.for_answer(downstream, question.map_err(ProxyFailure::Object)).await?
    };
    if source.is_film() {
        films::confirm_key(ctx).await?;
    }
    let is_looked_at = source.is_film() && downstream.request().method != Method::HEAD;
    match answer.body.as_mut().filter(|_| is_looked_at) {
        Some(body) => films::begin(downstream, body).await.map(|has_begun| (answer, has_begun)),
        None => Ok((answer, false)),
    }
}

/// Wait for the beginning of an answer, for as long as somebody is there for it and may have it.
pub(super) struct AnswerWait {
    /// Resolves when what would end the answer comes before it. `None` where the route does not wait for its store: that is
    /// looked at when the answer is sent.
    ended: OptionFuture<BoxFuture<'static, ProxyFailure>>,
    /// True where the route waits for its store. A client that closes one half of its connection meanwhile has mostly closed both.
    is_long: bool,
}

impl AnswerWait {
    /// Prepares the wait for an answer from `origin`.
    pub fn new(ctx: &RequestContext, origin: &ObjectOrigin) -> Self {
        let is_long = !origin.timeouts.unavailable.is_zero();
        // Boxed: the other routes keep no room for it.
        Self { ended: is_long.then(|| live_stream::wait_until_ended(ctx).boxed()).into(), is_long }
    }

    /// Returns the answer; fails where nobody waits for it any more, or may have it.
    pub async fn for_answer<T>(
        self,
        downstream: &mut impl Downstream,
        answer: impl Future<Output = Result<T, ProxyFailure>>,
    ) -> Result<T, ProxyFailure> {
        let left =
            async { if self.is_long { downstream.closed_with_grace().await } else { downstream.closed().await } };
        tokio::select! {
            biased;
            answer = answer => answer,
            Some(reason) = self.ended => Err(reason),
            () = left => Err(ProxyFailure::ClientLeft),
        }
    }
}

/// Keeps an answer that a policy gave to one user from others: of a shared cache, which may not know that a cookie or a
/// query has told who asks, and of the same browser.
pub(super) fn keep_private(ctx: &RequestContext, headers: &mut HeaderMap) {
    keep_out_of_shared_caches(headers);
    if let Some(names) = ctx.runtime.authenticator.vary() {
        headers.append(header::VARY, names);
    }
}

async fn deliver(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    (mut body, has_begun): (ObjectBody, bool),
    observer: Option<StreamObserverGuard>,
    metrics: &Metrics,
) {
    let ended = live_stream::wait_until_ended(ctx);
    let outcome = tokio::select! {
        // First, so that it knows from the beginning which logout comes after it.
        biased;
        reason = ended => Err(reason),
        outcome = pump(downstream, ctx, (&mut body, has_begun), metrics) => outcome,
    };
    if let Some(mut observer) = observer {
        observer.record_outcome(ctx.bytes_sent, outcome.is_ok());
    }
    ctx.attempt_stats = std::mem::take(&mut ctx.attempt_stats).merged_with(body.attempt_stats());
    if let Err(failure) = outcome {
        ctx.failure = Some(failure);
        downstream.abort().await;
    }
}

/// Moves the body on, one piece at a time, as large as the player takes at once: what it does not take is not read from
/// the store.
async fn pump(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    (body, mut has_begun): (&mut ObjectBody, bool),
    metrics: &Metrics,
) -> Result<(), ProxyFailure> {
    let piece = rate_limit::chunk_size(ctx);
    loop {
        // The first bytes are there already.
        while !has_begun && downstream.body_readiness(body.kept_bytes()).await? == BodyReadiness::MemoryIsShort {
            body.release();
        }
        // Bytes that are passed unread are counted only then: too late to be paced.
        let (room, passing) = (downstream.writable_bytes(), piece.is_none() && downstream.socket().is_some());
        let more = std::mem::take(&mut has_begun)
            || tokio::select! {
                biased;
                more = body.fill(room, passing) => more.map_err(ProxyFailure::Object)?,
                () = downstream.closed() => return Err(ProxyFailure::ClientLeft),
            };
        if let Some(stream) = &ctx.live_stream {
            stream.set_resumes(body.resumes());
        }
        if !more {
            return Ok(downstream.end(None).await?);
        }
        if let Some(piece) = piece {
            write_paced(downstream, ctx, body.available(), piece, metrics).await?;
            continue;
        }
        let mut sent = 0;
        if let (Some(socket), true) = (downstream.socket(), body.available().is_empty()) {
            sent = body.splice_to(socket, room).map_err(|_| ProxyFailure::ClientLeft)?;
            downstream.wrote_to_socket(sent);
        }
        if downstream.buffers_writes() {
            downstream.write_owned(body.to_bytes()).await?;
        } else if !body.available().is_empty() {
            downstream.write(body.available()).await?;
        }
        count(ctx, metrics, sent + body.available().len());
    }
}

/// Writes the `available` bytes in pieces, each when the caller's speed has room for it.
async fn write_paced(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    available: &[u8],
    piece: usize,
    metrics: &Metrics,
) -> Result<(), ProxyFailure> {
    for bytes in available.chunks(piece) {
        if let Some(wait) = rate_limit::reserve_bandwidth(ctx, bytes.len() as u64) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = downstream.closed() => return Err(ProxyFailure::ClientLeft),
            }
        }
        if downstream.buffers_writes() {
            downstream.write_owned(Bytes::copy_from_slice(bytes)).await?;
        } else {
            downstream.write(bytes).await?;
        }
        count(ctx, metrics, bytes.len());
    }
    Ok(())
}

pub fn count(ctx: &mut RequestContext, metrics: &Metrics, sent: usize) {
    let sent = sent as u64;
    ctx.bytes_sent += sent;
    metrics.bytes_sent(sent);
    ctx.record_sent(sent);
}

/// Reads the body of a request that means nothing by it, so that the connection goes on behind its end.
pub async fn pass_over_body(downstream: &mut impl Downstream, limit: Option<u64>) -> Result<(), ProxyFailure> {
    let mut read = 0;
    while let Some(piece) = downstream.read_body().await? {
        read += piece.len() as u64;
        if limit.is_some_and(|limit| read > limit) {
            return Err(ProxyFailure::BodyTooLarge);
        }
    }
    Ok(())
}
