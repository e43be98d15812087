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
    /// Origin of the keys with which requests are signed.
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

/// Origin of the keys with which requests to a store are signed.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreCredentials {
    /// Keys that the configuration names.
    Keys(StoreKeys),
    /// No keys: requests carry no signature, and the store serves them to everybody.
    Anonymous,
    /// Keys that end and are renewed. Stores with equal providers share what they give.
    Temporary(Arc<CredentialProvider>),
}

/// Keys and their origin, so that they can be read again after the store refused them.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreKeys {
    /// The access key id.
    pub access_key: SecretSource,
    /// The secret key.
    pub secret_key: SecretSource,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretSource>,
}

/// Service or file that gives temporary keys, as Amazon's SDKs know them.
#[derive(Clone, Debug, PartialEq)]
pub struct CredentialProvider {
    /// Kind of the provider.
    pub kind: ProviderKind,
    /// Region whose token service is asked.
    pub region: String,
}

impl CredentialProvider {
    /// Returns a secret that all nodes with this provider have; `None` where there is none.
    pub(crate) fn page_secret(&self) -> Option<&str> {
        match &self.kind {
            ProviderKind::AssumeRole { keys: Some(keys), .. } => Some(keys.secret_key.value.expose()),
            _ => None,
        }
    }
}

/// Kind of a [`CredentialProvider`].
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderKind {
    /// The first of environment, profile, web identity, container and instance that has keys.
    DefaultChain,
    /// A profile of the files `~/.aws/config` and `~/.aws/credentials`; `None`: the one that `AWS_PROFILE` names.
    Profile(Option<String>),
    /// The endpoint that the environment of a container names (ECS, EKS Pod Identity).
    Container,
    /// A token in a file, for which the token service gives the keys of a role (IRSA).
    WebIdentity {
        /// The role.
        role: AssumedRole,
        /// File of the token, read anew each time.
        token_file: PathBuf,
    },
    /// The instance metadata service (IMDSv2); `None`: at Amazon's address.
    Instance(Option<Url>),
    /// Keys of a role, asked for with other keys; `None`: with those of the default chain.
    AssumeRole {
        /// The role.
        role: AssumedRole,
        /// Keys that may assume it.
        keys: Option<StoreKeys>,
        /// Text that the role's owner demands of others.
        external_id: Option<String>,
    },
}

impl ProviderKind {
    /// Returns the kind's name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DefaultChain => "default",
            Self::Profile(_) => "profile",
            Self::Container => "container",
            Self::WebIdentity { .. } => "web-identity",
            Self::Instance(_) => "instance",
            Self::AssumeRole { .. } => "assume-role",
        }
    }
}

/// A role whose keys the token service (STS) gives.
#[derive(Clone, Debug, PartialEq)]
pub struct AssumedRole {
    /// Amazon resource name of the role.
    pub arn: String,
    /// Name of the session, in the store's audit log.
    pub session_name: String,
    /// Life of the keys; `None`: as the service decides.
    pub duration: Option<Duration>,
    /// Address of the token service; `None`: Amazon's in the region.
    pub endpoint: Option<Url>,
}

/// A secret with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSource {
    /// The value when the configuration was read.
    pub value: Secret,
    /// The file it stands in, read again when the store refuses the key; `None` for the environment.
    pub file: Option<PathBuf>,
}
