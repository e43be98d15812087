//! Metrics of temporary credentials.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use crate::CredentialStatus;

/// Collector that reads the providers at each scrape.
pub(crate) struct CredentialCollector<S> {
    source: S,
    empty: CredentialVectors,
}

struct CredentialVectors {
    expiry: IntGaugeVec,
    renewals: IntCounterVec,
}

impl CredentialVectors {
    fn new() -> Result<Self, prometheus::Error> {
        let expiry =
            "Unix time at which the temporary credentials of a store end; 0 where it has none that can be used";
        let renewals = "Renewals of a store's temporary credentials, by outcome";
        Ok(Self {
            expiry: IntGaugeVec::new(
                Opts::new("tidegate_store_credentials_expiry_timestamp_seconds", expiry),
                &["store"],
            )?,
            renewals: IntCounterVec::new(
                Opts::new("tidegate_store_credentials_renewals_total", renewals),
                &["store", "outcome"],
            )?,
        })
    }

    fn collectors(&self) -> [&dyn Collector; 2] {
        [&self.expiry, &self.renewals]
    }
}

impl<S: Fn() -> Vec<CredentialStatus> + Send + Sync> CredentialCollector<S> {
    /// Creates a collector of what `source` returns.
    pub fn new(source: S) -> Result<Self, prometheus::Error> {
        Ok(Self { source, empty: CredentialVectors::new()? })
    }
}

impl<S: Fn() -> Vec<CredentialStatus> + Send + Sync> Collector for CredentialCollector<S> {
    fn desc(&self) -> Vec<&Desc> {
        self.empty.collectors().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // New ones for each scrape: a store that is gone leaves no series behind.
        let Ok(vectors) = CredentialVectors::new() else { return Vec::new() };
        for status in (self.source)() {
            let end = if status.is_usable { status.expires_at } else { Some(0) };
            // Keys without an end have no series.
            if let Some(end) = end {
                vectors.expiry.with_label_values(&[&*status.store]).set(i64::try_from(end).unwrap_or(i64::MAX));
            }
            vectors.renewals.with_label_values(&[&*status.store, "renewed"]).inc_by(status.renewed);
            vectors.renewals.with_label_values(&[&*status.store, "failed"]).inc_by(status.failed);
        }
        vectors.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}
