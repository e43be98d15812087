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
) -> Result<Option<Arc<SliceCache>>, StartError> {
    if !is_used(settings) {
        return Ok(None);
    }
    let cache = open_after(None, &settings.cache, clock, tasks).await?;
    await_disk(&cache, settings, tasks);
    Ok(Some(cache))
}

/// Opens an empty cache that serves nothing, where a route uses one: no disk is touched.
pub async fn open_idle(
    settings: &Settings,
    clock: &Clock,
    tasks: &BackgroundTasks,
) -> Result<Option<Arc<SliceCache>>, StartError> {
    if !is_used(settings) {
        return Ok(None);
    }
    let in_memory = cache::Settings { slice_size: settings.cache.slice_size, ..cache::Settings::default() };
    open_after(None, &in_memory, clock, tasks).await.map(Some)
}

async fn open_after(
    previous: Option<&SliceCache>,
    settings: &cache::Settings,
    clock: &Clock,
    tasks: &BackgroundTasks,
) -> Result<Arc<SliceCache>, StartError> {
    let tasks = tasks.clone();
    let spawner = Arc::new(move |task: BoxFuture<'static, ()>| tasks.spawn(task));
    Ok(SliceCache::open_after(previous, settings, clock.clone(), spawner).await?)
}

/// Has `cache` use its disk once the folder is free.
fn await_disk(cache: &Arc<SliceCache>, settings: &Settings, tasks: &BackgroundTasks) {
    if !cache.awaits_disk() {
        return;
    }
    let (waiting, settings, stopping) = (Arc::clone(cache), settings.cache.clone(), tasks.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = waiting.take_over_disk(&settings) => {}
            () = stopping.stopping() => {}
        }
    });
}

/// Registers the metrics of the cache of the runtime in force, where it has one.
pub fn register(metrics: &Metrics, runtime: &Arc<ArcSwap<Runtime>>) -> Result<(), StartError> {
    let Some(first) = runtime.load().cache.clone() else { return Ok(()) };
    let runtime = Arc::clone(runtime);
    // Counters go on from one cache to the next.
    metrics.register_cache(Arc::new(move || cache_snapshot(runtime.load().cache.as_ref().unwrap_or(&first))))?;
    Ok(())
}

/// Cache of the next runtime, and the step to it from that of the runtime in force.
pub struct CacheChange {
    /// Cache of the next runtime.
    pub cache: Option<Arc<SliceCache>>,
    step: CacheStep,
}

enum CacheStep {
    /// It stays as it is.
    Keep,
    /// It stays, with so many bytes of memory.
    Resize(u64),
    /// It is another one, which has taken the place of this one.
    Replace(Option<Arc<SliceCache>>),
}

/// Opens the cache that `new` settings ask for, where that in force, `current`, of the settings `old`, cannot become it.
/// Nothing that runs is changed before [`CacheChange::install`].
pub async fn prepare(
    current: Option<&Arc<SliceCache>>,
    (old, new): (&Settings, &Settings),
    clock: &Clock,
    tasks: &BackgroundTasks,
) -> Result<CacheChange, StartError> {
    let with_memory = |settings: &Settings| cache::Settings { memory: new.cache.memory, ..settings.cache.clone() };
    let step = match current {
        None if !is_used(new) => CacheStep::Keep,
        Some(_) if old.cache == new.cache => CacheStep::Keep,
        Some(cache) if with_memory(old) == new.cache && cache.can_resize(new.cache.memory) => {
            CacheStep::Resize(new.cache.memory)
        }
        current => CacheStep::Replace(current.cloned()),
    };
    let cache = match &step {
        CacheStep::Keep | CacheStep::Resize(_) => current.cloned(),
        CacheStep::Replace(previous) => Some(open_after(previous.as_deref(), &new.cache, clock, tasks).await?),
    };
    Ok(CacheChange { cache, step })
}

impl CacheChange {
    /// Takes the step, once the runtime of `settings` is in force.
    pub async fn install(self, settings: &Settings, tasks: &BackgroundTasks) {
        match (self.step, self.cache) {
            (CacheStep::Resize(memory), Some(cache)) => {
                let resized = tokio::task::spawn_blocking(move || cache.resize(memory)).await;
                // A panic is counted and logged elsewhere.
                if let Ok(Err(error)) = resized {
                    tracing::error!(%error, "the memory of the cache cannot be resized");
                }
            }
            (CacheStep::Replace(previous), Some(cache)) => {
                if let Some(previous) = previous {
                    tracing::info!("the cache was opened anew for its new settings; its memory is empty");
                    // Beside the reload: a disk may be slow to take what it was given.
                    tasks.spawn(async move { previous.retire().await });
                }
                await_disk(&cache, settings, tasks);
            }
            (CacheStep::Keep | CacheStep::Resize(_) | CacheStep::Replace(_), _) => {}
        }
    }
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

/// Returns the operator's actions on the cache of the runtime in force.
pub fn cache_operations(runtime: &Arc<ArcSwap<Runtime>>) -> Arc<dyn CacheOperations> {
    Arc::new(CacheOperator { runtime: Arc::clone(runtime) })
}

/// Returns the objects that a route can serve: those of its bucket whose keys begin as its `Key` does, or any that the
/// catalog names, which may be in every bucket of every store; `None` for a route that serves no objects.
fn purge_scope(route: &Route) -> Option<cache::PurgeScope> {
    match &route.handler {
        RouteHandler::Object(ObjectHandler { origin, key, .. }) => Some(cache::PurgeScope::Bucket {
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
    runtime: Arc<ArcSwap<Runtime>>,
}

impl CacheOperations for CacheOperator {
    fn is_open(&self) -> bool {
        self.runtime.load().cache.is_some()
    }

    fn purge(&self, scope: PurgeTarget) -> std::io::Result<()> {
        let runtime = self.runtime.load();
        let Some(cache) = &runtime.cache else { return Ok(()) };
        cache.purge(match scope {
            PurgeTarget::Key(key) => cache::PurgeScope::Key(key),
            PurgeTarget::Prefix(prefix) => cache::PurgeScope::Prefix(prefix),
            // One that a reload has taken away meanwhile has served nobody knows what.
            PurgeTarget::Route(route) => {
                runtime.route(&route).and_then(|route| purge_scope(route)).unwrap_or(cache::PurgeScope::All)
            }
            PurgeTarget::All => cache::PurgeScope::All,
        })
    }

    fn has_route(&self, route: &str) -> bool {
        self.runtime.load().route(route).is_some_and(|route| route.serves_objects())
    }

    fn refresh<'a>(&'a self, key: &'a str) -> BoxFuture<'a, RefreshSummary> {
        let runtime = self.runtime.load_full();
        Box::pin(async move {
            let mut refreshed = RefreshSummary::default();
            let Some(cache) = &runtime.cache else { return refreshed };
            let origins = runtime.origins().into_iter().filter(|origin| origin.cache.is_some());
            let mut asked = Vec::new();
            for origin in origins {
                // Routes of one bucket share what is known.
                let place = (Arc::clone(&origin.store), Arc::clone(&origin.bucket));
                if asked.contains(&place) {
                    continue;
                }
                asked.push(place);
                match cache.refresh(&origin, key).await {
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
