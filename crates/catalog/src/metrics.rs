//! Metrics of the catalog: questions to its sources and whether they answered. Answers from a cache are not counted.

use prometheus::{IntCounterVec, Opts, Registry};

/// Counters of the catalog. Clones share them.
#[derive(Clone)]
pub struct CatalogMetrics {
    lookups: IntCounterVec,
}

impl CatalogMetrics {
    /// Registers the counters; fails if their name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Questions to the catalogue's tracks, its grants or an authorisation service";
        let questions = IntCounterVec::new(Opts::new("tidegate_catalog_questions_total", help), &["of", "outcome"])?;
        registry.register(Box::new(questions.clone()))?;
        Ok(Self { lookups: questions })
    }

    /// Counts one question; `of` is one of a closed set.
    pub(super) fn record_lookup(&self, of: &str, answered: bool) {
        let outcome = if answered { "answered" } else { "failed" };
        self.lookups.with_label_values(&[of, outcome]).inc();
    }
}
