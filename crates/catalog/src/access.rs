//! Right to have a track, as decided beyond a token's claims: by the database's grants, or by a service over HTTP.
//! Answers are cached by user and track, and asked for once however many requests wait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::settings;
use super::{AuthorizationService, CatalogMetrics, GrantStore};
use primitives::ids::is_name;
use primitives::loading_cache::LoadingCache;
use primitives::secret::Secret;

/// Memory for cached answers of one authority, in bytes.
const CACHE_BYTES: usize = 16 << 20;
/// Time for which a grant that was taken back on another node may still be accepted.
const GRANTS_CACHE_TTL: Duration = Duration::from_millis(500);

/// Question to an authority.
#[derive(Clone, Debug)]
pub struct AccessQuery {
    /// The user's id.
    pub user: String,
    /// The track's id.
    pub track: String,
    /// The token that the user sent, if there is one.
    pub token: Option<Secret>,
}

/// Authority that decides over access.
#[async_trait]
pub trait AccessAuthority: Send + Sync {
    /// Returns true if the user may have the track; `None` if it cannot be decided now, which the authority logs. Takes
    /// no longer than a player can wait.
    async fn permits(&self, question: AccessQuery) -> Option<bool>;
}

/// Outcome of all questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDecision {
    /// Every authority allows it.
    Allowed,
    /// An authority denies it.
    Denied,
    /// An authority does not answer.
    Unknown,
}

/// All authorities of one policy.
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
    /// Creates the authorities that `settings` name; `grants` must be given where they are enabled: without
    /// them they are not asked, and where there is no other authority everybody is allowed.
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
            // Unlike above: an answer of the operator's service is not used for longer than the operator allows.
            cache: LoadingCache::new(CACHE_BYTES, service.cache_ttl, false, |_| 0),
            allow_on_failure: service.allow_on_failure,
            needs_token: service.forward_token,
        });
        Self { authorities: grants.into_iter().chain(service).collect() }
    }

    /// Decides whether `user` may have `track`. Without a `token`, an authority that needs one is not asked: it allowed
    /// the streaming URL when that was issued.
    pub async fn permits(&self, user: &str, track: &str, token: Option<&str>) -> AccessDecision {
        if !is_name(user) || !is_name(track) {
            // No authority can know it, and one that cannot be asked must not look like one that does not answer.
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

    /// Clears the caches: a grant was given or taken back.
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
                // Owned copies: the answer is shared by all that wait, and may outlive the request that asked first.
                let answer = authority.permits(AccessQuery { user, track, token }).await;
                numbers.inspect(|numbers| numbers.record_lookup(name, answer.is_some()));
                answer
            }
        };
        // NUL is in no header and in no path, so that two pairs never share a name.
        self.cache.get(&format!("{user}\0{track}"), ask).await
    }
}
