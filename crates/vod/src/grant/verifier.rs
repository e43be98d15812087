//! Verification of grants as players show them: the token, the film that it is for, and its session, whose verdict is kept for
//! a few seconds, so that a segment costs no question to Redis and a revocation is still noticed soon.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{Grant, GrantKeys, GrantToken};
use crate::session::{SessionEnd, SessionId, SessionVerdict, SessionsUnavailable};
use crate::settings::VERDICT_TTL;
use primitives::ids::UserId;
use primitives::loading_cache::LoadingCache;
use server_kit::auth::AuthenticationError;

/// Interval between two checks of the session while a long body is sent. With [`VERDICT_TTL`] it is the time within which a
/// revoked session stops: 5 seconds.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Memory for verdicts, in bytes: some 40,000 sessions.
const VERDICT_BYTES: usize = 16 << 20;

/// Question to the sessions, which extends the session while it lives.
pub type JudgeSession =
    Arc<dyn Fn(SessionId) -> BoxFuture<'static, Result<SessionVerdict, SessionsUnavailable>> + Send + Sync>;

/// Reason for which a grant opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefusal {
    /// The token is missing or not valid.
    #[error(transparent)]
    Unauthenticated(#[from] AuthenticationError),
    /// The token is another film's.
    #[error("the grant is for another film")]
    OtherFilm,
    /// The session has ended.
    #[error("the session has ended: {0:?}")]
    Ended(SessionEnd),
    /// The session must be asked about, and cannot be.
    #[error(transparent)]
    Unavailable(#[from] SessionsUnavailable),
}

/// Verifier of grants.
pub struct GrantVerifier {
    keys: Arc<GrantKeys>,
    judge: JudgeSession,
    verdicts: LoadingCache<SessionVerdict>,
}

impl GrantVerifier {
    /// Creates a verifier of tokens by `keys`, which asks `judge` about their sessions.
    pub fn new(keys: Arc<GrantKeys>, judge: JudgeSession) -> Self {
        let holds = |verdict: &SessionVerdict| match verdict {
            SessionVerdict::Live(user) => user.as_str().len(),
            SessionVerdict::Ended(_) => 0,
        };
        Self { keys, judge, verdicts: LoadingCache::new(VERDICT_BYTES, VERDICT_TTL, true, holds) }
    }

    /// Verifies a token, without a look at what it is for: credentials come before everything else.
    pub fn authenticate(&self, token: &GrantToken) -> Result<Grant, GrantRefusal> {
        Ok(self.keys.verify(token.expose())?)
    }

    /// Admits a request for an object below `prefix`; returns the viewer, where the session could be asked. A session that
    /// nobody can ask about is believed by its token: films play on while Redis is away.
    pub async fn admit(&self, grant: &Grant, prefix: &str) -> Result<Option<UserId>, GrantRefusal> {
        self.check_film(grant, prefix)?;
        self.verdict(grant.session).await.map(live).transpose()
    }

    /// As [`GrantVerifier::admit`], for an encryption key: the session is asked about each time, and none is believed.
    pub async fn admit_to_key(&self, grant: &Grant, prefix: &str) -> Result<UserId, GrantRefusal> {
        self.check_film(grant, prefix)?;
        live((self.judge)(grant.session).await?)
    }

    /// Admits a request for an encryption key again that was admitted a while ago.
    pub async fn confirm(&self, grant: &Grant) -> Result<(), GrantRefusal> {
        live((self.judge)(grant.session).await?).map(drop)
    }

    /// Resolves when a session has ended, for a body that is sent meanwhile.
    pub async fn wait_until_ended(&self, session: SessionId) -> SessionEnd {
        loop {
            tokio::time::sleep(RECHECK_INTERVAL).await;
            if let Some(SessionVerdict::Ended(reason)) = self.verdict(session).await {
                return reason;
            }
        }
    }

    fn check_film(&self, grant: &Grant, prefix: &str) -> Result<(), GrantRefusal> {
        if self.keys.opens(grant, prefix) { Ok(()) } else { Err(GrantRefusal::OtherFilm) }
    }

    async fn verdict(&self, session: SessionId) -> Option<SessionVerdict> {
        let key = session.to_string();
        let judge = Arc::clone(&self.judge);
        self.verdicts.get(&key, || async move { judge(session).await.ok() }).await
    }
}

fn live(verdict: SessionVerdict) -> Result<UserId, GrantRefusal> {
    match verdict {
        SessionVerdict::Live(user) => Ok(user),
        SessionVerdict::Ended(reason) => Err(GrantRefusal::Ended(reason)),
    }
}
