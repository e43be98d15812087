//! Metrics of limits; labels are the configuration's policies and closed sets, never a subject.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Metrics of all policies.
#[derive(Clone)]
pub struct LimitMetrics {
    decisions: IntCounterVec,
    shared: IntCounterVec,
    egress_store_failures: IntCounter,
}

/// The counters of one policy.
#[derive(Clone)]
pub struct PolicyMetrics {
    /// Requests let through.
    pub allowed: IntCounter,
    /// Refused: too many requests.
    pub requests: IntCounter,
    /// Refused: too many streams.
    pub streams: IntCounter,
    /// Refused: the quota is used up.
    pub egress: IntCounter,
}

/// The counters of the shared counts.
#[derive(Clone)]
pub struct SharedLimitMetrics {
    /// Requests to Redis without an answer in time.
    pub failed: IntCounter,
    /// Requests to Redis that were skipped because of that.
    pub skipped: IntCounter,
}

impl LimitMetrics {
    /// Registers the metrics; fails if a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labelled = |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let this = Self {
            decisions: labelled(
                "tidegate_limit_decisions_total",
                "Requests under a rate limiter policy, by what became of them",
                &["policy", "outcome"],
            )?,
            shared: labelled(
                "tidegate_limit_local_total",
                "Decisions made without Redis though it is configured: it did not answer in time, or was not asked because of that",
                &["cause"],
            )?,
            egress_store_failures: IntCounter::new(
                "tidegate_limit_ledger_failures_total",
                "Egress that could not be read or saved; what was not saved is tried again",
            )?,
        };
        registry.register(Box::new(this.decisions.clone()))?;
        registry.register(Box::new(this.shared.clone()))?;
        registry.register(Box::new(this.egress_store_failures.clone()))?;
        Ok(this)
    }

    /// The counters of `policy`.
    pub fn policy(&self, policy: &str) -> PolicyMetrics {
        let outcome = |outcome| self.decisions.with_label_values(&[policy, outcome]);
        PolicyMetrics {
            allowed: outcome("allowed"),
            requests: outcome("requests"),
            streams: outcome("streams"),
            egress: outcome("egress"),
        }
    }

    /// The counters of the shared counts.
    pub fn shared(&self) -> SharedLimitMetrics {
        SharedLimitMetrics {
            failed: self.shared.with_label_values(&["unanswered"]),
            skipped: self.shared.with_label_values(&["not_asked"]),
        }
    }

    /// The counter of the ledger's failures.
    pub fn egress_store_failures(&self) -> &IntCounter {
        &self.egress_store_failures
    }
}
