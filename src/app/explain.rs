//! Explanations of requests: by the runtime in force, and by one of a configuration that serves nothing.

use std::sync::Arc;

use arc_swap::ArcSwap;
use url::Url;

use super::catalog::path_token_signer;
use super::{StartError, authenticator, cache, http_client, runtime_settings, traces};
use crate::config::Settings;
use crate::proxy::explain;
use crate::proxy::modules::ModulePaths;
use crate::proxy::process::{AccessCheckerFactory, Process};
use crate::proxy::runtime::Runtime;
use ::catalog::CatalogMetrics;
use http_server::acme_challenges::AcmeChallenges;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::settings::{StoreCredentials, StoreEndpoint, StoreSettings};
use s3::signer::Signer;
use server_kit::api::explain::ExplainRequest;
use server_kit::limit::RateLimiters;
use server_kit::limit::metrics::LimitMetrics;
use server_kit::telemetry::metrics::Metrics;
use store_credentials::CredentialProviders;

/// Explains requests by the runtime in force.
pub fn explainer(runtime: Arc<ArcSwap<Runtime>>, modules: ModulePaths) -> ExplainRequest {
    Arc::new(move |method, url, headers| {
        let asked = explain::request_head(method, url, headers);
        let (runtime, modules) = (runtime.load_full(), modules.clone());
        Box::pin(async move {
            let (head, scheme) = asked?;
            let told = explain::explain(&runtime, Some(&modules), head, &scheme).await;
            serde_json::to_value(told).map_err(|error| error.to_string())
        })
    })
}

/// Host of embedded stores in a runtime that serves nothing.
pub const EMBEDDED_HOST: &str = "embedded.invalid";

/// Builds a runtime of `settings` that serves nothing: no store, no database and no socket is opened. Temporary keys of
/// stores are there where there is somebody to give them.
pub async fn idle_runtime(
    settings: &Settings,
    credentials: Option<&CredentialProviders>,
) -> Result<Runtime, StartError> {
    let (clock, tasks, metrics) = (Clock::system(), BackgroundTasks::default(), Metrics::new()?);
    let counters = LimitMetrics::new(metrics.registry())?;
    let (limiters, _) = RateLimiters::new(&settings.limits, &clock, None, None, &counters);
    let process = Process {
        clusters: upstream::cluster::ClusterFactory::new(tasks.clone()),
        limiters: Arc::new(limiters),
        catalog: None,
        access_checkers: AccessCheckerFactory::new(None, http_client()?, CatalogMetrics::new(metrics.registry())?),
        path_tokens: path_token_signer(&settings.auth, &clock),
        film_verifier: None,
        revocations: None,
        film_sessions: None,
        film_grants: None,
        film_player_metrics: None,
        acme_challenges: AcmeChallenges::default(),
        stream_observer: None,
        live_streams: Arc::default(),
        recent_failures: Arc::default(),
        compressions: crate::proxy::encoded::Compressions::default(),
        traces: traces::services(metrics.registry(), &tasks, &clock)?,
        clock: clock.clone(),
        tasks: tasks.clone(),
    };
    let authenticator = Arc::new(authenticator(settings, &clock, &tasks)?);
    let open_store = |store: &StoreSettings| {
        let endpoint = match &store.endpoint {
            StoreEndpoint::Remote(url) => url.clone(),
            StoreEndpoint::Embedded(_) => Url::parse(&format!("http://{EMBEDDED_HOST}/")).expect("a constant URL"),
        };
        let signer = Signer::new(store.clone(), endpoint, clock.clone());
        match (&store.credentials, credentials) {
            (StoreCredentials::Temporary(provider), Some(providers)) => Ok(providers.supply(provider, signer)?),
            _ => Ok(Arc::new(signer)),
        }
    };
    let cache = cache::open_idle(settings, &clock, &tasks).await?;
    Runtime::build(runtime_settings(settings), &Arc::new(process), (authenticator, cache, None), None, open_store)
}
