//! Requests to the store for an object's metadata, each sent once for all who wait: a HEAD, or, where nothing is known,
//! a GET of the slice that is wanted first, which tells the same and begins to fill the cache in one round trip.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;

use super::SliceCache;
use super::cache_keys::{ObjectId, SliceKey};
use super::cached_metadata::{CachedMetadata, Freshness, NegativeEntry, NegativeReason};
use super::fill::{self, FillHandle, FillJob};
use super::settings::CachePolicy;
use super::single_flight::{FlightLeader, FlightRole, SingleFlight};
use crate::AttemptStats;
use crate::ObjectError;
use crate::ObjectOrigin;
use crate::ResumableDownload;
use crate::fetch::{StoreReply, StoreRequest, query_store};
use crate::object_metadata::ObjectMetadata;
use crate::plan::{MAX_POSITION, head_object, metadata_of_head};
use http_semantics::etag::ETag;
use http_semantics::range::{ByteRange, ContentRange, RangeSpec};
use upstream::connection::UpstreamResponse;
use upstream::destination::InFlightRequest;

/// Time for which an object that cannot be cached is requested past the cache.
const UNCACHEABLE_TTL: Duration = Duration::from_secs(10);

/// Key of a request for metadata. Routes that show a denial as 403 ask separately from those that show 404.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MetadataKey {
    /// Object whose metadata is wanted.
    pub object: ObjectId,
    /// Purge epoch of the object.
    pub epoch: u64,
    /// True if the route shows a denial as 403.
    pub reveals_denied: bool,
}

impl MetadataKey {
    /// Creates the key for `object`; `epoch` is its purge epoch, in milliseconds since the Unix epoch, and of `origin` only
    /// `reveal_denied` counts.
    pub fn new(object: ObjectId, epoch: u64, origin: &ObjectOrigin) -> Self {
        Self { object, epoch, reveals_denied: origin.reveal_denied }
    }
}

/// Requests for metadata under way.
pub type MetadataFlights = SingleFlight<MetadataKey, Option<MetadataReport>>;

/// Result of a request for metadata, with its effort.
#[derive(Clone)]
pub struct MetadataReport {
    /// Reply of the store, or the failure.
    pub outcome: Result<MetadataOutcome, ObjectError>,
    /// Effort of the request.
    pub attempt_stats: AttemptStats,
}

/// Reply of the store to a request for metadata.
#[derive(Clone)]
pub enum MetadataOutcome {
    /// Metadata of the object, and the fill that the request began.
    Object(Arc<CachedMetadata>, Option<FillHandle>),
    /// There is an object, but it cannot be cached.
    Uncacheable,
    /// The store sent the whole object instead of a part. Who asked goes past the cache; other parts may work.
    RangeIgnored,
}

/// Method of a request for metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRequest {
    /// HEAD.
    Head,
    /// GET of the slice with this number.
    Slice(u64),
}

/// Requests the metadata of `topic`, or waits for a request that is under way. The effort is added to the `tally` of
/// the caller that began it. Fails as the request does, or with `Closed` where it was cancelled.
pub async fn fetch_metadata(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    policy: &CachePolicy,
    topic: MetadataKey,
    how: MetadataRequest,
    tally: &mut AttemptStats,
) -> Result<MetadataOutcome, ObjectError> {
    let (mut following, own) = match cache.metadata_flights.join_or_lead(&topic) {
        FlightRole::Joined(following) => (following, false),
        FlightRole::Leading(lead, following) => {
            let (cache_too, origin, policy) = (Arc::clone(cache), Arc::clone(origin), *policy);
            let effort = AttemptStats::traced(&tally.trace);
            cache.spawn(async move {
                // Biased: a request that has ended counts as such, even if its last follower left at the same time.
                tokio::select! {
                    biased;
                    () = run(&cache_too, &origin, &policy, &topic, (how, effort), &lead) => {}
                    () = lead.abandoned() => {}
                }
            });
            (following, true)
        }
    };
    let reported = following.wait_for(Option::is_some).await.map_err(|_| ObjectError::Closed)?.clone();
    let MetadataReport { mut outcome, attempt_stats: took } = reported.ok_or(ObjectError::Closed)?;
    *tally = std::mem::take(tally).merged_with(if own { took } else { took.for_follower() });
    // The fill counts as the effort of the one who began it.
    if !own && let Ok(MetadataOutcome::Object(_, Some(begun))) = &mut outcome {
        begun.is_leader = false;
    }
    outcome
}

/// Refreshes the metadata of `topic` by HEAD in the background, unless a request is under way. Nobody waits for it.
pub fn refresh_in_background(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    policy: &CachePolicy,
    topic: MetadataKey,
) {
    if let FlightRole::Leading(lead, following) = cache.metadata_flights.join_or_lead(&topic) {
        let (cache_too, origin, policy) = (Arc::clone(cache), Arc::clone(origin), *policy);
        cache.spawn(async move {
            // Held, because a request without a follower counts as abandoned.
            let _following = following;
            let how = (MetadataRequest::Head, AttemptStats::default());
            run(&cache_too, &origin, &policy, &topic, how, &lead).await;
        });
    }
}

