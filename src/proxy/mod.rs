//! From a client's request to its answer: admission, then the object engine, a cluster, or the modules of this process.

mod access_log;
mod admit;
pub mod audience;
mod ctx;
mod failure;
mod forward;
pub mod inside;
pub mod inspect;
mod limit;
mod objects;
pub mod permit;
mod respond;
pub mod server;
pub mod settings;
mod tracks;
mod upgrade;
pub mod world;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Version;
use http::request::Parts;

use admit::Way;
use ctx::Ctx;
use failure::Failure;
use forward::Forwarding;
use inside::Inside;
use server::{ConnectionTakeover, Downstream, DownstreamError, HeadFault};
use settings::Kind;
use world::{Served, Target, World};

use crate::telemetry::metrics::Metrics;

/// The proxy, as the server hands requests to it.
pub struct Gateway {
    world: Arc<ArcSwap<World>>,
    inside: Inside,
    metrics: Arc<Metrics>,
}

impl Gateway {
    /// A proxy that answers from `world` and hands its own paths to `inside`.
    pub fn new(world: Arc<ArcSwap<World>>, inside: Inside, metrics: Arc<Metrics>) -> Self {
        Self { world, inside, metrics }
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

    /// Ends an exchange whose answer is whole, or could not be.
    async fn finish(&self, downstream: &mut impl Downstream, mut ctx: Ctx, outcome: Result<(), DownstreamError>) {
        if let Err(error) = outcome {
            downstream.close_after();
            downstream.abort().await;
            // Above what was to be answered: the client did not get it.
            ctx.failure = Some(error.into());
        }
        access_log::finish(downstream, &ctx, &self.metrics);
    }
}

impl server::Handler for Arc<Gateway> {
    type Admitted = Box<Ctx>;

    fn strip_credentials(&self, request: &mut Parts) {
        permit::open_path(&self.world.load(), request);
    }

    async fn handle(&self, downstream: &mut impl Downstream) -> Option<Box<Ctx>> {
        let mut ctx = Ctx::new(self.world.load_full());
        let outcome = match admit::admit(downstream, &mut ctx).await {
            Ok(Way::Route(served)) => self.serve(downstream, &mut ctx, &served).await,
            Ok(Way::Options) => respond::options(downstream, &mut ctx).await,
            Ok(Way::Preflight(policy)) => respond::preflight(downstream, &mut ctx, policy).await,
            Ok(Way::Inside) if is_upgrade(downstream.request()) => return Some(Box::new(ctx)),
            Ok(Way::Inside) => inside::serve(downstream, &mut ctx, self.inside.clone()).await,
            Err(failure) => respond::failure(downstream, &mut ctx, failure).await,
        };
        self.finish(downstream, ctx, outcome).await;
        None
    }

    async fn refuse(&self, downstream: &mut impl Downstream, fault: HeadFault) {
        let mut ctx = Ctx::new(self.world.load_full());
        ctx.client = Some(downstream.peer());
        let outcome = respond::failure(downstream, &mut ctx, fault.into()).await;
        self.finish(downstream, ctx, outcome).await;
    }

    async fn take_over(&self, admitted: Box<Ctx>, connection: ConnectionTakeover) {
        upgrade::serve(self, *admitted, connection).await;
    }
}

/// Whether a module may take the connection over for this request.
fn is_upgrade(request: &Parts) -> bool {
    request.version == Version::HTTP_11 && upgrade::is_asked(request)
}
