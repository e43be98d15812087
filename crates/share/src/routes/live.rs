//! Listening without polling: WebSocket, events, the cover.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use utoipa::{IntoParams, ToSchema};

use super::door::{Viewer, Visitor};
use crate::Relay;
use crate::event::Event;
use crate::frame::Codec;
use crate::id::SessionId;
use crate::push;
use crate::refused::Refused;
use crate::seats::Seat;
use crate::session::{Joined, Session};
use crate::statistics::Transport;
use crate::tickets::{Place, Role};
use server_kit::api::error::Error;
use server_kit::api::extractors::{Path, Query};

/// What a socket is for.
#[derive(Deserialize, IntoParams)]
pub struct Socket {
    /// `opus`, the default, or `f32`: floats, as the host sent them where it sent floats.
    #[serde(default)]
    codec: Wanted,
    /// `listener`, the default, or `host`: sends Opus.
    #[serde(default)]
    role: As,
    /// A ticket, where no token is shown.
    #[serde(rename = "ticket")]
    _ticket: Option<String>,
    /// What `welcome` told a host, where it shows neither: it goes on with its session.
    #[serde(rename = "resume")]
    _resume: Option<String>,
}

/// A codec by name.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Opus.
    #[default]
    Opus,
    /// Floats.
    F32,
}

/// Who opens a socket.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum As {
    /// Listens.
    #[default]
    Listener,
    /// Sends.
    Host,
}

/// A WebSocket with binary frames of audio and text frames in JSON; docs/share.md describes them.
#[utoipa::path(get, path = "/{id}/ws", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), Socket), responses(
    (status = 101, description = "The connection is a WebSocket"), (status = 400, description = "Not a WebSocket"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for"),
    (status = 503, description = "No place, or no room for another transcode")))]
pub async fn socket(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: Visitor,
    Query(wanted): Query<Socket>,
    // Before axum takes it.
    connection: Option<Extension<OnUpgrade>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    let upgrade = upgrade.map_err(|rejection| Error::bad_request(rejection.body_text()))?;
    let id: SessionId = id.parse()?;
    let now = clock(&relay);
    if wanted.role == As::Host {
        let (session, place) = visitor.enter(&relay, id, Role::Host).await?;
        let resume = relay.prepare_tickets().await.resume(id, session.incarnation());
        let (hosting, running) = (session.host(relay.now())?, relay.tasks.token());
        let upgrade = upgrade.max_message_size(MAX_METADATA).read_buffer_size(16 * 1024);
        return Ok(upgrade.max_frame_size(MAX_METADATA).on_upgrade(async move |socket| {
            push::host(socket, session, hosting, resume, now).await;
            drop((place, running));
        }));
    }
    let codec = match wanted.codec {
        Wanted::Opus => Codec::Opus,
        Wanted::F32 => Codec::F32,
    };
    let (joined, place) = join(&relay, id, &visitor, codec, Transport::WebSocket).await?;
    let metrics = Arc::clone(&relay.metrics);
    let handshake = accepted(&headers);
    let Extension(connection) = connection.ok_or_else(|| Error::bad_request("expected a WebSocket over HTTP/1.1"))?;
    relay.tasks.spawn(async move {
        let reason = match connection.await {
            Ok(connection) => push::listen(push::Socket::new(connection).await, joined, now).await,
            Err(_) => "gone",
        };
        metrics.closed.with_label_values(&[reason]).inc();
        drop(place);
    });
    Ok(handshake)
}

