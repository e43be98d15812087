//! Metrics of orders.

use prometheus::{IntCounterVec, Opts, Registry};

/// Counter of orders.
#[derive(Clone)]
pub struct AcmeMetrics {
    orders: IntCounterVec,
}

impl AcmeMetrics {
    /// Registers the counter; fails if its name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Certificates ordered by ACME, by outcome";
        let orders = IntCounterVec::new(Opts::new("tidegate_acme_orders_total", help), &["outcome"])?;
        for outcome in ["issued", "failed"] {
            orders.with_label_values(&[outcome]);
        }
        registry.register(Box::new(orders.clone()))?;
        Ok(Self { orders })
    }

    /// Counts an order that ended.
    pub(crate) fn record(&self, is_issued: bool) {
        self.orders.with_label_values(&[if is_issued { "issued" } else { "failed" }]).inc();
    }
}
