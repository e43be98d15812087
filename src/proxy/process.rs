//! Everything that outlives a [`Runtime`](super::runtime::Runtime): a reload builds a new runtime over the same process,
//! so that no cache is emptied and no counter begins anew.

use std::sync::Arc;

use super::encoded::Compressions;
use super::stream_observer::StreamObserver;
use catalog::access::AccessChecker;
use catalog::settings::AccessSettings;
use catalog::{Catalog, CatalogMetrics, GrantStore};
use http_server::acme_challenges::AcmeChallenges;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use request_traces::ExporterServices;
use server_kit::auth::path_token::PathTokenSigner;
use server_kit::auth::revocation::TokenRevocations;
use server_kit::limit::RateLimiters;
use server_kit::live_streams::LiveStreams;
use server_kit::telemetry::recent_failures::RecentFailures;
use upstream::cluster::ClusterFactory;
use vod::grant::{GrantKeys, GrantVerifier};
use vod::player_metrics::PlayerMetrics;
use vod::session::FilmSessions;

/// State and services that all runtimes of the process share.
pub struct Process {
    /// Builds the clusters of a runtime.
    pub clusters: ClusterFactory,
    /// The rate limiter policies, and their counts.
    pub limiters: Arc<RateLimiters>,
    /// The catalog; `None` without a database, and each of its tracks is then unavailable (503).
    pub catalog: Option<Arc<Catalog>>,
    /// Builds the access checkers of a runtime's authorization policies.
    pub access_checkers: AccessCheckerFactory,
    /// Signs and verifies tokens in paths, where the settings have a key for them.
    pub path_tokens: Option<Arc<PathTokenSigner>>,
    /// Verifies grants of films, where films are served.
    pub film_verifier: Option<Arc<GrantVerifier>>,
    /// The users' token generations, where path tokens or live streams are tied to them.
    pub revocations: Option<Arc<TokenRevocations>>,
    /// Sessions of viewers, where films are served.
    pub film_sessions: Option<FilmSessions>,
    /// Signs and verifies the grants of those sessions.
    pub film_grants: Option<Arc<GrantKeys>>,
    /// Metrics of what players of films say of themselves, where films are served.
    pub film_player_metrics: Option<PlayerMetrics>,
    /// Challenges of ACME servers that wait for an answer.
    pub acme_challenges: AcmeChallenges,
    /// Observer of streams.
    pub stream_observer: Option<Arc<dyn StreamObserver>>,
    /// Answers that are being sent.
    pub live_streams: Arc<LiveStreams>,
    /// The last failures.
    pub recent_failures: Arc<RecentFailures>,
    /// Texts that are compressed, a few at once: more would leave no processor for streams.
    pub compressions: Compressions,
    /// Services of the task that sends traces to a collector.
    pub traces: ExporterServices,
    /// The time.
    pub clock: Clock,
    /// Tasks beside the requests.
    pub tasks: BackgroundTasks,
}

/// Builds access checkers, which read the grants and ask authorization services.
pub struct AccessCheckerFactory {
    grants: Option<GrantStore>,
    client: reqwest::Client,
    metrics: CatalogMetrics,
}

impl AccessCheckerFactory {
    /// Creates a factory of checkers that read `grants` and ask authorization services with `client`.
    pub fn new(grants: Option<GrantStore>, client: reqwest::Client, metrics: CatalogMetrics) -> Self {
        Self { grants, client, metrics }
    }

    /// Builds the checker of `settings`, with no decision cached.
    pub fn build(&self, settings: &AccessSettings) -> AccessChecker {
        AccessChecker::new(settings, self.grants.clone(), &self.client, Some(&self.metrics))
    }
}
