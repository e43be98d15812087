//! Folders that are served as a store on loopback.

use std::io;
use std::path::Path;
use std::sync::Arc;

use s3::settings::{SecretSource, StoreCredentials, StoreKeys, StoreSettings};
use tokio_util::sync::DropGuard;
use url::Url;

use super::StartError;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use primitives::secret::Secret;

/// A folder that is served; it is no longer when this is dropped.
pub struct EmbeddedServer {
    endpoint: Url,
    access: Secret,
    secret: Secret,
    _end: DropGuard,
}

impl EmbeddedServer {
    /// Returns the settings by which the server is asked as `store`, with its keys, and its address.
    pub fn address(&self, store: &StoreSettings) -> (StoreSettings, Url) {
        let mut store = store.clone();
        store.path_style = true;
        let key = |value: &Secret| SecretSource { value: value.clone(), file: None };
        let (access_key, secret_key) = (key(&self.access), key(&self.secret));
        store.credentials = StoreCredentials::Keys(StoreKeys { access_key, secret_key, session_token: None });
        (store, self.endpoint.clone())
    }
}

/// Serves `folder` on loopback as the store `name`, with keys that nobody else knows.
#[cfg(feature = "demo")]
pub fn open(
    name: &Arc<str>,
    folder: &Path,
    clock: &Clock,
    tasks: &BackgroundTasks,
) -> Result<EmbeddedServer, StartError> {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio_util::sync::CancellationToken;

    let failed = |source: io::Error| StartError::Embedded { name: Arc::clone(name), source };
    let (access, secret) = (Secret::new(random_key(20)), Secret::new(random_key(40)));
    // Before the socket: a folder that cannot be opened leaves none behind.
    let server = demo::embedded::EmbeddedStore::open(folder, access.expose(), &secret, clock.clone());
    let server = server.map_err(failed)?;
    let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let (stopping, unused) = (tasks.clone(), CancellationToken::new());
    let end = unused.clone().drop_guard();
    tasks.spawn(server.serve(listener, async move {
        tokio::select! {
            () = stopping.stopping() => {}
            () = unused.cancelled() => {}
        }
    }));
    let endpoint = Url::parse(&format!("http://{address}")).expect("an address makes a URL");
    Ok(EmbeddedServer { endpoint, access, secret, _end: end })
}

/// Fails: `check` has refused the key before, since this program is built without embedded stores.
#[cfg(not(feature = "demo"))]
pub fn open(name: &Arc<str>, _: &Path, _: &Clock, _: &BackgroundTasks) -> Result<EmbeddedServer, StartError> {
    let source = io::Error::new(io::ErrorKind::Unsupported, "this Tidegate is built without `demo`");
    Err(StartError::Embedded { name: Arc::clone(name), source })
}

#[cfg(feature = "demo")]
fn random_key(length: usize) -> String {
    use rand::distr::{Alphanumeric, SampleString};

    Alphanumeric.sample_string(&mut rand::rng(), length)
}
