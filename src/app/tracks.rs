//! The catalogue, access and streaming URLs, composed: made from the settings for the proxy, and put before the API.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use utoipa_axum::router::OpenApiRouter;

use super::backing::Backing;
use super::modules::Means;
use crate::config::Settings;
use crate::proxy::inspect::{Asked, Found, inspect};
use crate::proxy::permit::Guards;
use crate::proxy::settings::Authorization;
use crate::proxy::world::World;
use catalog::access::AccessChecker;
use catalog::api::stream_url_cache::{StreamUrlCache, StreamUrlStore};
use catalog::api::{self, CatalogAdminState, StreamInfo, StreamQuery, StreamResolver, StreamUrlService};
use catalog::{Catalog, CatalogMetrics, GrantStore};
use http_semantics::error_codes::ErrorCode;
use primitives::clock::Clock;
use server_kit::api::cache_admin::CacheOperations;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::auth::path_token::PathTokenSigner;
use server_kit::auth::revocation::{TokenGenerationStore, TokenRevocations};
use server_kit::telemetry::metrics::Metrics;

/// What the proxy and the API share.
pub struct Shared {
    /// The catalogue, where there is a database.
    pub catalog: Option<Arc<Catalog>>,
    /// Who is asked for leave.
    pub guards: Guards,
}

/// Makes it; `client` asks authorisation services.
pub fn share(
    settings: &Settings,
    backing: &Backing,
    clock: &Clock,
    client: &reqwest::Client,
    metrics: &Metrics,
) -> Result<Shared, prometheus::Error> {
    let numbers = CatalogMetrics::new(metrics.registry())?;
    let grants = backing.database.clone().map(GrantStore::new);
    let mut access = HashMap::new();
    for entry in settings.routes.entries() {
        if let (Some(asked), Authorization::Policy(policy)) = (&entry.value.access, &entry.value.authorization) {
            let new = || Arc::new(AccessChecker::new(&asked.settings, grants.clone(), client, Some(&numbers)));
            access.entry(Arc::clone(&policy.name)).or_insert_with(new);
        }
    }
    let path_tokens =
        settings.auth.path_token.as_ref().map(|settings| Arc::new(PathTokenSigner::new(settings, clock.clone())));
    let end_streams = settings.auth.end_revoked_streams;
    let revocations = (path_tokens.is_some() || end_streams).then(|| {
        let generations = TokenGenerationStore::new(backing.redis.clone(), backing.database.clone());
        Arc::new(TokenRevocations::new(generations))
    });
    let guards = Guards { access, path_tokens, revocations, end_streams };
    let catalog = backing.database.clone().map(|database| Arc::new(Catalog::new(database, Some(numbers))));
    Ok(Shared { catalog, guards })
}

/// The paths that the settings switch on.
pub fn routes(
    settings: &Settings,
    means: &Means<'_>,
    shared: &Shared,
    world: &Arc<ArcSwap<World>>,
    cache: Option<Arc<dyn CacheOperations>>,
) -> Vec<OpenApiRouter> {
    let Means { backing, clock, limits, .. } = means;
    let mut routers = Vec::new();
    if let (Some(catalog), Some(database)) = (&shared.catalog, &backing.database) {
        let catalogue = api::catalog_admin_routes(Arc::new(CatalogAdminState {
            catalog: Arc::clone(catalog),
            grants: GrantStore::new(database.clone()),
            access_checkers: shared.guards.access.values().cloned().collect(),
            stores: settings.stores.iter().map(|store| Arc::clone(&store.name)).collect(),
            cache,
            clock: (*clock).clone(),
        }));
        routers.push(limit_routes(catalogue, limits, RateLimitClass::STRICT));
    }
    if let (Some(tokens), Some(revocations)) = (&shared.guards.path_tokens, &shared.guards.revocations) {
        let keys = tokens.derive_keys("the cache of streaming URLs");
        let urls = Arc::new(StreamUrlService {
            streams: Arc::new(Proxied(Arc::clone(world))),
            tokens: Arc::clone(tokens),
            revocations: Arc::clone(revocations),
            cache: StreamUrlCache::new(StreamUrlStore::new(backing.redis.clone()), &keys, (*clock).clone()),
        });
        routers.push(limit_routes(api::stream_url_admin_routes(Arc::clone(&urls)), limits, RateLimitClass::STRICT));
        routers.push(limit_routes(api::stream_url_routes(urls), limits, RateLimitClass::STANDARD));
    }
    routers
}

/// Streams are the proxy's.
struct Proxied(Arc<ArcSwap<World>>);

impl StreamResolver for Proxied {
    fn resolve<'a>(&'a self, ask: StreamQuery<'a>) -> BoxFuture<'a, Result<StreamInfo, Error>> {
        Box::pin(async move {
            let world = self.0.load_full();
            let asked =
                Asked { path: ask.path, asking: ask.request_head, claims: &ask.user.claims, measure: ask.query_store };
            match inspect(&world, &asked).await {
                Ok(Found { leave, version, content_type, size }) => {
                    Ok(StreamInfo { authorization: leave, version, content_type, size })
                }
                Err(refused) => {
                    let code = ErrorCode::parse(refused.code).unwrap_or(ErrorCode::Internal);
                    Err(Error::new(code, refused.detail).with_retry_after(refused.retry_after))
                }
            }
        })
    }
}
