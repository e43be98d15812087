//! What metrics say of the catalogue: how often those behind it were asked, and whether they answered. What is remembered
//! asks nobody.

use prometheus::{IntCounterVec, Opts, Registry};

/// The counters. Clones share them.
#[derive(Clone)]
pub struct CatalogMetrics {
    lookups: IntCounterVec,
}

impl CatalogMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Questions to the catalogue's tracks, its grants or an authorisation service";
        let questions = IntCounterVec::new(Opts::new("tidegate_catalog_questions_total", help), &["of", "outcome"])?;
        registry.register(Box::new(questions.clone()))?;
        Ok(Self { lookups: questions })
    }

    /// One was asked: `of` is one of a closed set.
    pub(super) fn record_lookup(&self, of: &str, answered: bool) {
        let outcome = if answered { "answered" } else { "failed" };
        self.lookups.with_label_values(&[of, outcome]).inc();
    }
}
