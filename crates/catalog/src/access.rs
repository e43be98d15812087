//! Who may have a track, by those who decide beyond a token's claims: the database's grants, or a service over HTTP.
//! Answers are remembered by user and track, and asked for once however many requests wait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::settings;
use super::{Grants, Numbers, Service};
use primitives::loading_cache::LoadingCache;
use primitives::secret::Secret;

/// Bytes of answers that are remembered, for each who decides.
const REMEMBERED: usize = 16 << 20;
/// How long a grant that was taken back elsewhere may go on.
const GRANTS_FRESH: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The user's id.
    pub user: String,
    /// The track's id.
    pub track: String,
    /// The token that the user sent, where there is one.
    pub token: Option<Secret>,
}

/// Who decides.
#[async_trait]
pub trait Authority: Send + Sync {
    /// Whether the user may have the track; `None`: there is no telling now, which the log tells of. Takes no longer than
    /// a player can wait.
    async fn permits(&self, question: Question) -> Option<bool>;
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everybody who decides allows it.
    Allowed,
    /// Somebody does not.
    Denied,
    /// Somebody does not answer.
    Unknown,
}

/// All who decide for one policy.
pub struct Access {
    guards: Vec<Guard>,
}

struct Guard {
    authority: Arc<dyn Authority>,
    name: &'static str,
    numbers: Option<Numbers>,
    remembered: LoadingCache<bool>,
    allow_on_failure: bool,
    needs_token: bool,
}

impl Access {
    /// Those whom `settings` name; `grants` must be there where they are asked.
    pub fn new(
        settings: &settings::Access,
        grants: Option<Grants>,
        client: &reqwest::Client,
        numbers: Option<&Numbers>,
    ) -> Self {
        let grants = grants.filter(|_| settings.grants).map(|grants| Guard {
            authority: Arc::new(grants),
            name: "grants",
            numbers: numbers.cloned(),
            // A database that is away ends no stream that it has allowed.
            remembered: LoadingCache::new(REMEMBERED, GRANTS_FRESH, true, |_| 0),
            allow_on_failure: false,
            needs_token: false,
        });
        let service = settings.service.as_ref().map(|service| Guard {
            authority: Arc::new(Service::new(service, client.clone())),
            name: "service",
            numbers: numbers.cloned(),
            remembered: LoadingCache::new(REMEMBERED, service.cache_for, false, |_| 0),
            allow_on_failure: service.allow_on_failure,
            needs_token: service.forward_token,
        });
        Self { guards: grants.into_iter().chain(service).collect() }
    }

    /// Whether `user` may have `track`. Without a `token`, who must see one is not asked: a streaming URL was made after
    /// an answer of theirs.
    pub async fn permits(&self, user: &str, track: &str, token: Option<&str>) -> Verdict {
        for guard in self.guards.iter().filter(|guard| token.is_some() || !guard.needs_token) {
            match guard.permits(user, track, token).await {
                Some(true) => {}
                Some(false) => return Verdict::Denied,
                None if guard.allow_on_failure => {}
                None => return Verdict::Unknown,
            }
        }
        Verdict::Allowed
    }

    /// Drops what is remembered: a grant was given or taken back.
    pub fn forget(&self) {
        self.guards.iter().for_each(|guard| guard.remembered.clear());
    }
}

impl Guard {
    async fn permits(&self, user: &str, track: &str, token: Option<&str>) -> Option<bool> {
        let ask = || {
            let (user, track, token) = (user.to_owned(), track.to_owned(), token.map(Secret::new));
            let (authority, name, numbers) = (Arc::clone(&self.authority), self.name, self.numbers.clone());
            async move {
                let answer = authority.permits(Question { user, track, token }).await;
                numbers.inspect(|numbers| numbers.asked(name, answer.is_some()));
                answer
            }
        };
        // NUL is in no header and in no path, so that two pairs never share a name.
        self.remembered.get(&format!("{user}\0{track}"), ask).await
    }
}
