//! Temporary credentials of object stores: got where Amazon's SDKs get them, by Amazon's own library, and renewed before
//! they end, once for all stores with the same provider. What is signed with them is not known here. AWS "Using temporary
//! credentials with AWS resources".

#[cfg(feature = "aws")]
mod aws_http_client;
#[cfg(feature = "aws")]
mod aws_providers;
mod metrics;
mod provider;
mod schedule;

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use tokio::time::timeout;

use self::metrics::CredentialCollector;
use self::provider::RunningProvider;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::settings::CredentialProvider;
use s3::signer::Signer;

/// State of a store's temporary credentials, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialStatus {
    /// Store that is signed for.
    pub store: Arc<str>,
    /// Provider, by its name in the configuration.
    pub provider: &'static str,
    /// Unix second at which the keys in use end; `None`: there are none, or they do not end.
    pub expires_at: Option<u64>,
    /// True where there are keys that have not ended.
    pub is_usable: bool,
    /// Reason for which the last renewal failed.
    pub failure: Option<String>,
    /// Renewals that gave keys.
    pub renewed: u64,
    /// Renewals that failed.
    pub failed: u64,
}

impl CredentialStatus {
    /// Returns the reason why the credentials cannot be renewed, and how long those in use are good; `None` where they
    /// can.
    pub fn fault(&self) -> Option<String> {
        let reason = self.failure.as_ref()?;
        let state = match (self.is_usable, self.expires_at) {
            (true, Some(end)) => format!("the old ones are used until {}", utc(end)),
            (true, None) => "the old ones stay in use".to_owned(),
            (false, Some(end)) => format!("the old ones ended at {}", utc(end)),
            (false, None) => "there are none".to_owned(),
        };
        let Self { store, provider, .. } = self;
        Some(format!("credentials of {store} cannot be renewed by the provider {provider}, {state}: {reason}"))
    }
}

/// Writes a Unix second as a date and time.
pub fn utc(unix: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(Duration::from_secs(unix));
    // The formatter panics beyond the year 9999.
    let at = at.filter(|_| unix < 253_402_300_800);
    at.map_or_else(|| format!("Unix second {unix}"), |at| humantime::format_rfc3339_seconds(at).to_string())
}

/// The providers in use, each with one task for all its stores.
pub struct CredentialProviders {
    clock: Clock,
    tasks: BackgroundTasks,
    running: Arc<Mutex<Vec<Weak<RunningProvider>>>>,
    /// Number of the last signer.
    signers: AtomicU64,
}

impl CredentialProviders {
    /// Creates it, with no provider. Their tasks are among `tasks`.
    pub fn new(clock: Clock, tasks: BackgroundTasks) -> Self {
        Self { clock, tasks, running: Arc::default(), signers: AtomicU64::new(0) }
    }

    /// Gives `signer` the keys of `provider` from now on, as long as it is used. Needs a Tokio runtime; fails where no
    /// client for requests to the provider can be made.
    pub fn supply(&self, provider: &Arc<CredentialProvider>, signer: Signer) -> Result<Arc<Signer>, reqwest::Error> {
        let mut running = self.running.lock();
        running.retain(|known| known.strong_count() > 0);
        let known = running.iter().filter_map(Weak::upgrade).find(|known| known.is(provider));
        let provider = match known {
            Some(known) => known,
            None => {
                let started = RunningProvider::start(Arc::clone(provider), &self.clock, &self.tasks)?;
                running.push(Arc::downgrade(&started));
                started
            }
        };
        let number = self.signers.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(RunningProvider::supply(&provider, number, signer))
    }

    /// Waits until each provider has given keys or failed to, for `limit` at most.
    pub async fn ready(&self, limit: Duration) {
        let waits: Vec<_> = self.running.lock().iter().filter_map(Weak::upgrade).collect();
        let all = async {
            for provider in &waits {
                provider.first_attempt().await;
            }
        };
        // Who hangs is tried on, and its store is refused meanwhile.
        let _ = timeout(limit, all).await;
    }

    /// Returns the state of each store's credentials, by the store's name: of the provider of its newest signer, where
    /// older ones have another.
    pub fn status(&self) -> Vec<CredentialStatus> {
        status(&self.running, &self.clock)
    }

    /// Registers metrics of the providers; fails where their names are taken.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let (running, clock) = (Arc::clone(&self.running), self.clock.clone());
        registry.register(Box::new(CredentialCollector::new(move || status(&running, &clock))?))
    }
}

fn status(running: &Mutex<Vec<Weak<RunningProvider>>>, clock: &Clock) -> Vec<CredentialStatus> {
    let running: Vec<_> = running.lock().iter().filter_map(Weak::upgrade).collect();
    let mut all: Vec<_> = running.iter().flat_map(|provider| provider.status(clock.unix())).collect();
    all.sort_by(|(one, known), (other, status)| known.store.cmp(&status.store).then(Reverse(one).cmp(&Reverse(other))));
    all.dedup_by(|(_, status), (_, newest)| status.store == newest.store);
    all.into_iter().map(|(_, status)| status).collect()
}

#[cfg(all(test, feature = "aws"))]
mod tests;
