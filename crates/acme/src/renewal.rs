//! The task that keeps certificates valid: orders those that are missing or due, and tries again where it fails.

use std::time::Duration;

use http_server::acme_challenges::AcmeChallenges;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use prometheus::Registry;
use tokio::sync::watch;

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

/// Orders of certificates, which a reload may change. They go on when this is dropped.
pub struct CertificateOrders {
    wanted: watch::Sender<Option<WantedCertificates>>,
}

/// Certificates to keep valid, and how they are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WantedCertificates {
    settings: AcmeSettings,
    certificates: Vec<OrderedCertificate>,
}

impl CertificateOrders {
    /// Starts the task that orders, without any certificates yet; it ends at shutdown. Registers its metrics in `registry`;
    /// fails if their names are taken.
    pub fn start(
        challenges: AcmeChallenges,
        clock: Clock,
        tasks: &BackgroundTasks,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = AcmeMetrics::new(registry)?;
        let orders = Self { wanted: watch::Sender::new(None) };
        let (wanted, ending) = (orders.wanted.subscribe(), tasks.clone());
        tasks.spawn(async move {
            // What waits for the authority is given up at shutdown: the next process orders again.
            tokio::select! {
                () = order_wanted(wanted, (challenges, clock, metrics)) => {}
                () = ending.closing() => {}
            }
        });
        Ok(orders)
    }

    /// Keeps these certificates valid from now on, and no others; `None`: none at all. The listeners must show them and
    /// answer challenges already: the authority asks them at once.
    pub fn keep_valid(&self, wanted: Option<(AcmeSettings, Vec<OrderedCertificate>)>) {
        let wanted = wanted.map(|(settings, certificates)| WantedCertificates { settings, certificates });
        // Orders that are under way are not begun anew for nothing.
        self.wanted.send_if_modified(|before| std::mem::replace(before, wanted) != *before);
    }
}

/// Orders what is wanted, and what is wanted instead as soon as that changes.
async fn order_wanted(
    mut wanted: watch::Receiver<Option<WantedCertificates>>,
    (challenges, clock, metrics): (AcmeChallenges, Clock, AcmeMetrics),
) {
    loop {
        let current = wanted.borrow_and_update().clone();
        let renewal = async {
            let Some(WantedCertificates { settings, certificates }) = current else {
                return std::future::pending::<()>().await;
            };
            let (challenges, clock, metrics) = (challenges.clone(), clock.clone(), metrics.clone());
            let failures = vec![0; certificates.len()];
            let mut renewal = CertificateRenewal { settings, certificates, challenges, clock, metrics, failures };
            loop {
                let wait = renewal.renew_due().await;
                tokio::time::sleep(wait).await;
            }
        };
        let changed = async {
            if wanted.changed().await.is_err() {
                // Nobody is left who could change it.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = renewal => {}
            () = changed => {}
        }
    }
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
