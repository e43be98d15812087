//! The answer of a server on its way to the client: its head with the transforms applied and the framing of this
//! connection, then its body as it comes, then its trailers.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Method, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::sleep_until;

use super::upload::RequestBodyUpload;
use super::{Forwarding, UpstreamAnswer};
use crate::proxy::admission::rate_limit;
use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::{live_stream, respond};
use http_semantics::headers::strip_hop_by_hop;
use http_server::{Downstream, DownstreamError};
use primitives::clock::monotonic_now;
use routing::transform::{apply_response, apply_trailers};
use upstream::error::UpstreamError;

/// Passes the answer on.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    forwarding: &Forwarding<'_>,
    answered: UpstreamAnswer,
    upload: &mut RequestBodyUpload<'_>,
) -> Result<(), DownstreamError> {
    let session = answered.is_new_session.then(|| Arc::clone(answered.in_flight.destination()));
    let UpstreamAnswer { response, connection, in_flight, .. } = answered;
    let (parts, mut body) = response.into_parts();
    let is_head = downstream.request().method == Method::HEAD;
    // An answer that ends with its head, as gRPC's failures do, says everything there.
    let is_over = body.is_end_stream();
    let mut headers = parts.headers;
    frame(is_head, parts.status, &mut headers, &body);
    transform_head(forwarding, parts.status, &mut headers);
    write_session(downstream, ctx, forwarding, session.as_deref(), &mut headers);
    if upload.is_unwanted() {
        // A client that is answered before it has sent everything need not send the rest.
        downstream.close_after();
    }
    if !is_head && !is_over {
        live_stream::register(downstream, ctx, parts.status, &headers);
    }
    respond::head(downstream, ctx, parts.status, headers, false).await?;
    let mut relay = BodyRelay { upload, trailers: None };
    match relay.pass_until_ended(downstream, ctx, forwarding, &mut body).await {
        Ok(()) => {
            connection.keep();
            if !relay.upload.is_over() {
                downstream.close_after();
            }
            // There is nothing left of it that could be ended.
            ctx.live_stream = None;
            let transforms = if is_over { &[][..] } else { forwarding.handler.transforms.as_slice() };
            downstream.end(apply_trailers(transforms, parts.status, relay.trailers)).await?;
            if !relay.upload.is_over() {
                // Closing on bytes that nobody has read would reset the connection, and the answer with it.
                downstream.drain().await;
            }
        }
        Err(failure) => {
            if matches!(failure, ProxyFailure::BadGateway | ProxyFailure::GatewayTimeout) {
                in_flight.broke_off(monotonic_now());
            }
            ctx.failure = Some(failure);
            downstream.abort().await;
        }
    }
    Ok(())
}

/// Applies the route's transforms to the head of an answer. Removes the hop-by-hop headers, `Trailer` excepted, and
/// `Alt-Svc` in any case; `Content-Length` stays where headers are restricted.
pub fn transform_head(forwarding: &Forwarding<'_>, status: StatusCode, headers: &mut HeaderMap) {
    let trailer = headers.get_all(header::TRAILER).iter().cloned().collect::<Vec<_>>();
    apply_response(&forwarding.handler.transforms, status, headers);
    for names in trailer {
        headers.append(header::TRAILER, names);
    }
    // It would send clients past the proxy.
    headers.remove(header::ALT_SVC);
}

/// Tells the client which destination has its session from now on; `None` where it knows.
pub fn write_session(
    downstream: &impl Downstream,
    ctx: &RequestContext,
    forwarding: &Forwarding<'_>,
    destination: Option<&str>,
    headers: &mut HeaderMap,
) {
    if let Some((affinity, destination)) = forwarding.handler.cluster.affinity().zip(destination) {
        affinity.write(headers, destination, downstream.is_tls(), ctx.runtime.process.clock.now());
    }
}

