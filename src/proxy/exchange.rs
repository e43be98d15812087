//! A request and its answer from the first look at it to its access line, which is written however the exchange ends: also
//! where the task that serves it is dropped, because the process ends or a bug has unwound it.

use super::ctx::Ctx;
use super::failure::Failure;
use super::{Gateway, access_log};
use http_server::{Downstream, DownstreamError};

/// An exchange under way.
pub struct Exchange<'a, D: Downstream> {
    gateway: &'a Gateway,
    downstream: &'a mut D,
    /// `None` once it is over, or somebody else's.
    ctx: Option<Ctx>,
}

impl<'a, D: Downstream> Exchange<'a, D> {
    /// The exchange of a request that has just arrived.
    pub fn begin(gateway: &'a Gateway, downstream: &'a mut D) -> Self {
        Self { gateway, downstream, ctx: Some(Ctx::new(gateway.world.load_full())) }
    }

    /// The client's side, and what is known of the request.
    pub fn parts(&mut self) -> (&mut D, &mut Ctx) {
        (self.downstream, self.ctx.as_mut().expect("it is there until the exchange is over"))
    }

    /// What is known of the request, for whoever goes on with it.
    pub fn hand_over(mut self) -> Option<Box<Ctx>> {
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
            access_log::finish(&*self.downstream, &ctx, &self.gateway.metrics);
        }
    }
}

impl<D: Downstream> Drop for Exchange<'_, D> {
    fn drop(&mut self) {
        let Some(mut ctx) = self.ctx.take() else { return };
        ctx.failure = Some(if std::thread::panicking() { Failure::Internal } else { Failure::Stopped });
        access_log::finish(&*self.downstream, &ctx, &self.gateway.metrics);
    }
}
