//! Tracks as they are streamed at `/api/v1/tracks/{id}/stream`: whoever may do that may read their lyrics and queue them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::request::Parts;
use percent_encoding::utf8_percent_encode;

use crate::proxy::inspect::{RequestedObject, StreamInquiry, StreamRefusal, find_stream_object};
use crate::proxy::runtime::Runtime;
use primitives::ids::TrackId;
use server_kit::api::error::Error;
use server_kit::api::user::User;
use server_kit::url_template::UNRESERVED;

/// Returns the path at which a track is streamed.
pub fn stream_path(id: &TrackId) -> String {
    format!("/api/v1/tracks/{}/stream", utf8_percent_encode(id.as_str(), UNRESERVED))
}

/// Tracks that are streamed: what each module asks of them is an implementation beside the module's start.
///
/// The methods of those traits return a `BoxFuture` and are not `async_trait`s: the bounds of that macro keep the compiler from
/// using what it has proved of the runtime's types before, and proving it for each method took most of the build's time.
pub struct StreamedTracks(pub Arc<ArcSwap<Runtime>>);

impl StreamedTracks {
    /// Finds the object of a track for `user`, who asks with `request_head`; fails as a GET of its stream would.
    pub async fn find_object(&self, id: &TrackId, request_head: &Parts, user: &User) -> Result<RequestedObject, Error> {
        let runtime = self.0.load_full();
        let path = stream_path(id);
        let inquiry = StreamInquiry { path: &path, request_head, claims: &user.claims, query_store: false };
        let found = find_stream_object(&runtime, &inquiry).await;
        found.map_err(refusal)
    }
}

/// Returns the error of the API for a refusal of the proxy.
pub fn refusal(refused: StreamRefusal) -> Error {
    Error::new(refused.code, refused.detail).with_retry_after(refused.retry_after)
}
