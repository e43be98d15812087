//! Transforms of a plain route, named as in YARP: changes to the forwarded request and to its response. Pure.
//!
//! Request headers: hop-by-hop headers are dropped, and those whose names pass for others'; the rest is copied unless the
//! route says otherwise, then the transforms apply in their order, then `Host` and `X-Forwarded-*` by default. `Content-Length` is framing, not a
//! header that is copied or not: it stays. The caller must frame a body that came without it, because
//! `Transfer-Encoding` is dropped.

use std::net::IpAddr;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;

pub use self::forwarded::{
    ForwardedHeaderAction, ForwardedTransform, NodeFormat, XForwardedActions, XForwardedTransform,
};
pub use self::object_headers::{
    ObjectHeaderChange, ObjectHeaderChanges, ObjectHeaderValue, ProtectedHeader, protection,
};
pub use self::path_and_query::PathSegmentPrefix;
use super::pattern::Captures;
use super::template::CaptureTemplate;
use http_semantics::headers::{is_plain_name, strip_hop_by_hop};

mod forwarded;
mod object_headers;
mod path_and_query;

/// One change to a request or response, by the name that YARP gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Replaces the path; characters that a path cannot hold are escaped.
    PathSet(String),
    /// Adds this before the path.
    PathPrefix(String),
    /// Removes this from the beginning of the path, where the path begins with it.
    PathRemovePrefix(PathSegmentPrefix),
    /// Builds the path from captured values.
    PathPattern(CaptureTemplate),
    /// Writes a query parameter with a fixed value.
    QueryValueParameter {
        /// The parameter, not encoded.
        name: String,
        /// Its value, not encoded.
        value: String,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// Writes a query parameter with a captured value.
    QueryRouteParameter {
        /// The parameter, not encoded.
        name: String,
        /// The captured value's name.
        value: String,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// Removes a query parameter.
    QueryRemoveParameter(String),
    /// Changes one method to another.
    HttpMethodChange {
        /// The method that is changed.
        from: Method,
        /// The method that is sent instead.
        to: Method,
    },
    /// Copies the client's headers, or none; they are copied unless this or `RequestHeadersAllowed` says otherwise.
    RequestHeadersCopy(bool),
    /// Sends the client's `Host` (true) or the destination's (false, the default).
    RequestHeaderOriginalHost(bool),
    /// Writes a request header with a fixed value.
    RequestHeader {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: HeaderValue,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// Writes a request header with a captured value, decoded.
    RequestHeaderRouteValue {
        /// The header.
        name: HeaderName,
        /// The captured value's name.
        value: String,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// Removes a request header.
    RequestHeaderRemove(HeaderName),
    /// Writes the client's TLS certificate into this request header; without one it removes the header.
    ClientCertificate(HeaderName),
    /// Only these of the client's headers are copied.
    RequestHeadersAllowed(Vec<HeaderName>),
    /// Writes the `X-Forwarded-*` headers.
    XForwarded(XForwardedTransform),
    /// Writes the `Forwarded` header (RFC 7239).
    Forwarded(ForwardedTransform),
    /// Copies the destination's headers, or none.
    ResponseHeadersCopy(bool),
    /// Writes a response header.
    ResponseHeader {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: HeaderValue,
        /// Instead of or after what was sent.
        write: WriteMode,
        /// The responses that it applies to.
        when: ResponseCondition,
    },
    /// Removes a response header.
    ResponseHeaderRemove {
        /// The header.
        name: HeaderName,
        /// The responses that it applies to.
        when: ResponseCondition,
    },
    /// Only these of the destination's headers are copied.
    ResponseHeadersAllowed(Vec<HeaderName>),
    /// Copies the destination's trailers, or none.
    ResponseTrailersCopy(bool),
    /// Writes a response trailer.
    ResponseTrailer {
        /// The trailer.
        name: HeaderName,
        /// Its value.
        value: HeaderValue,
        /// Instead of or after what was sent.
        write: WriteMode,
        /// The responses that it applies to.
        when: ResponseCondition,
    },
    /// Removes a response trailer.
    ResponseTrailerRemove {
        /// The trailer.
        name: HeaderName,
        /// The responses that it applies to.
        when: ResponseCondition,
    },
    /// Only these of the destination's trailers are copied.
    ResponseTrailersAllowed(Vec<HeaderName>),
}

impl Transform {
    /// Returns its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PathSet(_) => "PathSet",
            Self::PathPrefix(_) => "PathPrefix",
            Self::PathRemovePrefix(_) => "PathRemovePrefix",
            Self::PathPattern(_) => "PathPattern",
            Self::QueryValueParameter { .. } => "QueryValueParameter",
            Self::QueryRouteParameter { .. } => "QueryRouteParameter",
            Self::QueryRemoveParameter(_) => "QueryRemoveParameter",
            Self::HttpMethodChange { .. } => "HttpMethodChange",
            Self::RequestHeadersCopy(_) => "RequestHeadersCopy",
            Self::RequestHeaderOriginalHost(_) => "RequestHeaderOriginalHost",
            Self::RequestHeader { .. } => "RequestHeader",
            Self::RequestHeaderRouteValue { .. } => "RequestHeaderRouteValue",
            Self::RequestHeaderRemove(_) => "RequestHeaderRemove",
            Self::ClientCertificate(_) => "ClientCert",
            Self::RequestHeadersAllowed(_) => "RequestHeadersAllowed",
            Self::XForwarded(_) => "X-Forwarded",
            Self::Forwarded(_) => "Forwarded",
            Self::ResponseHeadersCopy(_) => "ResponseHeadersCopy",
            Self::ResponseHeader { .. } => "ResponseHeader",
            Self::ResponseHeaderRemove { .. } => "ResponseHeaderRemove",
            Self::ResponseHeadersAllowed(_) => "ResponseHeadersAllowed",
            Self::ResponseTrailersCopy(_) => "ResponseTrailersCopy",
            Self::ResponseTrailer { .. } => "ResponseTrailer",
            Self::ResponseTrailerRemove { .. } => "ResponseTrailerRemove",
            Self::ResponseTrailersAllowed(_) => "ResponseTrailersAllowed",
        }
    }
}

/// Treatment of values that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Instead of them.
    Set,
    /// After them.
    Append,
}

