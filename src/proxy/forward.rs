//! Plain routes: the way through Pingora to a cluster, with YARP's transforms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::admit::host;
use super::ctx::{Chosen, Ctx};
use super::failure::Failure;
use super::player::Player;
use super::respond;
use super::settings::{Authorization, Kind, PlainRoute};
use super::world::{Served, Target};
use crate::auth::{strip_headers, strip_query};
use crate::route::transform::{Origin, Outgoing, apply_request, apply_response};
use crate::s3::signer::authority;
use crate::upstream::breaker::Fault;
use crate::upstream::cluster::Cluster;

/// Destinations tried before a request fails.
const MAX_TRIES: usize = 3;
/// A plain connection idle for longer is closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);

/// Chooses a destination and says how to connect to it.
pub async fn peer(session: &Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let served = ctx.served.clone();
    let Some((served, cluster)) = served.as_ref().and_then(|served| Some((served, cluster(served)?))) else {
        return fail(ctx, Failure::Internal);
    };
    if ctx.destination.is_none() && ctx.tried.is_empty() {
        cluster.budget().request(Instant::now());
    }
    let Some((member, mut in_flight)) = cluster.pick(&ctx.tried, Instant::now()) else {
        return fail(ctx, Failure::NoDestination);
    };
    ctx.tally.attempts += 1;
    let destination = &member.destination;
    let before = ctx.tried.iter().filter(|id| *id == destination.id()).count();
    let known = destination.addresses(served.route.timeouts.connect).await;
    let Some(address) = known.ok().and_then(|all| nth(&all, before)) else {
        in_flight.failed(Fault::Unreachable, Instant::now());
        ctx.tried.push(Arc::clone(destination.id()));
        let error = Error::explain(ErrorType::ConnectNoRoute, "the name does not resolve");
        return Err(retry_elsewhere(ctx, error.into_up()));
    };
    let mut peer = HttpPeer::new(address, destination.is_tls(), destination.host());
    let timeouts = served.route.timeouts;
    peer.options.connection_timeout = Some(timeouts.connect);
    peer.options.total_connection_timeout = Some(timeouts.connect);
    peer.options.read_timeout = Some(if is_long_lived(session) { timeouts.idle } else { timeouts.first_byte });
    peer.options.write_timeout = Some(timeouts.idle);
    peer.options.idle_timeout = Some(IDLE_CONNECTION);
    ctx.destination = Some(Chosen {
        id: Arc::clone(destination.id()),
        host: member.host.clone().unwrap_or_else(|| authority(&member.address)),
        prefix: member.address.path().trim_end_matches('/').to_owned(),
        in_flight,
        answered: false,
    });
    Ok(Box::new(peer))
}

/// The address for the next try of a name that was tried `before` times: each of its addresses in turn.
fn nth(addresses: &[SocketAddr], before: usize) -> Option<SocketAddr> {
    addresses.iter().cycle().nth(before).copied()
}

/// Whether silence is to be expected of the answer. Pingora has one limit for the wait for the head and for each read
/// of the body, so that only these may be silent for longer than `FirstByte`: upgraded connections and event streams.
fn is_long_lived(session: &Session) -> bool {
    let accept = session.req_header().headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    session.is_upgrade_req() || accept.is_some_and(|types| types.contains("text/event-stream"))
}

fn fail<T>(ctx: &mut Ctx, failure: Failure) -> Result<T> {
    ctx.failure = Some(failure);
    Error::e_explain(ErrorType::Custom("no destination"), "no destination can be used")
}

/// A connect failed: another destination takes the request while there are tries left.
pub fn failed_to_connect(ctx: &mut Ctx, error: Box<Error>) -> Box<Error> {
    if let Some(mut chosen) = ctx.destination.take() {
        chosen.in_flight.failed(Fault::Unreachable, Instant::now());
        ctx.tried.push(chosen.id);
    }
    retry_elsewhere(ctx, error)
}

fn retry_elsewhere(ctx: &Ctx, mut error: Box<Error>) -> Box<Error> {
    let cluster = ctx.served.as_ref().and_then(|served| cluster(served));
    let granted = || cluster.is_some_and(|cluster| cluster.budget().retry(Instant::now()));
    error.set_retry(ctx.tried.len() < MAX_TRIES && granted());
    error
}

/// An exchange failed after the connection was made. Only where a kept connection had been closed for idleness is the
/// request sent again, as far as that is safe, and the destination not to blame.
pub fn failed_to_proxy(session: &Session, ctx: &mut Ctx, mut error: Box<Error>, reused: bool) -> Box<Error> {
    let safe = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    if safe {
        error.retry.decide_reuse(reused);
    } else {
        error.set_retry(false);
    }
    let chosen = ctx.destination.as_mut().filter(|_| *error.esource() == ErrorSource::Upstream);
    if let Some(chosen) = chosen.filter(|_| !error.retry()) {
        let now = Instant::now();
        match chosen.answered {
            true => chosen.in_flight.broke_off(now),
            false => chosen.in_flight.failed(Fault::Broken, now),
        }
    }
    error
}

fn cluster(served: &Served) -> Option<&Arc<Cluster>> {
    match &served.target {
        Target::Cluster(cluster) => Some(cluster),
        Target::Objects(_) | Target::Tracks(_) => None,
    }
}

