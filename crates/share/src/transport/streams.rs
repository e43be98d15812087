//! Streams: a session as one long answer, Ogg/Opus for players and WAVE for finding faults.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::header;
use tokio::sync::broadcast::error::RecvError;

use super::MicrosClock;
use super::authorization::SessionVisitor;
use super::live::{connect_listener, micros_clock};
use crate::Relay;
use crate::audio::frame::{self, Codec};
use crate::audio::ogg::OggMuxer;
use crate::audio::packet_queue::{AudioFormat, AudioFrame};
use crate::audio::wav;
use crate::listening_right::ListeningRight;
use crate::session::ConnectedListener;
use crate::session::event::SessionEvent;
use crate::session::statistics::ListenerTransport;
use server_kit::api::error::Error;
use server_kit::api::extractors::Path;

/// Session as Ogg/Opus, until it ends: for `<audio>`, VLC and mpv.
#[utoipa::path(get, path = "/{id}/stream.ogg", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "The stream", content_type = "audio/ogg"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for"),
    (status = 503, description = "No place, or no room for another transcode")))]
pub async fn ogg(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: SessionVisitor,
) -> Result<Response, Error> {
    let (mut listener, right) =
        connect_listener(&relay, id.parse()?, &visitor, Codec::Opus, ListenerTransport::Ogg).await?;
    let (greeting, snapshot) = listener.restart_at_live_edge(relay.now());
    let song = greeting.metadata.as_deref();
    let mut muxer = OggMuxer::new(&[
        ("TITLE", song.and_then(|song| song.title.as_deref())),
        ("ARTIST", song.and_then(|song| song.artist.as_deref())),
    ]);
    if let Some(frame) = snapshot {
        muxer.write_frame(&frame.bytes);
    }
    let (first, clock) = (muxer.take_pages(), micros_clock(&relay));
    let listening = (Some(first), Some(muxer), listener, right);
    let pages = stream::unfold(listening, move |(first, muxer, mut listener, mut right)| {
        let clock = Arc::clone(&clock);
        async move {
            let mut muxer = muxer?;
            if let Some(first) = first {
                return Some((body_part(first), (None, Some(muxer), listener, right)));
            }
            let goes_on = match next_frame(&mut listener, &mut right, &clock).await {
                Some(frame) => {
                    muxer.write_frame(&frame.bytes);
                    true
                }
                None => {
                    muxer.finish();
                    false
                }
            };
            Some((body_part(muxer.take_pages()), (None, goes_on.then_some(muxer), listener, right)))
        }
    });
    Ok(stream_response("audio/ogg", Body::from_stream(pages)))
}

/// Session as WAVE with floats, as they came where the host sends floats; it ends with the session, and where their
/// rate or channels change. For debugging.
#[utoipa::path(get, path = "/{id}/stream.wav", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "The stream", content_type = "audio/wav"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for"),
    (status = 503, description = "No place, or no room for another transcode")))]
pub async fn wav(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: SessionVisitor,
) -> Result<Response, Error> {
    let (mut listener, right) =
        connect_listener(&relay, id.parse()?, &visitor, Codec::F32, ListenerTransport::Wav).await?;
    let (_, snapshot) = listener.restart_at_live_edge(relay.now());
    let (clock, format): (_, Option<AudioFormat>) = (micros_clock(&relay), None);
    let parts = stream::unfold((snapshot, format, listener, right), move |(first, format, mut listener, mut right)| {
        let clock = Arc::clone(&clock);
        async move {
            let frame = match first {
                Some(frame) => frame,
                None => next_frame(&mut listener, &mut right, &clock).await?,
            };
            let now = frame.epoch.format?;
            if format.is_some_and(|format| format != now) {
                return None;
            }
            // The header comes with the first samples: before them nobody knows the format.
            let head = if format.is_none() { wav::wav_header(now) } else { Vec::new() };
            let samples = frame::decode(frame.bytes.clone()).map(|(_, packets)| packets.concat()).unwrap_or_default();
            let part = [head, samples].concat();
            Some((body_part(part), (None, Some(now), listener, right)))
        }
    });
    Ok(stream_response("audio/wav", Body::from_stream(parts)))
}

/// Returns the next frame of the listener's codec; `None` at the end of the session, or of the listener's right.
async fn next_frame(
    listener: &mut ConnectedListener,
    right: &mut ListeningRight,
    clock: &MicrosClock,
) -> Option<Arc<AudioFrame>> {
    loop {
        let event = tokio::select! {
            event = listener.events.recv() => event,
            _ = right.ended() => return None,
        };
        match event {
            Ok(SessionEvent::Frame(frame)) if frame.codec == listener.codec() => {
                listener.count_sent(&frame.bytes);
                return Some(frame);
            }
            Ok(SessionEvent::Ended(_) | SessionEvent::NodeStopping) | Err(RecvError::Closed) => return None,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => {
                listener.count_gap();
                // A player cannot be told of a gap; it goes on with what comes.
                if let (_, Some(frame)) = listener.restart_at_live_edge(clock().to_millis()) {
                    return Some(frame);
                }
            }
        }
    }
}

fn body_part(bytes: Vec<u8>) -> Result<Bytes, Infallible> {
    Ok(bytes.into())
}

fn stream_response(kind: &'static str, body: Body) -> Response {
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store"), (header::ACCEPT_RANGES, "none")];
    (head, body).into_response()
}