/// The length of the body as it was found, in place of what was said of it.
fn frame(is_head: bool, status: StatusCode, headers: &mut HeaderMap, body: &Incoming) {
    let is_encoded = headers.contains_key(header::TRANSFER_ENCODING);
    if status == StatusCode::NO_CONTENT || is_encoded {
        headers.remove(header::CONTENT_LENGTH);
    }
    if is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return;
    }
    match body.size_hint().exact() {
        Some(length) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(header::CONTENT_LENGTH)),
    }
}

/// Both bodies on their way.
struct BodyRelay<'a, 'b> {
    upload: &'a mut RequestBodyUpload<'b>,
    trailers: Option<HeaderMap>,
}

impl BodyRelay<'_, '_> {
    /// Passes the body on; a logout of its user, or the operator, ends it at whatever it waits for, a slow client too.
    async fn pass_until_ended(
        &mut self,
        downstream: &mut impl Downstream,
        ctx: &mut RequestContext,
        forwarding: &Forwarding<'_>,
        body: &mut Incoming,
    ) -> Result<(), ProxyFailure> {
        let ended = live_stream::wait_until_ended(ctx);
        tokio::select! {
            // First, so that it knows from the beginning which logout comes after it.
            biased;
            reason = ended => Err(reason),
            passed = self.pass(downstream, ctx, forwarding, body) => passed,
        }
    }

    /// Passes the body on as it comes; each piece leaves before the next one is waited for.
    async fn pass(
        &mut self,
        downstream: &mut impl Downstream,
        ctx: &mut RequestContext,
        forwarding: &Forwarding<'_>,
        body: &mut Incoming,
    ) -> Result<(), ProxyFailure> {
        loop {
            let frame = match body.frame().now_or_never() {
                Some(frame) => frame,
                None => {
                    downstream.flush().await?;
                    self.next(downstream, forwarding, body).await?
                }
            };
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| {
                if let Some(server) = ctx.attempt_stats.server.clone() {
                    ctx.attempt_stats.error = Some(UpstreamError::for_body(server, &error));
                }
                ProxyFailure::BadGateway
            })?;
            match frame.into_data() {
                Ok(bytes) => send(downstream, ctx, bytes).await?,
                Err(other) => self.trailers = other.into_trailers().ok().map(forwardable),
            }
        }
    }

    /// Waits for the next frame, while the request's body goes up.
    async fn next(
        &mut self,
        downstream: &mut impl Downstream,
        forwarding: &Forwarding<'_>,
        body: &mut Incoming,
    ) -> Result<Option<hyper::Result<Frame<Bytes>>>, ProxyFailure> {
        let idle = forwarding.handler.timeouts.idle;
        let mut overdue = monotonic_now() + idle;
        loop {
            tokio::select! {
                biased;
                frame = body.frame() => return Ok(frame),
                // A server that waits for the client's body is not late.
                () = sleep_until(overdue.into()), if !self.upload.awaits_client() => return Err(ProxyFailure::GatewayTimeout),
                advanced = self.upload.advance(downstream) => {
                    advanced?;
                    overdue = monotonic_now() + idle;
                }
            }
        }
    }
}

/// Writes the bytes, in pieces where the caller has a speed, each when there is room for it.
async fn send(downstream: &mut impl Downstream, ctx: &RequestContext, mut bytes: Bytes) -> Result<(), ProxyFailure> {
    let piece = rate_limit::chunk_size(ctx).unwrap_or(usize::MAX);
    while !bytes.is_empty() {
        let next = bytes.split_to(piece.min(bytes.len()));
        let length = next.len() as u64;
        if let Some(wait) = rate_limit::reserve_bandwidth(ctx, length) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = downstream.closed() => return Err(ProxyFailure::ClientLeft),
            }
        }
        downstream.write_owned(next).await?;
        ctx.record_sent(length);
    }
    Ok(())
}

/// Trailers without what only a head can say.
pub fn forwardable(mut trailers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut trailers);
    for name in [header::CONTENT_LENGTH, header::HOST, header::SET_COOKIE] {
        trailers.remove(name);
    }
    trailers
}
