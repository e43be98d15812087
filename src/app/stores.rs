//! The object stores, opened: a signer for each, and a server on loopback for each that is a folder. They are shared by
//! the runtimes that have them, and end with the last: an embedded store would else lose its keys and its address at a
//! reload, or be served on after it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::StartError;
use super::embedded::{self, EmbeddedServer};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use prometheus::Registry;
use s3::settings::{StoreCredentials, StoreEndpoint, StoreSettings};
use s3::signer::Signer;
use store_credentials::{CredentialProviders, CredentialStatus};

/// Longest wait for temporary credentials before they are needed. Who has none by then is refused until they come.
const CREDENTIALS_WAIT: Duration = Duration::from_secs(5);

/// Begins a client for requests to object stores. It takes no proxy of the environment, which would see signed URLs, and
/// follows no redirect.
pub(super) fn store_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy()
}

/// The object stores of the process, each opened when it is first asked for.
pub struct OpenStores {
    clock: Clock,
    tasks: BackgroundTasks,
    credentials: CredentialProviders,
    state: Mutex<StoresInUse>,
}

/// Stores as far as somebody uses them.
#[derive(Default)]
struct StoresInUse {
    /// Signers by the store's name, with the settings that they were made from.
    signers: HashMap<Arc<str>, Vec<(StoreSettings, Weak<Signer>)>>,
    /// Servers of embedded stores, by name and folder.
    servers: HashMap<(Arc<str>, PathBuf), Weak<EmbeddedServer>>,
}

impl OpenStores {
    /// Stores of which none is open; embedded ones are served by `tasks`.
    pub fn new(clock: Clock, tasks: BackgroundTasks) -> Self {
        let credentials = CredentialProviders::new(clock.clone(), tasks.clone());
        Self { clock, tasks, credentials, state: Mutex::default() }
    }

    /// As [`Self::new`], with metrics in `registry`; fails where their names are taken.
    pub fn measured(clock: &Clock, tasks: &BackgroundTasks, registry: &Registry) -> Result<Arc<Self>, StartError> {
        let stores = Self::new(clock.clone(), tasks.clone());
        stores.credentials.register(registry)?;
        Ok(Arc::new(stores))
    }

    /// Waits until the open stores have their temporary credentials, or cannot have them, for five seconds at most.
    pub async fn ready(&self) {
        self.credentials.ready(CREDENTIALS_WAIT).await;
    }

    /// Returns the state of temporary credentials.
    pub fn credentials(&self) -> Vec<CredentialStatus> {
        self.credentials.status()
    }

    /// Fails where a store that can be signed for by `old` cannot be by `new`: a provider has given it no keys.
    pub fn compare_credentials(&self, old: &[Arc<Signer>], new: &[Arc<Signer>]) -> Result<(), StartError> {
        let is_usable = |store: &str| old.iter().any(|signer| **signer.store() == *store && signer.has_credentials());
        let lost = new.iter().find(|signer| !signer.has_credentials() && is_usable(signer.store()));
        let Some(store) = lost.map(|signer| Arc::clone(signer.store())) else { return Ok(()) };
        let status = self.credentials().into_iter().find(|status| status.store == store);
        let reason = status.and_then(|status| status.failure);
        let reason = reason.unwrap_or_else(|| format!("no answer within {CREDENTIALS_WAIT:?}"));
        Err(StartError::Credentials { store, reason })
    }

    /// Returns the signer of `store`, the same one for as long as somebody uses it and its settings are the same; fails
    /// where an embedded store's folder or socket cannot be opened.
    pub fn signer(&self, store: &StoreSettings) -> Result<Arc<Signer>, StartError> {
        let mut state = self.state.lock();
        let StoresInUse { signers, servers } = &mut *state;
        signers.retain(|_, known| {
            known.retain(|(_, signer)| signer.strong_count() > 0);
            !known.is_empty()
        });
        servers.retain(|_, server| server.strong_count() > 0);
        let known = signers.get(&store.name).into_iter().flatten();
        let known = known.filter(|(settings, _)| settings == store).find_map(|(_, signer)| signer.upgrade());
        if let Some(signer) = known {
            return Ok(signer);
        }
        let signer = match &store.endpoint {
            StoreEndpoint::Remote(url) => {
                let signer = Signer::new(store.clone(), url.clone(), self.clock.clone());
                match &store.credentials {
                    StoreCredentials::Temporary(provider) => self.credentials.supply(provider, signer)?,
                    StoreCredentials::Keys(_) | StoreCredentials::Anonymous => Arc::new(signer),
                }
            }
            StoreEndpoint::Embedded(folder) => {
                let place = (Arc::clone(&store.name), folder.clone());
                let server = match servers.get(&place).and_then(Weak::upgrade) {
                    Some(server) => server,
                    None => Arc::new(embedded::open(&store.name, folder, &self.clock, &self.tasks)?),
                };
                servers.insert(place, Arc::downgrade(&server));
                let (settings, endpoint) = server.address(store);
                Arc::new(Signer::new(settings, endpoint, self.clock.clone()).keeping(server))
            }
        };
        signers.entry(Arc::clone(&store.name)).or_default().push((store.clone(), Arc::downgrade(&signer)));
        Ok(signer)
    }
}
