//! The fault matrix: whatever a store does to a body, the player gets every byte right or an error that it cannot
//! overlook. Never a silent truncation.

mod continuations;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually::eventually;
use crate::support::fault::{self, End, Step};
use crate::support::heard::{self, Ending, Heard, Protocol};
use crate::support::origin::pattern;
use crate::support::{Gate, Object, ScriptedOrigin, config};

const TRACK: &str = "/stream/track.mp3";
const SIZE: usize = 300_000;
const CAUSES: [&str; 6] = ["cut", "reset", "stalled", "short", "malformed", "mismatch"];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Whole,
    Range,
}

impl Shape {
    fn status(self) -> u16 {
        match self {
            Self::Whole => 200,
            Self::Range => 206,
        }
    }

    /// First byte and the byte behind the last.
    fn span(self) -> (usize, usize) {
        match self {
            Self::Whole => (0, SIZE),
            Self::Range => (10_000, 290_000),
        }
    }

    fn length(self) -> usize {
        self.span().1 - self.span().0
    }

    async fn get(self, gate: &Gate, protocol: Protocol) -> Heard {
        self.get_from(gate, protocol, TRACK).await
    }

    async fn get_from(self, gate: &Gate, protocol: Protocol, path: &str) -> Heard {
        let (first, end) = self.span();
        let range = format!("bytes={first}-{}", end - 1);
        let headers = [("range", range.as_str())];
        heard::get(gate, protocol, path, if self == Self::Whole { &[] } else { &headers }).await
    }
}

/// How it must end for the player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    /// Visibly, with this code in the access log.
    Broken(&'static str),
}

/// What the store does with the first request and those that continue it, and what comes of it.
struct Row {
    name: &'static str,
    script: Vec<Step>,
    /// What it does when the script is over.
    lasting: Step,
    outcome: Outcome,
    resumes: &'static [(&'static str, u32)],
}

