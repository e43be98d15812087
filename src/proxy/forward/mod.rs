//! Plain routes: a request goes to a server of the route's cluster, and its answer comes back, with YARP's transforms.
//! Framing, trailers and interim answers are ours in both directions (RFC 9110 §6, §7, §15.2; RFC 9112 §6).

mod affinity;
mod answer;
pub mod request;
mod traced;
mod tunnel;
mod upload;

use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use self::affinity::RequestSession;
use self::traced::TracedAttempt;
use self::upload::RequestBodyUpload;
use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::respond;
use super::route::{ClusterHandler, Route};
use super::traces;
use http_server::{Downstream, DownstreamError};
use primitives::clock::monotonic_now;
use request_traces::TraceContext;
use upstream::circuit_breaker::FailureKind;
use upstream::cluster::{Cluster, ClusterMember};
use upstream::destination::{ConnectError, InFlightRequest};
use upstream::http_client::{HttpConnection, RequestBody};
use upstream::settings::UpstreamHttpVersion;

/// Destinations tried before a request fails.
const MAX_TRIES: usize = 3;
/// Interim answers that wait to be passed on; further ones are dropped.
const MAX_INTERIM: usize = 8;

/// A request that is forwarded.
pub struct Forwarding<'a> {
    /// The route, with its policies.
    pub route: &'a Route,
    /// The route's handler: cluster, transforms and time limits.
    pub handler: &'a ClusterHandler,
}

/// An answer whose head is there.
struct UpstreamAnswer {
    response: Response<Incoming>,
    connection: HttpConnection,
    in_flight: InFlightRequest,
    /// True where the client must be told which destination has its session from now on.
    is_new_session: bool,
}

/// An attempt that failed.
struct FailedAttempt {
    failure: ProxyFailure,
    /// Failure to count against the server; `None` where it is not the server's.
    fault: Option<FailureKind>,
    retry: RetryDecision,
}

/// Retry that may follow a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryDecision {
    /// Nothing.
    Never,
    /// Another server, within the retry budget: this one has not seen the request.
    Elsewhere,
    /// A new connection at once: a kept one had been closed for idleness.
    FreshConnection,
}

impl From<ProxyFailure> for FailedAttempt {
    fn from(failure: ProxyFailure) -> Self {
        Self { failure, fault: None, retry: RetryDecision::Never }
    }
}

/// Answers a request on a plain route.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    forwarding: &Forwarding<'_>,
) -> Result<(), DownstreamError> {
    let runtime = Arc::clone(&ctx.runtime);
    let trailer_filter = |trailers| request::trailers(trailers, &runtime, forwarding);
    let mut upload = RequestBodyUpload::new(downstream, forwarding.route.policies.max_request_body, trailer_filter);
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
    ctx: &mut RequestContext,
    forwarding: &Forwarding<'_>,
    upload: &mut RequestBodyUpload<'_>,
) -> Result<UpstreamAnswer, ProxyFailure> {
    let cluster = &forwarding.handler.cluster;
    cluster.retry_budget().deposit(monotonic_now());
    let identity = cluster.identify(&downstream.request().uri.path());
    let mut tried: Vec<Arc<str>> = Vec::new();
    let mut is_fresh = false;
    let session = RequestSession::of(cluster, &downstream.request().headers)?;
    loop {
        let (member, mut in_flight) = session.pick(cluster, identity, &tried)?;
        ctx.attempt_stats.record_attempt(cluster, member);
        let traced = TracedAttempt::begin(ctx);
        let child = traced.context.as_ref();
        let setback = match attempt(downstream, ctx, forwarding, (member, is_fresh, child), upload).await {
            Ok((response, connection)) => {
                traced.answered(downstream, ctx, response.status());
                in_flight.answered(monotonic_now());
                let is_new_session = session.is_new_at(in_flight.destination());
                return Ok(UpstreamAnswer { response, connection, in_flight, is_new_session });
            }
            Err(setback) => setback,
        };
        traced.failed(downstream, ctx, &setback.failure);
        if let Some(fault) = setback.fault {
            in_flight.failed(fault, monotonic_now());
        }
        match setback.retry {
            RetryDecision::FreshConnection if !is_fresh => is_fresh = true,
            RetryDecision::Elsewhere
                if session.may_move()
                    && tried.len() + 1 < MAX_TRIES
                    && cluster.retry_budget().try_withdraw(monotonic_now()) =>
            {
                tried.push(Arc::clone(member.destination.id()));
                is_fresh = false;
            }
            _ => return Err(setback.failure),
        }
        ctx.attempt_stats.retries += 1;
    }
}

