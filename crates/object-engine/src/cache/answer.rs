//! From a plan to an answer through the cache: what is known of the object, for how long it is believed, and a reader of
//! the slices. Conditions and ranges are decided on what is known, so that a hit never asks the store.

use std::sync::Arc;

use http::header;

use super::fill::Filling;
use super::meta::{Finding, Freshness, Meta, Verdict};
use super::question::{self, How, Learnt, Topic, is_store_trouble};
use super::reader::Reader;
use super::settings::Policy;
use super::{Cache, Cached, State};
use crate::Answer;
use crate::Body;
use crate::Failure;
use crate::Origin;
use crate::Tally;
use crate::plan::{Decision, Plan, past_the_cache};
use http_semantics::range::{RangeSpec, Span};
use s3::is_key;

/// Versions of an object that may follow each other while one request is answered before we give up.
const MAX_CHANGES: u32 = 3;

/// Answers `plan` for the object `key`.
pub async fn answer(
    cached: &Cached,
    origin: &Arc<Origin>,
    plan: &Plan,
    key: &str,
    tally: &mut Tally,
) -> Result<Answer, Failure> {
    if !is_key(key) {
        return Err(Failure::NotFound);
    }
    for _ in 0..MAX_CHANGES {
        let known = know(cached, origin, plan, key, tally).await?;
        let Some(known) = known else {
            tally.cache = Some(State::Bypass);
            return past_the_cache(origin, plan, key, tally).await;
        };
        match from(cached, origin, plan, known, tally).await {
            // No byte has gone out: on to the version that is there now.
            Err(Failure::Changed) => {}
            outcome => return outcome,
        }
    }
    Err(Failure::Changed)
}

/// What is known of an object, and how.
struct Known {
    meta: Arc<Meta>,
    state: State,
    /// The fill that asking began.
    begun: Option<Filling>,
}

/// What is known of the object now; `None` where it cannot be kept.
async fn know(
    cached: &Cached,
    origin: &Arc<Origin>,
    plan: &Plan,
    key: &str,
    tally: &mut Tally,
) -> Result<Option<Known>, Failure> {
    let Cached { cache, policy } = cached;
    let topic = cache.topic(origin, key);
    let now = cache.now();
    let since = |meta: &Arc<Meta>| meta.version.epoch >= topic.epoch;
    let mut found = cache.shelf.meta_in_memory(&topic.object).filter(since);
    if found.is_none() {
        match cache.shelf.verdict(&topic.object).filter(|verdict| verdict.holds(&topic, now)) {
            Some(Verdict { finding: Finding::Unfit, .. }) => return Ok(None),
            Some(Verdict { finding, .. }) => {
                tally.cache = Some(State::Negative);
                return Err(if finding == Finding::Gone { Failure::Gone } else { Failure::NotFound });
            }
            None => found = cache.shelf.meta(&topic.object).await.filter(since),
        }
    }
    let Some(meta) = found else {
        tally.cache = Some(State::Miss);
        let how = how(plan, cache.slice_size);
        return Ok(learnt(question::put(cache, origin, policy, topic, how, tally).await?, State::Miss));
    };
    match meta.freshness(policy, now) {
        Freshness::Never => Ok(None),
        Freshness::Fresh => Ok(Some(Known { meta, state: State::Hit, begun: None })),
        Freshness::Stale { meanwhile: true, .. } => {
            if cache.is_in_trouble(&origin.store) != Some(false) {
                question::put_aside(cache, origin, policy, topic);
            }
            Ok(Some(Known { meta, state: State::Stale, begun: None }))
        }
        Freshness::Stale { on_error, .. } => revalidate(cache, origin, policy, topic, (meta, on_error), tally).await,
    }
}

/// Asks whether it is still the same; where the store cannot say and that is allowed, what is known serves on.
async fn revalidate(
    cache: &Arc<Cache>,
    origin: &Arc<Origin>,
    policy: &Policy,
    topic: Topic,
    (meta, on_error): (Arc<Meta>, bool),
    tally: &mut Tally,
) -> Result<Option<Known>, Failure> {
    // While a store is known to be in trouble nobody waits for it: it is asked beside the requests, once a second.
    if on_error && let Some(due) = cache.is_in_trouble(&origin.store) {
        if due {
            question::put_aside(cache, origin, policy, topic);
        }
        return Ok(Some(Known { meta, state: State::Stale, begun: None }));
    }
    match question::put(cache, origin, policy, topic, How::Head, tally).await {
        Ok(said) => {
            let same = matches!(&said, Learnt::Object(now, _) if now.version == meta.version);
            Ok(learnt(said, if same { State::Revalidated } else { State::Miss }))
        }
        Err(failure) if on_error && is_store_trouble(failure) => {
            Ok(Some(Known { meta, state: State::Stale, begun: None }))
        }
        Err(failure) => Err(failure),
    }
}

fn learnt(learnt: Learnt, state: State) -> Option<Known> {
    match learnt {
        Learnt::Object(meta, begun) => Some(Known { meta, state, begun }),
        Learnt::Unfit => None,
    }
}

/// Where nothing is known: the slice that is wanted first tells it all at once; unless no byte may be wanted, or only the
/// size tells which.
fn how(plan: &Plan, slice_size: u32) -> How {
    let first = match plan.range {
        None => 0,
        Some(RangeSpec::From { first, .. }) => first,
        Some(RangeSpec::Suffix { .. }) => return How::Head,
    };
    if plan.head || !plan.conditions.is_empty() {
        return How::Head;
    }
    How::Slice(first / u64::from(slice_size))
}

async fn from(
    cached: &Cached,
    origin: &Arc<Origin>,
    plan: &Plan,
    known: Known,
    tally: &mut Tally,
) -> Result<Answer, Failure> {
    let Known { meta, state, begun } = known;
    tally.cache = Some(state);
    let decision = plan.decide(&meta.facts)?;
    let span = match decision {
        Decision::NotModified => None,
        Decision::Whole => meta.version.size.checked_sub(1).map(|last| Span { first: 0, last }),
        Decision::Part(span) => Some(span),
    };
    // RFC 9111 §5.1: the age is of what the store neither sent nor confirmed for this request.
    let mut is_confirmed = !matches!(state, State::Hit | State::Stale);
    let body = if plan.head || decision == Decision::NotModified {
        None
    } else {
        let mut reader = Reader::new(&cached.cache, origin, &meta, span, (state, begun));
        // The first bytes before the header: until then everything can still be said, or begun anew.
        let primed = reader.prime().await;
        tally.cache = Some(reader.state());
        if let Err(failure) = primed {
            *tally = std::mem::take(tally).and(reader.tally());
            return Err(failure);
        }
        is_confirmed |= reader.is_from_store();
        Some(Body::Cached(reader))
    };
    let mut answer = meta.facts.clone().answer(origin, &meta.version.object.key, decision, body);
    if !is_confirmed {
        answer.headers.insert(header::AGE, meta.age(cached.cache.now()).into());
    }
    Ok(answer)
}
