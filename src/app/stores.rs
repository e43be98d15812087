//! The object stores, opened: a signer for each, and a server on loopback for each that is a folder. They are shared by
//! the runtimes that have them, and end with the last: an embedded store would else lose its keys and its address at a
//! reload, or be served on after it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::StartError;
use super::embedded::{self, EmbeddedServer};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::settings::{StoreEndpoint, StoreSettings};
use s3::signer::Signer;

/// Begins a client for requests to object stores. It takes no proxy of the environment, which would see signed URLs, and
/// follows no redirect.
pub(super) fn store_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy()
}

/// The object stores of the process, each opened when it is first asked for.
pub struct OpenStores {
    clock: Clock,
    tasks: BackgroundTasks,
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
        Self { clock, tasks, state: Mutex::default() }
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
            StoreEndpoint::Remote(url) => Signer::new(store.clone(), url.clone(), self.clock.clone()),
            StoreEndpoint::Embedded(folder) => {
                let place = (Arc::clone(&store.name), folder.clone());
                let server = match servers.get(&place).and_then(Weak::upgrade) {
                    Some(server) => server,
                    None => Arc::new(embedded::open(&store.name, folder, &self.clock, &self.tasks)?),
                };
                servers.insert(place, Arc::downgrade(&server));
                let (settings, endpoint) = server.address(store);
                Signer::new(settings, endpoint, self.clock.clone()).keeping(server)
            }
        };
        let signer = Arc::new(signer);
        signers.entry(Arc::clone(&store.name)).or_default().push((store.clone(), Arc::downgrade(&signer)));
        Ok(signer)
    }
}
