//! The only place that knows Pingora's phases. Each phase hands over to a module that is named after what it does.

mod access_log;
mod admit;
pub mod audience;
mod connection;
mod ctx;
mod direct;
mod failure;
mod forward;
mod http2;
pub mod inside;
pub mod inspect;
mod limit;
pub mod listener;
mod objects;
pub mod permit;
mod player;
mod request_body;
mod respond;
pub mod settings;
mod socket;
pub mod threads;
mod tls;
mod tracks;
mod upgrade;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};

use admit::Way;
use ctx::Ctx;
use direct::Direct;
use failure::Failure;
use inside::Inside;
use player::Player as _;
use world::{Target, World};

use crate::route::table::Lookup;
use crate::telemetry::metrics::Metrics;

/// How long an idle client connection is kept, in seconds.
const KEEP_ALIVE_SECONDS: u64 = 75;
/// How long the rest of a request body may take to arrive after the answer.
const DRAIN: Duration = Duration::from_secs(5);

/// The proxy as Pingora runs it.
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

    /// What is known of an HTTP/1.1 request that can be answered without a session of Pingora: it is a plain one to an
    /// object route, or goes to a module.
    fn takes_directly(&self, request: &RequestHeader) -> Option<Ctx> {
        let (path, world) = (request.uri.path(), self.world.load_full());
        if admit::is_ours(path) {
            return Some(Ctx::new(world));
        }
        let asked = admit::preflight_method(request);
        let (served, captures) = match world.find(&admit::lookup(request, asked.as_ref().unwrap_or(&request.method))) {
            Lookup::Found(found) => (Arc::clone(found.value), found.captures),
            Lookup::MethodNotAllowed(_) | Lookup::NotFound => {
                return admit::is_inside(path).then(|| Ctx::new(world));
            }
        };
        let objects = !matches!(served.target, Target::Cluster(_));
        (objects && connection::only_reads(request)).then(|| Ctx::routed(world, served, captures))
    }

    /// Takes a token out of the request's path.
    fn open_path(&self, request: &mut RequestHeader) {
        permit::open_path(&self.world.load(), request);
    }

    fn write_timeout(&self) -> Duration {
        self.world.load().server.write_timeout
    }

    /// Answers a request of [`Gateway::takes_directly`]; gives it back, admitted, where a module may want the whole
    /// connection for it.
    async fn serve_directly(&self, player: &mut Direct<'_>, mut ctx: Ctx) -> Option<Box<Ctx>> {
        let outcome = match admit::admit(player, &mut ctx).await {
            Ok(Way::Route(served)) => match &served.target {
                Target::Objects(_) | Target::Tracks(_) => {
                    objects::serve(player, &mut ctx, &served, &self.metrics).await
                }
                // A reload between the two looks at the table; the next try finds the new one.
                Target::Cluster(_) => respond::failure(player, &mut ctx, Failure::Internal).await,
            },
            Ok(Way::Options) => respond::options(player, &mut ctx).await,
            Ok(Way::Preflight(policy)) => respond::preflight(player, &mut ctx, policy).await,
            Ok(Way::Inside) if upgrade::is_asked(player.request()) => return Some(Box::new(ctx)),
            Ok(Way::Inside) => inside::serve(player, &mut ctx, self.inside.clone()).await,
            Err(failure) => respond::failure(player, &mut ctx, failure).await,
        };
        if outcome.is_err() {
            player.close_after();
            ctx.failure.get_or_insert(Failure::ClientLeft);
        }
        access_log::finish(player, &ctx, &self.metrics);
        None
    }

    /// Refuses a request whose head is longer than is read.
    async fn refuse_head(&self, player: &mut Direct<'_>) {
        let mut ctx = Ctx::new(self.world.load_full());
        if respond::failure(player, &mut ctx, Failure::HeadTooLarge).await.is_err() {
            ctx.failure = Some(Failure::ClientLeft);
        }
        access_log::finish(player, &ctx, &self.metrics);
    }

    /// True when the request is answered; false sends it on to a cluster.
    async fn answer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let served = match admit::admit(session, ctx).await {
            Ok(Way::Route(served)) => served,
            Ok(Way::Preflight(policy)) => return respond::preflight(session, ctx, policy).await.map(|()| true),
            Ok(Way::Options) => return respond::options(session, ctx).await.map(|()| true),
            Ok(Way::Inside) => return inside::serve(session, ctx, self.inside.clone()).await.map(|()| true),
            Err(failure) => return respond::failure(session, ctx, failure).await.map(|()| true),
        };
        match &served.target {
            Target::Objects(_) | Target::Tracks(_) => {
                objects::serve(session, ctx, &served, &self.metrics).await.map(|()| true)
            }
            Target::Cluster(_) => Ok(false),
        }
    }
}

