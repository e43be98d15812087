//! Reload of the configuration while requests are served: the new runtime is built and probed first and then put in
//! force at once, or the file is refused as a whole and nothing changes. A request keeps the runtime that it began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::Notify;

use super::modules::ModuleDependencies;
use super::stores::OpenStores;
use super::{authenticator, cache, runtime_settings, watch};
use crate::config::{self, Settings};
use crate::proxy::process::Process;
use crate::proxy::runtime::Runtime;
use http_server::connection_counts::ConnectionCountSettings;
use http_server::connection_limits::ConnectionLimits;
use object_engine::cache::PurgeScope;
use primitives::change_detector::ChangeDetector;
use primitives::clock::{Clock, monotonic_now};
use server_kit::api::config_reload::{ConfigReload, ReloadOutcome, ReloadReport};

/// Time between two looks at the configuration file. A change counts when two looks have found the same content, so that
/// a file that is being written is not read half.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for the first answers of the new runtime's buckets, before it is put in force.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// Reloads the configuration file.
pub struct ConfigReloader {
    file: PathBuf,
    /// Settings in force. Reloads wait for each other here.
    settings: tokio::sync::Mutex<Settings>,
    runtime: Arc<ArcSwap<Runtime>>,
    stores: Arc<OpenStores>,
    /// Told when another runtime is in force.
    reloaded: Arc<Notify>,
    last: Mutex<Option<ReloadReport>>,
    clock: Clock,
    metrics: ReloadMetrics,
}

/// Metrics of reloads.
struct ReloadMetrics {
    reloads: IntCounterVec,
    last_success: IntGauge,
    is_current: IntGauge,
}

impl ReloadMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reloads = Opts::new("tidegate_config_reloads_total", "Reloads of the configuration, by outcome");
        let metrics = Self {
            reloads: IntCounterVec::new(reloads, &["outcome"])?,
            last_success: IntGauge::new(
                "tidegate_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was put in force",
            )?,
            is_current: IntGauge::new(
                "tidegate_config_last_reload_successful",
                "1, or 0 where the last reload was refused: the file is not in force",
            )?,
        };
        for outcome in ["reloaded", "refused"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        metrics.is_current.set(1);
        registry.register(Box::new(metrics.reloads.clone()))?;
        registry.register(Box::new(metrics.last_success.clone()))?;
        registry.register(Box::new(metrics.is_current.clone()))?;
        Ok(metrics)
    }
}

impl ConfigReloader {
    /// Starts reloading `file`, of which `settings` are in force; `reloaded` is told when another runtime is in force.
    pub fn start(
        file: &Path,
        settings: &Settings,
        runtime: &Arc<ArcSwap<Runtime>>,
        reloaded: Arc<Notify>,
        dependencies: &ModuleDependencies<'_>,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let ModuleDependencies { stores, clock, tasks, .. } = dependencies;
        let metrics = ReloadMetrics::new(dependencies.metrics.registry())?;
        metrics.last_success.set(i64::try_from(clock.unix()).unwrap_or(i64::MAX));
        let reloader = Arc::new(Self {
            file: file.to_owned(),
            settings: tokio::sync::Mutex::new(settings.clone()),
            runtime: Arc::clone(runtime),
            stores: Arc::clone(stores),
            reloaded,
            last: Mutex::default(),
            clock: (*clock).clone(),
            metrics,
        });
        let (this, stopping) = (Arc::clone(&reloader), (*tasks).clone());
        tasks.spawn(async move {
            tokio::select! {
                () = this.watch_file() => {}
                () = stopping.stopping() => {}
            }
        });
        Ok(reloader)
    }

    /// Reloads the file whenever its content changes, if the settings in force want it.
    async fn watch_file(&self) {
        // Read, not asked for its time: a symbolic link to a folder that is exchanged, as Kubernetes mounts a ConfigMap,
        // and a restored backup change the content without a newer time.
        let read = async || tokio::fs::read(&self.file).await.ok();
        let mut changes = ChangeDetector::new(read().await.unwrap_or_default());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // A file that is gone is being replaced; what was in force stays.
            let Some(now) = read().await else { continue };
            if changes.look(now) && self.settings.lock().await.reload_on_change {
                self.reload("a change of the file").await;
            }
        }
    }

    async fn try_reload(&self) -> Result<String, String> {
        let mut in_force = self.settings.lock().await;
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        let new = loaded.map_err(|error| error.to_string())?.map_err(|report| report.to_string())?;
        let previous = self.runtime.load_full();
        let fixed = fixed_differences(&in_force, &new, &previous.process);
        if !fixed.is_empty() {
            let keys = fixed.join(", ");
            return Err(format!("{}: cannot be changed without a restart: {keys}", self.file.display()));
        }
        let runtime = self.build(&in_force, &new, &previous).map_err(|error| error.to_string())?;
        // What is not known by then is not ready.
        let _ = tokio::time::timeout(PROBE_TIME, watch::probe_buckets(&runtime)).await;
        let summary = format!("{}: in force, {}", self.file.display(), new.summary());
        self.install(&in_force, &new, runtime);
        *in_force = new;
        Ok(summary)
    }

    fn build(&self, old: &Settings, new: &Settings, previous: &Runtime) -> Result<Runtime, super::StartError> {
        let (process, old, auth) = (&previous.process, &old.auth, &new.auth);
        let is_same = (&old.issuers, &old.token_from, old.leeway) == (&auth.issuers, &auth.token_from, auth.leeway);
        let authenticator = match is_same {
            true => Arc::clone(&previous.authenticator),
            false => Arc::new(authenticator(new, &process.clock, &process.tasks)?),
        };
        Runtime::build(runtime_settings(new), process, authenticator, Some(previous), |store| self.stores.signer(store))
    }

    /// Puts `runtime` in force; nothing here can fail.
    fn install(&self, old: &Settings, new: &Settings, runtime: Runtime) {
        let runtime = Arc::new(runtime);
        runtime.install();
        self.runtime.store(Arc::clone(&runtime));
        self.reloaded.notify_one();
        let process = &runtime.process;
        if let (Some(tokens), Some(settings)) = (&process.path_tokens, &new.auth.path_token)
            && old.auth.path_token.as_ref() != Some(settings)
        {
            tokens.replace(settings);
        }
        // Objects of the store that had the name before must not be taken for those of the new one.
        let is_other = |name: &str| {
            let endpoint = |settings: &Settings| {
                settings.stores.iter().find(|store| &*store.name == name).map(|store| store.endpoint.clone())
            };
            endpoint(old) != endpoint(new)
        };
        for origin in runtime.buckets().into_iter().filter(|origin| is_other(&origin.store)) {
            let (store, bucket) = (origin.store.to_string(), origin.bucket.to_string());
            let scope = PurgeScope::Bucket { store, bucket, prefix: String::new() };
            if let Some(Err(error)) = process.cache.as_ref().map(|cache| cache.purge(scope)) {
                tracing::error!(%error, "the purge of a store with a new endpoint could not be written");
            }
        }
    }
}

