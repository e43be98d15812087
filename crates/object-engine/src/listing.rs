//! Listings of folders, page by page: asked of the store each time, within the same limits, breaker and retry budget as objects.

use http::StatusCode;

use super::fetch::{AttemptError, DRAIN_TIME, is_kept_header, terminal_error};
use super::traced::TracedAttempt;
use super::{AttemptStats, ObjectError, ObjectOrigin};
use primitives::clock::monotonic_now;
use s3::error_body::{MAX_ERROR_BODY, StoreError, classify};
use s3::listing::{FolderPage, parse_folder_page};
use upstream::circuit_breaker::FailureKind;
use upstream::cluster::ClusterMember;
use upstream::connection::{ExchangeError, UpstreamResponse};
use upstream::destination::InFlightRequest;

/// Attempts of one page, the first included.
const ATTEMPTS: usize = 2;
/// Most bytes of a page as the store sends it: more than it takes with [`MAX_ENTRIES`] of the longest keys, each byte escaped.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Most entries of a page.
pub const MAX_ENTRIES: u16 = 500;

/// A page of a folder that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct FolderQuestion<'a> {
    /// Beginning of the keys in the folder: empty, or with a slash at its end.
    pub prefix: &'a str,
    /// The store's continuation token; `None`: the first page.
    pub from: Option<&'a str>,
    /// Most entries, [`MAX_ENTRIES`] at most.
    pub most: u16,
}

/// Returns a page of the folder that `question` names; one that is not there is empty. Adds the effort to `tally`. Fails as a
/// request for an object does.
pub async fn list_folder(
    origin: &ObjectOrigin,
    question: &FolderQuestion<'_>,
    tally: &mut AttemptStats,
) -> Result<FolderPage, ObjectError> {
    let budget = origin.cluster.retry_budget();
    budget.deposit(monotonic_now());
    let identity = origin.cluster.identify(&(&origin.bucket, question.prefix));
    let (mut tried, mut failure) = (Vec::new(), ObjectError::Unavailable);
    for attempt in 0..ATTEMPTS {
        if attempt > 0 && !budget.try_withdraw(monotonic_now()) {
            break;
        }
        let Some((member, in_flight)) = origin.cluster.pick(identity, &tried, monotonic_now()) else { break };
        tally.record_attempt(&origin.cluster, member);
        match ask(origin, question, (member, in_flight), tally).await {
            Ok(page) => {
                origin.health.record_outcome(None);
                return Ok(page);
            }
            Err(FailedPage { failure: last, may_retry: false }) => return Err(last),
            Err(FailedPage { failure: last, may_retry: true }) => failure = last,
        }
        tally.retries += u32::from(attempt + 1 < ATTEMPTS);
        tried.push(member.destination.id().clone());
    }
    Err(failure)
}

struct FailedPage {
    failure: ObjectError,
    may_retry: bool,
}

impl From<ObjectError> for FailedPage {
    fn from(failure: ObjectError) -> Self {
        Self { failure, may_retry: false }
    }
}

async fn ask(
    origin: &ObjectOrigin,
    question: &FolderQuestion<'_>,
    (member, mut in_flight): (&ClusterMember, InFlightRequest),
    tally: &mut AttemptStats,
) -> Result<FolderPage, FailedPage> {
    let FolderQuestion { prefix, from, most } = *question;
    // Before the signature: if the keys change in between, it counts as outdated.
    let generation = origin.signer.generation();
    let signed = origin.signer.sign_folder_listing(&origin.bucket, prefix, from, most.min(MAX_ENTRIES));
    let mut head = signed.map_err(ObjectError::Unsignable)?;
    head.extend_from_slice(b"User-Agent: tidegate\r\nAccept-Encoding: identity\r\n\r\n");
    let attempt = TracedAttempt::begin(tally, false);
    let mut response = match send(origin, member, &head).await {
        Ok(response) => response,
        Err(error) => {
            attempt.failed(tally, error.name());
            in_flight.failed(FailureKind::Broken, monotonic_now());
            tally.record_failure(&origin.cluster, member, error.error());
            return Err(FailedPage { failure: error.failure(), may_retry: true });
        }
    };
    attempt.answered(tally, response.status);
    if response.status.is_server_error() {
        in_flight.failed(FailureKind::Broken, monotonic_now());
    } else {
        in_flight.answered(monotonic_now());
    }
    if response.status != StatusCode::OK {
        return Err(refused(origin, generation, response).await);
    }
    let body = response.body.drain(MAX_PAGE_BYTES, origin.timeouts.idle).await;
    let page = std::str::from_utf8(&body).ok().and_then(|text| parse_folder_page(text, prefix));
    page.ok_or(ObjectError::InvalidResponse("a listing that cannot be read").into())
}

async fn send(origin: &ObjectOrigin, member: &ClusterMember, head: &[u8]) -> Result<UpstreamResponse, AttemptError> {
    let (connect, first_byte) = (origin.timeouts.connect, origin.timeouts.first_byte);
    let connection = member.destination.connection(connect).await.map_err(AttemptError::Connect)?;
    match connection.exchange(head, false, is_kept_header, 0, first_byte).await {
        // The server closed an idle connection: once more on a new one.
        Err(ExchangeError::Closed { reused: true, .. }) => {
            let connection = member.destination.new_connection(connect).await.map_err(AttemptError::Connect)?;
            connection.exchange(head, false, is_kept_header, 0, first_byte).await.map_err(AttemptError::Exchange)
        }
        answered => answered.map_err(AttemptError::Exchange),
    }
}

/// Classifies a refusal of a page that was signed with `generation`, and learns from it.
async fn refused(origin: &ObjectOrigin, generation: u64, mut response: UpstreamResponse) -> FailedPage {
    if response.status.as_u16() < 400 {
        return ObjectError::InvalidResponse("a status that only a web server gives").into();
    }
    let body = response.body.drain(MAX_ERROR_BODY, DRAIN_TIME).await;
    let error = classify(response.status, &response.headers, &body, false);
    let is_mended = origin.signer.learn_from(generation, error, &response.headers).await;
    let may_retry =
        is_mended || matches!(error, StoreError::Throttled { .. } | StoreError::Broken | StoreError::BadGateway);
    let failure = terminal_error(origin, error);
    origin.health.record_outcome(Some(&failure));
    FailedPage { failure, may_retry }
}
