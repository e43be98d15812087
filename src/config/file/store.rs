//! `ObjectStores`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigText, SecretRef, TimeSpan};

/// An object store: an S3 endpoint, or a folder served by the embedded store.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Store {
    /// The S3 endpoint: scheme, host and port. May be `env:NAME`.
    pub endpoint: Option<ConfigText>,
    /// A folder that the embedded store serves, in place of `Endpoint`. May be `env:NAME`.
    pub embedded: Option<ConfigText>,
    /// The region that signatures name. May be `env:NAME`. Default: `us-east-1`.
    pub region: Option<ConfigText>,
    /// Whether the bucket stands in the path, as MinIO wants, or in the host name. Default: `true`.
    pub path_style: Option<bool>,
    /// The keys; optional with `Embedded`.
    pub credentials: Option<Credentials>,
    /// Life of a signed URL, from `1m` to `7d`. Default: `15m`.
    pub presign_expiry: Option<TimeSpan>,
}

/// The keys of a store, each `env:NAME` or `file:PATH`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Credentials {
    /// The access key id.
    pub access_key: SecretRef,
    /// The secret key.
    pub secret_key: SecretRef,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretRef>,
}
