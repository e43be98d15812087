//! Questions to the store about an object, each asked once for all who wait: what it is now (HEAD), or, where nothing is
//! known, its slice that is wanted first (GET), which tells the same and begins to fill the cache in one round trip.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;

use super::Cache;
use super::fill::{self, Filling, Job};
use super::flights::{Flights, Lead, Part};
use super::meta::{Finding, Freshness, Meta, Verdict};
use super::name::{ObjectId, SliceKey};
use super::settings::Policy;
use crate::Download;
use crate::Failure;
use crate::Origin;
use crate::Tally;
use crate::facts::Facts;
use crate::fetch::{Question, Reply, ask};
use crate::plan::{of_head, stat};
use http_semantics::etag::ETag;
use http_semantics::range::{ContentRange, RangeSpec, Span};
use upstream::connection::Response;
use upstream::destination::InFlight;

/// An object that cannot be kept is asked for past the cache for this long.
const UNFIT_FOR: Duration = Duration::from_secs(10);

/// What one question is about. Routes that tell "denied" from "not found" ask for themselves.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// The object.
    pub object: ObjectId,
    /// The newest purge that covers it.
    pub epoch: u64,
    /// Whether the route tells "denied" from "not found".
    pub reveals: bool,
}

impl Topic {
    /// About `object`, asked for `origin`.
    pub fn new(object: ObjectId, epoch: u64, origin: &Origin) -> Self {
        Self { object, epoch, reveals: origin.reveal_denied }
    }
}

/// Questions under way.
pub type Questions = Flights<Topic, Option<Reported>>;

/// What came of a question.
#[derive(Clone)]
pub struct Reported {
    /// What the store said.
    pub outcome: Result<Learnt, Failure>,
    /// What asking took.
    pub tally: Tally,
}

/// What the store said.
#[derive(Clone)]
pub enum Learnt {
    /// The object as it is, and the fill that the question began.
    Object(Arc<Meta>, Option<Filling>),
    /// There is one, but it cannot be kept.
    Unfit,
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// HEAD.
    Head,
    /// GET of this slice.
    Slice(u64),
}

