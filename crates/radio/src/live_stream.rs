//! Sound toward one listener, as an answer without an end.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::metrics::StreamEnd;
use super::relay::listener::CountedListener;
use super::service::RadioService;
use super::source::audio_format::AudioCodec;
use super::station::Station;
use super::tickets::Ticket;
use server_kit::limit::stream_limits::StreamPermit;

/// Name of the station, as players that know Icecast show it.
const ICY_NAME: HeaderName = HeaderName::from_static("icy-name");
/// Bit rate in kbit/s, likewise.
const ICY_BITRATE: HeaderName = HeaderName::from_static("icy-br");
/// Tells nginx to keep nothing back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type PendingEnd = Pin<Box<dyn Future<Output = StreamEnd> + Send>>;

/// Returns the fields of a station's sound. The type is that of the codec that is heard, never what the station's server
/// says, and not that of the time when it was added.
pub fn sound_headers(station: &Station, codec: AudioCodec) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(codec.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A ticket in the address goes to nobody else.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    if let Ok(name) = HeaderValue::from_str(&station.name) {
        headers.insert(ICY_NAME, name);
    }
    if let Some(kbps) = station.bitrate_kbps {
        headers.insert(ICY_BITRATE, kbps.into());
    }
    headers
}

/// Returns the answer with the sound that `listener` hears.
pub fn respond(
    service: RadioService,
    station: &Station,
    listener: CountedListener,
    permit: StreamPermit,
    ticket: Ticket,
) -> Response {
    let headers = sound_headers(station, listener.codec());
    let end: PendingEnd = Box::pin(async move { service.wait_for_end(ticket).await });
    let body = Body::from_stream(stream::unfold((listener, end, permit), async |(mut listener, mut end, permit)| {
        let bytes: Bytes = tokio::select! {
            biased;
            reason = &mut end => {
                listener.finish(reason);
                return None;
            }
            bytes = listener.next() => bytes?,
        };
        Some((Ok::<_, Infallible>(bytes), (listener, end, permit)))
    }));
    (headers, body).into_response()
}