/// The answer to a handshake that axum has found to be right (RFC 6455 §4.2.2).
fn accepted(headers: &HeaderMap) -> Response {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = derive_accept_key(key);
    let head =
        [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_ACCEPT, &accept)];
    (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

/// A host's text with metadata may hold a cover.
const MAX_METADATA: usize = 5 << 20;

/// What happens in the session, without audio: `meta`, `count`, `host`, `chat`, `recording`, `ended`.
#[utoipa::path(get, path = "/{id}/events", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "Server-sent events", content_type = "text/event-stream"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for")))]
pub async fn events(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: Visitor,
) -> Result<Response, Error> {
    let id: SessionId = id.parse()?;
    let (session, place) = visitor.enter(&relay, id, Role::Listener).await?;
    let seat = relay.seats.take(relay.metrics.listeners.with_label_values(&[Transport::Events.name()]))?;
    let told = told(session, relay.now(), (place, seat))?;
    let answer = Sse::new(told).keep_alive(KeepAlive::default());
    Ok(([(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

/// The session as it is, and then what happens in it.
fn told(
    session: Arc<Session>,
    now: i64,
    held: (Option<Place>, Seat),
) -> Result<impl Stream<Item = Result<sse::Event, Infallible>>, Refused> {
    let events = session.watch()?;
    let status = session.status(now);
    let recording = session.is_recorded().map(Event::Recording);
    let host = (!session.has_host()).then_some(Event::Host(false));
    let count = Event::Count(status.listeners);
    let now = [status.metadata.map(|_| Event::Metadata), Some(count), host, Some(Event::ChatAnew), recording];
    let first: VecDeque<Event> = now.into_iter().flatten().collect();
    Ok(stream::unfold(Some((first, events, session, held)), async |state| {
        let (mut first, mut events, session, held) = state?;
        loop {
            let event = match first.pop_front() {
                Some(event) => event,
                None => match events.recv().await {
                    Ok(event) => event,
                    // What else was missed is said again soon.
                    Err(RecvError::Lagged(_)) => Event::ChatAnew,
                    Err(RecvError::Closed) => return None,
                },
            };
            let name = match &event {
                Event::Metadata => "meta",
                Event::Count(_) => "count",
                Event::Host(_) => "host",
                Event::Chat(_) | Event::ChatAnew => "chat",
                Event::Recording(_) => "recording",
                Event::Ended(_) => "ended",
                Event::Stopping => return None,
                Event::Frame(_) | Event::HostReplaced => continue,
            };
            // What was said of the song is gone with the session.
            let Some(text) = push::told(&event, &session) else { continue };
            let next = if matches!(event, Event::Ended(_)) { None } else { Some((first, events, session, held)) };
            return Some((Ok(sse::Event::default().event(name).data(text.as_str())), next));
        }
    }))
}

/// Which cover is meant.
#[derive(IntoParams)]
#[expect(dead_code, reason = "describes what is read where it is judged")]
pub struct Cover {
    /// The tag that the session told for its cover; who shows it needs nothing else.
    v: Option<String>,
}

/// The cover.
#[utoipa::path(get, path = "/{id}/thumb", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), Cover), responses(
    (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/*"), (status = 304, description = "As in If-None-Match"),
    (status = 401, description = "Neither the token, nor a ticket, nor the tag"),
    (status = 404, description = "No such session, or it has no picture")))]
pub async fn thumb(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    viewer: Viewer,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let id: SessionId = id.parse()?;
    let (session, told) = match viewer {
        Viewer::Visitor(visitor) => (visitor.look(&relay, id).await?, None),
        Viewer::Told(tag) => (relay.open(id).await?, Some(tag)),
    };
    let picture = session.metadata(relay.now()).and_then(|song| song.picture.clone());
    // Who was told of another one is not shown what came since.
    let picture = picture.filter(|picture| told.as_ref().is_none_or(|tag| *tag == picture.tag));
    let (picture, told) = (picture.ok_or(Refused::NoPicture)?, told.is_some());
    let tag = format!("\"{}\"", picture.tag);
    // A picture of this tag never changes.
    let keep = if told { "private, max-age=86400, immutable" } else { "no-cache" };
    let head = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, keep.to_owned())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    let (kind, bytes) = relay.covers.show(&picture).await.ok_or(Refused::NoPicture)?;
    let safe = [(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((head, safe, bytes).into_response())
}

/// Lets a listener of `codec` in: its ticket, its session, its place.
pub(super) async fn join(
    relay: &Arc<Relay>,
    id: SessionId,
    visitor: &Visitor,
    codec: Codec,
    transport: Transport,
) -> Result<(Joined, Option<Place>), Refused> {
    let (session, place) = visitor.enter(relay, id, Role::Listener).await?;
    let seat = relay.seats.take(relay.metrics.listeners.with_label_values(&[transport.name()]))?;
    Ok((session.join(codec, transport, seat, relay.now())?, place))
}

pub(super) fn clock(relay: &Arc<Relay>) -> Arc<dyn Fn() -> i64 + Send + Sync> {
    let relay = Arc::clone(relay);
    Arc::new(move || relay.micros())
}
