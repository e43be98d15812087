//! The answer of a request among the live streams: registered when its body begins, and ended before its end where its
//! user logs out, its film's session ends, or the operator wants it.

use std::future::Future;
use std::sync::Arc;

use futures::future::OptionFuture;
use http::{HeaderMap, StatusCode, Version, header};

use super::admission::authorization;
use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::films;
use http_semantics::range::{ByteRange, ContentRange};
use http_server::Downstream;
use server_kit::live_streams::{StreamFacts, StreamProtocol};

/// Part of an object that an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnsweredPart {
    /// The object's size, where it is known.
    pub size: Option<u64>,
    /// The bytes of it that are sent; `None` for all.
    pub range: Option<ByteRange>,
}

impl AnsweredPart {
    /// Returns the part that the head of an answer names.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let field = |name| headers.get(name).map(http::HeaderValue::as_bytes);
        if status == StatusCode::PARTIAL_CONTENT {
            let range = field(header::CONTENT_RANGE).and_then(ContentRange::parse);
            return Self { size: range.and_then(|range| range.total), range: range.map(|range| range.span) };
        }
        let length =
            field(header::CONTENT_LENGTH).and_then(|length| std::str::from_utf8(length).ok()?.parse::<u64>().ok());
        Self { size: length, range: None }
    }
}

/// Registers the answer of this head, whose body is about to be sent, as a live stream until the request is over.
pub fn register(downstream: &impl Downstream, ctx: &mut RequestContext, status: StatusCode, headers: &HeaderMap) {
    let Some(route) = &ctx.route else { return };
    let process = &ctx.runtime.process;
    let streams = &process.live_streams;
    let AnsweredPart { size, range } = AnsweredPart::of(status, headers);
    let protocol = match downstream.request().version {
        Version::HTTP_2 => StreamProtocol::Http2,
        _ => StreamProtocol::Http1,
    };
    let facts = StreamFacts {
        request_id: u64::from_str_radix(&ctx.id, 16).expect("an id of a request is a number in hexadecimal"),
        began: process.clock.unix_millis(),
        route: Arc::clone(&route.id),
        client: ctx.client_address,
        user: ctx.claims.as_ref().map(|claims| streams.hash_user(claims.subject.as_str())),
        size,
        range,
        protocol,
        is_tls: downstream.is_tls(),
    };
    ctx.live_stream = Some(streams.register(facts));
}

/// Resolves with the reason when the answer that is being sent must end.
pub fn wait_until_ended(ctx: &RequestContext) -> impl Future<Output = ProxyFailure> + use<> {
    let (revoked, session_ended) = (authorization::wait_until_revoked(ctx), films::wait_until_ended(ctx));
    let stream_ended = ctx.live_stream.as_ref().map(|stream| stream.wait_until_ended());
    async move {
        tokio::select! {
            // First, so that it knows from the beginning which logout comes after it.
            biased;
            () = revoked => ProxyFailure::Revoked,
            reason = session_ended => ProxyFailure::SessionEnded(reason),
            Some(()) = OptionFuture::from(stream_ended) => ProxyFailure::StreamEnded,
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_answer_names_the_part_of_the_object() {
        let range = |first, last| Some(ByteRange { first, last });
        for (status, name, value, expected) in [
            (200, "content-length", "10", (Some(10), None)),
            (200, "etag", "\"a\"", (None, None)),
            (206, "content-range", "bytes 0-3/10", (Some(10), range(0, 3))),
            (206, "content-range", "bytes 4-9/*", (None, range(4, 9))),
            (206, "content-length", "4", (None, None)),
            (200, "content-length", "x", (None, None)),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))]);
            let part = AnsweredPart::of(StatusCode::from_u16(status).expect("a status"), &headers);
            assert_eq!((part.size, part.range), expected, "{status} {name}: {value}");
        }
    }
}
