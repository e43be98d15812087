//! From a plan to a response through the cache: the metadata of the object, its freshness, and a reader of the slices.
//! Preconditions and ranges are decided on the metadata, so that a hit never asks the store.

use std::sync::Arc;

use http::header;

use super::cached_metadata::{CachedMetadata, Freshness, NegativeEntry, NegativeReason};
use super::fill::FillHandle;
use super::metadata_fetch::{self, MetadataKey, MetadataOutcome, MetadataRequest};
use super::reader::SliceReader;
use super::settings::CachePolicy;
use super::{CacheStatus, RouteCache, SliceCache};
use crate::AttemptStats;
use crate::ObjectBody;
use crate::ObjectError;
use crate::ObjectOrigin;
use crate::ObjectResponse;
use crate::plan::{RequestPlan, ResponseDecision, serve_from_store};
use crate::traced;
use http_semantics::range::{ByteRange, RangeSpec};
use s3::is_key_length_valid;

/// Most versions of an object that may follow each other while one request is answered.
const MAX_CHANGES: u32 = 3;

/// Answers `plan` for the object `key` from the cache, or past it where the object cannot be cached. Adds the effort to
/// `tally`, also on failure. Fails with `Changed` where the object changes again and again, or as the requests to the
/// store do.
pub async fn serve_from_cache(
    cached: &RouteCache,
    origin: &Arc<ObjectOrigin>,
    plan: &RequestPlan,
    key: &str,
    tally: &mut AttemptStats,
) -> Result<ObjectResponse, ObjectError> {
    let timer = tally.trace.start_detail();
    let answer = find_and_respond(cached, origin, plan, key, tally).await;
    traced::cache(tally, timer);
    answer
}

async fn find_and_respond(
    cached: &RouteCache,
    origin: &Arc<ObjectOrigin>,
    plan: &RequestPlan,
    key: &str,
    tally: &mut AttemptStats,
) -> Result<ObjectResponse, ObjectError> {
    if !is_key_length_valid(key) {
        return Err(ObjectError::NotFound);
    }
    for _ in 0..MAX_CHANGES {
        let known = look_up(cached, origin, plan, key, tally).await?;
        let Some(known) = known else {
            tally.cache = Some(CacheStatus::Bypass);
            return serve_from_store(origin, plan, key, tally).await;
        };
        match respond(cached, origin, plan, known, tally).await {
            // No byte has been sent yet: go on with the version that is there now.
            Err(ObjectError::Changed) => {}
            outcome => return outcome,
        }
    }
    Err(ObjectError::Changed)
}

/// Metadata of an object, with the way in which it was found.
struct KnownObject {
    meta: Arc<CachedMetadata>,
    state: CacheStatus,
    /// Fill that the request for the metadata began.
    begun: Option<FillHandle>,
}

/// Finds the metadata of the object, in the cache or at the store; `None` where the object cannot be cached.
async fn look_up(
    cached: &RouteCache,
    origin: &Arc<ObjectOrigin>,
    plan: &RequestPlan,
    key: &str,
    tally: &mut AttemptStats,
) -> Result<Option<KnownObject>, ObjectError> {
    let RouteCache { cache, policy } = cached;
    let topic = cache.metadata_key(origin, key);
    let now = cache.now();
    // An older epoch means that the object was purged since.
    let since = |meta: &Arc<CachedMetadata>| meta.version.epoch >= topic.epoch;
    let mut found = cache.slice_store.load().metadata_in_memory(&topic.object).filter(since);
    if found.is_none() {
        // Another route of the bucket may remember denials, and this one not.
        let is_ours = |entry: &NegativeEntry| {
            entry.holds(&topic, now) && (entry.finding != NegativeReason::Denied || !policy.denied_ttl.is_zero())
        };
        match cache.slice_store.load().negative_entry(&topic.object).filter(is_ours) {
            Some(NegativeEntry { finding: NegativeReason::Uncacheable, .. }) => return Ok(None),
            Some(NegativeEntry { finding, .. }) => {
                tally.cache = Some(CacheStatus::Negative);
                return Err(match finding {
                    NegativeReason::Gone => ObjectError::Gone,
                    NegativeReason::Denied => ObjectError::Denied { hidden: !origin.reveal_denied },
                    NegativeReason::Absent | NegativeReason::Uncacheable => ObjectError::NotFound,
                });
            }
            None => found = cache.slice_store.load_full().metadata(&topic.object).await.filter(since),
        }
    }
    let Some(meta) = found else {
        tally.cache = Some(CacheStatus::Miss);
        let how = metadata_request(plan, cache.slice_size);
        return Ok(known_object(
            metadata_fetch::fetch_metadata(cache, origin, policy, topic, how, tally).await?,
            CacheStatus::Miss,
        ));
    };
    match meta.freshness(policy, now) {
        Freshness::Never => Ok(None),
        Freshness::Fresh => Ok(Some(KnownObject { meta, state: CacheStatus::Hit, begun: None })),
        Freshness::Stale { meanwhile: true, .. } => {
            // In trouble, the store is asked once a second only.
            if cache.is_in_trouble(&origin.store) != Some(false) {
                metadata_fetch::refresh_in_background(cache, origin, policy, topic);
            }
            Ok(Some(KnownObject { meta, state: CacheStatus::Stale, begun: None }))
        }
        Freshness::Stale { on_error, .. } => revalidate(cache, origin, policy, topic, (meta, on_error), tally).await,
    }
}

