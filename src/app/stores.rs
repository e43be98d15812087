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
    signers: Mutex<HashMap<Arc<str>, Arc<Signer>>>,
}

impl OpenStores {
    /// Stores of which none is open; embedded ones are served by `tasks`.
    pub fn new(clock: Clock, tasks: BackgroundTasks) -> Self {
        Self { clock, tasks, signers: Mutex::default() }
    }

    /// Returns the signer of `store`; fails where an embedded store's folder or socket cannot be opened.
    pub fn signer(&self, store: &StoreSettings) -> Result<Arc<Signer>, StartError> {
        let mut signers = self.signers.lock();
        if let Some(signer) = signers.get(&store.name) {
            return Ok(Arc::clone(signer));
        }
        let (settings, endpoint) = match &store.endpoint {
            StoreEndpoint::Remote(url) => (store.clone(), url.clone()),
            StoreEndpoint::Embedded(folder) => embedded::open(store, folder, &self.clock, &self.tasks)?,
        };
        let signer = Arc::new(Signer::new(settings, endpoint, self.clock.clone()));
        signers.insert(Arc::clone(&store.name), Arc::clone(&signer));
        Ok(signer)
    }
}
