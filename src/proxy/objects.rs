//! Object routes: the engine's answer, written to the player as it comes, and the player's leaving noticed.

use std::sync::Arc;

use bytes::Bytes;
use pingora::http::Method;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::ctx::Ctx;
use super::failure::Failure;
use super::respond;
use super::settings::Kind;
use super::world::Served;
use crate::object::{self, Body, Origin, Plan};
use crate::telemetry::metrics::Metrics;

/// Answers a request on an object route. An error means that the answer broke off: the connection must be closed
/// without looking like a clean end.
pub async fn serve(
    session: &mut Session,
    ctx: &mut Ctx,
    served: &Served,
    origin: &Arc<Origin>,
    metrics: &Arc<Metrics>,
) -> Result<()> {
    let Kind::Object(route) = &served.route.kind else {
        return respond::failure(session, ctx, Failure::Internal).await;
    };
    let key = match route.key.render(&ctx.captures) {
        Ok(key) => key,
        Err(error) => return respond::failure(session, ctx, Failure::BadRequest(error.to_string().into())).await,
    };
    let user = ctx.claims.as_ref().map(|claims| claims.subject.as_str());
    let _stream = metrics.stream(user);
    let answer = {
        let plan = Plan::read(&session.req_header().method, &session.req_header().headers);
        let question = object::answer(origin, &plan, &key, &mut ctx.tally);
        tokio::select! {
            biased;
            answer = question => answer.map_err(Failure::Object),
            () = left(session.as_downstream_mut()) => Err(Failure::ClientLeft),
        }
    };
    match answer {
        Err(failure) => respond::failure(session, ctx, failure).await,
        Ok(answer) => {
            if respond::is_debugged(session, ctx) {
                ctx.tally.cache = answer.body.as_ref().and_then(Body::forecast).or(ctx.tally.cache);
            }
            let head_only = answer.body.is_none() || session.req_header().method == Method::HEAD;
            respond::head(session, ctx, answer.status, answer.headers, head_only)
                .await
                .map_err(|error| gone(ctx, error))?;
            match answer.body {
                Some(body) if !head_only => deliver(session, ctx, body, metrics).await,
                _ => Ok(()),
            }
        }
    }
}

async fn deliver(session: &mut Session, ctx: &mut Ctx, mut body: Body, metrics: &Metrics) -> Result<()> {
    let outcome = pump(session.as_downstream_mut(), ctx, &mut body, metrics).await;
    ctx.tally = ctx.tally.and(body.tally());
    if let Err(failure) = outcome {
        ctx.failure = Some(failure);
        session.set_keepalive(None);
        session.as_downstream_mut().shutdown().await;
        return Err(broken());
    }
    Ok(())
}

/// Moves the body on, one buffer at a time: what the player does not take is not read from the store.
async fn pump(client: &mut ServerSession, ctx: &mut Ctx, body: &mut Body, metrics: &Metrics) -> Result<(), Failure> {
    loop {
        let more = tokio::select! {
            biased;
            more = body.fill() => more.map_err(Failure::Object)?,
            () = left(client) => return Err(Failure::ClientLeft),
        };
        if !more {
            let ended = client.write_response_body(Bytes::new(), true).await;
            return ended.map_err(|_| Failure::ClientLeft);
        }
        write(client, body).await?;
        let sent = body.available().len() as u64;
        ctx.sent += sent;
        metrics.sent(sent);
    }
}

/// HTTP/1 takes the bytes where they are; HTTP/2 keeps them until its window opens, so it gets its own.
async fn write(client: &mut ServerSession, body: &Body) -> Result<(), Failure> {
    let written = match client {
        ServerSession::H1(h1) => h1.write_body(body.available()).await.map(|_| ()),
        other => other.write_response_body(body.owned(), false).await,
    };
    written.map_err(|error| match error.etype() {
        ErrorType::WriteTimedout => Failure::ClientStalled,
        _ => Failure::ClientLeft,
    })
}

/// Resolves when the client has gone; a half-closed one is still listening. What it sends of a body is passed over.
async fn left(client: &mut ServerSession) {
    while client.read_body_or_idle(false).await.is_ok() {}
}

fn gone(ctx: &mut Ctx, error: Box<Error>) -> Box<Error> {
    ctx.failure = Some(Failure::ClientLeft);
    error
}

fn broken() -> Box<Error> {
    Error::explain(ErrorType::Custom("response broken off"), "the answer could not be finished")
}
