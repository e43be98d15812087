//! Store of the films, as far as it is asked whether a manifest is there.

use std::sync::Arc;
use std::time::Duration;

use http::header::RANGE;
use reqwest::Response;
use url::Url;

use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::loading_cache::LoadingCache;
use s3::error_body::StoreError;
use s3::refusal::Refusal;
use s3::signed_request_cache::UnsignedRequest;
use s3::signer::Signer;

/// Time for which an answer is believed: a film that was just uploaded can be started soon.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// Memory for answers, in bytes.
const CACHE_BYTES: usize = 8 << 20;
/// Time limit of a question.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Store of the films. Clones share it.
#[derive(Clone)]
pub struct FilmStore(Arc<FilmStoreState>);

struct FilmStoreState {
    signer: Arc<Signer>,
    client: reqwest::Client,
    bucket: Arc<str>,
    known: LoadingCache<bool>,
    failures: FailureLog,
}

impl FilmStore {
    /// Creates the store of `bucket`, asked with `client`.
    pub fn new(signer: Arc<Signer>, client: reqwest::Client, bucket: Arc<str>) -> Self {
        // An answer is used on while the store is away: whoever has it cached may play.
        let known = LoadingCache::new(CACHE_BYTES, CACHE_TTL, true, |_| 0);
        Self(Arc::new(FilmStoreState { signer, client, bucket, known, failures: FailureLog::default() }))
    }

    /// Returns true if the object `key` is there; `None` if the store does not answer.
    pub async fn has(&self, key: &str) -> Option<bool> {
        let (state, asked) = (Arc::clone(&self.0), key.to_owned());
        self.0.known.get(key, || async move { state.ask(&asked).await }).await
    }
}

impl FilmStoreState {
    async fn ask(&self, key: &str) -> Option<bool> {
        let object = UnsignedRequest { head: false, bucket: &self.bucket, key };
        let mut is_first = true;
        loop {
            // Before the signature: if the keys change in between, it counts as outdated.
            let generation = self.signer.generation();
            let response = self.ask_once(&object).await?;
            let status = response.status();
            if status.is_success() {
                return Some(true);
            }
            let Refusal { error, is_mended } = self.signer.take_refusal(generation, response).await;
            if error.is_of_signature() {
                self.signer.forget(&object);
            }
            // With other keys or another clock it may be let in.
            if is_mended && std::mem::take(&mut is_first) {
                continue;
            }
            return match error {
                // It is empty.
                StoreError::RangeNotSatisfiable { .. } => Some(true),
                StoreError::Denied => {
                    self.failed("the store denies it: it is not there, or the keys may not read it");
                    Some(false)
                }
                error if error.is_absence() => Some(false),
                _ => {
                    self.failed(&format!("status {}", status.as_u16()));
                    None
                }
            };
        }
    }

    /// Asks for the first byte: why a HEAD is refused is not said.
    async fn ask_once(&self, object: &UnsignedRequest<'_>) -> Option<Response> {
        let signed = self.signer.sign(object).map_err(|error| self.failed(&error.to_string())).ok()?;
        let url = request_url(self.signer.endpoint(), &signed.request.head)?;
        match self.client.get(url).header(RANGE, "bytes=0-0").timeout(TIMEOUT).send().await {
            Ok(response) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!("manifests of films can be looked up again");
                }
                Some(response)
            }
            Err(error) => {
                self.failed(line(&chain(&error.without_url())));
                None
            }
        }
    }

    fn failed(&self, error: &str) {
        if self.failures.is_news(error, monotonic_now()) {
            tracing::warn!(error, "a manifest of a film could not be looked up");
        }
    }
}

/// Returns the URL of a signed request: its target, at the host that it names.
fn request_url(endpoint: &Url, head: &[u8]) -> Option<Url> {
    let text = std::str::from_utf8(head).ok()?;
    let target = text.split(' ').nth(1)?;
    let host = text.lines().find_map(|line| line.strip_prefix("Host: "))?;
    format!("{}://{host}{target}", endpoint.scheme()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use primitives::clock::Clock;
    use primitives::secret::Secret;
    use s3::credentials::{CredentialRenewal, TemporaryKeys};
    use s3::settings::{CredentialProvider, ProviderKind, StoreCredentials, StoreEndpoint, StoreSettings};
    use scripted_server::ScriptedServer;

    fn keys(name: &str) -> TemporaryKeys {
        let (access_key, secret_key) = (Secret::new(name), Secret::new("secret"));
        TemporaryKeys { access_key, secret_key, session_token: None, expires_at: None }
    }

    /// A store that denies what is not there, and says of the keys `OLD` that they have ended.
    fn answer(head: &str) -> Option<String> {
        let refusal = |status: u16, code: &str| {
            let body = format!("<Error><Code>{code}</Code></Error>");
            format!("HTTP/1.1 {status} Refused\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        Some(if head.starts_with("GET /films/absent") {
            refusal(403, "AccessDenied")
        } else if head.contains("X-Amz-Credential=OLD") {
            refusal(400, "ExpiredToken")
        } else if head.starts_with("GET /films/empty") {
            refusal(416, "InvalidRange")
        } else {
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\n#".to_owned()
        })
    }

    #[tokio::test]
    async fn a_film_that_is_not_there_asks_for_no_other_keys_and_one_of_ended_keys_does() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = ScriptedServer::start(|head, _| answer(head)).await;
        let provider = CredentialProvider { kind: ProviderKind::Container, region: "us-east-1".to_owned() };
        let settings = StoreSettings {
            name: "store".into(),
            endpoint: StoreEndpoint::Remote(server.url()),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: StoreCredentials::Temporary(Arc::new(provider)),
            presign_expiry: Duration::from_secs(900),
        };
        let (renewal, questions) = (Arc::new(CredentialRenewal::default()), AtomicUsize::new(0));
        let signer = Signer::new(settings, server.url(), Clock::system()).renewed_by(Arc::clone(&renewal));
        signer.set_credentials(&keys("OLD"));
        let signer = Arc::new(signer);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let films = FilmStore::new(Arc::clone(&signer), client, "films".into());
        let provider = async {
            loop {
                renewal.wanted().await;
                questions.fetch_add(1, Ordering::Relaxed);
                signer.set_credentials(&keys("NEW"));
                renewal.attempted();
            }
        };
        let asked = async {
            assert_eq!(films.has("absent/index.m3u8").await, Some(false));
            assert_eq!(questions.load(Ordering::Relaxed), 0, "it is only not there");
            assert_eq!(films.has("there/index.m3u8").await, Some(true));
            assert_eq!(films.has("empty/index.m3u8").await, Some(true));
            assert_eq!(questions.load(Ordering::Relaxed), 1);
        };
        tokio::select! {
            () = asked => {}
            () = provider => {}
        }
    }
}
