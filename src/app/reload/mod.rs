//! Reload of the configuration while requests are served: the new runtime is built and probed first and then put in
//! force at once, or the file is refused as a whole and nothing changes. A request keeps the runtime that it began with.
//!
//! One task makes all reloads, whoever asks for them, and nobody who leaves breaks one off. The settings in force carry
//! the digests of what they were read from, and nothing else is compared with the file.

mod config_questions;
mod config_source;
mod reload_metrics;
mod restart_keys;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acme::CertificateOrders;
use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::{BoxFuture, join};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use self::config_questions::{ConfigInForce, ConfigQuestions};
use self::config_source::{ConfigSource, FoundConfig};
use self::reload_metrics::ReloadMetrics;
use self::restart_keys::fixed_differences;
use super::admin_server::{AdminChange, AdminListener};
use super::cache::CacheChange;
use super::modules::ModuleDependencies;
use super::stores::OpenStores;
use super::{StartError, authenticator, cache, certificates, runtime_settings, traces, watch};
use crate::config::{Settings, SourceDigests};
use crate::proxy::Gateway;
use crate::proxy::process::Process;
use crate::proxy::runtime::Runtime;
use http_server::listener_set::{ListenerChange, ListenerSet};
use object_engine::cache::SliceCache;
use primitives::change_detector::ChangeDetector;
use primitives::clock::{Clock, monotonic_now};
use server_kit::api::config_reload::{ConfigReload, ReloadOutcome, ReloadReport};
use server_kit::telemetry::log::LogFilter;
use server_kit::telemetry::metrics::Metrics;

/// Time between two looks at the configuration file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for which a content has stayed the same before it is put in force without being asked for, so that a file that is
/// being written is not read half.
const SETTLING: Duration = Duration::from_secs(3);
/// Time for the first answers of the new runtime's buckets, before it is put in force.
const PROBE_TIME: Duration = Duration::from_secs(1);
/// Questions for a reload that may wait.
const MOST_WAITING: usize = 64;
/// Cause of a reload that nobody has asked for.
const FILE_CHANGED: &str = "a change of the file";

/// Asks for reloads of the configuration file.
pub struct ConfigReloader {
    requests: mpsc::Sender<ReloadRequest>,
    questions: ConfigQuestions,
    last: Arc<Mutex<Option<ReloadReport>>>,
    clock: Clock,
}

/// Question for a reload.
struct ReloadRequest {
    cause: &'static str,
    done: oneshot::Sender<ReloadReport>,
}

/// Requests for reloads, until [`ReloadQueue::start`] answers them.
pub struct ReloadQueue {
    waiting: mpsc::Receiver<ReloadRequest>,
    in_force: Arc<ArcSwapOption<ConfigInForce>>,
    last: Arc<Mutex<Option<ReloadReport>>>,
}

/// Parts of the server that a reload changes.
pub struct ReloadedParts {
    /// Runtime in force.
    pub runtime: Arc<ArcSwap<Runtime>>,
    /// Told when another runtime is in force.
    pub reloaded: Arc<Notify>,
    /// Open listeners.
    pub listeners: ListenerSet<Gateway>,
    /// The operator's listener.
    pub admin: AdminListener,
    /// Orders of certificates by ACME.
    pub orders: CertificateOrders,
    /// Filter of the log.
    pub log: LogFilter,
    /// Metrics of the server.
    pub metrics: Arc<Metrics>,
}

impl ConfigReloader {
    /// Makes the reloader, whose requests wait until the server has started.
    pub fn new(clock: &Clock) -> (Arc<Self>, ReloadQueue) {
        let (requests, waiting) = mpsc::channel(MOST_WAITING);
        let (in_force, last) = (Arc::<ArcSwapOption<_>>::default(), Arc::default());
        let questions = ConfigQuestions::new(Arc::clone(&in_force));
        let reloader = Self { requests, questions, last: Arc::clone(&last), clock: clock.clone() };
        (Arc::new(reloader), ReloadQueue { waiting, in_force, last })
    }
}

impl ReloadQueue {
    /// Starts reloading `file`, of which `settings` are in force. Fails where the metrics are registered already.
    pub fn start(
        self,
        file: &Path,
        settings: Settings,
        parts: ReloadedParts,
        dependencies: &ModuleDependencies<'_>,
    ) -> Result<(), prometheus::Error> {
        let ModuleDependencies { stores, clock, tasks, .. } = dependencies;
        let clock = Clock::clone(clock);
        let reloads = ConfigReloads {
            source: ConfigSource::new(file, clock.clone()),
            settings: Arc::new(settings),
            in_force: self.in_force,
            changes: ChangeDetector::new(SETTLING),
            parts,
            stores: Arc::clone(stores),
            last: self.last,
            clock: clock.clone(),
            metrics: ReloadMetrics::new(dependencies.metrics.registry(), clock.unix())?,
        };
        reloads.publish();
        let ending = (*tasks).clone();
        tasks.spawn(async move {
            tokio::select! {
                () = reloads.run(self.waiting) => {}
                // Also where another process has taken over: the addresses are its by then.
                () = ending.closing() => {}
            }
        });
        Ok(())
    }
}

