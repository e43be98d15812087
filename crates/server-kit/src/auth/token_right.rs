//! Right of what a user's token has opened and what goes on without it, such as a stream: it ends with the token, and with a logout.

use std::time::Duration;

use super::revocation::TokenRevocations;
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;

/// Longest time for which anything goes on, be the token good for longer.
pub const MAX_RIGHT_TIME: Duration = Duration::from_secs(86_400);

/// The right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRight {
    /// The user.
    pub user: UserId,
    /// Generation of the user's tokens when it began; `None` where there are no logouts.
    pub generation: Option<u32>,
    /// Time at which the token ends.
    pub until: UnixMillis,
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
    /// Returns the right of `user`, whose token ends at `until`, from now on. `None` where it is not known whether the user
    /// logs out: what begins then would outlive a logout.
    pub async fn begin(revocations: Option<&TokenRevocations>, user: &UserId, until: UnixMillis) -> Option<Self> {
        let generation = match revocations {
            Some(revocations) => Some(revocations.last_known(user.as_str()).await?),
            None => None,
        };
        Some(Self { user: user.clone(), generation, until })
    }

    /// Resolves when it ends.
    pub async fn ended(&self, revocations: Option<&TokenRevocations>, clock: &Clock) -> TokenEnd {
        let revoked = async {
            match revocations {
                Some(revocations) => revocations.wait_until_revoked(self.user.as_str(), self.generation).await,
                None => std::future::pending().await,
            }
        };
        let life = self.until - clock.unix_millis();
        tokio::select! {
            () = tokio::time::sleep(life.min(MAX_RIGHT_TIME)) => TokenEnd::Expired,
            () = revoked => TokenEnd::LoggedOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_right_ends_when_its_token_does_whenever_it_was_begun() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_600));
        let user = UserId::parse("u").expect("an id");
        let right = TokenRight::begin(None, &user, UnixMillis::new(1_004_000)).await.expect("there are no logouts");
        let begun = tokio::time::Instant::now();
        assert_eq!(right.ended(None, &clock).await, TokenEnd::Expired);
        assert_eq!(begun.elapsed(), Duration::from_millis(3400));
        // What was begun with a ticket that waited meanwhile ends at the same time.
        clock.advance(Duration::from_secs(3));
        let begun = tokio::time::Instant::now();
        assert_eq!(right.ended(None, &clock).await, TokenEnd::Expired);
        assert_eq!(begun.elapsed(), Duration::from_millis(400));
        clock.advance(Duration::from_secs(3));
        let begun = tokio::time::Instant::now();
        assert_eq!(right.ended(None, &clock).await, TokenEnd::Expired);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
