//! The providers as Amazon's library has them. Each attempt makes a provider anew: files and variables that changed since
//! are read again, and nothing of an answer is kept but the keys.

use std::path::Path;

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::aws_http_client::AwsHttpClient;
use primitives::failure_log::chain;
use primitives::regular_file;
use primitives::secret::Secret;
use s3::credentials::TemporaryKeys;
use s3::settings::{AssumedRole, CredentialProvider, ProviderKind, StoreKeys};

/// Attempts of the library at one request; what fails then is tried again by the caller.
const ATTEMPTS: u32 = 2;
/// Largest token of a web identity, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// Name of our keys among the library's providers.
const OWN: &str = "tidegate";

/// Asks `provider` for keys. The error is for the operator and holds no secret.
pub(crate) async fn fetch(provider: &CredentialProvider, client: &AwsHttpClient) -> Result<TemporaryKeys, String> {
    let library =
        Library { client: SharedHttpClient::new(client.clone()), region: Region::new(provider.region.clone()) };
    let config = library.provider_config();
    let source = match &provider.kind {
        ProviderKind::WebIdentity { role, token_file } => return library.web_identity(role, token_file).await,
        ProviderKind::AssumeRole { role, keys, external_id } => {
            let source = match keys {
                Some(keys) => read(keys).await?,
                None => library.default_chain().await,
            };
            library.assume_role(role, external_id.as_deref(), source).await
        }
        ProviderKind::DefaultChain => library.default_chain().await,
        ProviderKind::Container => {
            SharedCredentialsProvider::new(EcsCredentialsProvider::builder().configure(&config).build())
        }
        ProviderKind::Profile(name) => {
            let builder = ProfileFileCredentialsProvider::builder().configure(&config);
            let builder = name.iter().fold(builder, |builder, name| builder.profile_name(name));
            SharedCredentialsProvider::new(builder.build())
        }
        ProviderKind::Instance(endpoint) => {
            let mut service = imds::Client::builder().configure(&config).max_attempts(ATTEMPTS);
            if let Some(endpoint) = endpoint {
                service = service.endpoint(endpoint.as_str()).map_err(|error| error.to_string())?;
            }
            let builder = ImdsCredentialsProvider::builder().configure(&config).imds_client(service.build());
            SharedCredentialsProvider::new(builder.build())
        }
    };
    let given = source.provide_credentials().await.map_err(|error| chain(&error))?;
    let seconds = |end: std::time::SystemTime| end.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(TemporaryKeys {
        access_key: Secret::new(given.access_key_id()),
        secret_key: Secret::new(given.secret_access_key()),
        session_token: given.session_token().map(Secret::new),
        expires_at: given.expiry().map(seconds),
    })
}

/// Reads keys of the configuration, again where they are in files.
async fn read(keys: &StoreKeys) -> Result<SharedCredentialsProvider, String> {
    let keys = keys.clone();
    let read = move || {
        let token = keys.session_token.as_ref().map(|token| token.read());
        Credentials::new(keys.access_key.read(), keys.secret_key.read(), token, None, OWN)
    };
    let keys = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
    Ok(SharedCredentialsProvider::new(keys))
}

/// What every provider of the library is made with.
struct Library {
    client: SharedHttpClient,
    region: Region,
}

impl Library {
    fn provider_config(&self) -> ProviderConfig {
        ProviderConfig::without_region()
            .with_region(Some(self.region.clone()))
            .with_http_client(self.client.clone())
            .with_retry_config(self.retries())
    }

    fn retries(&self) -> RetryConfig {
        RetryConfig::standard().with_max_attempts(ATTEMPTS)
    }

    async fn default_chain(&self) -> SharedCredentialsProvider {
        let chain = DefaultCredentialsChain::builder().configure(self.provider_config()).region(self.region.clone());
        SharedCredentialsProvider::new(chain.build().await)
    }

    /// Settings of a client of the token service that `role` is asked of.
    fn token_service(&self, role: &AssumedRole) -> SdkConfig {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.region.clone())
            .http_client(self.client.clone())
            .retry_config(self.retries())
            .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SystemTimeSource::new());
        if let Some(endpoint) = &role.endpoint {
            config = config.endpoint_url(endpoint.as_str());
        }
        config.build()
    }

    async fn assume_role(
        &self,
        role: &AssumedRole,
        external_id: Option<&str>,
        source: SharedCredentialsProvider,
    ) -> SharedCredentialsProvider {
        let mut builder = AssumeRoleProvider::builder(role.arn.as_str())
            .session_name(role.session_name.as_str())
            .configure(&self.token_service(role));
        if let Some(duration) = role.duration {
            builder = builder.session_length(duration);
        }
        if let Some(id) = external_id {
            builder = builder.external_id(id);
        }
        SharedCredentialsProvider::new(builder.build_from_provider(source).await)
    }

    /// Exchanges the token in a file for keys. The library's own provider of them cannot be told the service's address.
    async fn web_identity(&self, role: &AssumedRole, token_file: &Path) -> Result<TemporaryKeys, String> {
        let file = token_file.to_owned();
        let read = tokio::task::spawn_blocking(move || regular_file::read_text(&file, MAX_TOKEN_BYTES)).await;
        let token = read.map_err(|error| error.to_string())?;
        let token = token.map_err(|error| format!("the token in {} cannot be read: {error}", token_file.display()))?;
        let client = aws_sdk_sts::Client::new(&self.token_service(role));
        let seconds = role.duration.and_then(|duration| i32::try_from(duration.as_secs()).ok());
        let question = client
            .assume_role_with_web_identity()
            .role_arn(role.arn.as_str())
            .role_session_name(role.session_name.as_str())
            .set_duration_seconds(seconds)
            .web_identity_token(token.trim());
        let answer = question.send().await.map_err(|error| chain(&error))?;
        let keys = answer.credentials.ok_or_else(|| "its answer has no keys".to_owned())?;
        let end = u64::try_from(keys.expiration.secs()).unwrap_or(0);
        Ok(TemporaryKeys {
            access_key: Secret::new(keys.access_key_id),
            secret_key: Secret::new(keys.secret_access_key),
            session_token: Some(Secret::new(keys.session_token)),
            expires_at: Some(end),
        })
    }
}
