//! Health of a bucket, from two sources: the requests of clients, and a request that readiness sends beside them. The
//! cluster knows whether the store's servers can be reached.

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

/// Key that readiness requests; it need not exist. The request is a GET, because a refused HEAD does not say the
/// reason.
const PROBE_KEY: &str = ".tidegate-readiness";

const UNKNOWN: u8 = 0;
const USABLE: u8 = 1;
const FAULTY: u8 = 2;

/// Health of a bucket; unknown at first.
#[derive(Debug)]
pub struct BucketHealth {
    // Atomic beside the lock: successful requests, which are many, only read it.
    state: AtomicU8,
    fault: Mutex<Option<String>>,
}

impl Default for BucketHealth {
    fn default() -> Self {
        Self { state: AtomicU8::new(UNKNOWN), fault: Mutex::new(None) }
    }
}

impl BucketHealth {
    /// Returns true if the last request that told something showed the bucket to be usable; false while nothing is
    /// known.
    pub fn is_good(&self) -> bool {
        self.state.load(Ordering::Relaxed) == USABLE
    }

    /// Returns the reason for which the bucket cannot be used, for the operator; `None` where it can.
    pub fn fault(&self) -> Option<String> {
        match self.state.load(Ordering::Relaxed) {
            USABLE => None,
            UNKNOWN => Some("it has not been asked yet".to_owned()),
            _ => self.fault.lock().clone().or_else(|| Some("it cannot be used".to_owned())),
        }
    }

    /// Records the outcome of a client's request. Only errors of the configuration mark the bucket as unusable, and
    /// only an object or the next probe ends that.
    pub(super) fn record_outcome(&self, failure: Option<&ObjectError>) {
        match failure {
            Some(
                fault @ (ObjectError::NoSuchBucket
                | ObjectError::Unsignable(_)
                | ObjectError::Credentials
                | ObjectError::Signature),
            ) => self.mark_faulty(fault.to_string()),
            None => self.mark_usable(),
            // The rest says something of one object or of the servers, which their cluster knows.
            Some(_) => {}
        }
    }

    fn mark_usable(&self) {
        // Every object that is served comes here: an unchanged state is not written.
        if self.state.load(Ordering::Relaxed) != USABLE {
            self.state.store(USABLE, Ordering::Relaxed);
        }
    }

    fn mark_faulty(&self, fault: String) {
        // The reason first: a reader that sees `FAULTY` looks for it.
        *self.fault.lock() = Some(fault);
        self.state.store(FAULTY, Ordering::Relaxed);
    }
}

/// Probes the bucket of `origin`, one destination after the other until one responds, by requesting an object that need
/// not exist, and records the outcome: an object that is missing or denied, and throttling, count as usable. Ignores circuit
/// breaker and retry budget, which are for the requests of clients.
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
                // Another destination may answer; the last failure stands if none does.
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

/// Failure to get a response from a destination.
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
    /// Returns the failure of the server; `None` where it was not asked.
    fn upstream(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsignable(_) => None,
            Self::Connect(error) => Some(error),
            Self::Exchange(error) => Some(error),
        }
    }
}

/// Probes one destination; returns the fault of the bucket that its response shows, `None` where it shows none.
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
            // A store that says such a thing of the object works, and so does one that asks for patience.
            StoreError::NoSuchKey
            | StoreError::DeleteMarker
            | StoreError::Denied
            | StoreError::Archived
            | StoreError::PreconditionFailed
            | StoreError::RangeNotSatisfiable { .. }
            | StoreError::Throttled { .. } => return Ok(None),
            // `prepare_signature` learns the store's clock from this response.
            StoreError::Expired => true,
            StoreError::SignatureMismatch | StoreError::UnknownCredentials => origin.signer.renew_credentials().await,
            StoreError::NoSuchBucket
            | StoreError::RefusedHead
            | StoreError::Broken
            | StoreError::BadGateway
            | StoreError::Unexpected => false,
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
        // The server closed an idle connection: one more attempt on a new one.
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
