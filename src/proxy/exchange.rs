//! A request and its answer from the first look at it to its access line, which is written however the exchange ends: also
//! where the task that serves it is dropped, because the process ends or a bug has unwound it.

use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::{Gateway, access_log, traces};
use http_server::{Downstream, DownstreamError};

/// An exchange under way.
pub struct RequestExchange<'a, D: Downstream> {
    gateway: &'a Gateway,
    downstream: &'a mut D,
    /// `None` once it is over, or somebody else's.
    ctx: Option<RequestContext>,
}

impl<'a, D: Downstream> RequestExchange<'a, D> {
    /// The exchange of a request that has just arrived.
    pub fn begin(gateway: &'a Gateway, downstream: &'a mut D) -> Self {
        let mut ctx = RequestContext::new(gateway.runtime.load_full());
        ctx.attempt_stats.trace = traces::begin(&ctx.runtime, downstream);
        Self { gateway, downstream, ctx: Some(ctx) }
    }

    /// The client's side, and what is known of the request.
    pub fn parts(&mut self) -> (&mut D, &mut RequestContext) {
        (self.downstream, self.ctx.as_mut().expect("it is there until the exchange is over"))
    }

    /// Returns the context of the request, for the module that takes its connection over.
    pub fn hand_over(mut self) -> Option<Box<RequestContext>> {
        self.ctx.take().map(Box::new)
    }

    /// Ends an exchange whose answer is whole, or could not be.
    pub async fn finish(mut self, outcome: Result<(), DownstreamError>) {
        if let Err(error) = outcome {
            self.downstream.close_after();
            self.downstream.abort().await;
            // Above what was to be answered: the client did not get it.
            self.parts().1.failure = Some(error.into());
        }
        if let Some(ctx) = self.ctx.take() {
            access_log::finish(&*self.downstream, &ctx, self.gateway);
        }
    }
}

impl<D: Downstream> Drop for RequestExchange<'_, D> {
    fn drop(&mut self) {
        let Some(mut ctx) = self.ctx.take() else { return };
        ctx.failure = Some(if std::thread::panicking() { ProxyFailure::Internal } else { ProxyFailure::Stopped });
        access_log::finish(&*self.downstream, &ctx, self.gateway);
    }
}
