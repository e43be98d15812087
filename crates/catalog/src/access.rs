//! Who may have a track, by those who decide beyond a token's claims: the database's grants, or a service over HTTP.
//! Answers are remembered by user and track, and asked for once however many requests wait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::settings;
use super::{AuthorizationService, CatalogMetrics, GrantStore};
use primitives::ids::is_name;
use primitives::loading_cache::LoadingCache;
use primitives::secret::Secret;

/// Bytes of answers that are remembered, for each who decides.
const CACHE_BYTES: usize = 16 << 20;
/// How long a grant that was taken back elsewhere may go on.
const GRANTS_CACHE_TTL: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Clone, Debug)]
pub struct AccessQuery {
    /// The user's id.
    pub user: String,
    /// The track's id.
    pub track: String,
    /// The token that the user sent, where there is one.
    pub token: Option<Secret>,
}

/// Who decides.
#[async_trait]
pub trait AccessAuthority: Send + Sync {
    /// Whether the user may have the track; `None`: there is no telling now, which the log tells of. Takes no longer than
    /// a player can wait.
    async fn permits(&self, question: AccessQuery) -> Option<bool>;
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDecision {
    /// Everybody who decides allows it.
    Allowed,
    /// Somebody does not.
    Denied,
    /// Somebody does not answer.
    Unknown,
}

/// All who decide for one policy.
pub struct AccessChecker {
    authorities: Vec<CachedAuthority>,
}

struct CachedAuthority {
    authority: Arc<dyn AccessAuthority>,
    name: &'static str,
    metrics: Option<CatalogMetrics>,
    cache: LoadingCache<bool>,
    allow_on_failure: bool,
    needs_token: bool,
}

impl AccessChecker {
    /// Those whom `settings` name; `grants` must be there where they are asked.
    pub fn new(
        settings: &settings::AccessSettings,
        grants: Option<GrantStore>,
        client: &reqwest::Client,
        numbers: Option<&CatalogMetrics>,
    ) -> Self {
        let grants = grants.filter(|_| settings.grants).map(|grants| CachedAuthority {
            authority: Arc::new(grants),
            name: "grants",
            metrics: numbers.cloned(),
            // A database that is away ends no stream that it has allowed.
            cache: LoadingCache::new(CACHE_BYTES, GRANTS_CACHE_TTL, true, |_| 0),
            allow_on_failure: false,
            needs_token: false,
        });
        let service = settings.service.as_ref().map(|service| CachedAuthority {
            authority: Arc::new(AuthorizationService::new(service, client.clone())),
            name: "service",
            metrics: numbers.cloned(),
            cache: LoadingCache::new(CACHE_BYTES, service.cache_ttl, false, |_| 0),
            allow_on_failure: service.allow_on_failure,
            needs_token: service.forward_token,
        });
        Self { authorities: grants.into_iter().chain(service).collect() }
    }

    /// Whether `user` may have `track`. Without a `token`, who must see one is not asked: a streaming URL was made after
    /// an answer of theirs.
    pub async fn permits(&self, user: &str, track: &str, token: Option<&str>) -> AccessDecision {
        if !is_name(user) || !is_name(track) {
            // Nobody who decides can know it, and one who cannot be asked must not look like one who is away.
            return AccessDecision::Denied;
        }
        for guard in self.authorities.iter().filter(|guard| token.is_some() || !guard.needs_token) {
            match guard.permits(user, track, token).await {
                Some(true) => {}
                Some(false) => return AccessDecision::Denied,
                None if guard.allow_on_failure => {}
                None => return AccessDecision::Unknown,
            }
        }
        AccessDecision::Allowed
    }

    /// Drops what is remembered: a grant was given or taken back.
    pub fn clear_cache(&self) {
        self.authorities.iter().for_each(|guard| guard.cache.clear());
    }
}

impl CachedAuthority {
    async fn permits(&self, user: &str, track: &str, token: Option<&str>) -> Option<bool> {
        let ask = || {
            let (user, track, token) = (user.to_owned(), track.to_owned(), token.map(Secret::new));
            let (authority, name, numbers) = (Arc::clone(&self.authority), self.name, self.metrics.clone());
            async move {
                let answer = authority.permits(AccessQuery { user, track, token }).await;
                numbers.inspect(|numbers| numbers.record_lookup(name, answer.is_some()));
                answer
            }
        };
        // NUL is in no header and in no path, so that two pairs never share a name.
        self.cache.get(&format!("{user}\0{track}"), ask).await
    }
}
