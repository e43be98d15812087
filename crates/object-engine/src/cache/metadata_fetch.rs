//! Questions to the store about an object, each asked once for all who wait: what it is now (HEAD), or, where nothing is
//! known, its slice that is wanted first (GET), which tells the same and begins to fill the cache in one round trip.

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

/// An object that cannot be kept is asked for past the cache for this long.
const UNCACHEABLE_TTL: Duration = Duration::from_secs(10);

/// What one question is about. Routes that tell "denied" from "not found" ask for themselves.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MetadataKey {
    /// The object.
    pub object: ObjectId,
    /// The newest purge that covers it.
    pub epoch: u64,
    /// Whether the route tells "denied" from "not found".
    pub reveals_denied: bool,
}

impl MetadataKey {
    /// About `object`, asked for `origin`.
    pub fn new(object: ObjectId, epoch: u64, origin: &ObjectOrigin) -> Self {
        Self { object, epoch, reveals_denied: origin.reveal_denied }
    }
}

/// Questions under way.
pub type MetadataFlights = SingleFlight<MetadataKey, Option<MetadataReport>>;

/// What came of a question.
#[derive(Clone)]
pub struct MetadataReport {
    /// What the store said.
    pub outcome: Result<MetadataOutcome, ObjectError>,
    /// What asking took.
    pub attempt_stats: AttemptStats,
}

/// What the store said.
#[derive(Clone)]
pub enum MetadataOutcome {
    /// The object as it is, and the fill that the question began.
    Object(Arc<CachedMetadata>, Option<FillHandle>),
    /// There is one, but it cannot be kept.
    Uncacheable,
    /// The store sent all of it in place of a part: whoever asked goes past the cache, and it says nothing of other parts.
    RangeIgnored,
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRequest {
    /// HEAD.
    Head,
    /// GET of this slice.
    Slice(u64),
}

/// Asks, or waits with those who asked. What it took goes to `tally` of whoever asked.
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
            cache.spawn(async move {
                tokio::select! {
                    biased;
                    () = run(&cache_too, &origin, &policy, &topic, how, &lead) => {}
                    () = lead.abandoned() => {}
                }
            });
            (following, true)
        }
    };
    let reported = following.wait_for(Option::is_some).await.map_err(|_| ObjectError::Closed)?.clone();
    let MetadataReport { mut outcome, attempt_stats: took } = reported.ok_or(ObjectError::Closed)?;
    *tally = std::mem::take(tally).merged_with(if own { took } else { took.for_follower() });
    if !own && let Ok(MetadataOutcome::Object(_, Some(begun))) = &mut outcome {
        begun.is_leader = false;
    }
    outcome
}

/// Asks beside the request; nobody waits.
pub fn refresh_in_background(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    policy: &CachePolicy,
    topic: MetadataKey,
) {
    if let FlightRole::Leading(lead, following) = cache.metadata_flights.join_or_lead(&topic) {
        let (cache_too, origin, policy) = (Arc::clone(cache), Arc::clone(origin), *policy);
        cache.spawn(async move {
            // Without a follower it would count as abandoned.
            let _following = following;
            run(&cache_too, &origin, &policy, &topic, MetadataRequest::Head, &lead).await;
        });
    }
}

async fn run(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    policy: &CachePolicy,
    topic: &MetadataKey,
    how: MetadataRequest,
    lead: &FlightLeader<MetadataKey, Option<MetadataReport>>,
) {
    let mut tally = AttemptStats::default();
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
                // Past the end, or an empty object: only its size can tell.
                Ok(None) => fetch_by_head(cache, origin, policy, topic, &mut tally).await,
                Ok(Some(learnt)) => Ok(learnt),
                Err(failure) => Err(failure),
            }
        }
    };
    remember_failure(cache, policy, topic, &outcome);
    cache.record_store_health(&origin.store, outcome.as_ref().is_err_and(|failure| is_store_failure(*failure)));
    lead.update(|reported| *reported = Some(MetadataReport { outcome, attempt_stats: tally }));
}

/// The object, where the question was answered between the asker's look into the cache and its look into the table.
fn fresh_in_memory(cache: &SliceCache, policy: &CachePolicy, topic: &MetadataKey) -> Option<Arc<CachedMetadata>> {
    let meta = cache.slice_store.metadata_in_memory(&topic.object).filter(|meta| meta.version.epoch >= topic.epoch)?;
    (meta.freshness(policy, cache.now()) == Freshness::Fresh).then_some(meta)
}