/// Responses that a transform applies to. A status below 400 is a success, as in YARP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseCondition {
    /// Successes.
    #[default]
    Success,
    /// The others.
    Failure,
    /// All.
    Always,
}

/// The request to the destination. Before [`apply_request`] it is the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRequest {
    /// The method.
    pub method: Method,
    /// The raw path.
    pub path: String,
    /// The raw query, without `?`.
    pub query: Option<String>,
    /// The headers. Afterwards `Host` is there only where a transform decided it: else it is the destination's.
    pub headers: HeaderMap,
}

/// Facts of the client's request that [`OutgoingRequest`] does not hold.
#[derive(Clone, Copy, Debug)]
pub struct OriginalRequest<'a> {
    /// Values that the route's path captured.
    pub captures: &'a Captures,
    /// The host that the client asked for, with its port if it was sent.
    pub host: Option<&'a str>,
    /// The client's address, for `X-Forwarded-For`.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The client's TLS certificate, as a header has it.
    pub client_certificate: Option<&'a HeaderValue>,
}

/// Turns the client's request into the one for the destination. Cannot fail: a captured value that no header can hold
/// is left out.
pub fn apply_request(transforms: &[Transform], outgoing: &mut OutgoingRequest, origin: &OriginalRequest<'_>) {
    let prefix = path_and_query::apply(transforms, outgoing, origin.captures);
    let headers = &mut outgoing.headers;
    // Collected before anything changes: these settings hold for the whole route, wherever they stand in the list. Of
    // `Copy` and `OriginalHost` the last one counts; lists of allowed names add up.
    let (mut copy, mut original_host, mut forwarded) = (true, false, false);
    let mut allowed = Vec::new();
    for transform in transforms {
        match transform {
            Transform::RequestHeadersCopy(value) => copy = *value,
            Transform::RequestHeadersAllowed(names) => allowed.push(names.as_slice()),
            Transform::RequestHeaderOriginalHost(value) => original_host = *value,
            Transform::XForwarded(_) | Transform::Forwarded(_) => forwarded = true,
            _ => {}
        }
    }
    restrict(headers, copy, &allowed);
    // Before the transforms: what they write is the operator's.
    let is_meant = |name: &HeaderName| is_plain_name(name) || allowed.iter().any(|names| names.contains(name));
    retain_names(headers, is_meant);
    // By default the destination gets its own host, which the caller adds.
    headers.remove(HOST);
    for transform in transforms {
        match transform {
            Transform::RequestHeader { name, value, write } => put(headers, name, Some(value.clone()), *write),
            Transform::RequestHeaderRouteValue { name, value, write } => {
                let value = origin.captures.get(value).filter(|raw| !raw.is_empty());
                let bytes = value.map(|raw| percent_decode_str(raw).collect::<Vec<u8>>());
                put(headers, name, bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()), *write);
            }
            Transform::RequestHeaderRemove(name) => drop(headers.remove(name)),
            Transform::ClientCertificate(name) => {
                put(headers, name, origin.client_certificate.cloned(), WriteMode::Set);
            }
            Transform::XForwarded(transform) => transform.apply(headers, origin, &prefix),
            Transform::Forwarded(transform) => transform.apply(headers, origin),
            _ => {}
        }
    }
    // A `Host` that a transform wrote comes before the client's.
    let host = origin.host.filter(|_| original_host && !headers.contains_key(HOST));
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        headers.insert(HOST, host);
    }
    // YARP's default, for a route that does not configure forwarding itself.
    if !forwarded {
        XForwardedTransform::default().apply(headers, origin, &prefix);
    }
}

