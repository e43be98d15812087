//! Right of a listener to go on: a place of a ticket, and, where the ticket was issued for a user, that user's token and logout.

use std::pin::Pin;
use std::sync::Arc;

use crate::Relay;
use crate::tickets::{Ticket, TicketHolder, TicketPermit};
use server_kit::auth::token_right::{TokenEnd, TokenRight};

/// Right with which something was opened; its place is held until it is dropped.
pub struct ListeningRight {
    _place: Option<TicketPermit>,
    end: Pin<Box<dyn Future<Output = TokenEnd> + Send>>,
}

/// Returns the name of an end as clients and metrics have it.
pub fn end_name(end: TokenEnd) -> &'static str {
    match end {
        TokenEnd::Expired => "expired",
        TokenEnd::LoggedOut => "logged_out",
    }
}

impl ListeningRight {
    /// Returns the right of a ticket, or of the token, which is without end.
    pub fn new(relay: &Arc<Relay>, place: Option<TicketPermit>, holder: Option<TicketHolder>) -> Self {
        let Some(holder) = holder else { return Self { _place: place, end: Box::pin(std::future::pending()) } };
        let relay = Arc::clone(relay);
        Self { _place: place, end: Box::pin(async move { relay.wait_for_end(holder).await }) }
    }

    /// Resolves when it ends. Can be dropped and called again, but not after it has resolved.
    pub async fn ended(&mut self) -> TokenEnd {
        (&mut self.end).await
    }
}

impl Relay {
    /// Returns true where the user for whom a ticket was issued may still begin to listen.
    pub(crate) async fn may_open(&self, ticket: &Ticket) -> bool {
        let Some(holder) = &ticket.holder else { return true };
        let is_revoked = match (&self.revocations, holder.generation) {
            (Some(revocations), Some(generation)) => revocations.is_revoked(holder.user.as_str(), generation).await,
            _ => false,
        };
        holder.until > self.now() && !is_revoked
    }

    async fn wait_for_end(&self, holder: TicketHolder) -> TokenEnd {
        let right = TokenRight { user: holder.user, generation: holder.generation, until: holder.until };
        right.ended(self.revocations.as_deref(), &self.clock).await
    }
}
