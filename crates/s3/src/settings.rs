//! Settings of an object store (`ObjectStores.<name>`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use primitives::secret::Secret;

/// One object store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSettings {
    /// Name in the YAML.
    pub name: Arc<str>,
    /// Address of the store.
    pub endpoint: StoreEndpoint,
    /// The region that signatures name.
    pub region: String,
    /// Puts the bucket into the path (MinIO) instead of the host name.
    pub path_style: bool,
    /// Keys with which requests are signed.
    pub credentials: StoreCredentials,
    /// Life of a presigned URL; at least one minute, at most seven days (SigV4).
    pub presign_expiry: Duration,
}

/// Address of an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEndpoint {
    /// An S3 endpoint: scheme, host, port, no path.
    Remote(Url),
    /// A folder served by the embedded store.
    Embedded(PathBuf),
}

/// Keys and their origin, so that they can be read again after the store refused them.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreCredentials {
    /// The access key id.
    pub access_key: SecretSource,
    /// The secret key.
    pub secret_key: SecretSource,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretSource>,
}

/// A secret with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSource {
    /// The value when the configuration was read.
    pub value: Secret,
    /// The file it stands in, read again when the store refuses the key; `None` for the environment.
    pub file: Option<PathBuf>,
}
