//! Right of a listener to go on: a place of a ticket, and, where the ticket was issued for a user, that user's token and logout.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::Relay;
use crate::tickets::{Ticket, TicketHolder, TicketPermit};

/// Longest time for which a user's listener goes on, be the token good for longer.
const MAX_LISTENING_TIME: Duration = Duration::from_secs(86_400);

/// Reason for which a right ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightEnd {
    /// The user's token is not valid any more.
    Expired,
    /// The user has logged out.
    LoggedOut,
}

/// Right with which something was opened; its place is held until it is dropped.
pub struct ListeningRight {
    _place: Option<TicketPermit>,
    end: Pin<Box<dyn Future<Output = RightEnd> + Send>>,
}

impl RightEnd {
    /// Returns the name as clients and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::LoggedOut => "logged_out",
        }
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
    pub async fn ended(&mut self) -> RightEnd {
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

    async fn wait_for_end(&self, holder: TicketHolder) -> RightEnd {
        let left = (holder.until - self.now()).min(MAX_LISTENING_TIME);
        let revoked = async {
            match &self.revocations {
                Some(revocations) => {
                    revocations.wait_until_revoked(holder.user.as_str(), holder.generation).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(left) => RightEnd::Expired,
            () = revoked => RightEnd::LoggedOut,
        }
    }
}
