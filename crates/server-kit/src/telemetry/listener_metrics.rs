//! Metrics of the listeners: connections that are closed before a request, and certificates.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// Metrics of the listeners.
pub struct ListenerMetrics {
    proxy_errors: IntCounterVec,
    certificate_loads: IntCounterVec,
    certificate_expiry: IntGaugeVec,
}

impl ListenerMetrics {
    /// Registers them in `registry`.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let proxy_errors = IntCounterVec::new(
            Opts::new("tidegate_proxy_protocol_errors_total", "Connections closed for their PROXY header, by reason"),
            &["reason"],
        )?;
        let certificate_loads = IntCounterVec::new(
            Opts::new("tidegate_certificate_loads_total", "Times that changed files of TLS were loaded, by outcome"),
            &["outcome"],
        )?;
        let certificate_expiry = IntGaugeVec::new(
            Opts::new(
                "tidegate_certificate_expiry_timestamp_seconds",
                "End of the validity of the certificate in use that ends first, by the listener's number",
            ),
            &["listener"],
        )?;
        let all: [Box<dyn Collector>; 3] =
            [Box::new(proxy_errors.clone()), Box::new(certificate_loads.clone()), Box::new(certificate_expiry.clone())];
        all.into_iter().try_for_each(|collector| registry.register(collector))?;
        Ok(Self { proxy_errors, certificate_loads, certificate_expiry })
    }

    /// Counts a connection that was closed for `reason`, one of a closed set.
    pub fn proxy_header_refused(&self, reason: &str) {
        self.proxy_errors.with_label_values(&[reason]).inc();
    }

    /// Counts files of TLS that have changed, and that could be used or not.
    pub fn certificates_loaded(&self, is_usable: bool) {
        let outcome = if is_usable { "loaded" } else { "refused" };
        self.certificate_loads.with_label_values(&[outcome]).inc();
    }

    /// Sets the end of the validity of a listener's certificates, in Unix seconds.
    pub fn set_certificate_expiry(&self, listener: usize, expiry: i64) {
        self.certificate_expiry.with_label_values(&[listener.to_string().as_str()]).set(expiry);
    }

    /// Forgets the ends of validity: the listeners are numbered anew.
    pub fn clear_certificate_expiries(&self) {
        self.certificate_expiry.reset();
    }
}
