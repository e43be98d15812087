//! Tracks for channels: who may queue one, and its object for the player, by the engine that serves it to everybody else.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Map, Value};

use super::streamed_tracks::{StreamedTracks, refusal, stream_path};
use crate::proxy::inspect::{RequestedObject, ServerRight, find_object_for_server, named_host};
use ::channels::TrackAccess;

use ::channels::player::output::{OpenedTrack, TrackObjects};
use ::channels::queue::item::{ItemSource, QueueItem};
use catalog::TrackName;
use http_semantics::media_type;
use object_engine::{AttemptStats, ObjectResponse, RequestPlan};
use primitives::ids::{TrackId, UserId};
use server_kit::api::error::Error;
use server_kit::api::user::User;
use server_kit::auth::Claims;
use track_audio::object::{TrackObject, TrackObjectError};

/// Bytes that the engine makes ready at a time.
const PIECE: usize = 64 << 10;

impl TrackAccess for StreamedTracks {
    fn check<'a>(
        &'a self,
        id: &'a TrackId,
        request_head: &'a Parts,
        user: &'a User,
    ) -> BoxFuture<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            self.find_object(id, request_head, user).await?;
            Ok(named_host(request_head).map(str::to_owned))
        })
    }

    fn check_for<'a>(&'a self, id: &'a TrackId, owner: &'a UserId) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let claims = claims_of(owner);
            let right = ServerRight::Claims(&claims);
            let found = find_object_for_server(&self.0.load_full(), &stream_path(id), right).await;
            found.map(drop).map_err(refusal)
        })
    }
}

impl TrackObjects for StreamedTracks {
    fn open<'a>(&'a self, item: &'a QueueItem) -> BoxFuture<'a, Result<OpenedTrack, TrackObjectError>> {
        Box::pin(async move {
            // Who has requested a track was judged then, by the token, and under that host. The owner of a playlist has neither here.
            let owner = (item.source == ItemSource::Playlist).then(|| claims_of(&item.user));
            let judged = ServerRight::Judged { host: item.host.as_deref() };
            let right = owner.as_ref().map_or(judged, ServerRight::Claims);
            let found = find_object_for_server(&self.0.load_full(), &stream_path(&item.track), right).await;
            let object = found.map_err(|refused| TrackObjectError(refused.detail.into_owned()))?;
            let headers = ask(&object, &Method::HEAD, &HeaderMap::new()).await?.headers;
            let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
            let size = text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
            let size = size.ok_or_else(|| TrackObjectError("the store does not say how long it is".to_owned()))?;
            let title = TrackName::of_key(object.key()).title;
            let etag = headers.get(header::ETAG).cloned();
            Ok(OpenedTrack { object: Arc::new(StoredTrack { object, size, etag }), title })
        })
    }
}

/// Returns the claims of a user who is not there: nothing but who it is.
fn claims_of(user: &UserId) -> Claims {
    let subject = Value::from(user.as_str());
    Claims { subject: user.clone(), map: Map::from_iter([("sub".to_owned(), subject)]) }
}

/// Object of a track in the store.
struct StoredTrack {
    object: RequestedObject,
    size: u64,
    etag: Option<HeaderValue>,
}

impl TrackObject for StoredTrack {
    fn size(&self) -> u64 {
        self.size
    }

    fn extension(&self) -> Option<&str> {
        media_type::key_extension(self.object.key())
    }

    fn read(&self, offset: u64, length: u64) -> BoxFuture<'_, Result<Bytes, TrackObjectError>> {
        Box::pin(async move {
            let mut headers = HeaderMap::new();
            let range = format!("bytes={offset}-{}", (offset + length).saturating_sub(1));
            headers.insert(header::RANGE, range.parse().map_err(|_| TrackObjectError("no range".to_owned()))?);
            if let Some(etag) = self.etag.clone().filter(|etag| !etag.as_bytes().starts_with(b"W/")) {
                headers.insert(header::IF_MATCH, etag);
            }
            let Some(mut body) = ask(&self.object, &Method::GET, &headers).await?.body else {
                return Err(TrackObjectError("the store sent nothing".to_owned()));
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let mut bytes = BytesMut::new();
            while body.fill(PIECE, false).await.map_err(|error| TrackObjectError(error.to_string()))? {
                let rest = length - bytes.len();
                let piece = body.available();
                bytes.extend_from_slice(&piece[..piece.len().min(rest)]);
                if bytes.len() == length {
                    break;
                }
            }
            Ok(bytes.freeze())
        })
    }
}

async fn ask(
    object: &RequestedObject,
    method: &Method,
    headers: &HeaderMap,
) -> Result<ObjectResponse, TrackObjectError> {
    let plan = RequestPlan::from_request(method, headers, PIECE);
    let answer = object_engine::serve_object(&object.origin, &plan, object.key(), &mut AttemptStats::default()).await;
    answer.map_err(|error| TrackObjectError(error.to_string()))
}
