//! Settings of traces (`Telemetry.Otlp`).

use std::time::Duration;

use http::HeaderName;
use primitives::secret::Secret;
use url::Url;

/// Which requests are traced, and the collector that gets their traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address of the collector: for HTTP the whole URL of its traces, for gRPC scheme, host and port.
    pub endpoint: Url,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Headers that it gets with each request, such as one with a key of its own.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Share of the requests that are traced.
    pub sample_rate: SampleRate,
    /// True where every request that ends in 5xx is traced.
    pub sample_errors: bool,
    /// Name under which the traces are found (`service.name`).
    pub service_name: String,
    /// Longest time of one request to the collector.
    pub timeout: Duration,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP/HTTP with binary protobuf.
    Http,
    /// OTLP/gRPC.
    Grpc,
}

/// Share of requests, from none to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRate(u64);

impl SampleRate {
    /// All values of 32 bits that can be drawn.
    const ALL: u64 = 1 << 32;

    /// The share `share`; `None` unless it is 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self((share * Self::ALL as f64) as u64))
    }

    /// Returns true where a request is chosen for which `drawn` was drawn of all values alike.
    pub fn includes(self, drawn: u32) -> bool {
        u64::from(drawn) < self.0
    }
}

impl Default for SampleRate {
    /// One in a hundred.
    fn default() -> Self {
        Self(Self::ALL / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_from_none_to_all() {
        for wrong in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            assert_eq!(SampleRate::new(wrong), None, "{wrong}");
        }
        let rate = |share| SampleRate::new(share).expect("a share");
        assert!(!rate(0.0).includes(0) && rate(1.0).includes(u32::MAX));
        assert!(rate(0.5).includes(u32::MAX / 2) && !rate(0.5).includes(u32::MAX / 2 + 1));
        assert_eq!(rate(0.01), SampleRate::default());
    }
}