impl ConfigReload for ConfigReloader {
    fn reload(&self, cause: &'static str) -> BoxFuture<'_, ReloadReport> {
        Box::pin(async move {
            let began = monotonic_now();
            let result = self.try_reload().await;
            let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (outcome, label) = match &result {
                Ok(_) => (ReloadOutcome::Reloaded, "reloaded"),
                Err(_) => (ReloadOutcome::Refused, "refused"),
            };
            match &result {
                Ok(report) => tracing::info!(cause, millis, "configuration reloaded: {report}"),
                Err(report) => tracing::error!(cause, "reload refused; the old configuration stays in force\n{report}"),
            }
            self.metrics.reloads.with_label_values(&[label]).inc();
            self.metrics.is_current.set(i64::from(result.is_ok()));
            if result.is_ok() {
                self.metrics.last_success.set(i64::try_from(self.clock.unix()).unwrap_or(i64::MAX));
            }
            let (Ok(report) | Err(report)) = result;
            let report = ReloadReport {
                outcome,
                at: humantime::format_rfc3339_seconds(self.clock.now()).to_string(),
                cause,
                report,
            };
            *self.last.lock() = Some(report.clone());
            report
        })
    }

    fn last(&self) -> Option<ReloadReport> {
        self.last.lock().clone()
    }
}

/// Returns the keys by which `new` differs from `old` in what a running process cannot change.
fn fixed_differences(old: &Settings, new: &Settings, process: &Process) -> Vec<&'static str> {
    let (old_http, new_http) = (&old.server.http, &new.server.http);
    let (old_limits, new_limits) = (old_http.limits, new_http.limits);
    let with_old_times = ConnectionLimits {
        head: old_limits.head,
        write: old_limits.write,
        body: old_limits.body,
        idle: old_limits.idle,
        ..new_limits
    };
    let of_clients = |counts: ConnectionCountSettings| (counts.per_address, counts.per_network);
    let is_limited_otherwise =
        old_limits != with_old_times || of_clients(old_http.connections) != of_clients(new_http.connections);
    let needs_cache = process.cache.is_none() && cache::is_used(new);
    let ends_streams = new.auth.end_revoked_streams && process.revocations.is_none();
    [
        ("Server.Listeners", old_http.listeners != new_http.listeners),
        ("Server.Threads", old_http.threads != new_http.threads),
        ("Server.HeaderTimeout", old_limits.head != new_limits.head),
        ("Server.WriteTimeout", old_limits.write != new_limits.write),
        ("Server.BodyTimeout", old_limits.body != new_limits.body),
        ("Server.KeepAliveTimeout", old_limits.idle != new_limits.idle),
        ("Server.Limits (other than RequestTimeout)", is_limited_otherwise),
        ("Server.ShutdownDelay", old_http.shutdown_delay != new_http.shutdown_delay),
        ("Server.ShutdownGrace", old_http.shutdown_grace != new_http.shutdown_grace),
        ("Server.MaxConnections", old_http.connections.total != new_http.connections.total),
        ("Server.PidFile or Server.UpgradeTimeout", old.process != new.process),
        ("Server.Acme", old.acme != new.acme),
        ("Server.Admin", old.admin != new.admin),
        ("Auth.PathToken (on or off)", old.auth.path_token.is_some() != new.auth.path_token.is_some()),
        ("Auth.EndRevokedStreams", ends_streams),
        ("Cache", old.cache != new.cache),
        ("Cache (no route used one at the start)", needs_cache),
        ("State", old.state != new.state),
        ("Database", old.database != new.database),
        ("Positions", old.positions != new.positions),
        ("Events", old.events != new.events),
        ("Share", old.share != new.share),
        ("Vod", old.vod != new.vod),
        ("Telemetry.LogLevel", old.telemetry.log_level != new.telemetry.log_level),
        ("Telemetry.AccessLog.Format", old.telemetry.access_log != new.telemetry.access_log),
    ]
    .into_iter()
    .filter_map(|(key, is_changed)| is_changed.then_some(key))
    .collect()
}
