//! Plain routes: a request goes to a server of the route's cluster, and its answer comes back, with YARP's transforms.
//! Framing, trailers and interim answers are ours in both directions (RFC 9110 §6, §7, §15.2; RFC 9112 §6).

mod answer;
mod request;
mod tunnel;
mod upload;

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use self::upload::Upload;
use super::ctx::Ctx;
use super::failure::Failure;
use super::respond;
use super::server::{Downstream, DownstreamError};
use super::settings::PlainRoute;
use super::world::Served;
use crate::upstream::breaker::Fault;
use crate::upstream::cluster::{Cluster, Member};
use crate::upstream::destination::{ConnectError, InFlight};
use crate::upstream::http_client::{HttpConnection, RequestBody};

/// Destinations tried before a request fails.
const MAX_TRIES: usize = 3;
/// Interim answers that wait to be passed on; further ones are dropped.
const MAX_INTERIM: usize = 8;

/// A plain route at work.
pub struct Forwarding<'a> {
    /// The route.
    pub served: &'a Served,
    /// Its own settings.
    pub route: &'a PlainRoute,
    /// Its servers.
    pub cluster: &'a Cluster,
}

/// An answer whose head is there.
struct Answered {
    response: Response<Incoming>,
    connection: HttpConnection,
    in_flight: InFlight,
}

/// A try that failed.
struct Setback {
    failure: Failure,
    /// What it says of the server.
    fault: Option<Fault>,
    retry: Retry,
}

/// What may follow a try that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// Nothing.
    Never,
    /// Another server, within the retry budget: this one has not seen the request.
    Elsewhere,
    /// A new connection at once: a kept one had been closed for idleness.
    FreshConnection,
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self { failure, fault: None, retry: Retry::Never }
    }
}

/// Answers a request on a plain route.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut Ctx,
    forwarding: &Forwarding<'_>,
) -> Result<(), DownstreamError> {
    let mut upload = Upload::new(downstream, forwarding.served.route.max_request_body);
    match ask(downstream, ctx, forwarding, &mut upload).await {
        Ok(answered) if answered.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            tunnel::serve(downstream, ctx, forwarding, answered).await
        }
        Ok(answered) => answer::serve(downstream, ctx, forwarding, answered, &mut upload).await,
        Err(failure) => {
            if !upload.is_over() {
                downstream.close_after();
            }
            respond::failure(downstream, ctx, failure).await
        }
    }
}

/// Asks one server after the other until one answers or no try is left.
async fn ask(
    downstream: &mut impl Downstream,
    ctx: &mut Ctx,
    forwarding: &Forwarding<'_>,
    upload: &mut Upload,
) -> Result<Answered, Failure> {
    let cluster = forwarding.cluster;
    cluster.budget().request(Instant::now());
    let mut tried: Vec<Arc<str>> = Vec::new();
    let mut is_fresh = false;
    loop {
        let (member, mut in_flight) = cluster.pick(&tried, Instant::now()).ok_or(Failure::NoDestination)?;
        ctx.tally.tries(cluster, member);
        let setback = match attempt(downstream, ctx, forwarding, member, is_fresh, upload).await {
            Ok((response, connection)) => {
                in_flight.answered(Instant::now());
                return Ok(Answered { response, connection, in_flight });
            }
            Err(setback) => setback,
        };
        if let Some(fault) = setback.fault {
            in_flight.failed(fault, Instant::now());
        }
        match setback.retry {
            Retry::FreshConnection if !is_fresh => is_fresh = true,
            Retry::Elsewhere if tried.len() + 1 < MAX_TRIES && cluster.budget().retry(Instant::now()) => {
                tried.push(Arc::clone(member.destination.id()));
                is_fresh = false;
            }
            _ => return Err(setback.failure),
        }
        ctx.tally.retries += 1;
    }
}

/// One try at one server, to the head of its answer.
async fn attempt(
    downstream: &mut impl Downstream,
    ctx: &mut Ctx,
    forwarding: &Forwarding<'_>,
    member: &Member,
    is_fresh: bool,
    upload: &mut Upload,
) -> Result<(Response<Incoming>, HttpConnection), Setback> {
    let limit = forwarding.served.route.timeouts.connect;
    let connection = match is_fresh {
        true => HttpConnection::new(&member.destination, limit).await,
        false => HttpConnection::idle_or_new(&member.destination, limit).await,
    };
    let mut connection = connection.map_err(|error| {
        ctx.tally.failed(forwarding.cluster, member, &error);
        unconnected(&error)
    })?;
    let body = upload.begin();
    let mut request = request::build(downstream, ctx, forwarding, member, upload.exists(), body)?;
    let interim = listen(&mut request);
    let is_reused = connection.is_reused;
    let exchange = Box::pin(connection.send(request));
    let asked = upload.until_answered(downstream, exchange, interim, &forwarding.served.route.timeouts).await;
    match asked {
        Ok(response) => Ok((response, connection)),
        Err(upload::Trouble::Failure(failure)) => {
            let fault = (failure == Failure::GatewayTimeout).then_some(Fault::Broken);
            Err(Setback { failure, fault, retry: Retry::Never })
        }
        Err(upload::Trouble::Exchange(error)) => {
            let again = is_reused
                && !error.is_parse()
                && downstream.request().method.is_idempotent()
                && upload.can_begin_again();
            if !again {
                ctx.tally.failed(forwarding.cluster, member, &error);
            }
            let retry = if again { Retry::FreshConnection } else { Retry::Never };
            Err(Setback { failure: Failure::BadGateway, fault: (!again).then_some(Fault::Broken), retry })
        }
    }
}

/// Has the interim answers to `request` put into a channel.
fn listen(request: &mut Request<RequestBody>) -> mpsc::Receiver<Response<()>> {
    let (sender, interim) = mpsc::channel(MAX_INTERIM);
    hyper::ext::on_informational(request, move |response| {
        let mut copy = Response::new(());
        (*copy.status_mut(), *copy.headers_mut()) = (response.status(), response.headers().clone());
        // A server that sends them faster than the client takes them loses some, which mean nothing by themselves.
        let _ = sender.try_send(copy);
    });
    interim
}

fn unconnected(error: &ConnectError) -> Setback {
    let failure = match error {
        ConnectError::Timeout => Failure::GatewayTimeout,
        ConnectError::Resolve(_) | ConnectError::Refused(_) | ConnectError::Tls(_) => Failure::BadGateway,
    };
    let (fault, retry) = match error {
        ConnectError::Tls(_) => (Fault::Broken, Retry::Never),
        _ => (Fault::Unreachable, Retry::Elsewhere),
    };
    Setback { failure, fault: Some(fault), retry }
}