/// Asks the store whether the version is still the same. Where the store fails and `on_error` allows it, the stale
/// metadata is used.
async fn revalidate(
    cache: &Arc<SliceCache>,
    origin: &Arc<ObjectOrigin>,
    policy: &CachePolicy,
    topic: MetadataKey,
    (meta, on_error): (Arc<CachedMetadata>, bool),
    tally: &mut AttemptStats,
) -> Result<Option<KnownObject>, ObjectError> {
    // While a store is known to be in trouble no client waits for it: it is asked in the background, once a second.
    if on_error && let Some(due) = cache.is_in_trouble(&origin.store) {
        if due {
            metadata_fetch::refresh_in_background(cache, origin, policy, topic);
        }
        return Ok(Some(KnownObject { meta, state: CacheStatus::Stale, begun: None }));
    }
    match metadata_fetch::fetch_metadata(cache, origin, policy, topic, MetadataRequest::Head, tally).await {
        Ok(said) => {
            let same = matches!(&said, MetadataOutcome::Object(now, _) if now.version == meta.version);
            Ok(known_object(said, if same { CacheStatus::Revalidated } else { CacheStatus::Miss }))
        }
        Err(failure) if on_error && failure.is_store_failure() => {
            Ok(Some(KnownObject { meta, state: CacheStatus::Stale, begun: None }))
        }
        Err(failure) => Err(failure),
    }
}

fn known_object(learnt: MetadataOutcome, state: CacheStatus) -> Option<KnownObject> {
    match learnt {
        MetadataOutcome::Object(meta, begun) => Some(KnownObject { meta, state, begun }),
        MetadataOutcome::Uncacheable | MetadataOutcome::RangeIgnored => None,
    }
}

/// Chooses the request for an object of which nothing is known: the slice that is wanted first tells everything at
/// once. HEAD where no byte may be wanted, or where only the size tells which.
fn metadata_request(plan: &RequestPlan, slice_size: u32) -> MetadataRequest {
    let first = match plan.range {
        None => 0,
        Some(RangeSpec::From { first, .. }) => first,
        Some(RangeSpec::Suffix { .. }) => return MetadataRequest::Head,
    };
    if plan.head || !plan.conditions.is_empty() {
        return MetadataRequest::Head;
    }
    MetadataRequest::Slice(first / u64::from(slice_size))
}

/// Builds the response from known metadata. Fails with the outcome of the preconditions, or where the first bytes
/// cannot be read.
async fn respond(
    cached: &RouteCache,
    origin: &Arc<ObjectOrigin>,
    plan: &RequestPlan,
    known: KnownObject,
    tally: &mut AttemptStats,
) -> Result<ObjectResponse, ObjectError> {
    let KnownObject { meta, state, begun } = known;
    tally.cache = Some(state);
    let decision = plan.decide(&meta.metadata)?;
    let span = match decision {
        ResponseDecision::NotModified => None,
        ResponseDecision::Whole => meta.version.size.checked_sub(1).map(|last| ByteRange { first: 0, last }),
        ResponseDecision::Part(span) => Some(span),
    };
    // RFC 9111 §5.1: `Age` is for responses that the store neither sent nor confirmed for this request.
    let mut is_confirmed = !matches!(state, CacheStatus::Hit | CacheStatus::Stale);
    let body = if plan.head || decision == ResponseDecision::NotModified {
        None
    } else {
        let mut reader = SliceReader::new(&cached.cache, origin, &meta, span, (state, begun, &tally.trace));
        // The first bytes come before the header: until then every failure can become a status, or be tried again.
        let primed = reader.prime().await;
        tally.cache = Some(reader.cache_status());
        if let Err(failure) = primed {
            *tally = std::mem::take(tally).merged_with(reader.attempt_stats());
            return Err(failure);
        }
        is_confirmed |= reader.is_from_store();
        Some(ObjectBody::Cached(reader))
    };
    let mut answer = meta.metadata.clone().into_response(origin, &meta.version.object.key, decision, body);
    if !is_confirmed {
        answer.headers.insert(header::AGE, meta.age(cached.cache.now()).into());
    }
    Ok(answer)
}
