//! Metrics of streams under the documents' names, and others of our own.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::Metric;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use serde::Serialize;

use super::cache_metrics::{CacheMetrics, CacheSnapshotSource};
use super::listener_metrics::ListenerMetrics;
use super::upstream_metrics::{ClusterSnapshotSource, UpstreamCollector};

/// Values of the label `userId_hash`: a keyed hash with few values, so that the series stay bounded and nobody can be
/// found by it.
const USER_BUCKETS: usize = 256;
const EXPIRED: &str = "Signed requests that the store took for expired";
const STUCK: &str = "Times that a thread which serves clients gave no sign of life for 5 seconds: a bug";
const REFUSED: &str = "Connections closed at once, by the limit that they exceeded";
const FLOODS: &str = "HTTP/2 connections ended for their frames, by the kind of which there were too many";
const ACTIVE: &str = "Streams under way, by a hash of the user with 256 values";

/// Requests by route and class of status.
pub type RouteTraffic = HashMap<String, BTreeMap<String, u64>>;

/// Totals since the start, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricTotals {
    /// Open connections of clients.
    connections: i64,
    /// Requests answered.
    requests: u64,
    /// Bytes of objects sent.
    object_bytes: u64,
    /// Requests on routes with a cache, by how it took part.
    cache: BTreeMap<String, u64>,
}

/// Every metric of the proxy.
pub struct Metrics {
    registry: Registry,
    users: RandomState,
    active: IntGaugeVec,
    /// Gauges of `active` that were needed, so that they are looked up once: by the user's hash, the last for no user.
    buckets: Vec<OnceLock<IntGauge>>,
    streams: IntCounter,
    bytes: IntCounter,
    duration: Histogram,
    errors: IntCounterVec,
    expired: IntCounter,
    retries: IntCounterVec,
    resumes: IntCounterVec,
    latency: HistogramVec,
    requests: IntCounterVec,
    connections: IntGauge,
    refused_connections: IntCounterVec,
    http2_floods: IntCounterVec,
    panics: IntCounter,
    stuck_workers: IntCounter,
    cached: IntCounterVec,
    cache: CacheMetrics,
    listeners: ListenerMetrics,
}

