//! What is known of a bucket: from the questions that players' requests put to its store, and from one that readiness puts
//! beside them. Whether the store's servers can be reached is known to their cluster.

use std::sync::atomic::{AtomicU8, Ordering};

use http::HeaderValue;
use parking_lot::Mutex;

use super::fetch::{DRAIN_TIME, StoreRequest, is_kept_header, prepare_signature, request_head, terminal_error};
use super::{ObjectError, ObjectOrigin};
use s3::error_body::{MAX_ERROR_BODY, StoreError, classify};
use s3::signed_request_cache::UnsignedRequest;
use s3::signer::SignError;
use upstream::cluster::ClusterMember;
use upstream::connection::{ExchangeError, UpstreamResponse};
use upstream::destination::ConnectError;
use upstream::error::UpstreamError;

/// The key that readiness asks a bucket for; it need not exist. With GET: the answer to a HEAD does not say why it is denied.
const PROBE_KEY: &str = ".tidegate-readiness";

const UNKNOWN: u8 = 0;
const USABLE: u8 = 1;
const FAULTY: u8 = 2;

/// Whether a bucket can be used; unknown at first.
#[derive(Debug)]
pub struct BucketHealth {
    state: AtomicU8,
    fault: Mutex<Option<String>>,
}

impl Default for BucketHealth {
    fn default() -> Self {
        Self { state: AtomicU8::new(UNKNOWN), fault: Mutex::new(None) }
    }
}

impl BucketHealth {
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
    pub(super) fn record_outcome(&self, failure: Option<&ObjectError>) {
        match failure {
            Some(
                fault @ (ObjectError::NoSuchBucket
                | ObjectError::Unsignable(_)
                | ObjectError::Credentials
                | ObjectError::Signature),
            ) => self.mark_faulty(fault.to_string()),
            None => self.mark_usable(),
            Some(_) => {}
        }
    }

    fn mark_usable(&self) {
        if self.state.load(Ordering::Relaxed) != USABLE {
            self.state.store(USABLE, Ordering::Relaxed);
        }
    }

    fn mark_faulty(&self, fault: String) {
        *self.fault.lock() = Some(fault);
        self.state.store(FAULTY, Ordering::Relaxed);
    }
}

/// Asks the bucket of `origin` for an object that need not exist, which decides whether it can be used. Beside the breaker
/// and the retry budget: those are for what players ask.
pub async fn probe_bucket(origin: &ObjectOrigin) {
    let mut outcome = Err("the cluster has no destination".to_owned());
    for member in origin.cluster.members() {
        outcome = match probe_destination(origin, member).await {
            Ok(None) => Ok(()),
            Ok(Some(refused)) => Err(refused.to_string()),
            Err(failure) => {
                let error =
                    failure.upstream().map(|error| UpstreamError::for_member(origin.cluster.id(), member, error));
                outcome = Err(error.map_or_else(|| failure.to_string(), |error| error.to_string()));
                continue;
            }
        };
        break;
    }
    match outcome {
        Ok(()) => origin.health.mark_usable(),
        Err(fault) => origin.health.mark_faulty(fault),
    }
}

/// Why a destination gave no answer.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("no request to the store can be signed: {0}")]
    Unsignable(#[from] SignError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl ProbeError {
    fn upstream(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsignable(_) => None,
            Self::Connect(error) => Some(error),
            Self::Exchange(error) => Some(error),
        }
    }
}

/// Asks one destination; a fault of the bucket, where its answer shows one.
async fn probe_destination(origin: &ObjectOrigin, member: &ClusterMember) -> Result<Option<ObjectError>, ProbeError> {
    let object = UnsignedRequest { head: false, bucket: &origin.bucket, key: PROBE_KEY };
    let range = HeaderValue::from_static("bytes=0-0");
    let question = StoreRequest { head: false, key: PROBE_KEY, range: Some(&range), if_match: None, room: 0 };
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
            return Ok(Some(terminal_error(origin, error)));
        }
        is_last = true;
    }
}

async fn exchange(origin: &ObjectOrigin, member: &ClusterMember, head: &[u8]) -> Result<UpstreamResponse, ProbeError> {
    let (connect, first_byte) = (origin.timeouts.connect, origin.timeouts.first_byte);
    let connection = member.destination.connection(connect).await?;
    match connection.exchange(head, false, is_kept_header, 0, first_byte).await {
        Err(ExchangeError::Closed { reused: true, .. }) => {
            let connection = member.destination.new_connection(connect).await?;
            Ok(connection.exchange(head, false, is_kept_header, 0, first_byte).await?)
        }
        answered => Ok(answered?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_unusable_until_it_was_asked_and_while_its_configuration_is_wrong() {
        let health = BucketHealth::default();
        assert_eq!((health.is_good(), health.fault().as_deref()), (false, Some("it has not been asked yet")));
        health.record_outcome(Some(&ObjectError::NotFound));
        assert!(!health.is_good());
        health.record_outcome(None);
        assert_eq!((health.is_good(), health.fault()), (true, None));
        health.record_outcome(Some(&ObjectError::Timeout));
        assert!(health.is_good());
        health.record_outcome(Some(&ObjectError::NoSuchBucket));
        assert_eq!(health.fault().as_deref(), Some("the store has no such bucket: check Bucket"));
    }
}
