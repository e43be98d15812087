//! The object stores, opened: a signer for each, and a server on loopback for each that is a folder. They outlive every
//! runtime: an embedded store would lose its keys and its address.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{StartError, embedded};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::settings::{StoreEndpoint, StoreSettings};
use s3::signer::Signer;

/// The object stores of the process, each opened when it is first asked for.
pub struct OpenStores {
    clock: Clock,
    tasks: BackgroundTasks,
    open: Mutex<HashMap<Arc<str>, OpenStore>>,
}

/// The signer of a store, with the settings that it was made from.
struct OpenStore {
    settings: StoreSettings,
    signer: Arc<Signer>,
}

impl OpenStores {
    /// Stores of which none is open; embedded ones are served by `tasks`.
    pub fn new(clock: Clock, tasks: BackgroundTasks) -> Self {
        Self { clock, tasks, open: Mutex::default() }
    }

    /// Returns the signer of `store`, the same one for as long as its settings are the same; fails where an embedded
    /// store's folder or socket cannot be opened.
    pub fn signer(&self, store: &StoreSettings) -> Result<Arc<Signer>, StartError> {
        let mut open = self.open.lock();
        if let Some(known) = open.get(&store.name).filter(|known| known.settings == *store) {
            return Ok(Arc::clone(&known.signer));
        }
        let (settings, endpoint) = match &store.endpoint {
            StoreEndpoint::Remote(url) => (store.clone(), url.clone()),
            StoreEndpoint::Embedded(folder) => embedded::open(store, folder, &self.clock, &self.tasks)?,
        };
        let signer = Arc::new(Signer::new(settings, endpoint, self.clock.clone()));
        let known = OpenStore { settings: store.clone(), signer: Arc::clone(&signer) };
        open.insert(Arc::clone(&store.name), known);
        Ok(signer)
    }
}
