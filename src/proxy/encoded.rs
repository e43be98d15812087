//! Objects in a content coding that the client takes: one that is stored beside the object, else one that is made here of a small
//! text. Ranges and preconditions that are about bytes are answered with the object as it is stored.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::objects;
use super::route::Route;
use super::tracks::{ObjectSource, RequestedObject};
use http_semantics::content_coding::{self, ContentCoding, is_compressible};
use http_semantics::headers::has_token;
use http_semantics::media_type;
use http_server::Downstream;
use object_engine::{ObjectBody, ObjectResponse, WholeBody};
use primitives::blocking_calls::BlockingCalls;

/// Sizes of texts that are compressed: less is not worth it, and more is held in memory and keeps a processor busy for too long.
const SIZES: std::ops::RangeInclusive<u64> = 256..=1 << 20;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Effort of each coding: about the time of gzip's usual one for all of them, 10 to 30 ms for 1 MiB.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: i32 = 4;
/// Base 2 logarithm of Brotli's window in bytes.
const BROTLI_WINDOW: i32 = 20;
/// Longest wait for a text to be compressed, while others are.
const PATIENCE: Duration = Duration::from_secs(2);
/// Texts that are compressed at once, each by a thread.
const AT_ONCE: usize = 2;
/// Kilobytes of texts, as they are and encoded, that wait for clients to take them.
const ROOM_KILOBYTES: usize = 64 << 10;
/// Media types of files in a coding, which say nothing of what is in them.
const OF_CODINGS: [&str; 7] = [
    "application/gzip",
    "application/x-gzip",
    "application/zstd",
    "application/x-zstd",
    "application/x-brotli",
    "application/octet-stream",
    "binary/octet-stream",
];

/// Compressions of texts, bounded in number and in memory.
#[derive(Debug)]
pub struct Compressions {
    calls: BlockingCalls,
    /// Kilobytes of texts that are in memory until their clients have taken them.
    room: Arc<Semaphore>,
}

impl Default for Compressions {
    fn default() -> Self {
        Self { calls: BlockingCalls::with_most(PATIENCE, AT_ONCE), room: Arc::new(Semaphore::new(ROOM_KILOBYTES)) }
    }
}

impl Compressions {
    /// Takes room for a text and its encoded form; `None` where there is none.
    fn reserve(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        let kilobytes = u32::try_from(size.div_ceil(1024)).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(2 * kilobytes.max(1)).ok()
    }
}

/// Asks for the object as `objects::ask` does, in a coding that `route` has and the client takes.
pub(super) async fn ask(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    (route, source): (&Route, ObjectSource<'_>),
    object: &RequestedObject,
) -> Result<(ObjectResponse, bool), ProxyFailure> {
    let (stored, made) = match is_about_bytes(downstream.request()) {
        true => (Vec::new(), Vec::new()),
        false => {
            let accepted = |offered: &[ContentCoding]| content_coding::accepted(&downstream.request().headers, offered);
            (accepted(&route.codings.stored), accepted(&route.codings.made))
        }
    };
    let target = (source, &object.origin);
    for coding in stored {
        let key = format!("{}.{}", object.key(), coding.extension());
        match objects::ask(downstream, ctx, target, &key).await {
            Ok((mut answer, has_begun)) => {
                describe_stored(&mut answer, object, coding);
                vary(&mut answer.headers);
                return Ok((answer, has_begun));
            }
            // None is stored.
            Err(ProxyFailure::Object(error)) if error.is_absence() => {}
            Err(failure) => return Err(failure),
        }
    }
    let (mut answer, has_begun) = objects::ask(downstream, ctx, target, object.key()).await?;
    if let (Some(coding), false) = (made.first(), has_begun) {
        let runtime = Arc::clone(&ctx.runtime);
        answer = tokio::select! {
            biased;
            encoded = encode(&runtime.process.compressions, answer, *coding) => encoded?,
            () = downstream.closed() => return Err(ProxyFailure::ClientLeft),
        };
    }
    vary(&mut answer.headers);
    Ok((answer, has_begun))
}

/// Returns true for a request whose answer depends on the bytes of one form of the object.
fn is_about_bytes(request: &Parts) -> bool {
    let headers = &request.headers;
    (request.method != Method::HEAD && headers.contains_key(header::RANGE))
        || headers.contains_key(header::IF_MATCH)
        || headers.contains_key(header::IF_UNMODIFIED_SINCE)
}

fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
}

