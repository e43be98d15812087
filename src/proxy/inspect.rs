//! Description of a stream before anybody fetches it: by the same route, the same authorization and the same object.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, header};

use super::admission::{self, authorization};
use super::failure::ProxyFailure;
use super::route::Route;
use super::runtime::Runtime;
use super::tracks::ObjectSource;
pub use super::tracks::RequestedObject;
use http_semantics::error_codes::ErrorCode;
use object_engine::{self, AttemptStats, RequestPlan};
use primitives::unix_time::UnixMillis;
use routing::pattern::Captures;
use routing::table::RouteLookup;
use server_kit::auth::Claims;
use server_kit::auth::path_token::PathAuthorization;

/// A stream under a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamDescription {
    /// The authorization to read it.
    pub authorization: PathAuthorization,
    /// Time of the last change of the catalog's entry, the Unix epoch without a catalog.
    pub version: UnixMillis,
    /// The media type.
    pub content_type: Option<String>,
    /// The size in bytes.
    pub size: Option<u64>,
}

/// Refusal of a stream.
#[derive(Clone, Debug)]
pub struct StreamRefusal {
    /// The code, which decides the status.
    pub code: ErrorCode,
    /// The text for the client.
    pub detail: Cow<'static, str>,
    /// Time after which to try again.
    pub retry_after: Option<Duration>,
}

impl From<ProxyFailure> for StreamRefusal {
    fn from(failure: ProxyFailure) -> Self {
        let (code, detail) = (failure.error_code(), failure.detail().into_owned().into());
        Self { code, detail, retry_after: failure.retry_after() }
    }
}

/// Question for the stream under a path, on behalf of a user.
pub struct StreamInquiry<'a> {
    /// The path of the stream.
    pub path: &'a str,
    /// The head of the request that asks.
    pub request_head: &'a Parts,
    /// Claims of its token.
    pub claims: &'a Claims,
    /// True: the store is asked for the size and the type that the catalog does not know.
    pub query_store: bool,
}

/// Describes the response that a GET of the path would have; fails as that GET would.
pub async fn describe_stream(
    runtime: &Arc<Runtime>,
    inquiry: &StreamInquiry<'_>,
) -> Result<StreamDescription, StreamRefusal> {
    Ok(find_stream(runtime, inquiry).await?)
}

/// Finds the object that a GET of the path would be answered with; fails as that GET would before it asks the store.
pub async fn find_stream_object(
    runtime: &Arc<Runtime>,
    inquiry: &StreamInquiry<'_>,
) -> Result<RequestedObject, StreamRefusal> {
    Ok(find_object(runtime, inquiry).await?.1)
}

async fn find_stream(runtime: &Arc<Runtime>, inquiry: &StreamInquiry<'_>) -> Result<StreamDescription, ProxyFailure> {
    let (authorization, object) = find_object(runtime, inquiry).await?;
    let track = object.track();
    let fixed = object.origin.content_type.as_ref().or(object.content_type());
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let mut found = StreamDescription {
        authorization,
        version: track.map_or(UnixMillis::EPOCH, |track| track.updated_at),
        content_type: fixed.and_then(text),
        size: track.and_then(|track| track.size),
    };
    if inquiry.query_store && (found.content_type.is_none() || found.size.is_none()) {
        let plan = RequestPlan::from_request(&Method::HEAD, &HeaderMap::new(), 0);
        let answer =
            object_engine::serve_object(&object.origin, &plan, object.key(), &mut AttemptStats::default()).await;
        let headers = answer.map_err(ProxyFailure::Object)?.headers;
        let length = headers.get(header::CONTENT_LENGTH).and_then(text).and_then(|text| text.parse().ok());
        found.size = length.or(found.size);
        found.content_type = found.content_type.or_else(|| headers.get(header::CONTENT_TYPE).and_then(text));
    }
    Ok(found)
}

/// Right of this server to read an object, for which it has no request.
#[derive(Clone, Copy, Debug)]
pub enum ServerRight<'a> {
    /// Somebody's right was judged before, at a request to this host.
    Judged {
        /// The host, by which the route is found again: another one may lead to another object, and ask for more.
        host: Option<&'a str>,
    },
    /// It is judged now, as for a token that has these claims and no others.
    Claims(&'a Claims),
}

/// Returns the host that a request names, by which its route is found.
pub fn named_host(request_head: &Parts) -> Option<&str> {
    admission::request_host(request_head)
}

/// Finds the object for this server itself.
pub async fn find_object_for_server(
    runtime: &Arc<Runtime>,
    path: &str,
    right: ServerRight<'_>,
) -> Result<RequestedObject, StreamRefusal> {
    let claims = match right {
        ServerRight::Judged { host } => {
            let request = request_to(path, host)?;
            let (source, captures, _) = find_source(runtime, &request)?;
            return Ok(source.find_object(&captures).await?);
        }
        ServerRight::Claims(claims) => claims,
    };
    // Nobody has named a host: the route without one, else the first that has the path under any.
    let named = runtime.routes().flat_map(|route| &route.policies.hosts).map(|host| host.replacen('*', "any", 1));
    let hosts: Vec<Option<String>> = std::iter::once(None).chain(named.map(Some)).collect();
    for host in hosts {
        let Ok(request) = request_to(path, host.as_deref()) else { continue };
        let Ok((source, captures, route)) = find_source(runtime, &request) else { continue };
        authorization::check_access(runtime, route, &captures, claims, (&HeaderMap::new(), None)).await?;
        return Ok(source.find_object(&captures).await?);
    }
    Err(ProxyFailure::NoRoute.into())
}

/// Returns the head of a GET of a path under a host.
fn request_to(path: &str, host: Option<&str>) -> Result<Parts, ProxyFailure> {
    let mut request = Request::get(path).body(()).map_err(|_| ProxyFailure::Internal)?.into_parts().0;
    if let Some(host) = host {
        request.headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| ProxyFailure::NoRoute)?);
    }
    Ok(request)
}

/// Finds the route of a request, which must be one of objects.
fn find_source<'a>(
    runtime: &'a Runtime,
    request: &Parts,
) -> Result<(ObjectSource<'a>, Captures, &'a Arc<Route>), ProxyFailure> {
    let (route, captures) = match runtime.find(&admission::routing_input(request, &Method::GET))? {
        RouteLookup::Found(found) => (found.value, found.captures),
        RouteLookup::MethodNotAllowed(_) | RouteLookup::NotFound => return Err(ProxyFailure::NoRoute),
    };
    let source = ObjectSource::of(&route.handler).ok_or(ProxyFailure::NoRoute)?;
    Ok((source, captures, route))
}

/// Finds the object, and the right to it that a URL would carry.
async fn find_object(
    runtime: &Arc<Runtime>,
    inquiry: &StreamInquiry<'_>,
) -> Result<(PathAuthorization, RequestedObject), ProxyFailure> {
    let StreamInquiry { path, request_head, claims, query_store: _ } = *inquiry;
    let request = request_to(path, named_host(request_head))?;
    let (route, captures) = match runtime.find(&admission::routing_input(&request, &Method::GET))? {
        RouteLookup::Found(found) => (found.value, found.captures),
        RouteLookup::MethodNotAllowed(_) | RouteLookup::NotFound => return Err(ProxyFailure::NoRoute),
    };
    authorization::check_access(runtime, route, &captures, claims, (&request_head.headers, request_head.uri.query()))
        .await?;
    let authorization = authorization::path_authorization(route, &captures, claims)?;
    let source = ObjectSource::of(&route.handler).ok_or(ProxyFailure::NoRoute)?;
    Ok((authorization, source.find_object(&captures).await?))
}