/// Whether the store is in trouble, rather than the object or our settings: then what is cached may be served.
pub fn is_store_failure(failure: ObjectError) -> bool {
    matches!(
        failure,
        ObjectError::Unavailable
            | ObjectError::Unreachable
            | ObjectError::Closed
            | ObjectError::Timeout
            | ObjectError::StoreBroken
            | ObjectError::BrokenBody
            | ObjectError::Throttled { .. }
    )
}

fn remember_failure(
    cache: &SliceCache,
    policy: &CachePolicy,
    topic: &MetadataKey,
    outcome: &Result<MetadataOutcome, ObjectError>,
) {
    let (finding, life) = match outcome {
        // It is kept already: readers must find it before they find the fill.
        Ok(MetadataOutcome::Object(..) | MetadataOutcome::RangeIgnored) => return,
        Ok(MetadataOutcome::Uncacheable) => (NegativeReason::Uncacheable, UNCACHEABLE_TTL),
        Err(ObjectError::NotFound) => (NegativeReason::Absent, policy.negative_ttl),
        Err(ObjectError::Gone) => (NegativeReason::Gone, policy.negative_ttl),
        // It ends what is cached, and says nothing of whether there is an object: the next one to ask asks the store.
        Err(ObjectError::Denied { .. }) => return cache.slice_store.forget_metadata(&topic.object),
        Err(_) => return,
    };
    let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    let until = cache.now().saturating_add(life);
    cache.slice_store.forget_metadata(&topic.object);
    let verdict = NegativeEntry { finding, until, epoch: topic.epoch };
    cache.slice_store.keep_negative_entry(topic.object.clone(), verdict);
}

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

/// Keeps what was said; `None` where that cannot or must not be.
async fn store_metadata(
    cache: &SliceCache,
    policy: &CachePolicy,
    topic: &MetadataKey,
    facts: ObjectMetadata,
) -> Option<Arc<CachedMetadata>> {
    let now = cache.now();
    let meta = CachedMetadata::new(&topic.object, topic.epoch, facts, now);
    let mut meta = meta.filter(|meta| meta.freshness(policy, now) != Freshness::Never)?;
    if let Some(before) = cache.slice_store.metadata(&topic.object).await {
        meta = meta.with_shared_version(&before);
    }
    let meta = Arc::new(meta);
    cache.slice_store.keep_metadata(Arc::clone(&meta));
    Some(meta)
}

/// `None` where the store has no such part.
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
    let Some(last) = last.filter(|last| *last <= MAX_POSITION) else { return Ok(None) };
    let wanted = ByteRange { first: last - (size - 1), last };
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
    let filling = span.map(|span| start_fill(cache, origin, &meta, (number, span), response, in_flight, place));
    Ok(Some(MetadataOutcome::Object(meta, filling.flatten())))
}

/// Which bytes an answer has.
enum ReceivedRange {
    /// Those of the slice; `None` where the object, of `total` bytes, ends before it.
    Slice { span: Option<ByteRange>, total: u64 },
    /// More than the first slice, or of unknown length: it cannot be kept.
    Unknown,
    /// All of an object that has the part asked for.
    Ignored,
}

fn received_range(response: &UpstreamResponse, wanted: ByteRange) -> Result<ReceivedRange, ObjectError> {
    let announced = response.body.content_length();
    if response.status != StatusCode::PARTIAL_CONTENT {
        // The store sent it all: fine where that is the slice, and where there is no such slice.
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
    let last = wanted.last.min(total - 1);
    if span != (ByteRange { first: wanted.first, last }) || announced.is_some_and(|length| length != span.len()) {
        return Err(ObjectError::InvalidResponse("206 with another range than the one asked for"));
    }
    Ok(ReceivedRange::Slice { span: Some(span), total })
}

/// Makes the answer's body the fill of its slice.
fn start_fill(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    meta: &CachedMetadata,
    (number, span): (u64, ByteRange),
    response: UpstreamResponse,
    in_flight: InFlightRequest,
    place: OwnedSemaphorePermit,
) -> Option<FillHandle> {
    let etag: Option<ETag> = Some(meta.version.etag.clone());
    let key = SliceKey { version: Arc::clone(&meta.version), number, size: cache.slice_size };
    let body = ResumableDownload::new(Arc::clone(origin), &meta.version.object.key, etag, response.body, in_flight);
    let begun = Some((body.with_range(Some(span), 0), place));
    // A slice that is there already needs no fill: the answer's body is dropped with the job.
    fill::join_or_start(cache, FillJob { key, span, origin: Arc::clone(origin), started_download: begun }).ok()
}
