//! Metrics of the listeners: connections that are closed before a request, and certificates.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Metrics of the listeners.
pub struct ListenerMetrics {
    proxy_errors: IntCounterVec,
    certificate_loads: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    stalled_streams: IntGauge,
    stalled_streams_ended: IntCounter,
    staple_end: IntGaugeVec,
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
        let stalled_streams = IntGauge::new(
            "tidegate_http2_stalled_streams",
            "HTTP/2 streams whose clients take none of the bytes that wait for them",
        )?;
        let stalled_streams_ended = IntCounter::new(
            "tidegate_http2_stalled_streams_ended_total",
            "HTTP/2 streams ended because too many were stalled, and they for longest",
        )?;
        let staple_end = IntGaugeVec::new(
            Opts::new(
                "tidegate_ocsp_response_end_timestamp_seconds",
                "When the first OCSP response of the listener ends; 0 where one cannot be shown",
            ),
            &["listener"],
        )?;
        let all: [Box<dyn Collector>; 6] = [
            Box::new(proxy_errors.clone()),
            Box::new(certificate_loads.clone()),
            Box::new(certificate_expiry.clone()),
            Box::new(stalled_streams.clone()),
            Box::new(stalled_streams_ended.clone()),
            Box::new(staple_end.clone()),
        ];
        all.into_iter().try_for_each(|collector| registry.register(collector))?;
        Ok(Self {
            proxy_errors,
            certificate_loads,
            certificate_expiry,
            stalled_streams,
            stalled_streams_ended,
            staple_end,
        })
    }

    /// Counts a connection that was closed for `reason`, one of a closed set.
    pub fn proxy_header_refused(&self, reason: &str) {
        self.proxy_errors.with_label_values(&[reason]).inc();
    }

    /// The gauge of HTTP/2 streams that are stalled.
    pub fn stalled_streams(&self) -> &IntGauge {
        &self.stalled_streams
    }

    /// Counts an HTTP/2 stream that was ended because too many were stalled.
    pub fn stalled_stream_ended(&self) {
        self.stalled_streams_ended.inc();
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

    /// Sets the end of a listener's first OCSP response, in Unix seconds.
    pub fn set_staple_end(&self, listener: usize, end: i64) {
        self.staple_end.with_label_values(&[listener.to_string().as_str()]).set(end);
    }

    /// Forgets the ends of validity: the listeners are numbered anew.
    pub fn clear_ends(&self) {
        self.certificate_expiry.reset();
        self.staple_end.reset();
    }
}
