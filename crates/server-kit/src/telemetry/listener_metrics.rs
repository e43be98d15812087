//! Metrics of the listeners: connections that are closed before a request, and certificates.

use prometheus::{IntCounterVec, Opts, Registry};

/// Metrics of the listeners.
pub struct ListenerMetrics {
    proxy_errors: IntCounterVec,
}

impl ListenerMetrics {
    /// Registers them in `registry`.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let proxy_errors = IntCounterVec::new(
            Opts::new("tidegate_proxy_protocol_errors_total", "Connections closed for their PROXY header, by reason"),
            &["reason"],
        )?;
        registry.register(Box::new(proxy_errors.clone()))?;
        Ok(Self { proxy_errors })
    }

    /// Counts a connection that was closed for `reason`, one of a closed set.
    pub fn proxy_header_refused(&self, reason: &str) {
        self.proxy_errors.with_label_values(&[reason]).inc();
    }
}
