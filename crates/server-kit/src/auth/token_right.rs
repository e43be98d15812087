//! Right of what a user's token has opened and what goes on without it, such as a stream: it ends with the token, and with a logout.

use std::time::Duration;

use super::revocation::TokenRevocations;
use primitives::ids::UserId;

/// Longest time for which anything goes on, be the token good for longer.
pub const MAX_RIGHT_TIME: Duration = Duration::from_secs(86_400);

/// The right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRight {
    /// The user.
    pub user: UserId,
    /// Generation of the user's tokens when it began; `None` where there are no logouts.
    pub generation: Option<u32>,
    /// Time for which the token is good.
    pub life: Duration,
}

/// Reason for which a right ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEnd {
    /// The token is not valid any more.
    Expired,
    /// The user has logged out.
    LoggedOut,
}

impl TokenRight {
    /// Returns the right of `user`, whose token is good for `life`, from now on. `None` where it is not known whether the user
    /// logs out: what begins then would outlive a logout.
    pub async fn begin(revocations: Option<&TokenRevocations>, user: &UserId, life: Duration) -> Option<Self> {
        let generation = match revocations {
            Some(revocations) => Some(revocations.last_known(user.as_str()).await?),
            None => None,
        };
        Some(Self { user: user.clone(), generation, life })
    }

    /// Resolves when it ends.
    pub async fn ended(&self, revocations: Option<&TokenRevocations>) -> TokenEnd {
        let revoked = async {
            match revocations {
                Some(revocations) => revocations.wait_until_revoked(self.user.as_str(), self.generation).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(self.life.min(MAX_RIGHT_TIME)) => TokenEnd::Expired,
            () = revoked => TokenEnd::LoggedOut,
        }
    }
}
