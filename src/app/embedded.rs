//! Folders that are served as a store on loopback.

use std::io;
use std::path::Path;
use std::sync::Arc;

use s3::settings::StoreSettings;
use url::Url;

use super::StartError;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;

/// Serves `folder` on loopback, with keys that nobody else knows, and returns the store with these keys and its address.
#[cfg(feature = "demo")]
pub fn open(
    store: &StoreSettings,
    folder: &Path,
    clock: &Clock,
    tasks: &BackgroundTasks,
) -> Result<(StoreSettings, Url), StartError> {
    use std::net::{Ipv4Addr, SocketAddr};

    use primitives::secret::Secret;

    let failed = |source: io::Error| StartError::Embedded { name: Arc::clone(&store.name), source };
    let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (access, secret) = (random_key(20), random_key(40));
    let server = demo::embedded::EmbeddedStore::open(folder, &access, &Secret::new(secret.clone()), clock.clone());
    let server = server.map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let stopping = tasks.clone();
    tasks.spawn(server.serve(listener, async move { stopping.stopping().await }));
    let mut store = store.clone();
    store.path_style = true;
    store.credentials.access_key.value = Secret::new(access);
    store.credentials.secret_key.value = Secret::new(secret);
    let endpoint = Url::parse(&format!("http://{address}")).expect("an address makes a URL");
    Ok((store, endpoint))
}

/// Fails: `check` has refused the key before, since this program is built without embedded stores.
#[cfg(not(feature = "demo"))]
pub fn open(
    store: &StoreSettings,
    _: &Path,
    _: &Clock,
    _: &BackgroundTasks,
) -> Result<(StoreSettings, Url), StartError> {
    let source = io::Error::new(io::ErrorKind::Unsupported, "this Tidegate is built without `demo`");
    Err(StartError::Embedded { name: Arc::clone(&store.name), source })
}

#[cfg(feature = "demo")]
fn random_key(length: usize) -> String {
    use rand::distr::{Alphanumeric, SampleString};

    Alphanumeric.sample_string(&mut rand::rng(), length)
}
