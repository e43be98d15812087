//! Object routes: the engine's answer, written to the player as it comes, and the player's leaving noticed.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, header};

use super::audience::Told;
use super::ctx::Ctx;
use super::failure::Failure;
use super::limit;
use super::world::Served;
use super::{permit, respond, tracks};
use http_server::{Downstream, DownstreamError};
use object_engine::{self, ObjectBody, RequestPlan};
use server_kit::telemetry::metrics::Metrics;

/// Answers a request on an object route.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut Ctx,
    served: &Served,
    metrics: &Arc<Metrics>,
) -> Result<(), DownstreamError> {
    if !downstream.has_read_body()
        && let Err(failure) = Box::pin(pass_over_body(downstream, served.route.max_request_body)).await
    {
        return respond::failure(downstream, ctx, failure).await;
    }
    let wanted = match tracks::wanted(served, &ctx.captures).await {
        Ok(wanted) => wanted,
        Err(failure) => return respond::failure(downstream, ctx, failure).await,
    };
    let user = ctx.claims.as_ref().map(|claims| claims.subject.as_str());
    let _stream = metrics.stream_started(user);
    let answer = {
        let plan = RequestPlan::from_request(
            &downstream.request().method,
            &downstream.request().headers,
            downstream.writable_bytes(),
        );
        let question = object_engine::serve_object(&wanted.origin, &plan, wanted.key(), &mut ctx.tally);
        tokio::select! {
            biased;
            answer = question => answer.map_err(Failure::Object),
            () = downstream.closed() => Err(Failure::ClientLeft),
        }
    };
    match answer {
        Err(failure) => {
            ctx.failed_object = Some(Box::new(wanted.origin.location(wanted.key())));
            respond::failure(downstream, ctx, failure).await
        }
        Ok(mut answer) => {
            if let (Some(value), true) = (wanted.content_type(), answer.headers.contains_key(header::CONTENT_TYPE)) {
                answer.headers.insert(header::CONTENT_TYPE, value.clone());
            }
            if respond::is_debugged(downstream, ctx) {
                ctx.tally.cache = answer.body.as_ref().and_then(ObjectBody::expected_cache_status).or(ctx.tally.cache);
            }
            let head_only = answer.body.is_none() || downstream.request().method == Method::HEAD;
            let told = if head_only { None } else { Told::of(ctx, wanted.key(), &answer) };
            respond::head(downstream, ctx, answer.status, answer.headers, head_only).await?;
            if let Some(body) = answer.body.filter(|_| !head_only) {
                deliver(downstream, ctx, body, told, metrics).await;
                if ctx.failure.is_some() {
                    ctx.failed_object = Some(Box::new(wanted.origin.location(wanted.key())));
                }
            }
            Ok(())
        }
    }
}

async fn deliver(
    downstream: &mut impl Downstream,
    ctx: &mut Ctx,
    mut body: ObjectBody,
    told: Option<Told>,
    metrics: &Metrics,
) {
    let revoked = permit::revoked(ctx);
    let outcome = tokio::select! {
        biased;
        outcome = pump(downstream, ctx, &mut body, metrics) => outcome,
        () = revoked => Err(Failure::Revoked),
    };
    if let Some(mut told) = told {
        told.went(ctx.sent, outcome.is_ok());
    }
    ctx.tally = std::mem::take(&mut ctx.tally).merged_with(body.attempt_stats());
    if let Err(failure) = outcome {
        ctx.failure = Some(failure);
        downstream.abort().await;
    }
}

/// Moves the body on, one piece at a time, as large as the player takes at once: what it does not take is not read from
/// the store.
async fn pump(
    downstream: &mut impl Downstream,
    ctx: &mut Ctx,
    body: &mut ObjectBody,
    metrics: &Metrics,
) -> Result<(), Failure> {
    let piece = limit::piece(ctx);
    loop {
        // Bytes that are passed unread are counted only then: too late to be paced.
        let (room, passing) = (downstream.writable_bytes(), piece.is_none() && downstream.socket().is_some());
        let more = tokio::select! {
            biased;
            more = body.fill(room, passing) => more.map_err(Failure::Object)?,
            () = downstream.closed() => return Err(Failure::ClientLeft),
        };
        if !more {
            return Ok(downstream.end(None).await?);
        }
        if let Some(piece) = piece {
            write_paced(downstream, ctx, body.available(), piece, metrics).await?;
            continue;
        }
        let mut sent = 0;
        if let (Some(socket), true) = (downstream.socket(), body.available().is_empty()) {
            sent = body.splice_to(socket, room).map_err(|_| Failure::ClientLeft)?;
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
    ctx: &mut Ctx,
    available: &[u8],
    piece: usize,
    metrics: &Metrics,
) -> Result<(), Failure> {
    for bytes in available.chunks(piece) {
        if let Some(wait) = limit::pace(ctx, bytes.len() as u64) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = downstream.closed() => return Err(Failure::ClientLeft),
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

fn count(ctx: &mut Ctx, metrics: &Metrics, sent: usize) {
    let sent = sent as u64;
    ctx.sent += sent;
    metrics.bytes_sent(sent);
    limit::sent(ctx, sent);
}

/// Reads the body of a request that means nothing by it, so that the connection goes on behind its end.
async fn pass_over_body(downstream: &mut impl Downstream, limit: Option<u64>) -> Result<(), Failure> {
    let mut read = 0;
    while let Some(piece) = downstream.read_body().await? {
        read += piece.len() as u64;
        if limit.is_some_and(|limit| read > limit) {
            return Err(Failure::BodyTooLarge);
        }
    }
    Ok(())
}
