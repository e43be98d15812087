//! A session as one long answer: Ogg/Opus for players, WAVE for whoever looks for a fault.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::header;
use tokio::sync::broadcast::error::RecvError;

use super::door::Visitor;
use super::live::{clock, join};
use crate::Relay;
use crate::event::Event;
use crate::frame::{self, Codec};
use crate::lane::{Format, Frame};
use crate::ogg::Muxer;
use crate::session::Joined;
use crate::statistics::Transport;
use crate::wav;
use server_kit::api::error::Error;
use server_kit::api::extractors::Path;

/// The time in microseconds.
type Micros = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The session as Ogg/Opus, until it ends: for `<audio>`, VLC and mpv.
#[utoipa::path(get, path = "/{id}/stream.ogg", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "The stream", content_type = "audio/ogg"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for"),
    (status = 503, description = "No place, or no room for another transcode")))]
pub async fn ogg(State(relay): State<Arc<Relay>>, Path(id): Path<String>, visitor: Visitor) -> Result<Response, Error> {
    let (mut joined, place) = join(&relay, id.parse()?, &visitor, Codec::Opus, Transport::Ogg).await?;
    let (greeting, snapshot) = joined.begin(relay.now());
    let song = greeting.metadata.as_deref();
    let mut muxer = Muxer::new(&[
        ("TITLE", song.and_then(|song| song.title.as_deref())),
        ("ARTIST", song.and_then(|song| song.artist.as_deref())),
    ]);
    if let Some(frame) = snapshot {
        muxer.frame(&frame.bytes);
    }
    let (first, clock) = (muxer.take(), clock(&relay));
    let listening = (Some(first), Some(muxer), joined, place);
    let pages = stream::unfold(listening, move |(first, muxer, mut joined, place)| {
        let clock = Arc::clone(&clock);
        async move {
            let mut muxer = muxer?;
            if let Some(first) = first {
                return Some((whole(first), (None, Some(muxer), joined, place)));
            }
            let goes_on = match next(&mut joined, &clock).await {
                Some(frame) => {
                    muxer.frame(&frame.bytes);
                    true
                }
                None => {
                    muxer.end();
                    false
                }
            };
            Some((whole(muxer.take()), (None, goes_on.then_some(muxer), joined, place)))
        }
    });
    Ok(endless("audio/ogg", Body::from_stream(pages)))
}

/// The session as WAVE with floats, as they came where the host sends floats; it ends with the session, and where their
/// rate or channels change. For debugging.
#[utoipa::path(get, path = "/{id}/stream.wav", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "The stream", content_type = "audio/wav"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for"),
    (status = 503, description = "No place, or no room for another transcode")))]
pub async fn wav(State(relay): State<Arc<Relay>>, Path(id): Path<String>, visitor: Visitor) -> Result<Response, Error> {
    let (mut joined, place) = join(&relay, id.parse()?, &visitor, Codec::F32, Transport::Wav).await?;
    let (_, snapshot) = joined.begin(relay.now());
    let (clock, format): (_, Option<Format>) = (clock(&relay), None);
    let parts = stream::unfold((snapshot, format, joined, place), move |(first, format, mut joined, place)| {
        let clock = Arc::clone(&clock);
        async move {
            let frame = match first {
                Some(frame) => frame,
                None => next(&mut joined, &clock).await?,
            };
            let now = frame.epoch.format?;
            if format.is_some_and(|format| format != now) {
                return None;
            }
            let head = if format.is_none() { wav::head(now) } else { Vec::new() };
            let samples = frame::read(frame.bytes.clone()).map(|(_, packets)| packets.concat()).unwrap_or_default();
            let part = [head, samples].concat();
            Some((whole(part), (None, Some(now), joined, place)))
        }
    });
    Ok(endless("audio/wav", Body::from_stream(parts)))
}

/// Waits for a frame of what is listened to; `None` at the end.
async fn next(joined: &mut Joined, clock: &Micros) -> Option<Arc<Frame>> {
    loop {
        match joined.events.recv().await {
            Ok(Event::Frame(frame)) if frame.codec == joined.codec() => {
                joined.sent(&frame.bytes);
                return Some(frame);
            }
            Ok(Event::Ended(_) | Event::Stopping) | Err(RecvError::Closed) => return None,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => {
                joined.fell_behind();
                if let (_, Some(frame)) = joined.begin(clock() / 1000) {
                    return Some(frame);
                }
            }
        }
    }
}

fn whole(bytes: Vec<u8>) -> Result<Bytes, Infallible> {
    Ok(bytes.into())
}

fn endless(kind: &'static str, body: Body) -> Response {
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store"), (header::ACCEPT_RANGES, "none")];
    (head, body).into_response()
}
