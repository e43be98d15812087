//! The script of an origin: what it does with one request.

use std::time::Duration;

use super::origin_http::Answer;

/// One step: how the origin meets one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Answer as a good store would, from the objects it was given.
    Serve,
    /// Answer as a good store would, then change the answer before it is sent.
    Edit(fn(&mut Answer)),
    /// Answer this, whatever was asked.
    Answer(Answer),
    /// An S3 error as MinIO words it: XML for GET, `x-minio-error-*` for HEAD.
    Refuse(Refusal),
    /// A good header, then this many bytes of the body, then the end.
    Body {
        /// Bytes of the body that are sent.
        send: usize,
        /// What happens then.
        end: End,
    },
    /// A good header, then the body in this many pieces with a pause before each.
    Trickle {
        /// How many pieces.
        pieces: usize,
        /// What is waited before each.
        pause: Duration,
    },
    /// A good header, then the body in segments of this many bytes each.
    Segments(usize),
    /// No byte at all; then the end.
    Silence(End),
    /// These bytes, then the connection is closed.
    Raw(&'static [u8]),
    /// These bytes over and over, as fast as they are taken.
    Endless(&'static [u8]),
}

/// How a connection ends, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Closed in order (FIN).
    Close,
    /// Reset (RST).
    Reset,
    /// Kept open in silence until the other side closes it.
    Stall,
}

/// An S3 error.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// S3's code.
    pub code: &'static str,
    /// S3's message, which tells an expired URL from a denied one.
    pub message: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
}

/// An S3 error without further headers.
pub const fn refuse(status: u16, code: &'static str, message: &'static str) -> Step {
    Step::Refuse(Refusal { status, code, message, headers: &[] })
}

/// The URL's time is over.
pub const EXPIRED: Step = refuse(403, "AccessDenied", "Request has expired");
/// The URL's time has not begun.
pub const NOT_YET_VALID: Step = refuse(403, "AccessDenied", "Request is not valid yet");
/// The URL's time is over, by a clock that no store has.
pub const EXPIRED_IN_9999: Step = Step::Refuse(Refusal {
    status: 403,
    code: "AccessDenied",
    message: "Request has expired",
    headers: &[("Date", "Fri, 31 Dec 9999 23:59:59 GMT")],
});
/// As [`EXPIRED_IN_9999`], by a clock that never ran.
pub const EXPIRED_IN_1970: Step = Step::Refuse(Refusal {
    status: 403,
    code: "AccessDenied",
    message: "Request has expired",
    headers: &[("Date", "Thu, 01 Jan 1970 00:00:00 GMT")],
});
/// The key may not read this.
pub const DENIED: Step = refuse(403, "AccessDenied", "Access Denied.");
/// The signature is not ours.
pub const WRONG_SIGNATURE: Step = refuse(
    403,
    "SignatureDoesNotMatch",
    "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
);
/// The access key is unknown.
pub const UNKNOWN_KEY: Step =
    refuse(403, "InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.");
/// Too many requests, as AWS says it.
pub const SLOW_DOWN: Step = refuse(503, "SlowDown", "Please reduce your request rate.");
/// Too many requests, as MinIO says it.
pub const TOO_MANY: Step = Step::Refuse(Refusal {
    status: 429,
    code: "TooManyRequests",
    message: "Deadline exceeded while waiting in incoming queue, please reduce your request rate",
    headers: &[("Retry-After", "60")],
});
/// The store failed.
pub const INTERNAL_ERROR: Step = refuse(500, "InternalError", "We encountered an internal error, please try again.");
/// There is no such object.
pub const NO_SUCH_KEY: Step = refuse(404, "NoSuchKey", "The specified key does not exist.");
/// There is no such bucket.
pub const NO_SUCH_BUCKET: Step = refuse(404, "NoSuchBucket", "The specified bucket does not exist");
/// The object was deleted for good.
pub const DELETE_MARKER: Step = Step::Refuse(Refusal {
    status: 404,
    code: "NoSuchKey",
    message: "The specified key does not exist.",
    headers: &[("x-amz-delete-marker", "true")],
});
/// The object lies in an archive.
pub const ARCHIVED: Step =
    refuse(403, "InvalidObjectState", "The operation is not valid for the object's storage class");

/// A redirect whose target carries a signature.
pub const REDIRECT: Step = Step::Edit(|answer| {
    answer.status = 302;
    answer.set("Location", "http://127.0.0.1:1/elsewhere?X-Amz-Signature=0123456789abcdef");
    answer.replace_body(Vec::new());
});
/// An answer to a question nobody asked.
pub const UNASKED_NOT_MODIFIED: Step = Step::Edit(|answer| {
    answer.status = 304;
    answer.replace_body(Vec::new());
    answer.remove("Content-Length");
});
/// Another protocol.
pub const SWITCHING_PROTOCOLS: Step =
    Step::Raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: nonsense\r\nConnection: upgrade\r\n\r\n");
/// A partial answer that does not say of what.
pub const NO_CONTENT_RANGE: Step = Step::Edit(|answer| answer.remove("Content-Range"));
/// A partial answer that says it is another part.
pub const WRONG_CONTENT_RANGE: Step = Step::Edit(|answer| {
    let length = answer.body.len();
    answer.set("Content-Range", &format!("bytes 1-{length}/999999"));
});
/// The object became another one.
pub const CHANGED_ETAG: Step = Step::Edit(|answer| answer.set("ETag", "\"another-version\""));
/// More bytes than announced.
pub const LONG: Step = Step::Edit(|answer| answer.body.extend_from_slice(b"bytes that nobody announced"));
/// Half of the bytes that the header speaks of, and a length that fits them.
pub const SHORT: Step = Step::Edit(|answer| answer.replace_body(answer.body[..answer.body.len() / 2].to_vec()));
/// As [`SHORT`], in chunks.
pub const SHORT_IN_CHUNKS: Step = Step::Edit(|answer| in_chunks(answer, b"0\r\n\r\n"));
/// In chunks, of which the second is none.
pub const GARBLED_CHUNKS: Step = Step::Edit(|answer| in_chunks(answer, b"this is not a size\r\n"));
/// The object was overwritten: the condition does not hold.
pub const OVERWRITTEN: Step = refuse(412, "PreconditionFailed", "At least one of the pre-conditions did not hold");
/// The whole object, whatever range was asked for.
pub const WHOLE: Step = Step::Edit(|answer| {
    answer.status = 200;
    answer.remove("Content-Range");
    answer.replace_body(answer.whole.clone());
});
/// Not HTTP.
pub const GARBAGE: Step = Step::Raw(b"\x16\x03\x01 this is not HTTP at all\r\n\r\n");

/// Half of the body as one chunk, and what follows it.
fn in_chunks(answer: &mut Answer, rest: &[u8]) {
    let half = &answer.body[..answer.body.len() / 2];
    answer.body = [format!("{:x}\r\n", half.len()).as_bytes(), half, b"\r\n", rest].concat();
    answer.remove("Content-Length");
    answer.set("Transfer-Encoding", "chunked");
}
