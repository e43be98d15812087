//! What a stream would be for somebody, before anybody asks for it: the same route, the same leave, the same object.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use super::admit;
use super::failure::Failure;
use super::permit;
use super::tracks::wanted;
use super::world::World;
use object_engine::{self, AttemptStats, RequestPlan};
use routing::table::RouteLookup;
use server_kit::auth::Claims;
use server_kit::auth::path_token::PathAuthorization;

/// What there is under a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The leave to read it.
    pub leave: PathAuthorization,
    /// When the catalogue's entry changed last; 0 without a catalogue.
    pub version: i64,
    /// The media type.
    pub content_type: Option<String>,
    /// The size in bytes.
    pub size: Option<u64>,
}

/// Why there is nothing.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// The stable code.
    pub code: &'static str,
    /// The text for the client.
    pub detail: Cow<'static, str>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let (status, code, detail) = (failure.status(), failure.code(), failure.detail().into_owned().into());
        Self { status, code, detail, retry_after: failure.retry_after() }
    }
}

/// What is looked at, and for whom.
pub struct Asked<'a> {
    /// The path of the stream.
    pub path: &'a str,
    /// The head of the request that asks.
    pub asking: &'a Parts,
    /// What its token says.
    pub claims: &'a Claims,
    /// Whether the store is asked for what the catalogue does not know.
    pub measure: bool,
}

/// What a GET would give to whoever asks.
pub async fn inspect(world: &Arc<World>, asked: &Asked<'_>) -> Result<Found, Refused> {
    Ok(look(world, asked).await?)
}

async fn look(world: &Arc<World>, asked: &Asked<'_>) -> Result<Found, Failure> {
    let Asked { path, asking, claims, measure } = *asked;
    let mut request = Request::get(path).body(()).map_err(|_| Failure::Internal)?.into_parts().0;
    let named = asking.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = named.as_ref().or(asking.headers.get(header::HOST)) {
        request.headers.insert(header::HOST, host.clone());
    }
    let (served, captures) = match world.find(&admit::lookup(&request, &Method::GET))? {
        RouteLookup::Found(found) => (found.value, found.captures),
        RouteLookup::MethodNotAllowed(_) | RouteLookup::NotFound => return Err(Failure::NoRoute),
    };
    permit::permit(world, served, &captures, claims, (&asking.headers, asking.uri.query())).await?;
    let leave = permit::leave(served, &captures, claims)?;
    let wanted = wanted(served, &captures).await?;
    let track = wanted.track();
    let fixed = wanted.origin.content_type.as_ref().or(wanted.content_type());
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let mut found = Found {
        leave,
        version: track.map_or(0, |track| track.updated_at),
        content_type: fixed.and_then(text),
        size: track.and_then(|track| track.size),
    };
    if measure && (found.content_type.is_none() || found.size.is_none()) {
        let plan = RequestPlan::from_request(&Method::HEAD, &HeaderMap::new(), 0);
        let answer =
            object_engine::serve_object(&wanted.origin, &plan, wanted.key(), &mut AttemptStats::default()).await;
        let headers = answer.map_err(Failure::Object)?.headers;
        let length = headers.get(header::CONTENT_LENGTH).and_then(text).and_then(|text| text.parse().ok());
        found.size = length.or(found.size);
        found.content_type = found.content_type.or_else(|| headers.get(header::CONTENT_TYPE).and_then(text));
    }
    Ok(found)
}
