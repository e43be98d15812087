//! Live listening without polls: WebSocket, events, the cover.

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

use super::MicrosClock;
use super::authorization::{CoverViewer, SessionVisitor};
use super::push;
use crate::Relay;
use crate::audio::frame::Codec;
use crate::listening_right::ListeningRight;
use crate::refusal::Refusal;
use crate::session::event::SessionEvent;
use crate::session::id::SessionId;
use crate::session::listener_limit::ListenerPermit;
use crate::session::statistics::ListenerTransport;
use crate::session::{ConnectedListener, Session};
use crate::tickets::TicketRole;
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error;
use server_kit::api::extractors::{Path, Query};

/// Query of a WebSocket.
#[derive(Deserialize, IntoParams)]
pub struct SocketQuery {
    /// `opus`, the default, or `f32`: floats, as the host sent them where it sent floats.
    #[serde(default)]
    codec: CodecName,
    /// `listener`, the default, or `host`: sends Opus.
    #[serde(default)]
    role: SocketRole,
    /// Ticket, where no token is shown.
    #[serde(rename = "ticket")]
    _ticket: Option<String>,
    /// Secret that `welcome` told a host, where it shows neither: it goes on with its session.
    #[serde(rename = "resume")]
    _resume: Option<String>,
}

/// Name of a codec.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CodecName {
    /// Opus.
    #[default]
    Opus,
    /// Floats.
    F32,
}

/// Role of a WebSocket.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SocketRole {
    /// Listens.
    #[default]
    Listener,
    /// Sends.
    Host,
}

/// A WebSocket with binary frames of audio and text frames in JSON; docs/share.md describes them.
#[utoipa::path(get, path = "/{id}/ws", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), SocketQuery), responses(
    (status = 101, description = "The connection is a WebSocket"), (status = 400, description = "Not a WebSocket"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for"),
    (status = 503, description = "No place, or no room for another transcode")))]
pub async fn socket(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: SessionVisitor,
    Query(wanted): Query<SocketQuery>,
    // Before axum takes it.
    connection: Option<Extension<OnUpgrade>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    let upgrade = upgrade.map_err(|rejection| Error::bad_request(rejection.body_text()))?;
    let id: SessionId = id.parse()?;
    let now = micros_clock(&relay);
    if wanted.role == SocketRole::Host {
        let (session, right) = visitor.enter(&relay, id, TicketRole::Host).await?;
        let resume = relay.prepare_tickets().await.issue_resume(id, session.incarnation());
        let (hosting, running) = (session.connect_host(relay.now())?, relay.tasks.token());
        let upgrade = upgrade.max_message_size(MAX_HOST_MESSAGE).read_buffer_size(16 * 1024);
        return Ok(upgrade.max_frame_size(MAX_HOST_MESSAGE).on_upgrade(async move |socket| {
            push::serve_host(socket, session, hosting, resume, now).await;
            drop((right, running));
        }));
    }
    let codec = match wanted.codec {
        CodecName::Opus => Codec::Opus,
        CodecName::F32 => Codec::F32,
    };
    let (listener, right) = connect_listener(&relay, id, &visitor, codec, ListenerTransport::WebSocket).await?;
    let metrics = Arc::clone(&relay.metrics);
    // By hand: axum would take the connection and keep buffers for it that thousands of listeners cannot have.
    let handshake = handshake_response(&headers);
    let Extension(connection) = connection.ok_or_else(|| Error::bad_request("expected a WebSocket over HTTP/1.1"))?;
    relay.tasks.spawn(async move {
        let reason = match connection.await {
            Ok(connection) => {
                let socket = push::ListenerSocket::new(connection).await;
                push::serve_listener(socket, listener, right, now).await
            }
            Err(_) => "gone",
        };
        metrics.closed_sockets.with_label_values(&[reason]).inc();
    });
    Ok(handshake)
}

/// Returns the answer to a handshake that axum has found to be right (RFC 6455 §4.2.2).
fn handshake_response(headers: &HeaderMap) -> Response {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = derive_accept_key(key);
    let head =
        [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_ACCEPT, &accept)];
    (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

/// Bytes of a host's message at most: metadata may hold a cover.
const MAX_HOST_MESSAGE: usize = 5 << 20;

/// Events of the session, without audio: `meta`, `count`, `host`, `chat`, `recording`, `ended`.
#[utoipa::path(get, path = "/{id}/events", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), ("ticket" = Option<String>, Query, description = "A ticket")),
    responses((status = 200, description = "Server-sent events", content_type = "text/event-stream"),
    (status = 401, description = "Neither the token nor a ticket"), (status = 404, description = "No such session"),
    (status = 409, description = "As many listen with the ticket as it is for")))]
