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

/// The keys of a store: `AccessKey` and `SecretKey`, or a `Provider` that gives them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Credentials {
    /// Where the keys are from, where they are not written here.
    pub provider: Option<CredentialProviderName>,
    /// The access key id. With `assume-role`: of the keys that may assume the role.
    pub access_key: Option<SecretRef>,
    /// The secret key.
    pub secret_key: Option<SecretRef>,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretRef>,
    /// With `profile`: its name in the files of Amazon's tools. May be `env:NAME`. Default: that of `AWS_PROFILE`, else `default`.
    pub profile: Option<ConfigText>,
    /// With `web-identity` and `assume-role`: the role's Amazon resource name. May be `env:NAME`. Default: that of `AWS_ROLE_ARN`.
    pub role_arn: Option<ConfigText>,
    /// With a role: name of the session in the store's audit log. May be `env:NAME`. Default: that of `AWS_ROLE_SESSION_NAME`, else `tidegate`.
    pub session_name: Option<ConfigText>,
    /// With `assume-role`: the text that the role's owner demands. May be `env:NAME`.
    pub external_id: Option<ConfigText>,
    /// With a role: life of its keys, from `15m` to `12h`. Default: as the token service decides.
    pub duration: Option<TimeSpan>,
    /// With `web-identity`: file of the token. May be `env:NAME`. Default: that of `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub token_file: Option<ConfigText>,
    /// With a role: address of the token service (STS), such as MinIO's own. May be `env:NAME`. Default: Amazon's in the store's region.
    pub sts_endpoint: Option<ConfigText>,
    /// With `instance`: address of the metadata service. May be `env:NAME`. Default: Amazon's.
    pub metadata_endpoint: Option<ConfigText>,
}

/// Where a store's keys are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialProviderName {
    /// The first of `environment`, `profile`, `web-identity`, `container` and `instance` that has keys, as in Amazon's SDKs.
    Default,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, as they are at the start.
    Environment,
    /// A profile of `~/.aws/credentials` and `~/.aws/config`, which are read again each minute.
    Profile,
    /// The endpoint that the environment of a container names: ECS, EKS Pod Identity.
    Container,
    /// A token in a file, exchanged for the keys of a role: IRSA.
    WebIdentity,
    /// The metadata service of the machine (IMDSv2).
    Instance,
    /// The keys of a role, asked for with other keys.
    AssumeRole,
    /// None: requests are not signed, and the store serves them to everybody.
    Anonymous,
}