async fn run(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    policy: &CachePolicy,
    topic: &MetadataKey,
    (how, mut tally): (MetadataRequest, AttemptStats),
    lead: &FlightLeader<MetadataKey, Option<MetadataReport>>,
) {
    // A HEAD must ask: its caller knows the metadata and wants it confirmed.
    if how != MetadataRequest::Head
        && let Some(meta) = fresh_in_memory(cache, policy, topic)
    {
        let outcome = Ok(MetadataOutcome::Object(meta, None));
        return lead.update(|reported| *reported = Some(MetadataReport { outcome, attempt_stats: tally }));
    }
    cache.stats.metadata_requests.increment();
    let outcome = match how {
        MetadataRequest::Head => fetch_by_head(cache, origin, policy, topic, &mut tally).await,
        MetadataRequest::Slice(number) => {
            match fetch_by_slice(cache, origin, policy, topic, number, &mut tally).await {
                // Past the end, or an empty object: only the size tells which.
                Ok(None) => fetch_by_head(cache, origin, policy, topic, &mut tally).await,
                Ok(Some(learnt)) => Ok(learnt),
                Err(failure) => Err(failure),
            }
        }
    };
    remember_failure(cache, policy, topic, &outcome);
    cache.record_store_health(&origin.store, outcome.as_ref().is_err_and(|failure| failure.is_store_failure()));
    lead.update(|reported| *reported = Some(MetadataReport { outcome, attempt_stats: tally }));
}

/// Returns fresh metadata that a request brought between the caller's look-up in the cache and the one in the table.
fn fresh_in_memory(cache: &SliceCache, policy: &CachePolicy, topic: &MetadataKey) -> Option<Arc<CachedMetadata>> {
    let meta =
        cache.slice_store.load().metadata_in_memory(&topic.object).filter(|meta| meta.version.epoch >= topic.epoch)?;
    (meta.freshness(policy, cache.now()) == Freshness::Fresh).then_some(meta)
}

/// Remembers an outcome without an object: as a negative entry, or by dropping the metadata.
fn remember_failure(
    cache: &SliceCache,
    policy: &CachePolicy,
    topic: &MetadataKey,
    outcome: &Result<MetadataOutcome, ObjectError>,
) {
    let (finding, life) = match outcome {
        // Kept already: readers must find the metadata before they find the fill.
        Ok(MetadataOutcome::Object(..) | MetadataOutcome::RangeIgnored) => return,
        Ok(MetadataOutcome::Uncacheable) => (NegativeReason::Uncacheable, UNCACHEABLE_TTL),
        Err(ObjectError::NotFound) => (NegativeReason::Absent, policy.negative_ttl),
        Err(ObjectError::Gone) => (NegativeReason::Gone, policy.negative_ttl),
        // A denial ends the use of what is cached, but does not say that there is no object: the next request asks the
        // store, unless the policy says otherwise.
        Err(ObjectError::Denied { .. }) if policy.denied_ttl.is_zero() => {
            return cache.slice_store.load().forget_metadata(&topic.object);
        }
        Err(ObjectError::Denied { .. }) => (NegativeReason::Denied, policy.denied_ttl),
        // Other failures say nothing about the object.
        Err(_) => return,
    };
    let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    let since = cache.now();
    let until = since.saturating_add(life);
    cache.slice_store.load().forget_metadata(&topic.object);
    let verdict = NegativeEntry { finding, since, until, epoch: topic.epoch };
    cache.slice_store.load().keep_negative_entry(topic.object.clone(), verdict);
}

/// Requests the metadata by HEAD and keeps it.
async fn fetch_by_head(
    cache: &SliceCache,
    origin: &ObjectOrigin,
    policy: &CachePolicy,
    topic: &MetadataKey,
    tally: &mut AttemptStats,
) -> Result<MetadataOutcome, ObjectError> {
    let (response, _) = head_object(origin, &topic.object.key, tally).await?;
    let facts = metadata_of_head(response);
    Ok(store_metadata(cache, policy, topic, facts)
        .await
        .map_or(MetadataOutcome::Uncacheable, |meta| MetadataOutcome::Object(meta, None)))
}

/// Keeps metadata that the store sent; returns `None` where it cannot or must not be cached.
async fn store_metadata(
    cache: &SliceCache,
    policy: &CachePolicy,
    topic: &MetadataKey,
    facts: ObjectMetadata,
) -> Option<Arc<CachedMetadata>> {
    let now = cache.now();
    let meta = CachedMetadata::new(&topic.object, topic.epoch, facts, now);
    let mut meta = meta.filter(|meta| meta.freshness(policy, now) != Freshness::Never)?;
    if let Some(before) = cache.slice_store.load_full().metadata(&topic.object).await {
        meta = meta.with_shared_version(&before);
    }
    let meta = Arc::new(meta);
    cache.slice_store.load().keep_metadata(Arc::clone(&meta));
    Some(meta)
}

