//! Who is told of streams: that a user begins to fetch a track, and how it ended. The proxy knows nothing of what comes
//! of it, and never waits for it.

use std::sync::Arc;

use http::{StatusCode, header};

use super::ctx::Ctx;
use http_semantics::range::ContentRange;
use object_engine::ObjectResponse;

/// The captured path value that names a track.
const ID: &str = "id";
/// Longer ids name nothing, of users as of tracks.
const LONGEST: usize = 256;

/// Is told of streams. Must not block.
pub trait Audience: Send + Sync {
    /// A stream begins.
    fn began(&self, user: &str, track: &str);

    /// It ended, whole or not.
    fn ended(&self, user: &str, track: &str, ending: Ending);
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Bytes that were sent.
    pub sent: u64,
    /// The object's size, where it is known.
    pub size: Option<u64>,
    /// Whether the object's last byte was among them.
    pub last: bool,
}

/// A stream that somebody is told of: now that it begins, and when it is dropped.
pub struct Told {
    audience: Arc<dyn Audience>,
    user: String,
    track: String,
    size: Option<u64>,
    reaches_end: bool,
    sent: u64,
    whole: bool,
}

impl Told {
    /// The stream of `answer`; `None` where nobody wants to know, or it is nobody's.
    pub fn of(ctx: &Ctx, key: &str, answer: &ObjectResponse) -> Option<Self> {
        let audience = Arc::clone(ctx.world.audience.as_ref()?);
        let user = ctx.claims.as_ref()?.subject.clone();
        let track = match ctx.captures.decoded(ID) {
            Some(id) => id.ok()?,
            None => key.to_owned(),
        };
        if user.len() > LONGEST || track.len() > LONGEST {
            return None;
        }
        let (size, reaches_end) = part(answer);
        audience.began(&user, &track);
        Some(Self { audience, user, track, size, reaches_end, sent: 0, whole: false })
    }

    /// `sent` bytes went out; `whole`: they were all of the answer.
    pub fn went(&mut self, sent: u64, whole: bool) {
        (self.sent, self.whole) = (sent, whole);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let ending = Ending { sent: self.sent, size: self.size, last: self.whole && self.reaches_end };
        self.audience.ended(&self.user, &self.track, ending);
    }
}

/// The object's size, and whether the answer goes to its end.
fn part(answer: &ObjectResponse) -> (Option<u64>, bool) {
    let field = |name| answer.headers.get(name).map(http::HeaderValue::as_bytes);
    if answer.status == StatusCode::PARTIAL_CONTENT {
        let range = field(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let size = range.and_then(|range| range.total);
        return (size, range.zip(size).is_some_and(|(range, size)| range.span.last + 1 == size));
    }
    let length = field(header::CONTENT_LENGTH).and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
    (length, true)
}