fn no_destination(cluster: &Cluster) -> ProxyFailure {
    if cluster.members().is_empty() { ProxyFailure::NoDestination } else { ProxyFailure::DestinationUnavailable }
}

/// Makes one attempt at one server, up to the head of its response.
async fn attempt(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    forwarding: &Forwarding<'_>,
    (member, is_fresh, child): (&ClusterMember, bool, Option<&TraceContext>),
    upload: &mut RequestBodyUpload<'_>,
) -> Result<(Response<Incoming>, HttpConnection), FailedAttempt> {
    let limit = forwarding.handler.timeouts.connect;
    // Only a connection of HTTP/1.1 can become one of another protocol.
    let version = match request::requested_upgrade(downstream.request()) {
        Some(_) => UpstreamHttpVersion::Http1,
        None => member.destination.http_version(),
    };
    let connecting = async {
        match is_fresh {
            true => HttpConnection::new(&member.destination, version, limit).await,
            false => HttpConnection::idle_or_new(&member.destination, version, limit).await,
        }
    };
    let connection = tokio::select! {
        biased;
        connection = connecting => connection,
        () = downstream.closed_with_grace(), if upload.is_over() => return Err(ProxyFailure::ClientLeft.into()),
    };
    let mut connection = connection.map_err(|error| {
        ctx.attempt_stats.record_failure(&forwarding.handler.cluster, member, &error);
        connect_failure(&error)
    })?;
    let body = upload.begin(connection.is_reused);
    let mut request = request::build(downstream, ctx, forwarding, member, upload.exists(), body)?;
    traces::write_context(&ctx.runtime, downstream, child, request.headers_mut());
    let interim = capture_interim_responses(&mut request);
    let is_reused = connection.is_reused;
    let exchange = Box::pin(connection.send(request));
    let asked = upload.until_answered(downstream, exchange, interim, &forwarding.handler.timeouts).await;
    match asked {
        Ok(response) if !is_framed_plainly(response.headers()) => Err(FailedAttempt {
            failure: ProxyFailure::BadGateway,
            fault: Some(FailureKind::Broken),
            retry: RetryDecision::Never,
        }),
        Ok(response) => Ok((response, connection)),
        Err(upload::UploadError::Failure(failure)) => {
            let fault = (failure == ProxyFailure::GatewayTimeout).then_some(FailureKind::Broken);
            Err(FailedAttempt { failure, fault, retry: RetryDecision::Never })
        }
        Err(upload::UploadError::Exchange(error)) => {
            // A kept connection may just have been closed for idleness, which is no fault of the server.
            let is_closed = is_reused && !error.source.is_parse();
            let is_safe = error.is_unsent || downstream.request().method.is_idempotent();
            let again = is_closed && is_safe && upload.can_begin_again();
            if !again {
                ctx.attempt_stats.record_failure(&forwarding.handler.cluster, member, &error);
            }
            let retry = if again { RetryDecision::FreshConnection } else { RetryDecision::Never };
            Err(FailedAttempt {
                failure: ProxyFailure::BadGateway,
                fault: (!is_closed).then_some(FailureKind::Broken),
                retry,
            })
        }
    }
}

/// True where the response has no transfer coding but the one that the client of hyper takes off (RFC 9112 §7).
fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

/// Puts the interim responses to `request` into a channel.
fn capture_interim_responses(request: &mut Request<RequestBody>) -> mpsc::Receiver<Response<()>> {
    let (sender, interim) = mpsc::channel(MAX_INTERIM);
    hyper::ext::on_informational(request, move |response| {
        let mut copy = Response::new(());
        (*copy.status_mut(), *copy.headers_mut()) = (response.status(), response.headers().clone());
        // A server that sends them faster than the client takes them loses some, which mean nothing by themselves.
        let _ = sender.try_send(copy);
    });
    interim
}

fn connect_failure(error: &ConnectError) -> FailedAttempt {
    let failure = match error {
        ConnectError::Timeout => ProxyFailure::GatewayTimeout,
        ConnectError::Resolve(_) | ConnectError::Refused(_) | ConnectError::Tls(_) => ProxyFailure::BadGateway,
    };
    let (fault, retry) = match error {
        ConnectError::Tls(_) => (FailureKind::Broken, RetryDecision::Never),
        _ => (FailureKind::Unreachable, RetryDecision::Elsewhere),
    };
    FailedAttempt { failure, fault: Some(fault), retry }
}
