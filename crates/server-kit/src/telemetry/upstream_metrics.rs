//! Metrics of clusters and destinations. They are read from the clusters at each scrape, since a state ends with time
//! and not with an event, and a reload brings other clusters.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

/// State of a cluster.
pub struct ClusterSnapshot {
    /// Its id in the YAML.
    pub cluster: Arc<str>,
    /// Retries that the budget did not grant.
    pub retries_refused: u64,
    /// Its destinations.
    pub destinations: Vec<DestinationSnapshot>,
}

/// State of a destination.
pub struct DestinationSnapshot {
    /// Its id in the YAML.
    pub destination: Arc<str>,
    /// Names of all states, each with true if the destination is in it.
    pub states: Vec<(&'static str, bool)>,
    /// Number of times that its breaker opened.
    pub opened: u64,
}

/// Source of the clusters' states.
pub type ClusterSnapshotSource = Box<dyn Fn() -> Vec<ClusterSnapshot> + Send + Sync>;

/// Collector of the states from `source`.
pub struct UpstreamCollector {
    source: ClusterSnapshotSource,
    empty: UpstreamMetricVectors,
}

struct UpstreamMetricVectors {
    state: IntGaugeVec,
    opened: IntCounterVec,
    exhausted: IntCounterVec,
}

impl UpstreamMetricVectors {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            state: IntGaugeVec::new(
                Opts::new("tidegate_destination_state", "1 for the state that a destination is in"),
                &["cluster", "destination", "state"],
            )?,
            opened: IntCounterVec::new(
                Opts::new(
                    "tidegate_breaker_open_total",
                    "Times that a destination's breaker opened, failed trials included",
                ),
                &["cluster", "destination"],
            )?,
            exhausted: IntCounterVec::new(
                Opts::new("tidegate_retry_budget_exhausted_total", "Retries that the cluster's budget did not grant"),
                &["cluster"],
            )?,
        })
    }

    fn collectors(&self) -> [&dyn Collector; 3] {
        [&self.state, &self.opened, &self.exhausted]
    }
}

impl UpstreamCollector {
    /// Creates a collector that reads `source` at each scrape.
    pub fn new(source: ClusterSnapshotSource) -> Result<Self, prometheus::Error> {
        Ok(Self { source, empty: UpstreamMetricVectors::new()? })
    }
}

impl Collector for UpstreamCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.empty.collectors().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // New ones for each scrape: what is gone leaves no series behind, and two scrapes at once add up nothing twice.
        let Ok(vectors) = UpstreamMetricVectors::new() else { return Vec::new() };
        for ClusterSnapshot { cluster, retries_refused, destinations } in (self.source)() {
            vectors.exhausted.with_label_values(&[&*cluster]).inc_by(retries_refused);
            for DestinationSnapshot { destination, states, opened } in destinations {
                vectors.opened.with_label_values(&[&*cluster, &*destination]).inc_by(opened);
                for (state, holds) in states {
                    vectors.state.with_label_values(&[&*cluster, &*destination, state]).set(holds.into());
                }
            }
        }
        vectors.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scrape_reads_anew() {
        let source: ClusterSnapshotSource = Box::new(|| {
            let states = vec![("healthy", false), ("open", true)];
            let destinations = vec![DestinationSnapshot { destination: "primary".into(), states, opened: 3 }];
            vec![ClusterSnapshot { cluster: "minio".into(), retries_refused: 7, destinations }]
        });
        let registry = prometheus::Registry::new();
        registry.register(Box::new(UpstreamCollector::new(source).expect("good names"))).expect("no name is taken");
        for _ in 0..2 {
            let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
            for line in [
                "tidegate_destination_state{cluster=\"minio\",destination=\"primary\",state=\"open\"} 1",
                "tidegate_destination_state{cluster=\"minio\",destination=\"primary\",state=\"healthy\"} 0",
                "tidegate_breaker_open_total{cluster=\"minio\",destination=\"primary\"} 3",
                "tidegate_retry_budget_exhausted_total{cluster=\"minio\"} 7",
            ] {
                assert!(text.contains(line), "{line} is not in\n{text}");
            }
        }
    }
}
