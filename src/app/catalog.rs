//! The catalogue, access and streaming URLs, composed: made from the settings for the proxy, and put before the API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use utoipa_axum::router::OpenApiRouter;

use super::modules::ModuleDependencies;
use super::storage::StateStorage;
use crate::config::Settings;
use crate::proxy::inspect::{StreamDescription, StreamInquiry, describe_stream};
use crate::proxy::process::{AccessCheckerFactory, Process};
use crate::proxy::runtime::Runtime;
use catalog::api::stream_url_cache::{StreamUrlCache, StreamUrlStore};
use catalog::api::{
    self, CatalogAdminState, CatalogConfiguration, LibraryState, StreamInfo, StreamQuery, StreamResolver,
    StreamUrlService,
};
use catalog::{Catalog, CatalogMetrics, GrantStore};
use primitives::clock::Clock;
use server_kit::api::cache_admin::CacheOperations;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::auth::path_token::PathTokenSigner;
use server_kit::auth::revocation::{TokenGenerationStore, TokenRevocations};
use server_kit::auth::settings::AuthSettings;
use server_kit::telemetry::metrics::Metrics;

/// The catalog and what decides about its tracks, for the proxy and the API.
pub struct CatalogServices {
    /// The catalog, where there is a database.
    pub catalog: Option<Arc<Catalog>>,
    /// The access checkers of the authorization policies.
    pub access_checkers: AccessCheckerFactory,
    /// Signs and verifies tokens in paths, where the settings have a key for them.
    pub path_tokens: Option<Arc<PathTokenSigner>>,
    /// The users' token generations, where path tokens or live streams are tied to them.
    pub revocations: Option<Arc<TokenRevocations>>,
}

/// Makes the signer of tokens in paths, where they are configured.
pub fn path_token_signer(settings: &AuthSettings, clock: &Clock) -> Option<Arc<PathTokenSigner>> {
    settings.path_token.as_ref().map(|settings| Arc::new(PathTokenSigner::new(settings, clock.clone())))
}

/// Opens the catalog; `client` asks authorization services.
pub fn open_catalog(
    settings: &Settings,
    storage: &StateStorage,
    clock: &Clock,
    client: reqwest::Client,
    metrics: &Metrics,
) -> Result<CatalogServices, prometheus::Error> {
    let metrics = CatalogMetrics::new(metrics.registry())?;
    let grants = storage.database.clone().map(GrantStore::new);
    let path_tokens = path_token_signer(&settings.auth, clock);
    let ends_streams = settings.auth.end_revoked_streams || settings.playback.is_some();
    let needs_revocations = path_tokens.is_some() || ends_streams || settings.vod.is_some() || settings.radio.is_some();
    // Listening to a channel ends with a logout.
    let needs_revocations = needs_revocations || settings.channels.is_some();
    let revocations = needs_revocations.then(|| {
        let generations = TokenGenerationStore::new(storage.redis.clone(), storage.database.clone());
        Arc::new(TokenRevocations::new(generations))
    });
    let access_checkers = AccessCheckerFactory::new(grants, client, metrics.clone());
    let catalog = storage.database.clone().map(|database| Arc::new(Catalog::new(database, Some(metrics))));
    Ok(CatalogServices { catalog, access_checkers, path_tokens, revocations })
}

/// The paths that the settings switch on.
pub fn routes(
    dependencies: &ModuleDependencies<'_>,
    process: &Process,
    runtime: &Arc<ArcSwap<Runtime>>,
    cache: Arc<dyn CacheOperations>,
    player: Option<&player_page::settings::Settings>,
) -> Vec<OpenApiRouter> {
    let ModuleDependencies { storage, clock, limiters: limits, .. } = dependencies;
    let mut routers = Vec::new();
    if let (Some(catalog), Some(database)) = (&process.catalog, &storage.database) {
        let catalogue = api::catalog_admin_routes(Arc::new(CatalogAdminState {
            catalog: Arc::clone(catalog),
            grants: GrantStore::new(database.clone()),
            configuration: Arc::new(RuntimeConfiguration(Arc::clone(runtime))),
            cache: Some(cache),
            clock: (*clock).clone(),
        }));
        routers.push(limit_routes(catalogue, limits, RateLimitClass::STRICT));
        routers.extend(player.map(|player| {
            let state = LibraryState { catalog: Arc::clone(catalog), is_whole: player.whole_library };
            limit_routes(api::library_routes(Arc::new(state)), limits, RateLimitClass::STANDARD)
        }));
    }
    if let Some(revocations) = &process.revocations {
        routers.push(limit_routes(api::logout_routes(Arc::clone(revocations)), limits, RateLimitClass::STANDARD));
    }
    if let (Some(tokens), Some(revocations)) = (&process.path_tokens, &process.revocations) {
        let signer = Arc::clone(tokens);
        let keys = Box::new(move || signer.derive_keys("the cache of streaming URLs"));
        let urls = Arc::new(StreamUrlService {
            streams: Arc::new(ProxyStreamResolver(Arc::clone(runtime))),
            tokens: Arc::clone(tokens),
            revocations: Arc::clone(revocations),
            cache: StreamUrlCache::new(StreamUrlStore::new(storage.redis.clone()), keys, (*clock).clone()),
        });
        routers.push(limit_routes(api::stream_url_admin_routes(Arc::clone(&urls)), limits, RateLimitClass::STRICT));
        routers.push(limit_routes(api::stream_url_routes(urls), limits, RateLimitClass::STANDARD));
    }
    routers
}

/// The configuration in force, for the catalog's operators.
struct RuntimeConfiguration(Arc<ArcSwap<Runtime>>);

impl CatalogConfiguration for RuntimeConfiguration {
    fn stores(&self) -> Vec<Arc<str>> {
        self.0.load().signers.iter().map(|signer| Arc::clone(signer.store())).collect()
    }

    fn forget_access_decisions(&self) {
        self.0.load().access_checkers().iter().for_each(|checker| checker.clear_cache());
    }
}

/// Resolves streams as the proxy would serve them.
struct ProxyStreamResolver(Arc<ArcSwap<Runtime>>);

impl StreamResolver for ProxyStreamResolver {
    fn resolve<'a>(&'a self, query: StreamQuery<'a>) -> BoxFuture<'a, Result<StreamInfo, Error>> {
        Box::pin(async move {
            let runtime = self.0.load_full();
            let StreamQuery { path, request_head, user, query_store } = query;
            let inquiry = StreamInquiry { path, request_head, claims: &user.claims, query_store };
            match describe_stream(&runtime, &inquiry).await {
                Ok(StreamDescription { authorization, version, content_type, size }) => {
                    Ok(StreamInfo { authorization, version, content_type, size })
                }
                Err(refused) => Err(Error::new(refused.code, refused.detail).with_retry_after(refused.retry_after)),
            }
        })
    }
}
