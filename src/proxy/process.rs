//! Everything that outlives a [`Runtime`](super::runtime::Runtime): a reload builds a new runtime over the same process,
//! so that no cache is emptied, no counter begins anew and no token is verified twice.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::stream_observer::StreamObserver;
use catalog::access::AccessChecker;
use catalog::settings::AccessSettings;
use catalog::{Catalog, CatalogMetrics, GrantStore};
use object_engine::cache::SliceCache;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::auth::Authenticator;
use server_kit::auth::path_token::PathTokenSigner;
use server_kit::auth::revocation::TokenRevocations;
use server_kit::limit::RateLimiters;

/// State and services that all runtimes of the process share.
pub struct Process {
    /// Verifies tokens, and keeps the issuers' keys.
    pub authenticator: Arc<Authenticator>,
    /// The slice cache, where a route uses it.
    pub cache: Option<Arc<SliceCache>>,
    /// The rate limiter policies, and their counts.
    pub limiters: Arc<RateLimiters>,
    /// The catalog; `None` without a database, and each of its tracks is then unavailable (503).
    pub catalog: Option<Arc<Catalog>>,
    /// The access checkers of the authorization policies, and their cached decisions.
    pub access_checkers: AccessCheckers,
    /// Signs and verifies tokens in paths, where the settings have a key for them.
    pub path_tokens: Option<Arc<PathTokenSigner>>,
    /// The users' token generations, where path tokens or live streams are tied to them.
    pub revocations: Option<Arc<TokenRevocations>>,
    /// Observer of streams.
    pub stream_observer: Option<Arc<dyn StreamObserver>>,
    /// The time.
    pub clock: Clock,
    /// Tasks beside the requests.
    pub tasks: BackgroundTasks,
}

/// The access checkers of the authorization policies, each made when it is first asked for.
pub struct AccessCheckers {
    grants: Option<GrantStore>,
    client: reqwest::Client,
    metrics: CatalogMetrics,
    by_policy: Mutex<HashMap<Arc<str>, Arc<AccessChecker>>>,
}

impl AccessCheckers {
    /// Checkers that read `grants` and ask authorization services with `client`.
    pub fn new(grants: Option<GrantStore>, client: reqwest::Client, metrics: CatalogMetrics) -> Self {
        Self { grants, client, metrics, by_policy: Mutex::default() }
    }

    /// Returns the checker of the authorization policy `policy`: routes that name one policy share its cached decisions.
    pub fn checker(&self, policy: &Arc<str>, settings: &AccessSettings) -> Arc<AccessChecker> {
        let new = || Arc::new(AccessChecker::new(settings, self.grants.clone(), &self.client, Some(&self.metrics)));
        Arc::clone(self.by_policy.lock().entry(Arc::clone(policy)).or_insert_with(new))
    }

    /// Returns all checkers that were made.
    pub fn all(&self) -> Vec<Arc<AccessChecker>> {
        self.by_policy.lock().values().cloned().collect()
    }
}