impl Metrics {
    /// Registers everything in a registry of its own.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let stream_seconds = [0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];
        let first_byte = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
        let metrics = Self {
            users: RandomState::new(),
            buckets: std::iter::repeat_with(OnceLock::new).take(USER_BUCKETS + 1).collect(),
            active: IntGaugeVec::new(Opts::new("novatune_stream_active_total", ACTIVE), &["userId_hash"])?,
            streams: IntCounter::new("novatune_streams_total", "Streams begun")?,
            bytes: IntCounter::new("novatune_stream_bytes_total", "Bytes of objects sent to players")?,
            duration: Histogram::with_opts(seconds(
                "novatune_stream_duration_seconds",
                "From a stream's request to its end",
                &stream_seconds,
            ))?,
            errors: counters("novatune_stream_errors_total", "Streams that failed, by reason", &["reason"])?,
            expired: IntCounter::new("novatune_stream_url_expired_total", EXPIRED)?,
            retries: counters(
                "novatune_stream_retry_total",
                "Failed tries that were followed by another, by its number",
                &["attempt"],
            )?,
            resumes: counters(
                "tidegate_stream_resumes_total",
                "Bodies continued on another connection, by cause",
                &["cause"],
            )?,
            latency: HistogramVec::new(
                seconds(
                    "novatune_yarp_latency_seconds",
                    "From a request's arrival to its first byte, by route",
                    &first_byte,
                ),
                &["route"],
            )?,
            requests: counters(
                "tidegate_requests_total",
                "Requests answered, by route and status class",
                &["route", "class"],
            )?,
            connections: IntGauge::new("tidegate_connections_open", "Client connections")?,
            refused_connections: counters("tidegate_connections_refused_total", REFUSED, &["reason"])?,
            http2_floods: counters("tidegate_http2_floods_total", FLOODS, &["kind"])?,
            panics: IntCounter::new("tidegate_panics_total", "Requests that ended in a panic: a bug")?,
            stuck_workers: IntCounter::new("tidegate_worker_stuck_total", STUCK)?,
            cached: counters(
                "tidegate_cache_requests_total",
                "Requests on routes with a cache, by how it took part",
                &["state"],
            )?,
            cache: CacheMetrics::default(),
            listeners: ListenerMetrics::register(&registry)?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    /// Returns the registry, in which the modules register their metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let collectors: [Box<dyn Collector>; 18] = [
            Box::new(self.active.clone()),
            Box::new(self.streams.clone()),
            Box::new(self.bytes.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.expired.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.resumes.clone()),
            Box::new(self.latency.clone()),
            Box::new(self.requests.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.refused_connections.clone()),
            Box::new(self.http2_floods.clone()),
            Box::new(self.panics.clone()),
            Box::new(self.stuck_workers.clone()),
            Box::new(self.cached.clone()),
            Box::new(
                IntGauge::with_opts(
                    Opts::new("tidegate_build_info", "The running version")
                        .const_label("version", env!("CARGO_PKG_VERSION")),
                )
                .inspect(|info| info.set(1))?,
            ),
            Box::new(IntGauge::new("tidegate_up", "1 while the process runs").inspect(|up| up.set(1))?),
        ];
        collectors.into_iter().try_for_each(|collector| self.registry.register(collector))
    }

    /// Returns the requests answered by each route, by class of status.
    pub fn requests_by_route(&self) -> RouteTraffic {
        let mut traffic = RouteTraffic::new();
        for (labels, count) in counts(&self.requests) {
            // Prometheus sorts labels by name.
            if let [class, route] = &labels[..] {
                traffic.entry(route.clone()).or_default().insert(class.clone(), count);
            }
        }
        traffic
    }

    /// Returns totals for the operator.
    pub fn totals(&self) -> MetricTotals {
        let cache = counts(&self.cached).into_iter();
        MetricTotals {
            connections: self.connections.get(),
            requests: counts(&self.requests).into_iter().map(|(_, count)| count).sum(),
            object_bytes: self.bytes.get(),
            cache: cache.filter_map(|(labels, count)| Some((labels.into_iter().next()?, count))).collect(),
        }
    }

    /// Registers the clusters' metrics, read from `source` at each scrape.
    pub fn register_upstreams(&self, source: ClusterSnapshotSource) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(UpstreamCollector::new(source)?))
    }

    /// A stream of `user` begins; the guard ends it.
    pub fn stream_started(self: &Arc<Self>, user: Option<&str>) -> ActiveStreamGuard {
        let bucket = user.map_or(USER_BUCKETS, |user| self.users.hash_one(user) as usize % USER_BUCKETS);
        let named = || {
            // One bucket more than users have, for streams without a user.
            let name = if bucket == USER_BUCKETS { "none".to_owned() } else { bucket.to_string() };
            self.active.with_label_values(&[name.as_str()])
        };
        let gauge = self.buckets[bucket].get_or_init(named).clone();
        gauge.inc();
        self.streams.inc();
        ActiveStreamGuard { gauge }
    }

    /// A stream ended after `duration`.
    pub fn stream_ended(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }

    /// `count` bytes of an object went to a player.
    pub fn bytes_sent(&self, count: u64) {
        self.bytes.inc_by(count);
    }

    /// A stream failed for `reason`, one of a closed set.
    pub fn stream_failed(&self, reason: &str) {
        self.errors.with_label_values(&[reason]).inc();
    }

    /// Counts the retries of a response: expired signatures, and attempts that were followed by another.
    pub fn record_retries(&self, expired: u32, retries: u32) {
        self.expired.inc_by(expired.into());
        for attempt in 1..=retries {
            // Three and more share one label, so that the series stay bounded.
            self.retries.with_label_values(&[attempt.min(3).to_string().as_str()]).inc();
        }
    }

    /// A body was continued so often because of `cause`, one of a closed set.
    pub fn body_resumed(&self, cause: &str, count: u32) {
        self.resumes.with_label_values(&[cause]).inc_by(count.into());
    }

    /// The first byte of an answer on `route` went out after `latency`.
    pub fn first_byte(&self, route: &str, latency: Duration) {
        self.latency.with_label_values(&[route]).observe(latency.as_secs_f64());
    }

    /// A request on `route` was answered with `status` (0: the client left before an answer).
    pub fn request_answered(&self, route: &str, status: u16) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            // Before 4xx: a client that left is no error of the request.
            499 | 0 => "client left",
            400..=498 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
    }

    /// Returns the metrics of the listeners.
    pub fn listeners(&self) -> &ListenerMetrics {
        &self.listeners
    }

    /// The gauge of open client connections.
    pub fn connections(&self) -> &IntGauge {
        &self.connections
    }

    /// A connection was closed because it exceeded the limit `reason`, one of a closed set.
    pub fn connection_refused(&self, reason: &str) {
        self.refused_connections.with_label_values(&[reason]).inc();
    }

    /// An HTTP/2 connection was ended because of its frames of this `kind`, one of a closed set.
    pub fn http2_flood(&self, kind: &str) {
        self.http2_floods.with_label_values(&[kind]).inc();
    }

    /// The counter of panics.
    pub fn panics(&self) -> &IntCounter {
        &self.panics
    }

    /// Counts a worker that is stuck.
    pub fn worker_stuck(&self) {
        self.stuck_workers.inc();
    }

    /// A request on a route with a cache was answered; `state`, of a closed set, is how it took part.
    pub fn cache_request(&self, state: &str) {
        self.cached.with_label_values(&[state]).inc();
    }

    /// Registers the cache's metrics, read from `read` from now on.
    pub fn register_cache(&self, read: CacheSnapshotSource) -> Result<(), prometheus::Error> {
        self.cache.register(&self.registry, read)
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        self.cache.update();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

/// A histogram of times.
fn seconds(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(buckets.to_vec())
}

/// Returns the counters of a family with the values of their labels, in the order of the labels' names.
fn counts(family: &IntCounterVec) -> Vec<(Vec<String>, u64)> {
    let families = family.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    let read = |metric: &Metric| {
        let labels = metric.get_label().iter().map(|label| label.value().to_owned()).collect();
        (labels, metric.get_counter().get_value() as u64)
    };
    metrics.map(read).collect()
}

/// A stream under way; see [`Metrics::stream_started`].
pub struct ActiveStreamGuard {
    gauge: IntGauge,
}

impl Drop for ActiveStreamGuard {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
