//! Store of the films, as far as it is asked whether a manifest is there.

use std::sync::Arc;
use std::time::Duration;

use http::header::RANGE;
use reqwest::Response;

use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, chain, line};
use primitives::loading_cache::LoadingCache;
use s3::error_body::StoreError;
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

/// The store has not been asked, or has not answered; the log says why.
struct Unanswered;

impl FilmStoreState {
    async fn ask(&self, key: &str) -> Option<bool> {
        let object = UnsignedRequest { head: false, bucket: &self.bucket, key };
        match self.signer.ask(Some(&object), || self.ask_once(&object)).await.ok()? {
            // The second is an empty one.
            Ok(_) | Err((_, StoreError::RangeNotSatisfiable { .. })) => Some(true),
            Err((_, StoreError::Denied)) => {
                self.failed("the store denies it: it is not there, or the keys may not read it");
                Some(false)
            }
            Err((_, error)) if error.is_absence() => Some(false),
            Err((status, _)) => {
                self.failed(&format!("status {}", status.as_u16()));
                None
            }
        }
    }

    /// Asks for the first byte: why a HEAD is refused is not said.
    async fn ask_once(&self, object: &UnsignedRequest<'_>) -> Result<Response, Unanswered> {
        let signed = self.signer.sign(object).map_err(|error| self.failed(&error.to_string()))?;
        let url = signed.request.url(self.signer.endpoint()).ok_or(Unanswered)?;
        let sent = self.client.get(url).header(RANGE, "bytes=0-0").timeout(TIMEOUT).send().await;
        let response = sent.map_err(|error| self.failed(line(&chain(&error.without_url()))))?;
        if self.failures.is_over(monotonic_now()) {
            tracing::info!("manifests of films can be looked up again");
        }
        Ok(response)
    }

    fn failed(&self, error: &str) -> Unanswered {
        if self.failures.is_news(error, monotonic_now()) {
            tracing::warn!(error, "a manifest of a film could not be looked up");
        }
        Unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use scripted_server::{EndedKeys, ScriptedServer, ended_keys_response, store_refusal};

    /// A store that denies what is not there, and says of the keys `OLD` that they have ended.
    fn answer(head: &str) -> String {
        if head.starts_with("GET /films/absent") {
            return store_refusal(403, "AccessDenied");
        }
        ended_keys_response(head).unwrap_or_else(|| match head.starts_with("GET /films/empty") {
            true => store_refusal(416, "InvalidRange"),
            false => "HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\n#".to_owned(),
        })
    }

    #[tokio::test]
    async fn a_film_that_is_not_there_asks_for_no_other_keys_and_one_of_ended_keys_does() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = ScriptedServer::start(|head, _| Some(answer(head))).await;
        let keys = EndedKeys::at(server.url());
        let asked = async {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let films = FilmStore::new(Arc::clone(&keys.signer), client, "films".into());
            assert_eq!(films.has("absent/index.m3u8").await, Some(false));
            assert_eq!(keys.questions(), 0, "it is only not there");
            assert_eq!(films.has("there/index.m3u8").await, Some(true));
            assert_eq!(films.has("empty/index.m3u8").await, Some(true));
            assert_eq!(keys.questions(), 1);
        };
        keys.beside(asked).await;
    }
}