/// Asks, or waits with those who asked. What it took goes to `tally` of whoever asked.
pub async fn put(
    cache: &Arc<Cache>,
    origin: &Arc<Origin>,
    policy: &Policy,
    topic: Topic,
    how: How,
    tally: &mut Tally,
) -> Result<Learnt, Failure> {
    let (mut following, own) = match cache.questions.part(&topic) {
        Part::Joined(following) => (following, false),
        Part::Leading(lead, following) => {
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
    let reported = following.wait_for(Option::is_some).await.map_err(|_| Failure::Closed)?.clone();
    let Reported { mut outcome, tally: took } = reported.ok_or(Failure::Closed)?;
    *tally = std::mem::take(tally).and(if own { took } else { took.for_follower() });
    if !own && let Ok(Learnt::Object(_, Some(begun))) = &mut outcome {
        begun.own = false;
    }
    outcome
}

/// Asks beside the request; nobody waits.
pub fn put_aside(cache: &Arc<Cache>, origin: &Arc<Origin>, policy: &Policy, topic: Topic) {
    if let Part::Leading(lead, following) = cache.questions.part(&topic) {
        let (cache_too, origin, policy) = (Arc::clone(cache), Arc::clone(origin), *policy);
        cache.spawn(async move {
            // Without a follower it would count as abandoned.
            let _following = following;
            run(&cache_too, &origin, &policy, &topic, How::Head, &lead).await;
        });
    }
}

async fn run(
    cache: &Arc<Cache>,
    origin: &Arc<Origin>,
    policy: &Policy,
    topic: &Topic,
    how: How,
    lead: &Lead<Topic, Option<Reported>>,
) {
    let mut tally = Tally::default();
    if how != How::Head
        && let Some(meta) = known(cache, policy, topic)
    {
        let outcome = Ok(Learnt::Object(meta, None));
        return lead.update(|reported| *reported = Some(Reported { outcome, tally }));
    }
    cache.stats.questions.up();
    let outcome = match how {
        How::Head => head(cache, origin, policy, topic, &mut tally).await,
        How::Slice(number) => match slice(cache, origin, policy, topic, number, &mut tally).await {
            // Past the end, or an empty object: only its size can tell.
            Ok(None) => head(cache, origin, policy, topic, &mut tally).await,
            Ok(Some(learnt)) => Ok(learnt),
            Err(failure) => Err(failure),
        },
    };
    remember(cache, policy, topic, &outcome);
    cache.trouble(&origin.store, outcome.as_ref().is_err_and(|failure| is_store_trouble(*failure)));
    lead.update(|reported| *reported = Some(Reported { outcome, tally }));
}

/// The object, where the question was answered between the asker's look into the cache and its look into the table.
fn known(cache: &Cache, policy: &Policy, topic: &Topic) -> Option<Arc<Meta>> {
    let meta = cache.shelf.meta_in_memory(&topic.object).filter(|meta| meta.version.epoch >= topic.epoch)?;
    (meta.freshness(policy, cache.now()) == Freshness::Fresh).then_some(meta)
}

/// Whether the store is in trouble, rather than the object or our settings: then what is cached may be served.
pub fn is_store_trouble(failure: Failure) -> bool {
    matches!(
        failure,
        Failure::Unavailable
            | Failure::Unreachable
            | Failure::Closed
            | Failure::Timeout
            | Failure::StoreBroken
            | Failure::BrokenBody
            | Failure::Throttled { .. }
    )
}

fn remember(cache: &Cache, policy: &Policy, topic: &Topic, outcome: &Result<Learnt, Failure>) {
    let (finding, life) = match outcome {
        // It is kept already: readers must find it before they find the fill.
        Ok(Learnt::Object(..)) => return,
        Ok(Learnt::Unfit) => (Finding::Unfit, UNFIT_FOR),
        Err(Failure::NotFound) => (Finding::Absent, policy.negative_ttl),
        Err(Failure::Gone) => (Finding::Gone, policy.negative_ttl),
        // It ends what is cached, and says nothing of whether there is an object: the next one to ask asks the store.
        Err(Failure::Denied { .. }) => return cache.shelf.forget(&topic.object),
        Err(_) => return,
    };
    let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    let until = cache.now().saturating_add(life);
    cache.shelf.forget(&topic.object);
    let verdict = Verdict { finding, until, epoch: topic.epoch };
    cache.shelf.keep_verdict(topic.object.clone(), verdict);
}

async fn head(
    cache: &Cache,
    origin: &Origin,
    policy: &Policy,
    topic: &Topic,
    tally: &mut Tally,
) -> Result<Learnt, Failure> {
    let (response, _) = stat(origin, &topic.object.key, tally).await?;
    let facts = of_head(response);
    Ok(keep(cache, policy, topic, facts).await.map_or(Learnt::Unfit, |meta| Learnt::Object(meta, None)))
}

/// Keeps what was said; `None` where that cannot or must not be.
async fn keep(cache: &Cache, policy: &Policy, topic: &Topic, facts: Facts) -> Option<Arc<Meta>> {
    let now = cache.now();
    let meta = Meta::new(&topic.object, topic.epoch, facts, now);
    let mut meta = meta.filter(|meta| meta.freshness(policy, now) != Freshness::Never)?;
    if let Some(before) = cache.shelf.meta(&topic.object).await {
        meta = meta.after(&before);
    }
    let meta = Arc::new(meta);
    cache.shelf.keep_meta(Arc::clone(&meta));
    Some(meta)
}

/// `None` where the store has no such part.
async fn slice(
    cache: &Arc<Cache>,
    origin: &Arc<Origin>,
    policy: &Policy,
    topic: &Topic,
    number: u64,
    tally: &mut Tally,
) -> Result<Option<Learnt>, Failure> {
    let size = u64::from(cache.slice_size);
    let first = number.checked_mul(size);
    let Some(last) = first.and_then(|first| first.checked_add(size - 1)) else { return Ok(None) };
    let wanted = Span { first: last - (size - 1), last };
    let place = cache.place(&origin.store).await;
    let range = RangeSpec::From { first: wanted.first, last: Some(wanted.last) }.to_header();
    let question =
        Question { head: false, key: &topic.object.key, range: Some(&range), if_match: None, room: fill::PIECE };
    cache.stats.fills.up();
    let (mut response, in_flight) = match ask(origin, &question, tally).await? {
        Reply::Object(response, in_flight) => (*response, in_flight),
        Reply::RangeNotSatisfiable(_) => return Ok(None),
        Reply::PreconditionFailed => return Err(Failure::Nonsense("a refusal of a condition that was not sent")),
    };
    let Some((span, total)) = sent(&response, wanted)? else { return Ok(Some(Learnt::Unfit)) };
    let facts = Facts::of(std::mem::take(&mut response.headers), Some(total));
    let Some(meta) = keep(cache, policy, topic, facts).await else {
        return Ok(Some(Learnt::Unfit));
    };
    let filling = span.map(|span| begin(cache, origin, &meta, (number, span), response, in_flight, place));
    Ok(Some(Learnt::Object(meta, filling.flatten())))
}

/// Which bytes the answer has, of how many in all. `None`: it cannot be kept, being more than a slice or of unknown length.
fn sent(response: &Response, wanted: Span) -> Result<Option<(Option<Span>, u64)>, Failure> {
    let announced = response.body.announced();
    if response.status != StatusCode::PARTIAL_CONTENT {
        // The store sent it all: fine where that is the slice.
        let whole = announced.filter(|length| wanted.first == 0 && *length <= wanted.len());
        return Ok(whole.map(|length| (length.checked_sub(1).map(|last| Span { first: 0, last }), length)));
    }
    let said = response.headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.as_bytes()));
    let Some(ContentRange { span, total: Some(total) }) = said else { return Ok(None) };
    let last = wanted.last.min(total - 1);
    if span != (Span { first: wanted.first, last }) || announced.is_some_and(|length| length != span.len()) {
        return Err(Failure::Nonsense("206 with another range than the one asked for"));
    }
    Ok(Some((Some(span), total)))
}

/// Makes the answer's body the fill of its slice.
fn begin(
    cache: &Arc<Cache>,
    origin: &Arc<Origin>,
    meta: &Meta,
    (number, span): (u64, Span),
    response: Response,
    in_flight: InFlight,
    place: OwnedSemaphorePermit,
) -> Option<Filling> {
    let etag: Option<ETag> = Some(meta.version.etag.clone());
    let key = SliceKey { version: Arc::clone(&meta.version), number, size: cache.slice_size };
    let body = Download::new(Arc::clone(origin), &meta.version.object.key, etag, response.body, in_flight);
    let begun = Some((body.of(Some(span), 0), place));
    // A slice that is there already needs no fill: the answer's body is dropped with the job.
    fill::join(cache, Job { key, span, origin: Arc::clone(origin), begun }).ok()
}