pub async fn events(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    visitor: SessionVisitor,
) -> Result<Response, Error> {
    let id: SessionId = id.parse()?;
    let (session, right) = visitor.enter(&relay, id, TicketRole::Listener).await?;
    let seat =
        relay.listener_limit.acquire(relay.metrics.listeners.with_label_values(&[ListenerTransport::Events.name()]))?;
    let told = event_stream(session, relay.now(), (right, seat))?;
    let answer = Sse::new(told).keep_alive(KeepAlive::default());
    Ok(([(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

/// Returns the session as it is, and then its events.
fn event_stream(
    session: Arc<Session>,
    now: UnixMillis,
    held: (ListeningRight, ListenerPermit),
) -> Result<impl Stream<Item = Result<sse::Event, Infallible>>, Refusal> {
    let events = session.subscribe_events()?;
    let status = session.status(now);
    let recording = session.is_recorded().map(SessionEvent::RecordingChanged);
    let host = (!session.has_host()).then_some(SessionEvent::HostPresence(false));
    let count = SessionEvent::ListenerCount(status.listeners);
    let now = [
        status.metadata.map(|_| SessionEvent::MetadataChanged),
        Some(count),
        host,
        Some(SessionEvent::ChatReset),
        recording,
    ];
    // A client that connects again should not have to ask for what it has missed.
    let first: VecDeque<SessionEvent> = now.into_iter().flatten().collect();
    Ok(stream::unfold(Some((first, events, session, held)), async |state| {
        let (mut first, mut events, session, mut held) = state?;
        loop {
            let event = match first.pop_front() {
                Some(event) => event,
                None => tokio::select! {
                    event = events.recv() => match event {
                        Ok(event) => event,
                        // What else was missed is said again soon.
                        Err(RecvError::Lagged(_)) => SessionEvent::ChatReset,
                        Err(RecvError::Closed) => return None,
                    },
                    // An `EventSource` connects again, and is refused then.
                    _ = held.0.ended() => return None,
                },
            };
            let name = match &event {
                SessionEvent::MetadataChanged => "meta",
                SessionEvent::ListenerCount(_) => "count",
                SessionEvent::HostPresence(_) => "host",
                SessionEvent::ChatMessage(_) | SessionEvent::ChatReset => "chat",
                SessionEvent::RecordingChanged(_) => "recording",
                SessionEvent::Ended(_) => "ended",
                SessionEvent::NodeStopping => return None,
                SessionEvent::Frame(_) | SessionEvent::HostReplaced => continue,
            };
            // What was said of the song is gone with the session.
            let Some(text) = push::event_message(&event, &session) else { continue };
            let next =
                if matches!(event, SessionEvent::Ended(_)) { None } else { Some((first, events, session, held)) };
            return Some((Ok(sse::Event::default().event(name).data(&*text)), next));
        }
    }))
}

/// Query of a cover.
#[derive(IntoParams)]
#[expect(dead_code, reason = "describes what is read where it is judged")]
pub struct CoverQuery {
    /// Tag that the session told for its cover; a client that shows it needs nothing else.
    v: Option<String>,
}

/// Cover of the song, as a thumbnail.
#[utoipa::path(get, path = "/{id}/thumb", tag = "share", security(("share" = []), ("ticket" = [])),
    params(("id" = String, Path, description = "Six digits"), CoverQuery), responses(
    (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/*"), (status = 304, description = "As in If-None-Match"),
    (status = 401, description = "Neither the token, nor a ticket, nor the tag"),
    (status = 404, description = "No such session, or it has no picture")))]
pub async fn thumb(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
    viewer: CoverViewer,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let id: SessionId = id.parse()?;
    let (session, told) = match viewer {
        CoverViewer::Visitor(visitor) => (visitor.find_session(&relay, id).await?, None),
        CoverViewer::KnownTag(tag) => (relay.open_session(id).await?, Some(tag)),
    };
    let picture = session.metadata(relay.now()).and_then(|song| song.cover.clone());
    // Who was told of another one is not shown what came since.
    let picture = picture.filter(|picture| told.as_ref().is_none_or(|tag| *tag == picture.tag));
    let (picture, told) = (picture.ok_or(Refusal::NoPicture)?, told.is_some());
    let tag = format!("\"{}\"", picture.tag);
    // A picture of this tag never changes.
    let keep = if told { "private, max-age=86400, immutable" } else { "no-cache" };
    let head = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, keep.to_owned())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    let (kind, bytes) = relay.thumbnails.thumbnail_of(&picture).await.ok_or(Refusal::NoPicture)?;
    let safe = [(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((head, safe, bytes).into_response())
}

/// Lets a listener of `codec` in: its ticket, its session, its place.
pub(super) async fn connect_listener(
    relay: &Arc<Relay>,
    id: SessionId,
    visitor: &SessionVisitor,
    codec: Codec,
    transport: ListenerTransport,
) -> Result<(ConnectedListener, ListeningRight), Refusal> {
    let (session, right) = visitor.enter(relay, id, TicketRole::Listener).await?;
    let seat = relay.listener_limit.acquire(relay.metrics.listeners.with_label_values(&[transport.name()]))?;
    Ok((session.connect_listener(codec, transport, seat, relay.now())?, right))
}

pub(super) fn micros_clock(relay: &Arc<Relay>) -> MicrosClock {
    let relay = Arc::clone(relay);
    Arc::new(move || relay.micros())
}
