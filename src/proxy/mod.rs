//! From a client's request to its answer: admission, then the object engine, a cluster, or the modules of this process.

mod access_log;
mod admission;
mod certificate_claims;
mod context;
mod directory_listing;
pub mod encoded;
mod error_pages;
mod exchange;
pub mod explain;
mod failure;
mod films;
mod forward;
pub mod inspect;
mod live_stream;
pub mod modules;
mod objects;
mod origin_template;
pub mod process;
mod respond;
pub mod route;
pub mod runtime;
pub mod settings;
mod static_site;
pub mod stream_observer;
mod traces;
mod tracks;
mod upgrade;

pub use admission::route_guards::weaker_route_warnings;
pub use admission::route_warnings::{bare_store_warnings, shared_request_warnings};

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Version;
use http::request::Parts;

use tokio::time::timeout;

use admission::{AdmittedRequest, authorization};
use context::RequestContext;
use exchange::RequestExchange;
use failure::ProxyFailure;
use forward::Forwarding;
use http_server::{ConnectionTakeover, Downstream, DownstreamError, RequestHeadError};
use modules::{ModulePaths, ModuleService};
use process::Process;
use route::{Route, RouteHandler};
use runtime::Runtime;
use tracks::ObjectSource;

use server_kit::telemetry::metrics::Metrics;

/// The proxy, as the server hands requests to it.
pub struct Gateway {
    process: Arc<Process>,
    runtime: Arc<ArcSwap<Runtime>>,
    modules: ModuleService,
    paths: ModulePaths,
    metrics: Arc<Metrics>,
}

impl Gateway {
    /// A proxy that answers from `runtime`, which a reload swaps, and hands requests to `paths` to `modules`.
    pub fn new(
        process: Arc<Process>,
        runtime: Arc<ArcSwap<Runtime>>,
        modules: ModuleService,
        paths: ModulePaths,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { process, runtime, modules, paths, metrics }
    }

    /// Answers a request; `None` where a module takes the connection over.
    async fn answer(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut RequestContext,
    ) -> Option<Result<(), DownstreamError>> {
        let admitted = admission::admit(downstream, ctx, &self.paths).await;
        traces::admitted(ctx, admitted.as_ref().err());
        Some(match admitted {
            Ok(AdmittedRequest::Route(route)) => self.serve(downstream, ctx, &route).await,
            Ok(AdmittedRequest::AcmeChallenge(answer)) => respond::acme_challenge(downstream, ctx, answer).await,
            Ok(AdmittedRequest::HttpsRedirect(port)) => respond::https_redirect(downstream, ctx, port).await,
            Ok(AdmittedRequest::Options) => respond::options(downstream, ctx).await,
            Ok(AdmittedRequest::Preflight(policy)) => respond::preflight(downstream, ctx, policy).await,
            Ok(AdmittedRequest::Module) if is_upgrade(downstream.request()) => return None,
            Ok(AdmittedRequest::Module) => modules::serve(downstream, ctx, self.modules.clone(), &self.paths).await,
            Err(failure) => respond::failure(downstream, ctx, failure).await,
        })
    }

    /// Answers an admitted request by the handler of its route.
    async fn serve(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut RequestContext,
        route: &Route,
    ) -> Result<(), DownstreamError> {
        match &route.handler {
            // Boxed: a paused player of an object keeps no room for it.
            RouteHandler::Cluster(handler) => {
                Box::pin(forward::serve(downstream, ctx, &Forwarding { route, handler })).await
            }
            RouteHandler::Object(handler) => {
                objects::serve(downstream, ctx, route, ObjectSource::Key(handler), &self.metrics).await
            }
            RouteHandler::Track(handler) => {
                objects::serve(downstream, ctx, route, ObjectSource::Track(handler), &self.metrics).await
            }
            RouteHandler::Film(handler) => films::serve(downstream, ctx, route, handler, &self.metrics).await,
        }
    }
}

impl http_server::Handler for Gateway {
    type Admitted = Box<RequestContext>;

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.runtime.load().trusts(address)
    }

    fn strip_credentials(&self, request: &mut Parts) {
        authorization::extract_path_token(&self.process, request);
        if self.process.film_verifier.is_some() {
            films::extract_credential(request);
        }
    }

    async fn handle(&self, downstream: &mut impl Downstream) -> Option<Box<RequestContext>> {
        let mut exchange = RequestExchange::begin(self, downstream);
        let (downstream, ctx) = exchange.parts();
        let limit = ctx.runtime.server.request_timeout;
        let answered = {
            // One place for both ways: a box for the one with a limit would cost each of its requests a copy.
            let answer = pin!(self.answer(downstream, ctx));
            match limit {
                Some(limit) => timeout(limit, answer).await,
                None => Ok(answer.await),
            }
        };
        let outcome = match answered {
            Ok(Some(outcome)) => outcome,
            Ok(None) => return exchange.hand_over(),
            Err(_) if downstream.status().is_none() => {
                respond::failure(downstream, ctx, ProxyFailure::RequestTimeout).await
            }
            Err(_) => Err(DownstreamError::Overdue),
        };
        exchange.finish(outcome).await;
        None
    }

    async fn refuse(&self, downstream: &mut impl Downstream, fault: RequestHeadError) {
        let mut exchange = RequestExchange::begin(self, downstream);
        let (downstream, ctx) = exchange.parts();
        ctx.client_address = Some(downstream.peer());
        let outcome = respond::failure(downstream, ctx, fault.into()).await;
        exchange.finish(outcome).await;
    }

    async fn take_over(&self, admitted: Box<RequestContext>, connection: ConnectionTakeover) {
        upgrade::serve(self, *admitted, connection).await;
    }
}

/// True where a module may take the connection over for this request.
fn is_upgrade(request: &Parts) -> bool {
    request.version == Version::HTTP_11 && upgrade::is_websocket_request(request)
}