/// Makes the request that the destination gets.
pub fn request(session: &Session, ctx: &Ctx, upstream: &mut RequestHeader) -> Result<()> {
    let (Some((served, plain)), Some(chosen)) = (plain(ctx), &ctx.destination) else { return Ok(()) };
    let original = session.req_header();
    let mut headers = upstream.headers.clone();
    headers.remove(&respond::DEBUG);
    let mut query = original.uri.query().map(str::to_owned);
    if matches!(served.route.authorization, Authorization::Policy(_)) {
        let sources = &ctx.world.token_sources;
        strip_headers(&mut headers, sources);
        query = query.and_then(|query| strip_query(&query, sources));
    }
    let mut outgoing =
        Outgoing { method: original.method.clone(), path: original.uri.path().to_owned(), query, headers };
    let origin = Origin {
        captures: &ctx.captures,
        host: host(original),
        client: ctx.client.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        scheme: scheme(session),
    };
    let framing: Vec<_> = framing(session, &upstream.headers);
    apply_request(&plain.transforms, &mut outgoing, &origin);
    let query = outgoing.query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("{}{}{query}", chosen.prefix, outgoing.path);
    let mut request = RequestHeader::build(outgoing.method, target.as_bytes(), Some(outgoing.headers.len() + 2))?;
    for (name, value) in &outgoing.headers {
        request.append_header(name.clone(), value.clone())?;
    }
    for (name, value) in framing {
        request.insert_header(name, value)?;
    }
    if !request.headers.contains_key(header::HOST) {
        request.insert_header(header::HOST, chosen.host.as_str())?;
    }
    *upstream = request;
    Ok(())
}

/// Holds a request body that came without a length to the route's limit.
pub fn request_body(session: &Session, ctx: &mut Ctx) -> Result<()> {
    let limit = ctx.served.as_ref().and_then(|served| served.route.max_request_body);
    if limit.is_some_and(|limit| session.body_bytes_read() as u64 > limit) {
        ctx.failure = Some(Failure::BodyTooLarge);
        return Error::e_explain(ErrorType::HTTPStatus(413), "the request body is too large");
    }
    Ok(())
}

/// What frames the body or upgrades the connection belongs to this connection, not to the transforms.
fn framing(session: &Session, headers: &HeaderMap) -> Vec<(http::HeaderName, http::HeaderValue)> {
    let mut names = vec![header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    if session.is_upgrade_req() {
        names.extend([header::UPGRADE, header::CONNECTION]);
    }
    names.into_iter().filter_map(|name| headers.get(&name).cloned().map(|value| (name, value))).collect()
}

pub fn scheme(session: &Session) -> &'static str {
    if Player::is_tls(session) { "https" } else { "http" }
}

/// Makes the answer that the client gets.
pub fn response(session: &Session, ctx: &mut Ctx, upstream: &mut ResponseHeader) -> Result<()> {
    ctx.answered();
    if let Some(chosen) = &mut ctx.destination {
        chosen.answered = true;
        chosen.in_flight.answered(Instant::now());
    }
    if let Some((_, plain)) = plain(ctx) {
        let before = upstream.headers.clone();
        let mut headers = before.clone();
        apply_response(&plain.transforms, upstream.status, &mut headers);
        if headers != before {
            for name in before.keys() {
                upstream.remove_header(name);
            }
            for (name, value) in &headers {
                upstream.append_header(name.clone(), value.clone())?;
            }
        }
    }
    let mut added = HeaderMap::new();
    respond::decorate(session, ctx, &mut added);
    for (name, value) in &added {
        if name == header::VARY {
            upstream.append_header(name.clone(), value.clone())?;
        } else {
            upstream.insert_header(name.clone(), value.clone())?;
        }
    }
    Ok(())
}

fn plain(ctx: &Ctx) -> Option<(&Served, &PlainRoute)> {
    let served = ctx.served.as_ref()?;
    match &served.route.kind {
        Kind::Plain(plain) => Some((served, plain)),
        Kind::Object(_) => None,
    }
}

/// Whether the client has its whole answer in spite of `error`: whoever is refused need not send the rest of its body.
pub fn is_answered(session: &Session, ctx: &Ctx, error: &Error) -> bool {
    let unwritten = matches!(error.etype(), ErrorType::WriteError | ErrorType::WriteTimedout);
    let announced = session.response_written().and_then(|head| head.headers.get(header::CONTENT_LENGTH));
    let length = announced.and_then(|value| value.to_str().ok()?.parse().ok());
    let is_whole = ctx.ended || length == Some(session.body_bytes_sent());
    is_whole && !(unwritten && *error.esource() == ErrorSource::Downstream)
}

/// What an error of Pingora's means.
pub fn failure(error: &Error) -> Failure {
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader) => {
            Failure::BadRequest("the request is malformed".into())
        }
        (ErrorSource::Downstream, _) => Failure::ClientLeft,
        (_, ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout) => Failure::GatewayTimeout,
        (ErrorSource::Upstream, _) => Failure::BadGateway,
        _ => Failure::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_of_a_name_takes_its_next_address() {
        let all: Vec<SocketAddr> = ["[::1]:80", "127.0.0.1:80"].map(|it| it.parse().expect("an address")).into();
        let taken: Vec<_> = (0..3).map(|before| nth(&all, before)).collect();
        assert_eq!(taken, [Some(all[0]), Some(all[1]), Some(all[0])]);
        assert_eq!(nth(&[], 0), None);
    }
}