// What `async_trait` would write, with bodies that hand over. Where it makes a future itself, inside a function with bounds
// on lifetimes, the compiler proves for each phase anew, and slowly, that all that a request can reach may cross threads.
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(self.world.load_full())
    }

    fn early_request_filter<'a, 'b, 'c, 'f>(
        &'a self,
        session: &'b mut Session,
        ctx: &'c mut Ctx,
    ) -> BoxFuture<'f, Result<()>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        // HTTP/1.0 and `Connection: close` have been heeded by now.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(KEEP_ALIVE_SECONDS));
        }
        let client = session.as_downstream_mut();
        client.set_write_timeout(Some(ctx.world.server.write_timeout));
        client.set_total_drain_timeout(Some(DRAIN));
        client.set_abort_on_close(false);
        client.set_pipelining_enabled(true);
        permit::open_path(&ctx.world, session.req_header_mut());
        Box::pin(ready(Ok(())))
    }

    fn request_filter<'a, 'b, 'c, 'f>(
        &'a self,
        session: &'b mut Session,
        ctx: &'c mut Ctx,
    ) -> BoxFuture<'f, Result<bool>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        answered(self, session, ctx)
    }

    fn request_body_filter<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        session: &'b mut Session,
        _body: &'c mut Option<Bytes>,
        _end: bool,
        ctx: &'d mut Ctx,
    ) -> BoxFuture<'f, Result<()>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        Box::pin(ready(forward::request_body(session, ctx)))
    }

    fn upstream_peer<'a, 'b, 'c, 'f>(
        &'a self,
        session: &'b mut Session,
        ctx: &'c mut Ctx,
    ) -> BoxFuture<'f, Result<Box<HttpPeer>>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        chosen(session, ctx)
    }

    fn upstream_request_filter<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        session: &'b mut Session,
        upstream: &'c mut RequestHeader,
        ctx: &'d mut Ctx,
    ) -> BoxFuture<'f, Result<()>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        Box::pin(ready(forward::request(session, ctx, upstream)))
    }

    fn response_filter<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        session: &'b mut Session,
        upstream: &'c mut ResponseHeader,
        ctx: &'d mut Ctx,
    ) -> BoxFuture<'f, Result<()>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        Box::pin(ready(forward::response(session, ctx, upstream)))
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        ctx.ended |= end;
        let Some(bytes) = body else { return Ok(None) };
        limit::sent(ctx, bytes.len() as u64);
        Ok(limit::pace(ctx, bytes.len() as u64))
    }

    fn fail_to_connect(&self, _session: &mut Session, _peer: &HttpPeer, ctx: &mut Ctx, e: Box<Error>) -> Box<Error> {
        forward::failed_to_connect(ctx, e)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Ctx,
        client_reused: bool,
    ) -> Box<Error> {
        forward::failed_to_proxy(session, ctx, e, client_reused)
    }

    fn fail_to_proxy<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        session: &'b mut Session,
        e: &'c Error,
        ctx: &'d mut Ctx,
    ) -> BoxFuture<'f, FailToProxy>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        refused(session, e, ctx)
    }

    fn logging<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        session: &'b mut Session,
        _e: Option<&'c Error>,
        ctx: &'d mut Ctx,
    ) -> BoxFuture<'f, ()>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        ctx.destination = None;
        access_log::finish(session, ctx, &self.metrics);
        Box::pin(ready(()))
    }

    /// Failures are logged once, by the access log; Pingora's lines would name upstream addresses.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }
}

fn answered<'a>(gateway: &'a Gateway, session: &'a mut Session, ctx: &'a mut Ctx) -> BoxFuture<'a, Result<bool>> {
    Box::pin(gateway.answer(session, ctx))
}

fn chosen<'a>(session: &'a mut Session, ctx: &'a mut Ctx) -> BoxFuture<'a, Result<Box<HttpPeer>>> {
    Box::pin(forward::peer(session, ctx))
}

fn refused<'a>(session: &'a mut Session, error: &'a Error, ctx: &'a mut Ctx) -> BoxFuture<'a, FailToProxy> {
    Box::pin(async move {
        if forward::is_answered(session, ctx, error) {
            session.set_keepalive(None);
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let failure = ctx.failure.take().unwrap_or_else(|| forward::failure(error));
        let error_code = failure.status().as_u16();
        if respond::failure(session, ctx, failure).await.is_err() {
            ctx.failure = Some(Failure::ClientLeft);
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    })
}
