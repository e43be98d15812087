//! The cache, composed: opened for the routes that use it, registered in the metrics, and given to the admin API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;

use super::StartError;
use crate::config::Settings;
use crate::proxy::route::{ObjectHandler, Route, RouteHandler};
use crate::proxy::runtime::Runtime;
use crate::proxy::settings::HandlerSettings;
use object_engine::cache::{self, SliceCache};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::cache_admin::{CacheOperations, PurgeTarget, RefreshSummary};
use server_kit::telemetry::cache_metrics::CacheSnapshot;
use server_kit::telemetry::metrics::Metrics;

/// Returns true if a route uses the cache.
pub fn is_used(settings: &Settings) -> bool {
    let uses_cache = |handler: &HandlerSettings| match handler {
        HandlerSettings::Object(object) => object.response.cache.is_some(),
        HandlerSettings::Track(track) => track.response.cache.is_some(),
        HandlerSettings::Cluster(_) => false,
    };
    settings.routes.entries().any(|entry| uses_cache(&entry.value.handler))
        || settings.films.as_ref().is_some_and(|films| uses_cache(&films.films.handler))
}

/// Opens the cache where a route uses it.
pub async fn open(
    settings: &Settings,
    clock: &Clock,
    tasks: &BackgroundTasks,
    metrics: &Metrics,
) -> Result<Option<Arc<SliceCache>>, StartError> {
    if !is_used(settings) {
        return Ok(None);
    }
    let spawning = tasks.clone();
    let spawner = Arc::new(move |task: BoxFuture<'static, ()>| spawning.spawn(task));
    let cache = SliceCache::open(&settings.cache, clock.clone(), spawner).await?;
    if cache.awaits_disk() {
        let (waiting, settings, stopping) = (Arc::clone(&cache), settings.cache.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = waiting.take_over_disk(&settings) => {}
                () = stopping.stopping() => {}
            }
        });
    }
    let read = Arc::clone(&cache);
    metrics.register_cache(Arc::new(move || cache_snapshot(&read)))?;
    Ok(Some(cache))
}

fn cache_snapshot(cache: &SliceCache) -> CacheSnapshot {
    let stats = cache.stats();
    CacheSnapshot {
        memory_bytes: stats.memory_bytes.get(),
        disk_bytes: stats.disk_bytes.get(),
        store_bytes: stats.store_bytes.get(),
        fills: stats.fills.get(),
        filled: stats.filled.get(),
        failed: stats.failed.get(),
        cancelled: stats.cancelled.get(),
        read_aheads: stats.read_aheads.get(),
        metadata_requests: stats.metadata_requests.get(),
        evictions: stats.evictions.get(),
        disk_errors: stats.disk_errors.get(),
        purges: stats.purges.get(),
        memory_used: cache.memory_used() as u64,
    }
}

/// Returns the operator's actions on `cache`.
pub fn cache_operations(cache: &Arc<SliceCache>, runtime: &Arc<ArcSwap<Runtime>>) -> Arc<dyn CacheOperations> {
    Arc::new(CacheOperator { cache: Arc::clone(cache), runtime: Arc::clone(runtime) })
}

/// Returns the objects that a route can serve: those of its bucket whose keys begin as its `Key` does, or any that the
/// catalog names, which may be in every bucket of every store; `None` for a route that serves no objects.
fn purge_scope(route: &Route) -> Option<cache::PurgeScope> {
    match &route.handler {
        RouteHandler::Object(ObjectHandler { origin, key }) => Some(cache::PurgeScope::Bucket {
            store: origin.signer.identity().to_string(),
            bucket: origin.bucket.to_string(),
            prefix: key.fixed_prefix().to_owned(),
        }),
        RouteHandler::Film(handler) => Some(cache::PurgeScope::Bucket {
            store: handler.origin.store.to_string(),
            bucket: handler.origin.bucket.to_string(),
            prefix: handler.prefix().to_owned(),
        }),
        RouteHandler::Track(_) => Some(cache::PurgeScope::All),
        RouteHandler::Cluster(_) => None,
    }
}

struct CacheOperator {
    cache: Arc<SliceCache>,
    runtime: Arc<ArcSwap<Runtime>>,
}

impl CacheOperations for CacheOperator {
    fn purge(&self, scope: PurgeTarget) -> std::io::Result<()> {
        self.cache.purge(match scope {
            PurgeTarget::Key(key) => cache::PurgeScope::Key(key),
            PurgeTarget::Prefix(prefix) => cache::PurgeScope::Prefix(prefix),
            // One that a reload has taken away meanwhile has served nobody knows what.
            PurgeTarget::Route(route) => {
                self.runtime.load().route(&route).and_then(|route| purge_scope(route)).unwrap_or(cache::PurgeScope::All)
            }
            PurgeTarget::All => cache::PurgeScope::All,
        })
    }

    fn has_route(&self, route: &str) -> bool {
        self.runtime.load().route(route).is_some_and(|route| route.serves_objects())
    }

    fn refresh<'a>(&'a self, key: &'a str) -> BoxFuture<'a, RefreshSummary> {
        let origins: Vec<_> =
            self.runtime.load().origins().into_iter().filter(|origin| origin.cache.is_some()).collect();
        Box::pin(async move {
            let mut refreshed = RefreshSummary::default();
            let mut asked = Vec::new();
            for origin in origins {
                // Routes of one bucket share what is known.
                let place = (Arc::clone(&origin.store), Arc::clone(&origin.bucket));
                if asked.contains(&place) {
                    continue;
                }
                asked.push(place);
                match self.cache.refresh(&origin, key).await {
                    Ok(cache::RefreshOutcome::Unknown) => {}
                    Ok(cache::RefreshOutcome::Same) => refreshed.same += 1,
                    Ok(cache::RefreshOutcome::Changed) => refreshed.changed += 1,
                    Ok(cache::RefreshOutcome::Gone) => refreshed.gone += 1,
                    Err(_) => refreshed.failed += 1,
                }
            }
            refreshed
        })
    }
}