/// Requests the metadata by a GET of slice `number`, which also begins its fill. Returns `None` where the store has no
/// such part.
async fn fetch_by_slice(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    policy: &CachePolicy,
    topic: &MetadataKey,
    number: u64,
    tally: &mut AttemptStats,
) -> Result<Option<MetadataOutcome>, ObjectError> {
    let size = u64::from(cache.slice_size);
    let last = number.checked_mul(size).and_then(|first| first.checked_add(size - 1));
    // Past the positions that stores understand; a HEAD will tell that the object has no such bytes.
    let Some(last) = last.filter(|last| *last <= MAX_POSITION) else { return Ok(None) };
    let wanted = ByteRange { first: last - (size - 1), last };
    // Before the request: its response must not wait for a permit while the store sends.
    let place = cache.fill_permit(&origin.store).await;
    let range = RangeSpec::From { first: wanted.first, last: Some(wanted.last) }.to_header();
    let question = StoreRequest {
        head: false,
        key: &topic.object.key,
        range: Some(&range),
        if_match: None,
        room: fill::READ_SIZE,
    };
    cache.stats.fills.increment();
    let (mut response, in_flight) = match query_store(origin, &question, tally).await? {
        StoreReply::Object(response, in_flight) => (*response, in_flight),
        StoreReply::RangeNotSatisfiable(_) => return Ok(None),
        StoreReply::PreconditionFailed => {
            return Err(ObjectError::InvalidResponse("a refusal of a condition that was not sent"));
        }
    };
    let (span, total) = match received_range(&response, wanted)? {
        ReceivedRange::Slice { span, total } => (span, total),
        ReceivedRange::Unknown => return Ok(Some(MetadataOutcome::Uncacheable)),
        ReceivedRange::Ignored => return Ok(Some(MetadataOutcome::RangeIgnored)),
    };
    let facts = ObjectMetadata::from_headers(std::mem::take(&mut response.headers), Some(total));
    let Some(meta) = store_metadata(cache, policy, topic, facts).await else {
        return Ok(Some(MetadataOutcome::Uncacheable));
    };
    let filling = span.map(|span| {
        let job = FillJob {
            key: SliceKey { version: Arc::clone(&meta.version), number, size: cache.slice_size },
            span,
            origin: Arc::clone(origin),
            started_download: None,
            trace: tally.trace.clone(),
        };
        start_fill(cache, job, response, in_flight, place)
    });
    Ok(Some(MetadataOutcome::Object(meta, filling.flatten())))
}

/// Byte range of a response.
enum ReceivedRange {
    /// The bytes of the slice, of an object of `total` bytes; `None` where the object ends before it.
    Slice { span: Option<ByteRange>, total: u64 },
    /// More than the first slice, or an object of unknown length: it cannot be cached.
    Unknown,
    /// The whole object, which has the part that was requested.
    Ignored,
}

/// Determines the byte range of a response to a request for `wanted`. Fails with `InvalidResponse` where it has other
/// bytes.
fn received_range(response: &UpstreamResponse, wanted: ByteRange) -> Result<ReceivedRange, ObjectError> {
    let announced = response.body.content_length();
    if response.status != StatusCode::PARTIAL_CONTENT {
        // The store sent the whole object: usable where that is the slice, or where there is no such slice.
        return Ok(match announced {
            Some(total) if total <= wanted.first || (wanted.first == 0 && total <= wanted.len()) => {
                let last = total.checked_sub(1).filter(|last| wanted.first <= *last);
                ReceivedRange::Slice { span: last.map(|last| ByteRange { first: 0, last }), total }
            }
            _ if wanted.first == 0 => ReceivedRange::Unknown,
            _ => ReceivedRange::Ignored,
        });
    }
    let said = response.headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
    let Some(ContentRange { span, total: Some(total) }) = said else { return Ok(ReceivedRange::Unknown) };
    // `ContentRange::parse` accepts no total of 0.
    let last = wanted.last.min(total - 1);
    if span != (ByteRange { first: wanted.first, last }) || announced.is_some_and(|length| length != span.len()) {
        return Err(ObjectError::InvalidResponse("206 with another range than the one asked for"));
    }
    Ok(ReceivedRange::Slice { span: Some(span), total })
}

/// Makes the response's body the one of the fill `job`; `None` where the slice is in memory already.
fn start_fill(
    cache: &Arc<SliceCache>,
    job: FillJob,
    response: UpstreamResponse,
    in_flight: InFlightRequest,
    place: OwnedSemaphorePermit,
) -> Option<FillHandle> {
    let (version, origin) = (&job.key.version, Arc::clone(&job.origin));
    let etag: Option<ETag> = Some(version.etag.clone());
    let body = ResumableDownload::new(origin, &version.object.key, etag, response.body, in_flight);
    let begun = Some((body.with_range(Some(job.span), 0), place));
    // A slice that is in memory needs no fill: the body is dropped with the job.
    fill::join_or_start(cache, FillJob { started_download: begun, ..job }).ok()
}