impl ConfigReload for ConfigReloader {
    fn reload(&self, cause: &'static str) -> BoxFuture<'_, ReloadReport> {
        Box::pin(async move {
            let (done, report) = oneshot::channel();
            // Neither the question nor the answer can be lost but at the end of the task.
            let _ = self.requests.send(ReloadRequest { cause, done }).await;
            let ending = || report_of(&Err("the process is ending".to_owned()), cause, &self.clock);
            report.await.unwrap_or_else(|_| ending())
        })
    }

    fn last(&self) -> Option<ReloadReport> {
        self.last.lock().clone()
    }

    fn compare_file(&self) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(self.questions.compare_file())
    }

    fn compare(&self, text: String) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(self.questions.compare(text))
    }

    fn in_force(&self) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(std::future::ready(self.questions.in_force()))
    }
}

/// A configuration that is ready to be put in force.
struct PreparedReload {
    runtime: Runtime,
    cache: CacheChange,
    admin: AdminChange,
    listeners: ListenerChange<Gateway>,
}

/// The task that reloads the configuration.
struct ConfigReloads {
    source: ConfigSource,
    /// Settings in force.
    settings: Arc<Settings>,
    /// The same, for questions.
    in_force: Arc<ArcSwapOption<ConfigInForce>>,
    /// Content of the file, or the report of why it cannot be read, against what is in force.
    changes: ChangeDetector<Result<SourceDigests, String>>,
    parts: ReloadedParts,
    stores: Arc<OpenStores>,
    last: Arc<Mutex<Option<ReloadReport>>>,
    clock: Clock,
    metrics: ReloadMetrics,
}

