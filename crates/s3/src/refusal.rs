//! What a store's refusal says of the signature: the store's clock is learnt, or other credentials are got, and the request
//! may succeed when it is signed anew. The one place for this rule, whoever asks the store.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};
use reqwest::Response;

use crate::error_body::{MAX_ERROR_BODY, StoreError, classify};
use crate::signed_request_cache::UnsignedRequest;
use crate::signer::Signer;

/// A store's refusal, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its meaning.
    pub error: StoreError,
    /// True where signatures differ from that of the request since: the same one may succeed when it is sent again.
    pub is_mended: bool,
}

impl Signer {
    /// Sends a request by `send`, which signs it, and once more where the store may let it in with other keys or another clock.
    /// A kept signature of `object` is dropped where the store refuses it. Returns the response of a success, else status and
    /// meaning of the refusal; fails as `send` does.
    pub async fn ask<E, F: Future<Output = Result<Response, E>> + Send>(
        &self,
        object: Option<&UnsignedRequest<'_>>,
        send: impl Fn() -> F + Send + Sync,
    ) -> Result<Result<Response, (StatusCode, StoreError)>, E> {
        let mut is_first = true;
        loop {
            // Before the signature: if the keys change in between, it counts as outdated.
            let generation = self.generation();
            let response = send().await?;
            let status = response.status();
            if status.is_success() {
                return Ok(Ok(response));
            }
            let Refusal { error, is_mended } = self.take_refusal(generation, response).await;
            if let Some(object) = object.filter(|_| error.is_of_signature()) {
                self.forget(object);
            }
            if !is_mended || !std::mem::take(&mut is_first) {
                return Ok(Err((status, error)));
            }
        }
    }

    /// Takes in the response of status 400 and above to a request, no HEAD, that was signed with `generation`: reads the
    /// beginning of its body, classifies it, and learns from it as [`Signer::learn_from`] does.
    pub async fn take_refusal(&self, generation: u64, mut response: Response) -> Refusal {
        let mut body = Vec::new();
        // A body that breaks off says what it has said.
        while body.len() < MAX_ERROR_BODY
            && let Ok(Some(piece)) = response.chunk().await
        {
            body.extend_from_slice(&piece);
        }
        let error = classify(response.status(), response.headers(), &body, false);
        Refusal { error, is_mended: self.learn_from(generation, error, response.headers()).await }
    }

    /// Learns the store's clock, or gets other credentials, where they are the reason why a request that was signed with
    /// `generation` was refused. Nothing else leads to them: keys that may not list a bucket are denied every object
    /// that is not there. Returns true where signatures differ since that request. May wait two seconds for a provider.
    pub async fn learn_from(&self, generation: u64, error: StoreError, headers: &HeaderMap) -> bool {
        match error {
            StoreError::Expired => {
                date(headers).is_some_and(|date| self.learn_clock(date)) || self.is_outdated(generation)
            }
            StoreError::SignatureMismatch | StoreError::UnknownCredentials => self.renew_credentials(generation).await,
            _ => false,
        }
    }
}

/// Returns the time of the store's clock, as the headers of its response have it.
pub fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}
