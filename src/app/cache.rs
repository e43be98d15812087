//! The cache, composed: opened for the routes that use it, shown to the metrics, and put under the operator's hands.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;

use super::StartError;
use crate::config::Settings;
use crate::proxy::settings::{Kind, ObjectRoute, Source};
use crate::proxy::world::World;
use object_engine::cache::{self, SliceCache};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use server_kit::api::cache_admin::{CacheOperations, PurgeTarget, RefreshSummary};
use server_kit::telemetry::cache_metrics::CacheSnapshot;
use server_kit::telemetry::metrics::Metrics;

/// Opens the cache where a route uses it.
pub async fn open(
    settings: &Settings,
    clock: &Clock,
    tasks: &BackgroundTasks,
    metrics: &Metrics,
) -> Result<Option<Arc<SliceCache>>, StartError> {
    let uses = |kind: &Kind| matches!(kind, Kind::Object(object) if object.cache.is_some());
    if !settings.routes.entries().any(|entry| uses(&entry.value.kind)) {
        return Ok(None);
    }
    let tasks = tasks.clone();
    let spawner = Arc::new(move |task: BoxFuture<'static, ()>| tasks.spawn(task));
    let cache = SliceCache::open(&settings.cache, clock.clone(), spawner).await?;
    let read = Arc::clone(&cache);
    metrics.register_cache(Arc::new(move || numbers(&read)))?;
    Ok(Some(cache))
}

fn numbers(cache: &SliceCache) -> CacheSnapshot {
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

/// What the operator can do with `cache`.
pub fn operations(cache: &Arc<SliceCache>, world: &Arc<ArcSwap<World>>) -> Arc<dyn CacheOperations> {
    Arc::new(Hands { cache: Arc::clone(cache), world: Arc::clone(world) })
}

/// The objects that a route can serve: those of its bucket whose keys begin as its `Key` does, or whatever the catalogue
/// says, which is every bucket of every store.
fn served_by(route: &ObjectRoute) -> cache::PurgeScope {
    match &route.source {
        Source::Key { store, bucket, key } => cache::PurgeScope::Bucket {
            store: store.to_string(),
            bucket: bucket.to_string(),
            prefix: key.fixed_prefix().to_owned(),
        },
        Source::Track(_) => cache::PurgeScope::All,
    }
}

struct Hands {
    cache: Arc<SliceCache>,
    world: Arc<ArcSwap<World>>,
}

impl CacheOperations for Hands {
    fn purge(&self, scope: PurgeTarget) -> std::io::Result<()> {
        self.cache.purge(match scope {
            PurgeTarget::Key(key) => cache::PurgeScope::Key(key),
            PurgeTarget::Prefix(prefix) => cache::PurgeScope::Prefix(prefix),
            // One that a reload has taken away meanwhile has served nobody knows what.
            PurgeTarget::Route(route) => {
                self.world.load().object_route(&route).map_or(cache::PurgeScope::All, served_by)
            }
            PurgeTarget::All => cache::PurgeScope::All,
        })
    }

    fn has_route(&self, route: &str) -> bool {
        self.world.load().object_route(route).is_some()
    }

    fn refresh<'a>(&'a self, key: &'a str) -> BoxFuture<'a, RefreshSummary> {
        let origins: Vec<_> = self.world.load().origins().into_iter().filter(|origin| origin.cache.is_some()).collect();
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
