//! What is known of a bucket: from the questions that players' requests put to its store, and from one that readiness puts
//! beside them. Whether the store's servers can be reached is known to their cluster.

use std::sync::atomic::{AtomicU8, Ordering};

use http::HeaderValue;
use parking_lot::Mutex;

use super::fetch::{DRAIN_TIME, Question, is_read, prepare_signature, refused_for_good, request_head};
use super::{Failure, Origin};
use s3::error_body::{MAX_ERROR_BODY, StoreError, classify};
use s3::signer::SignError;
use s3::url_cache::Object;
use upstream::cluster::Member;
use upstream::connection::{ExchangeError, Response};
use upstream::destination::ConnectError;
use upstream::error::UpstreamError;

/// The key that readiness asks a bucket for; it need not exist. With GET: the answer to a HEAD does not say why it is denied.
const KEY: &str = ".tidegate-readiness";

const UNKNOWN: u8 = 0;
const USABLE: u8 = 1;
const FAULTY: u8 = 2;

/// Whether a bucket can be used; unknown at first.
#[derive(Debug)]
pub struct Health {
    state: AtomicU8,
    fault: Mutex<Option<String>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: AtomicU8::new(UNKNOWN), fault: Mutex::new(None) }
    }
}

impl Health {
    /// Whether requests for it that reach the store can succeed.
    pub fn is_good(&self) -> bool {
        self.state.load(Ordering::Relaxed) == USABLE
    }

    /// Why it cannot be used, in words for the operator; `None` where it can.
    pub fn fault(&self) -> Option<String> {
        match self.state.load(Ordering::Relaxed) {
            USABLE => None,
            UNKNOWN => Some("it has not been asked yet".to_owned()),
            _ => self.fault.lock().clone().or_else(|| Some("it cannot be used".to_owned())),
        }
    }

    /// What a question's outcome says of the bucket: only faults of the configuration count, and an object ends them.
    pub(super) fn learn(&self, failure: Option<&Failure>) {
        match failure {
            Some(
                fault @ (Failure::NoSuchBucket | Failure::Unsignable(_) | Failure::Credentials | Failure::Signature),
            ) => self.is_faulty(fault.to_string()),
            None => self.is_usable(),
            Some(_) => {}
        }
    }

    fn is_usable(&self) {
        if self.state.load(Ordering::Relaxed) != USABLE {
            self.state.store(USABLE, Ordering::Relaxed);
        }
    }

    fn is_faulty(&self, fault: String) {
        *self.fault.lock() = Some(fault);
        self.state.store(FAULTY, Ordering::Relaxed);
    }
}

/// Asks the bucket of `origin` for an object that need not exist, which decides whether it can be used. Beside the breaker
/// and the retry budget: those are for what players ask.
pub async fn probe(origin: &Origin) {
    let mut outcome = Err("the cluster has no destination".to_owned());
    for member in origin.cluster.members() {
        outcome = match ask(origin, member).await {
            Ok(None) => Ok(()),
            Ok(Some(refused)) => Err(refused.to_string()),
            Err(failure) => {
                let error = failure.upstream().map(|error| UpstreamError::of(origin.cluster.id(), member, error));
                outcome = Err(error.map_or_else(|| failure.to_string(), |error| error.to_string()));
                continue;
            }
        };
        break;
    }
    match outcome {
        Ok(()) => origin.health.is_usable(),
        Err(fault) => origin.health.is_faulty(fault),
    }
}

/// Why a destination gave no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("no request to the store can be signed: {0}")]
    Unsignable(#[from] SignError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl Unanswered {
    fn upstream(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsignable(_) => None,
            Self::Connect(error) => Some(error),
            Self::Exchange(error) => Some(error),
        }
    }
}

/// Asks one destination; a fault of the bucket, where its answer shows one.
async fn ask(origin: &Origin, member: &Member) -> Result<Option<Failure>, Unanswered> {
    let object = Object { head: false, bucket: &origin.bucket, key: KEY };
    let range = HeaderValue::from_static("bytes=0-0");
    let question = Question { head: false, key: KEY, range: Some(&range), if_match: None, room: 0 };
    let mut is_last = false;
    loop {
        let signed = origin.signer.sign(&object)?;
        let mut response = exchange(origin, member, &request_head(&signed.request, &question)).await?;
        if response.status.as_u16() < 400 {
            return Ok(None);
        }
        let body = response.body.drain(MAX_ERROR_BODY, DRAIN_TIME).await;
        let error = classify(response.status, &response.headers, &body, false);
        let again = match error {
            // A store that says no such thing of the object is at work, and so is one that is busy.
            StoreError::NoSuchKey
            | StoreError::DeleteMarker
            | StoreError::Denied
            | StoreError::Archived
            | StoreError::PreconditionFailed
            | StoreError::RangeNotSatisfiable { .. }
            | StoreError::Throttled { .. } => return Ok(None),
            // Its clock is learnt from the answer.
            StoreError::Expired => true,
            StoreError::SignatureMismatch | StoreError::UnknownCredentials => origin.signer.reload_credentials(),
            StoreError::NoSuchBucket | StoreError::RefusedHead | StoreError::Broken | StoreError::Unexpected => false,
        };
        prepare_signature(origin, &object, &signed, error, &response);
        if is_last || !again {
            return Ok(Some(refused_for_good(origin, error)));
        }
        is_last = true;
    }
}

async fn exchange(origin: &Origin, member: &Member, head: &[u8]) -> Result<Response, Unanswered> {
    let (connect, first_byte) = (origin.timeouts.connect, origin.timeouts.first_byte);
    let connection = member.destination.connection(connect).await?;
    match connection.exchange(head, false, is_read, 0, first_byte).await {
        Err(ExchangeError::Closed { reused: true, .. }) => {
            let connection = member.destination.new_connection(connect).await?;
            Ok(connection.exchange(head, false, is_read, 0, first_byte).await?)
        }
        answered => Ok(answered?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_unusable_until_it_was_asked_and_while_its_configuration_is_wrong() {
        let health = Health::default();
        assert_eq!((health.is_good(), health.fault().as_deref()), (false, Some("it has not been asked yet")));
        health.learn(Some(&Failure::NotFound));
        assert!(!health.is_good());
        health.learn(None);
        assert_eq!((health.is_good(), health.fault()), (true, None));
        health.learn(Some(&Failure::Timeout));
        assert!(health.is_good());
        health.learn(Some(&Failure::NoSuchBucket));
        assert_eq!(health.fault().as_deref(), Some("the store has no such bucket: check Bucket"));
    }
}
