//! Object routes: the engine's answer, written to the player as it comes, and the player's leaving noticed.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use pingora::http::Method;
use pingora::{Error, ErrorType, Result};

use super::audience::Told;
use super::ctx::Ctx;
use super::failure::Failure;
use super::limit;
use super::player::Player;
use super::world::Served;
use super::{permit, respond, tracks};
use crate::object::{self, Body, Plan};
use crate::telemetry::metrics::Metrics;

/// Answers a request on an object route. An error means that the answer broke off: the connection must be closed
/// without looking like a clean end.
pub async fn serve(session: &mut impl Player, ctx: &mut Ctx, served: &Served, metrics: &Arc<Metrics>) -> Result<()> {
    let wanted = match tracks::wanted(served, &ctx.captures).await {
        Ok(wanted) => wanted,
        Err(failure) => return respond::failure(session, ctx, failure).await,
    };
    let user = ctx.claims.as_ref().map(|claims| claims.subject.as_str());
    let _stream = metrics.stream(user);
    let answer = {
        let plan = Plan::read(&session.request().method, &session.request().headers, session.room());
        let question = object::answer(&wanted.origin, &plan, wanted.key(), &mut ctx.tally);
        tokio::select! {
            biased;
            answer = question => answer.map_err(Failure::Object),
            () = session.left() => Err(Failure::ClientLeft),
        }
    };
    match answer {
        Err(failure) => respond::failure(session, ctx, failure).await,
        Ok(mut answer) => {
            if let (Some(value), true) = (wanted.content_type(), answer.headers.contains_key(header::CONTENT_TYPE)) {
                answer.headers.insert(header::CONTENT_TYPE, value.clone());
            }
            if respond::is_debugged(session, ctx) {
                ctx.tally.cache = answer.body.as_ref().and_then(Body::forecast).or(ctx.tally.cache);
            }
            let head_only = answer.body.is_none() || session.request().method == Method::HEAD;
            let told = if head_only { None } else { Told::of(ctx, wanted.key(), &answer) };
            respond::head(session, ctx, answer.status, answer.headers, head_only)
                .await
                .map_err(|error| gone(ctx, error))?;
            match answer.body {
                Some(body) if !head_only => deliver(session, ctx, body, told, metrics).await,
                _ => Ok(()),
            }
        }
    }
}

async fn deliver(
    session: &mut impl Player,
    ctx: &mut Ctx,
    mut body: Body,
    told: Option<Told>,
    metrics: &Metrics,
) -> Result<()> {
    let revoked = permit::revoked(ctx);
    let outcome = tokio::select! {
        biased;
        outcome = pump(session, ctx, &mut body, metrics) => outcome,
        () = revoked => Err(Failure::Revoked),
    };
    if let Some(mut told) = told {
        told.went(ctx.sent, outcome.is_ok());
    }
    ctx.tally = ctx.tally.and(body.tally());
    if let Err(failure) = outcome {
        ctx.failure = Some(failure);
        session.abort().await;
        return Err(broken());
    }
    Ok(())
}

/// Moves the body on, one piece at a time, as large as the player takes at once: what it does not take is not read from
/// the store.
async fn pump(client: &mut impl Player, ctx: &mut Ctx, body: &mut Body, metrics: &Metrics) -> Result<(), Failure> {
    let piece = limit::piece(ctx);
    loop {
        // What is passed unread is counted only then: too late to be paced.
        let (room, passing) = (client.room(), piece.is_none() && client.socket().is_some());
        let more = tokio::select! {
            biased;
            more = body.fill(room, passing) => more.map_err(Failure::Object)?,
            () = client.left() => return Err(Failure::ClientLeft),
        };
        if !more {
            let ended = client.end().await;
            return ended.map_err(|_| Failure::ClientLeft);
        }
        if let Some(piece) = piece {
            write_paced(client, ctx, body.available(), piece, metrics).await?;
            continue;
        }
        let mut sent = 0;
        if let (Some(socket), true) = (client.socket(), body.available().is_empty()) {
            sent = body.pass(socket, room).map_err(|_| Failure::ClientLeft)?;
            client.passed(sent);
        }
        if client.keeps() {
            client.write_kept(body.owned()).await?;
        } else if !body.available().is_empty() {
            client.write(body.available()).await?;
        }
        count(ctx, metrics, sent + body.available().len());
    }
}

/// Writes what is `available` in pieces, each when the caller's speed has room for it.
async fn write_paced(
    client: &mut impl Player,
    ctx: &mut Ctx,
    available: &[u8],
    piece: usize,
    metrics: &Metrics,
) -> Result<(), Failure> {
    for bytes in available.chunks(piece) {
        if let Some(wait) = limit::pace(ctx, bytes.len() as u64) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = client.left() => return Err(Failure::ClientLeft),
            }
        }
        if client.keeps() {
            client.write_kept(Bytes::copy_from_slice(bytes)).await?;
        } else {
            client.write(bytes).await?;
        }
        count(ctx, metrics, bytes.len());
    }
    Ok(())
}

fn count(ctx: &mut Ctx, metrics: &Metrics, sent: usize) {
    let sent = sent as u64;
    ctx.sent += sent;
    metrics.sent(sent);
    limit::sent(ctx, sent);
}

fn gone(ctx: &mut Ctx, error: Box<Error>) -> Box<Error> {
    ctx.failure = Some(Failure::ClientLeft);
    error
}

fn broken() -> Box<Error> {
    Error::explain(ErrorType::Custom("response broken off"), "the answer could not be finished")
}