/// Turns the destination's response headers into the client's; `status` decides which transforms apply.
pub fn apply_response(transforms: &[Transform], status: StatusCode, headers: &mut HeaderMap) {
    let mut copy = true;
    let mut allowed = Vec::new();
    for transform in transforms {
        match transform {
            Transform::ResponseHeadersCopy(value) => copy = *value,
            Transform::ResponseHeadersAllowed(names) => allowed.push(names.as_slice()),
            _ => {}
        }
    }
    restrict(headers, copy, &allowed);
    for transform in transforms {
        match transform {
            Transform::ResponseHeader { name, value, write, when } if when.includes(status) => {
                put(headers, name, Some(value.clone()), *write);
            }
            Transform::ResponseHeaderRemove { name, when } if when.includes(status) => drop(headers.remove(name)),
            _ => {}
        }
    }
}

/// Turns the destination's trailers into the client's; `None` where there are none.
pub fn apply_trailers(transforms: &[Transform], status: StatusCode, trailers: Option<HeaderMap>) -> Option<HeaderMap> {
    let mut trailers = trailers.unwrap_or_default();
    let mut copy = true;
    let mut allowed = Vec::new();
    for transform in transforms {
        match transform {
            Transform::ResponseTrailersCopy(value) => copy = *value,
            Transform::ResponseTrailersAllowed(names) => allowed.push(names.as_slice()),
            _ => {}
        }
    }
    if !copy || !allowed.is_empty() {
        retain_names(&mut trailers, |name| allowed.iter().any(|names| names.contains(name)));
    }
    for transform in transforms {
        match transform {
            Transform::ResponseTrailer { name, value, write, when } if when.includes(status) => {
                put(&mut trailers, name, Some(value.clone()), *write);
            }
            Transform::ResponseTrailerRemove { name, when } if when.includes(status) => drop(trailers.remove(name)),
            _ => {}
        }
    }
    (!trailers.is_empty()).then_some(trailers)
}

impl ResponseCondition {
    fn includes(self, status: StatusCode) -> bool {
        match self {
            Self::Success => status.as_u16() < 400,
            Self::Failure => status.as_u16() >= 400,
            Self::Always => true,
        }
    }
}

/// Removes the headers that are not copied: always hop-by-hop headers; with `copy` false, or with lists in `allowed`,
/// all headers that no list names.
fn restrict(headers: &mut HeaderMap, copy: bool, allowed: &[&[HeaderName]]) {
    strip_hop_by_hop(headers);
    if copy && allowed.is_empty() {
        return;
    }
    // Without `Content-Length` the body would be framed in another way, which is more than a change of headers.
    let kept = |name: &HeaderName| name == CONTENT_LENGTH || allowed.iter().any(|names| names.contains(name));
    retain_names(headers, kept);
}

fn retain_names(headers: &mut HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) {
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| !is_kept(name)).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Writes a header. Without a value, `Set` still removes the client's: no client may supply the text that the
/// destination takes for a captured value.
fn put(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>, write: WriteMode) {
    // A request has one `Host` (RFC 9112 §3.2); servers that take the first or the last of two see different requests.
    if write == WriteMode::Set || name == HOST {
        headers.remove(name);
    }
    if let Some(value) = value {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trailer_tests;
