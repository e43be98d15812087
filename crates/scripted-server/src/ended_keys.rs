//! For tests: a signer whose keys have ended, and the provider that has others when it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use primitives::clock::Clock;
use primitives::secret::Secret;
use s3::credentials::{CredentialRenewal, TemporaryKeys};
use s3::settings::{CredentialProvider, ProviderKind, StoreCredentials, StoreEndpoint, StoreSettings};
use s3::signer::Signer;
use url::Url;

/// A signer with the keys `OLD`, whose provider gives `NEW`.
pub struct EndedKeys {
    /// The signer.
    pub signer: Arc<Signer>,
    renewal: Arc<CredentialRenewal>,
    questions: AtomicUsize,
}

impl EndedKeys {
    /// Creates the signer of the store at `endpoint`.
    pub fn at(endpoint: Url) -> Self {
        let provider = CredentialProvider { kind: ProviderKind::Container, region: "us-east-1".to_owned() };
        let settings = StoreSettings {
            name: "store".into(),
            endpoint: StoreEndpoint::Remote(endpoint.clone()),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: StoreCredentials::Temporary(Arc::new(provider)),
            presign_expiry: Duration::from_secs(900),
        };
        let renewal = Arc::new(CredentialRenewal::default());
        let signer = Signer::new(settings, endpoint, Clock::system()).renewed_by(Arc::clone(&renewal));
        signer.set_credentials(&keys("OLD"));
        Self { signer: Arc::new(signer), renewal, questions: AtomicUsize::new(0) }
    }

    /// Returns how often the provider was asked for other keys.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    /// Runs `test` with the provider beside it.
    pub async fn beside(&self, test: impl Future<Output = ()>) {
        let provider = async {
            loop {
                self.renewal.wanted().await;
                self.questions.fetch_add(1, Ordering::Relaxed);
                self.signer.set_credentials(&keys("NEW"));
                self.renewal.attempted();
            }
        };
        tokio::select! {
            () = test => {}
            () = provider => {}
        }
    }
}

/// Returns the refusal of a store that says of the keys `OLD` that they have ended; `None` for a request with others.
pub fn ended_keys_response(head: &str) -> Option<String> {
    head.contains("X-Amz-Credential=OLD").then(|| store_refusal(400, "ExpiredToken"))
}

/// Returns the response of a store that refuses a request by this status and code.
pub fn store_refusal(status: u16, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code></Error>");
    format!("HTTP/1.1 {status} Refused\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn keys(name: &str) -> TemporaryKeys {
    let (access_key, secret_key) = (Secret::new(name), Secret::new("secret"));
    TemporaryKeys { access_key, secret_key, session_token: None, expires_at: None }
}