fn row(name: &'static str, script: Vec<Step>, resumes: &'static [(&'static str, u32)]) -> Row {
    Row { name, script, lasting: Step::Serve, outcome: Outcome::Whole, resumes }
}

/// The first body is cut in its middle; then this is done to the one that continues it.
fn rest(shape: Shape, name: &'static str, steps: &[Step], resumes: &'static [(&'static str, u32)]) -> Row {
    let cut = Step::Body { send: shape.length() / 2, end: End::Close };
    row(name, [&[cut], steps].concat(), resumes)
}

fn broken(code: &'static str, row: Row) -> Row {
    Row { outcome: Outcome::Broken(code), ..row }
}

fn lasting(step: Step, row: Row) -> Row {
    Row { lasting: step, ..row }
}

/// What happens to the first body.
fn first_bodies(shape: Shape) -> Vec<Row> {
    let (middle, last) = (shape.length() / 2, shape.length() - 1);
    let one = |send, end| vec![Step::Body { send, end }];
    let trickle = Step::Trickle { pieces: 10, pause: Duration::from_millis(150) };
    let mut rows = vec![
        row("cut before the first byte", one(0, End::Close), &[("cut", 1)]),
        row("cut in the middle", one(middle, End::Close), &[("cut", 1)]),
        row("cut before the last byte", one(last, End::Close), &[("cut", 1)]),
        row("reset before the first byte", one(0, End::Reset), &[("reset", 1)]),
        row("reset in the middle", one(middle, End::Reset), &[("reset", 1)]),
        row("stalled before the first byte", one(0, End::Stall), &[("stalled", 1)]),
        row("stalled before the last byte", one(last, End::Stall), &[("stalled", 1)]),
        row("cut again and again", vec![Step::Body { send: 20_000, end: End::Close }; 7], &[("cut", 7)]),
        row("too long", vec![fault::LONG], &[]),
        row("slow", vec![trickle], &[]),
        row("small segments", vec![Step::Segments(128)], &[]),
    ];
    if shape == Shape::Range {
        rows.push(row("short, in chunks", vec![fault::SHORT_IN_CHUNKS], &[("short", 1)]));
        rows.push(row("garbled chunks", vec![fault::GARBLED_CHUNKS], &[("malformed", 1)]));
    }
    rows
}

/// What happens to the request for the rest.
fn rests(shape: Shape) -> Vec<Row> {
    let one_of_each = &[("cut", 1), ("mismatch", 1)];
    let silence = |end| Step::Silence(end);
    vec![
        rest(shape, "a short rest", &[fault::SHORT], &[("cut", 1), ("short", 1)]),
        rest(shape, "a rest that is too long", &[fault::LONG], &[("cut", 1)]),
        rest(shape, "another part", &[fault::WRONG_CONTENT_RANGE], one_of_each),
        rest(shape, "no Content-Range", &[fault::NO_CONTENT_RANGE], one_of_each),
        rest(shape, "the whole object", &[fault::WHOLE], one_of_each),
        rest(shape, "another version once", &[fault::CHANGED_ETAG], one_of_each),
        rest(shape, "expired in the middle", &[fault::EXPIRED], &[("cut", 1)]),
        rest(shape, "expired by a date far ahead", &[fault::EXPIRED_IN_9999], &[("cut", 1)]),
        rest(shape, "expired by a date long ago", &[fault::EXPIRED_IN_1970], &[("cut", 1)]),
        rest(shape, "denied for a moment", &[fault::DENIED], &[("cut", 1)]),
        rest(shape, "too many requests", &[fault::SLOW_DOWN, fault::TOO_MANY], &[("cut", 1)]),
        rest(shape, "an internal error", &[fault::INTERNAL_ERROR], &[("cut", 1)]),
        rest(shape, "no answer", &[silence(End::Reset), silence(End::Close)], &[("cut", 1)]),
        rest(shape, "no answer in time", &[silence(End::Stall)], &[("cut", 1)]),
        rest(shape, "a redirect", &[fault::REDIRECT], &[("cut", 1)]),
        rest(shape, "not HTTP", &[fault::GARBAGE], &[("cut", 1)]),
        rest(shape, "a rest that is reset", &[Step::Body { send: 1, end: End::Reset }], &[("cut", 1), ("reset", 1)]),
    ]
}

/// What cannot be continued.
fn lost(shape: Shape) -> Vec<Row> {
    let cut = |name, steps: &[Step]| rest(shape, name, steps, &[("cut", 1)]);
    let nothing = Step::Body { send: 0, end: End::Close };
    vec![
        broken("object_changed", cut("overwritten", &[fault::OVERWRITTEN])),
        broken("not_found", cut("deleted", &[fault::NO_SUCH_KEY])),
        broken("not_found", cut("denied for good", &[fault::DENIED, fault::DENIED])),
        broken("url_expired", cut("expired for good", &[fault::EXPIRED, fault::EXPIRED, fault::EXPIRED])),
        broken("store_busy", lasting(fault::SLOW_DOWN, cut("too many requests for good", &[]))),
        broken("body_broken", lasting(nothing, rest(shape, "no progress", &[], &[("cut", 3)]))),
        broken(
            "object_changed",
            lasting(fault::CHANGED_ETAG, rest(shape, "another version", &[], &[("cut", 1), ("mismatch", 2)])),
        ),
    ]
}

/// `/stream/` with limits so short that a stall is soon one.
fn impatient(endpoint: &str) -> Value {
    let mut config = config::objects(endpoint, "audio");
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    config["Policies"]["Timeout"]["impatient"] = json!({ "Connect": "1s", "FirstByte": "400ms", "Idle": "1s" });
    config["ReverseProxy"]["Routes"]["stream"]["TimeoutPolicy"] = json!("impatient");
    config
}

/// Continuations so far, by cause.
async fn resumes(gate: &Gate) -> BTreeMap<&'static str, u32> {
    let page = gate.metrics().await;
    let of = |cause| {
        let series = format!("tidegate_stream_resumes_total{{cause=\"{cause}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(series.as_str()));
        (cause, value.map_or(0, |value| value.parse().expect("a number")))
    };
    CAUSES.map(of).into()
}

/// The access line of this answer; what was counted for it is in the metrics then.
async fn access_line(gate: &Gate, heard: &Heard) -> Value {
    let id = heard.header("x-request-id");
    eventually("the access line", async || gate.access_lines().into_iter().rev().find(|line| line["request_id"] == id))
        .await
}

/// Plays one row and compares all that can be seen of it; says what differs.
async fn play(gate: &Gate, origin: &ScriptedOrigin, protocol: Protocol, shape: Shape, row: Row) -> Result<(), String> {
    let body = pattern(SIZE);
    let (first, end) = shape.span();
    origin.reset();
    origin.script(row.script);
    origin.always(row.lasting);
    let before = resumes(gate).await;
    let lines = gate.access_lines().len();
    let heard = shape.get(gate, protocol).await;
    // By its place: an answer that was reset close behind its head has no id that the player could read.
    let line = eventually("the access line", async || gate.access_lines().into_iter().nth(lines)).await;
    let after = resumes(gate).await;
    let counted: BTreeMap<_, _> = after
        .into_iter()
        .map(|(cause, count)| (cause, count - before[cause]))
        .filter(|(_, count)| *count > 0)
        .collect();
    let expected: BTreeMap<_, _> = row.resumes.iter().copied().collect();
    let seen = format!(
        "{} ({protocol:?}, {shape:?}): status {}, {} bytes, {:?}, {counted:?}, {line}",
        row.name,
        heard.status,
        heard.body.len(),
        heard.end
    );
    let seen_status = heard.status == shape.status() || (heard.status == 0 && protocol == Protocol::H2);
    let right = seen_status && heard.body == body[first..][..heard.body.len().min(end - first)];
    let ended = match (&heard.end, row.outcome) {
        (Ending::Whole, Outcome::Whole) => heard.body.len() == end - first && line["failure"].is_null(),
        (Ending::Broken(_), Outcome::Broken(code)) => heard.body.len() < end - first && line["failure"] == code,
        _ => false,
    };
    let total: u32 = expected.values().sum();
    if right && ended && counted == expected && line["resumes"] == total { Ok(()) } else { Err(seen) }
}

async fn matrix(protocol: Protocol, shape: Shape) {
    let origin = ScriptedOrigin::with_track(pattern(SIZE)).await;
    let gate = Gate::start(&impatient(&origin.url())).await;
    let mut wrong = Vec::new();
    for row in first_bodies(shape).into_iter().chain(rests(shape)).chain(lost(shape)) {
        wrong.extend(play(&gate, &origin, protocol, shape, row).await.err());
    }
    assert!(wrong.is_empty(), "{} rows went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_fault_is_mended_or_seen_by_a_whole_get_over_http_1() {
    matrix(Protocol::H1, Shape::Whole).await;
}

#[tokio::test]
async fn every_fault_is_mended_or_seen_by_a_range_over_http_1() {
    matrix(Protocol::H1, Shape::Range).await;
}

#[tokio::test]
async fn every_fault_is_mended_or_seen_by_a_whole_get_over_http_2() {
    matrix(Protocol::H2, Shape::Whole).await;
}

#[tokio::test]
async fn every_fault_is_mended_or_seen_by_a_range_over_http_2() {
    matrix(Protocol::H2, Shape::Range).await;
}

/// As [`play`], of a key that is not in the cache yet. Slices are asked for in an order and number of the cache's own, so
/// only the outcome is looked at: what can be mended is mended, what cannot is seen, and no byte is ever wrong.
async fn play_cached(gate: &Gate, origin: &ScriptedOrigin, way: (Protocol, Shape), row: Row) -> Result<(), String> {
    let (protocol, shape) = way;
    let body = pattern(SIZE);
    let (first, end) = shape.span();
    origin.reset();
    let key = format!("{}.mp3", row.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"));
    origin.put(&format!("/audio/{key}"), Object::new(body.clone()));
    origin.script(row.script);
    origin.always(row.lasting);
    let heard = shape.get_from(gate, protocol, &format!("/stream/{key}")).await;
    // An answer that was reset close behind its head has no id that the player could read.
    let line = if heard.status == 0 { json!({ "failure": "unseen" }) } else { access_line(gate, &heard).await };
    let whole = heard.status == shape.status() && heard.end == Ending::Whole && heard.body == body[first..end];
    let broken = matches!(heard.end, Ending::Broken(_)) && body[first..end].starts_with(&heard.body);
    // Another slice of another version is an overwritten object.
    let may_be_lost = row.outcome != Outcome::Whole || row.name == "another version once";
    let seen = (broken || heard.status >= 400) && !line["failure"].is_null() && may_be_lost;
    let what =
        format!("{} ({way:?}): status {}, {} bytes, {:?}, {line}", row.name, heard.status, heard.body.len(), heard.end);
    if !whole && !seen {
        return Err(what);
    }
    // Whatever happened, nothing wrong was kept.
    origin.reset();
    let again = shape.get_from(gate, protocol, &format!("/stream/{key}")).await;
    let right = again.status == shape.status() && again.end == Ending::Whole && again.body == body[first..end];
    if right || (seen && again.status >= 400) {
        Ok(())
    } else {
        Err(format!("then status {} after {what}", again.status))
    }
}

/// Slices that end before the cut, so that the next one is what goes wrong, or behind it.
async fn cached_matrix(protocol: Protocol, slice: &str) {
    let origin = ScriptedOrigin::start().await;
    for shape in [Shape::Whole, Shape::Range] {
        let mut config = impatient(&origin.url());
        config["Cache"]["SliceSize"] = json!(slice);
        config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
        let gate = Gate::start(&config).await;
        let mut wrong = Vec::new();
        for row in first_bodies(shape).into_iter().chain(rests(shape)).chain(lost(shape)) {
            wrong.extend(play_cached(&gate, &origin, (protocol, shape), row).await.err());
        }
        assert!(wrong.is_empty(), "{} rows went wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[tokio::test]
async fn every_fault_is_mended_or_seen_through_the_cache_over_http_1() {
    cached_matrix(Protocol::H1, "128KiB").await;
}

#[tokio::test]
async fn every_fault_is_mended_or_seen_through_the_cache_over_http_2() {
    cached_matrix(Protocol::H2, "256KiB").await;
}
