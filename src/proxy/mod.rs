//! From a client's request to its answer: admission, then the object engine, a cluster, or the modules of this process.

mod access_log;
mod admit;
pub mod audience;
mod ctx;
mod exchange;
mod failure;
mod forward;
pub mod inside;
pub mod inspect;
mod limit;
mod objects;
pub mod permit;
mod readings;
mod respond;
pub mod settings;
mod tracks;
mod upgrade;
pub mod world;

pub use readings::weaker_routes;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Version;
use http::request::Parts;

use admit::Way;
use ctx::Ctx;
use exchange::Exchange;
use failure::Failure;
use forward::Forwarding;
use http_server::{ConnectionTakeover, Downstream, DownstreamError, RequestHeadError};
use inside::{Inside, ModulePaths};
use settings::Kind;
use world::{Served, Target, World};

use server_kit::telemetry::metrics::Metrics;

/// The proxy, as the server hands requests to it.
pub struct Gateway {
    world: Arc<ArcSwap<World>>,
    inside: Inside,
    paths: ModulePaths,
    metrics: Arc<Metrics>,
}

impl Gateway {
    /// A proxy that answers from `world` and hands its own `paths` to `inside`.
    pub fn new(world: Arc<ArcSwap<World>>, inside: Inside, paths: ModulePaths, metrics: Arc<Metrics>) -> Self {
        Self { world, inside, paths, metrics }
    }

    /// Answers an admitted request on the route `served`.
    async fn serve(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Ctx,
        served: &Served,
    ) -> Result<(), DownstreamError> {
        match (&served.target, &served.route.kind) {
            (Target::Cluster(cluster), Kind::Plain(route)) => {
                // Boxed: a paused player of an object keeps no room for it.
                Box::pin(forward::serve(downstream, ctx, &Forwarding { served, route, cluster })).await
            }
            (Target::Objects(_) | Target::Tracks(_), _) => objects::serve(downstream, ctx, served, &self.metrics).await,
            (Target::Cluster(_), Kind::Object(_)) => respond::failure(downstream, ctx, Failure::Internal).await,
        }
    }
}

impl http_server::Handler for Gateway {
    type Admitted = Box<Ctx>;

    fn strip_credentials(&self, request: &mut Parts) {
        permit::open_path(&self.world.load(), request);
    }

    async fn handle(&self, downstream: &mut impl Downstream) -> Option<Box<Ctx>> {
        let mut exchange = Exchange::begin(self, downstream);
        let (downstream, ctx) = exchange.parts();
        let outcome = match admit::admit(downstream, ctx, &self.paths).await {
            Ok(Way::Route(served)) => self.serve(downstream, ctx, &served).await,
            Ok(Way::Options) => respond::options(downstream, ctx).await,
            Ok(Way::Preflight(policy)) => respond::preflight(downstream, ctx, policy).await,
            Ok(Way::Inside) if is_upgrade(downstream.request()) => return exchange.hand_over(),
            Ok(Way::Inside) => inside::serve(downstream, ctx, self.inside.clone()).await,
            Err(failure) => respond::failure(downstream, ctx, failure).await,
        };
        exchange.finish(outcome).await;
        None
    }

    async fn refuse(&self, downstream: &mut impl Downstream, fault: RequestHeadError) {
        let mut exchange = Exchange::begin(self, downstream);
        let (downstream, ctx) = exchange.parts();
        ctx.client = Some(downstream.peer());
        let outcome = respond::failure(downstream, ctx, fault.into()).await;
        exchange.finish(outcome).await;
    }

    async fn take_over(&self, admitted: Box<Ctx>, connection: ConnectionTakeover) {
        upgrade::serve(self, *admitted, connection).await;
    }
}

/// Whether a module may take the connection over for this request.
fn is_upgrade(request: &Parts) -> bool {
    request.version == Version::HTTP_11 && upgrade::is_asked(request)
}