impl ConfigReloads {
    /// Reloads the file whenever its content is not that in force, if the settings in force want it, and whenever it is
    /// asked to.
    async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(request) = requests.recv() => self.answer(request, &mut requests).await,
                _ = looks.tick() => self.look().await,
            }
        }
    }

    /// Reloads the file for `first` and for all who have asked meanwhile.
    async fn answer(&mut self, first: ReloadRequest, requests: &mut mpsc::Receiver<ReloadRequest>) {
        let cause = first.cause;
        let mut waiting = vec![first];
        while let Ok(request) = requests.try_recv() {
            waiting.push(request);
        }
        let began = monotonic_now();
        let result = match self.source.settled(&self.settings.source.digests).await {
            Ok(found) => self.try_reload(found).await,
            Err(report) => Err(report),
        };
        let report = self.note(cause, began.elapsed(), result);
        for request in waiting {
            // Who asked may have left.
            let _ = request.done.send(report.clone());
        }
    }

    /// Looks at the file, and reloads it where it is to be put in force.
    async fn look(&mut self) {
        // Read, not asked for its time: a symbolic link to a folder that is exchanged, as Kubernetes mounts a ConfigMap,
        // and a restored backup change the content without a newer time.
        let found = self.source.look(&self.settings.source.digests).await;
        let in_force = Ok(self.settings.source.digests.clone());
        let content = found.as_ref().map(|found| found.digests.clone()).map_err(String::clone);
        if content == in_force {
            self.metrics.found_in_force();
        }
        let began = monotonic_now();
        if !self.changes.look(&content, &in_force, began) || !self.settings.reload_on_change {
            return;
        }
        let result = match found {
            Ok(found) => self.try_reload(found).await,
            Err(report) => Err(report),
        };
        if result.is_err() {
            self.changes.refuse(content, monotonic_now());
        }
        self.note(FILE_CHANGED, began.elapsed(), result);
    }

    /// Puts what was found in force, and nothing that is written meanwhile.
    async fn try_reload(&mut self, found: FoundConfig) -> Result<String, String> {
        let new = self.source.load(found.content).await?;
        let name = self.source.name();
        if self.settings.source.has_end_mark && !new.source.has_end_mark {
            return Err(format!(
                "{name}: the line `...` at the end is missing, which the file in force has: it may have been written half"
            ));
        }
        let previous = self.parts.runtime.load_full();
        let fixed = fixed_differences(&self.settings, &new, &previous.process);
        if !fixed.is_empty() {
            let keys = fixed.join(", ");
            return Err(format!("{name}: cannot be changed without a restart: {keys}"));
        }
        let prepared = self.prepare(&new, &previous).await.map_err(|error| format!("{name}: {error}"))?;
        let summary = format!("{name}: in force, {}{}", new.summary(), prepared.listeners);
        self.put_in_force(new, prepared, &previous).await;
        Ok(summary)
    }

    /// Builds and opens whatever `new` wants and the process does not have; nothing that runs is changed.
    async fn prepare(&self, new: &Settings, previous: &Runtime) -> Result<PreparedReload, StartError> {
        let Process { clock, tasks, .. } = &*previous.process;
        let cache = cache::prepare(previous.cache.as_ref(), (&self.settings, new), clock, tasks).await?;
        let runtime = self.build(new, cache.cache.clone(), previous)?;
        self.stores.ready().await;
        self.stores.compare_credentials(&previous.signers, &runtime.signers)?;
        // What is not known by then is not ready.
        let first_answers = join(watch::probe_buckets(&runtime), runtime.authenticator.fetch_missing_keys());
        let _ = tokio::time::timeout(PROBE_TIME, first_answers).await;
        certificates::prepare(new)?;
        // Last of what can fail: from here on clients can connect to new addresses.
        let admin = self.parts.admin.prepare(new.admin.as_ref())?;
        let listeners = self.parts.listeners.prepare(&new.server.http).await?;
        Ok(PreparedReload { runtime, cache, admin, listeners })
    }

    /// Puts what was prepared for `new` in force; nothing here can fail.
    async fn put_in_force(&mut self, new: Settings, prepared: PreparedReload, previous: &Runtime) {
        let PreparedReload { runtime, cache, admin, listeners } = prepared;
        self.install(&new, runtime);
        if previous.cache.is_none()
            && let Err(error) = cache::register(&self.parts.metrics, &self.parts.runtime)
        {
            tracing::error!(%error, "the metrics of the cache cannot be registered");
        }
        cache.install(&new, &previous.process.tasks).await;
        self.parts.admin.install(admin);
        self.parts.listeners.install(listeners).await;
        certificates::order(&new, &self.parts.orders);
        if self.settings.telemetry.log_level != new.telemetry.log_level {
            self.parts.log.set_level(&new.telemetry);
        }
        self.settings = Arc::new(new);
        self.publish();
    }

    /// Shows the settings in force to those who ask.
    fn publish(&self) {
        let process = Arc::clone(&self.parts.runtime.load().process);
        let in_force = ConfigInForce { file: self.source.name(), settings: Arc::clone(&self.settings), process };
        self.in_force.store(Some(Arc::new(in_force)));
    }

    fn build(&self, new: &Settings, cache: Option<Arc<SliceCache>>, previous: &Runtime) -> Result<Runtime, StartError> {
        let (process, old, auth) = (&previous.process, &self.settings.auth, &new.auth);
        let is_same = (&old.issuers, &old.token_from, old.leeway) == (&auth.issuers, &auth.token_from, auth.leeway);
        let authenticator = if is_same {
            Arc::clone(&previous.authenticator)
        } else {
            let mut authenticator = authenticator(new, &process.clock, &process.tasks)?;
            // An issuer that is away at this moment must not take its users out.
            authenticator.keep_keys_of(&previous.authenticator);
            Arc::new(authenticator)
        };
        let tracer = traces::tracer(new, &process.traces, previous.tracer.as_ref())?;
        let parts = (authenticator, cache, tracer);
        Runtime::build(runtime_settings(new), process, parts, Some(previous), |store| self.stores.signer(store))
    }

    /// Puts `runtime` in force; nothing here can fail.
    fn install(&self, new: &Settings, runtime: Runtime) {
        let runtime = Arc::new(runtime);
        runtime.install();
        self.parts.runtime.store(Arc::clone(&runtime));
        self.parts.reloaded.notify_one();
        let process = &runtime.process;
        if let (Some(tokens), Some(settings)) = (&process.path_tokens, &new.auth.path_token)
            && self.settings.auth.path_token.as_ref() != Some(settings)
        {
            tokens.replace(settings);
        }
    }

    /// Notes the outcome of a reload that took `time`, in log, metrics and report. The same report of a file that is tried
    /// again without being asked for is not logged again.
    fn note(&self, cause: &'static str, time: Duration, result: Result<String, String>) -> ReloadReport {
        let new = report_of(&result, cause, &self.clock);
        let last = self.last.lock().replace(new.clone());
        let is_known = cause == FILE_CHANGED && last.is_some_and(|last| last.report == new.report);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(report) => {
                self.metrics.reloaded(self.clock.unix());
                tracing::info!(cause, millis, "configuration reloaded: {report}");
            }
            Err(report) => {
                self.metrics.refused();
                if !is_known {
                    tracing::error!(cause, "reload refused; the old configuration stays in force\n{report}");
                }
            }
        }
        new
    }
}

fn report_of(result: &Result<String, String>, cause: &'static str, clock: &Clock) -> ReloadReport {
    let (outcome, report) = match result {
        Ok(report) => (ReloadOutcome::Reloaded, report),
        Err(report) => (ReloadOutcome::Refused, report),
    };
    let at = humantime::format_rfc3339_seconds(clock.now()).to_string();
    ReloadReport { outcome, at, cause, report: report.clone() }
}