/// Describes an object that is stored in a coding by what it is without it.
fn describe_stored(answer: &mut ObjectResponse, object: &RequestedObject, coding: ContentCoding) {
    let headers = &mut answer.headers;
    // A date says nothing of the coding: a client that continued by it would get bytes of the other form.
    headers.remove(header::LAST_MODIFIED);
    if answer.status == StatusCode::NOT_MODIFIED {
        return;
    }
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    // A range would be one of the encoded bytes, which is given of no object.
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    let of_coding =
        |value: &HeaderValue| OF_CODINGS.iter().any(|known| value.as_bytes().eq_ignore_ascii_case(known.as_bytes()));
    if object.origin.content_type.is_none()
        && headers.get(header::CONTENT_TYPE).is_none_or(of_coding)
        && let Some(content_type) = media_type::from_key_extension(object.key())
    {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
}

/// Puts a text into `coding`; other answers stay as they are.
async fn encode(
    compressions: &Compressions,
    mut answer: ObjectResponse,
    coding: ContentCoding,
) -> Result<ObjectResponse, ProxyFailure> {
    if answer.status == StatusCode::NOT_MODIFIED {
        weaken(&mut answer.headers);
        answer.headers.remove(header::LAST_MODIFIED);
        return Ok(answer);
    }
    let Some(size) = size_worth_it(&answer.headers).filter(|_| answer.status == StatusCode::OK) else {
        return Ok(answer);
    };
    if answer.body.is_some() {
        // As it is stored, where clients that read slowly have all the room.
        let Some(room) = compressions.reserve(size) else { return Ok(answer) };
        let Some(body) = answer.body.take() else { return Ok(answer) };
        let (text, effort) = read(body).await?;
        let plain = text.clone();
        let encoded = compressions.calls.run(move || compress(&plain, coding)).await;
        // Too many at once: as it is stored it is there sooner.
        let Ok(Ok(encoded)) = encoded else {
            answer.body = Some(ObjectBody::Whole(WholeBody::new(text, effort, room)));
            return Ok(answer);
        };
        answer.headers.insert(header::CONTENT_LENGTH, encoded.len().into());
        answer.body = Some(ObjectBody::Whole(WholeBody::new(encoded.into(), effort, room)));
    } else {
        // To a HEAD: the length would cost the work.
        answer.headers.remove(header::CONTENT_LENGTH);
    }
    answer.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    answer.headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    weaken(&mut answer.headers);
    // A date says nothing of the coding: a client that continued by it would get bytes of the other form.
    answer.headers.remove(header::LAST_MODIFIED);
    Ok(answer)
}

/// Returns the size of a text that is compressed, which nobody has encoded yet or forbidden to (`no-transform`, RFC 9110
/// §7.7); `None` for everything else.
fn size_worth_it(headers: &HeaderMap) -> Option<u64> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let size = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let is_worth_it = text(header::CONTENT_TYPE).is_some_and(is_compressible)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !has_token(headers, &header::CACHE_CONTROL, "no-transform");
    size.filter(|size| is_worth_it && SIZES.contains(size))
}

/// Makes the entity tag weak: the bytes are others than the store's, and another time may be others again.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(header::ETAG, weak);
    }
}

async fn read(mut body: ObjectBody) -> Result<(Bytes, object_engine::AttemptStats), ProxyFailure> {
    let mut text = Vec::new();
    while body.fill(PIECE, false).await.map_err(ProxyFailure::Object)? {
        text.extend_from_slice(body.available());
    }
    Ok((text.into(), body.attempt_stats()))
}

/// Compresses a text of a bounded size.
fn compress(text: &[u8], coding: ContentCoding) -> std::io::Result<Vec<u8>> {
    let mut encoded = Vec::with_capacity(text.len() / 2);
    match coding {
        ContentCoding::Gzip => {
            let mut encoder = GzEncoder::new(encoded, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(text)?;
            encoder.finish()
        }
        ContentCoding::Zstd => zstd::bulk::compress(text, ZSTD_LEVEL),
        ContentCoding::Brotli => {
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_LEVEL,
                lgwin: BROTLI_WINDOW,
                size_hint: text.len(),
                ..brotli::enc::BrotliEncoderParams::default()
            };
            brotli::BrotliCompress(&mut &*text, &mut encoded, &parameters)?;
            Ok(encoded)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn texts_that_wait_for_their_clients_have_64_mebibytes() {
        let compressions = Compressions::default();
        let kept: Vec<_> = (0..32).map(|_| compressions.reserve(1 << 20).expect("there is room")).collect();
        assert!(compressions.reserve(1).is_none(), "a text and its encoded form of 1 MiB each, 32 times");
        drop(kept);
        assert!(compressions.reserve(1).is_some());
    }

    #[test]
    fn what_is_compressed_is_smaller_and_comes_back() {
        let text = "a line of a text that is repeated\n".repeat(1000);
        for coding in [ContentCoding::Brotli, ContentCoding::Zstd, ContentCoding::Gzip] {
            let encoded = compress(text.as_bytes(), coding).expect("it is compressed");
            assert!(encoded.len() < text.len() / 10, "{coding:?}");
            let mut back = Vec::new();
            match coding {
                ContentCoding::Brotli => drop(brotli::BrotliDecompress(&mut &*encoded, &mut back)),
                ContentCoding::Zstd => back = zstd::bulk::decompress(&encoded, text.len()).expect("zstd"),
                ContentCoding::Gzip => {
                    flate2::read::GzDecoder::new(&*encoded).read_to_end(&mut back).expect("gzip");
                }
            }
            assert_eq!(back, text.as_bytes(), "{coding:?}");
        }
    }
}
