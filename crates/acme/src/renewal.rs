//! The task that keeps certificates valid: orders those that are missing or due, and tries again where it fails.

use std::time::Duration;

use http_server::acme_challenges::AcmeChallenges;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use prometheus::Registry;

use crate::files;
use crate::metrics::AcmeMetrics;
use crate::order::{self, AcmeError};
use crate::settings::{AcmeSettings, OrderedCertificate};

/// Longest time between two looks at the files: the clock may be set, and files may be removed.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// Shortest time between two looks.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// Time limit of an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);
/// Times before an order that failed is tried again; the last one is repeated. Let's Encrypt takes five failures an hour
/// for each name.
const RETRY_AFTER: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(1800), Duration::from_secs(3600)];

/// Keeps `certificates` valid until shutdown. Registers its metrics in `registry`; fails if their names are taken.
pub fn run(
    settings: AcmeSettings,
    certificates: Vec<OrderedCertificate>,
    challenges: AcmeChallenges,
    clock: Clock,
    tasks: &BackgroundTasks,
    registry: &Registry,
) -> Result<(), prometheus::Error> {
    let metrics = AcmeMetrics::new(registry)?;
    let failures = vec![0; certificates.len()];
    let mut renewal = CertificateRenewal { settings, certificates, challenges, clock, metrics, failures };
    let stopping = tasks.clone();
    tasks.spawn(async move {
        loop {
            // What waits for the authority is given up at shutdown: the next process orders again.
            let wait = tokio::select! {
                wait = renewal.renew_due() => wait,
                () = stopping.stopping() => return,
                () = stopping.handed_over() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.stopping() => return,
                () = stopping.handed_over() => return,
            }
        }
    });
    Ok(())
}

struct CertificateRenewal {
    settings: AcmeSettings,
    certificates: Vec<OrderedCertificate>,
    challenges: AcmeChallenges,
    clock: Clock,
    metrics: AcmeMetrics,
    /// Orders that failed one after the other, for each certificate.
    failures: Vec<usize>,
}

impl CertificateRenewal {
    /// Orders every certificate that is due; returns the time until the next look.
    async fn renew_due(&mut self) -> Duration {
        let lock = match files::lock(&self.settings) {
            Ok(Some(lock)) => lock,
            // Another process orders; its certificates are there at the next look.
            Ok(None) => return RETRY_AFTER[0],
            Err(error) => {
                tracing::error!(%error, "certificates cannot be renewed");
                return RETRY_AFTER[0];
            }
        };
        let mut wait = LOOK_INTERVAL;
        for index in 0..self.certificates.len() {
            wait = wait.min(self.renew(index).await);
        }
        drop(lock);
        wait.max(LEAST_WAIT)
    }

    /// Orders the certificate if it is due; returns the time until it is looked at again.
    async fn renew(&mut self, index: usize) -> Duration {
        let certificate = &self.certificates[index];
        if let Some(wait) = self.time_left(certificate) {
            return wait;
        }
        let names = certificate.names.join(", ");
        let order = order::obtain(&self.settings, certificate, &self.challenges);
        let outcome = tokio::time::timeout(ORDER_TIMEOUT, order).await.unwrap_or(Err(AcmeError::Timeout));
        self.metrics.record(outcome.is_ok());
        match outcome {
            Ok(()) => {
                tracing::info!(%names, directory = %self.settings.directory, "a certificate for {names} was issued");
                self.failures[index] = 0;
                self.time_left(certificate).unwrap_or(LOOK_INTERVAL)
            }
            Err(error) => {
                let wait = RETRY_AFTER[self.failures[index].min(RETRY_AFTER.len() - 1)];
                self.failures[index] += 1;
                let again = wait.as_secs();
                tracing::error!(
                    %names, %error, directory = %self.settings.directory,
                    "no certificate for {names}: {error}; the one that is there stays in use, the next try is in {again} s"
                );
                wait
            }
        }
    }

    /// Returns the time until the certificate is due; `None` where it is.
    fn time_left(&self, certificate: &OrderedCertificate) -> Option<Duration> {
        let now = i64::try_from(self.clock.unix()).unwrap_or(i64::MAX);
        let left = files::read_times(certificate)?.renewal() - now;
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)
    }
}
