//! The providers as Amazon's library has them. Each attempt makes a provider anew: files and variables that changed since
//! are read again, and nothing of an answer is kept but the keys and the service's clock.

use std::error::Error;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::imds;
use aws_config::imds::client::error::ImdsError;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use url::Url;

use crate::aws_http_client::{AwsHttpClient, ServiceClock};
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

/// Asks `provider` for keys. Blocks, where it reads files. The error is for the operator and holds no secret.
pub(crate) async fn fetch(provider: &CredentialProvider, client: &AwsHttpClient) -> Result<TemporaryKeys, String> {
    let library = Library {
        client: SharedHttpClient::new(client.clone()),
        clock: client.clock.clone(),
        region: Region::new(provider.region.clone()),
    };
    let source = match &provider.kind {
        ProviderKind::WebIdentity { role, token_file } => return library.web_identity(role, token_file).await,
        ProviderKind::AssumeRole { role, keys, external_id } => {
            let source = match keys {
                Some(keys) => read(keys),
                None => library.default_chain().await,
            };
            return library.assume_role(role, external_id.as_deref(), source).await;
        }
        ProviderKind::DefaultChain => library.default_chain().await,
        ProviderKind::Container => {
            let builder = EcsCredentialsProvider::builder().configure(&library.provider_config());
            SharedCredentialsProvider::new(builder.build())
        }
        ProviderKind::Profile(name) => {
            let builder = ProfileFileCredentialsProvider::builder().configure(&library.provider_config());
            let builder = name.iter().fold(builder, |builder, name| builder.profile_name(name));
            SharedCredentialsProvider::new(builder.build())
        }
        ProviderKind::Instance(endpoint) => library.instance(endpoint.as_ref())?,
    };
    let given = source.provide_credentials().await.map_err(|error| reason(&error))?;
    let seconds = |end: SystemTime| end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(TemporaryKeys {
        access_key: Secret::new(given.access_key_id()),
        secret_key: Secret::new(given.secret_access_key()),
        session_token: given.session_token().map(Secret::new),
        expires_at: library.end(given.expiry().map(seconds))?,
    })
}

/// Returns why `error` came about: by code and message where a service named them. Its other words are of one answer, such as
/// the id of the request, and would make each failure news.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut sources = std::iter::successors(Some(error), |error| (**error).source());
    // A chain of providers says in several lines what became of each.
    sources.find_map(said).unwrap_or_else(|| chain(error).split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns what a service said in this error; `None` where it is none of a service, or has no code.
fn said(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(ImdsError::ErrorResponse(answer)) = error.downcast_ref() {
        return Some(format!("the metadata service answered {}", answer.response().status()));
    }
    let role = error.downcast_ref::<AssumeRoleError>().map(ProvideErrorMetadata::meta);
    let identity = || error.downcast_ref::<AssumeRoleWithWebIdentityError>().map(ProvideErrorMetadata::meta);
    let meta = role.or_else(identity)?;
    let code = meta.code()?;
    Some(meta.message().map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
}

/// Reads keys of the configuration, again where they are in files.
fn read(keys: &StoreKeys) -> SharedCredentialsProvider {
    let token = keys.session_token.as_ref().map(|token| token.read());
    SharedCredentialsProvider::new(Credentials::new(keys.access_key.read(), keys.secret_key.read(), token, None, OWN))
}

/// What every provider of the library is made with.
struct Library {
    client: SharedHttpClient,
    clock: ServiceClock,
    region: Region,
}

impl Library {
    fn provider_config(&self) -> ProviderConfig {
        ProviderConfig::without_region()
            .with_region(Some(self.region.clone()))
            .with_http_client(self.client.clone())
            .with_time_source(self.clock.clone())
            .with_retry_config(self.retries())
    }

    fn retries(&self) -> RetryConfig {
        RetryConfig::standard().with_max_attempts(ATTEMPTS)
    }

    async fn default_chain(&self) -> SharedCredentialsProvider {
        let chain = DefaultCredentialsChain::builder().configure(self.provider_config()).region(self.region.clone());
        SharedCredentialsProvider::new(chain.build().await)
    }

    fn instance(&self, endpoint: Option<&Url>) -> Result<SharedCredentialsProvider, String> {
        let config = self.provider_config();
        let mut service = imds::Client::builder().configure(&config).max_attempts(ATTEMPTS);
        if let Some(endpoint) = endpoint {
            service = service.endpoint(endpoint.as_str()).map_err(|error| error.to_string())?;
        }
        let builder = ImdsCredentialsProvider::builder().configure(&config).imds_client(service.build());
        Ok(SharedCredentialsProvider::new(builder.build()))
    }

    /// Returns a client of the token service that `role` is asked of. Its requests are signed with the keys of `source`.
    fn token_service(&self, role: &AssumedRole, source: Option<SharedCredentialsProvider>) -> aws_sdk_sts::Client {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.region.clone())
            .http_client(self.client.clone())
            .retry_config(self.retries())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(self.clock.clone())
            .identity_cache(IdentityCache::no_cache());
        config.set_credentials_provider(source);
        if let Some(endpoint) = &role.endpoint {
            config = config.endpoint_url(endpoint.as_str());
        }
        aws_sdk_sts::Client::new(&config.build())
    }

    /// Asks for the keys of `role` with those of `source`. The library's own provider of them takes no answer without the
    /// role's name, which MinIO's has not.
    async fn assume_role(
        &self,
        role: &AssumedRole,
        external_id: Option<&str>,
        source: SharedCredentialsProvider,
    ) -> Result<TemporaryKeys, String> {
        let question = self
            .token_service(role, Some(source))
            .assume_role()
            .role_arn(role.arn.as_str())
            .role_session_name(role.session_name.as_str())
            .set_duration_seconds(seconds(role))
            .set_external_id(external_id.map(str::to_owned));
        self.keys(question.send().await.map_err(|error| reason(&error))?.credentials)
    }

    /// Exchanges the token in a file for keys. The library's own provider of them cannot be told the service's address.
    async fn web_identity(&self, role: &AssumedRole, token_file: &Path) -> Result<TemporaryKeys, String> {
        let token = regular_file::read_text(token_file, MAX_TOKEN_BYTES)
            .map_err(|error| format!("the token in {} cannot be read: {error}", token_file.display()))?;
        let question = self
            .token_service(role, None)
            .assume_role_with_web_identity()
            .role_arn(role.arn.as_str())
            .role_session_name(role.session_name.as_str())
            .set_duration_seconds(seconds(role))
            .web_identity_token(token.trim());
        self.keys(question.send().await.map_err(|error| reason(&error))?.credentials)
    }

    /// Returns the keys of the token service's answer.
    fn keys(&self, given: Option<aws_sdk_sts::types::Credentials>) -> Result<TemporaryKeys, String> {
        let given = given.ok_or_else(|| "its answer has no keys".to_owned())?;
        Ok(TemporaryKeys {
            access_key: Secret::new(given.access_key_id),
            secret_key: Secret::new(given.secret_access_key),
            session_token: Some(Secret::new(given.session_token)),
            expires_at: self.end(u64::try_from(given.expiration.secs()).ok())?,
        })
    }

    /// Returns the end of keys by our clock. The library takes an answer without one for an end in 1970.
    fn end(&self, end: Option<u64>) -> Result<Option<u64>, String> {
        match end {
            Some(0) => Err("it gave keys without an expiration".to_owned()),
            end => Ok(end.map(|end| self.clock.to_ours(end))),
        }
    }
}

fn seconds(role: &AssumedRole) -> Option<i32> {
    role.duration.and_then(|duration| i32::try_from(duration.as_secs()).ok())
}
