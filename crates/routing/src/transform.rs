//! What a plain route changes of a request on its way up and of a response on its way down: YARP's transforms. Pure.
//!
//! Request headers: what is about the connection goes, the rest is copied unless the route says otherwise, then the
//! transforms in their order, then `Host` and `X-ForwardedTransform-*` by default. `Content-Length` is framing, not a header that
//! is copied or not: it stays. Whoever calls this frames a body that came without it (`Transfer-Encoding` never crosses).

use std::net::IpAddr;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;

pub use self::forwarded::{
    ForwardedHeaderAction, ForwardedTransform, NodeFormat, XForwardedActions, XForwardedTransform,
};
pub use self::path_and_query::PathSegmentPrefix;
use super::pattern::Captures;
use super::template::CaptureTemplate;
use http_semantics::headers::strip_hop_by_hop;

mod forwarded;
mod path_and_query;

/// One change to a request or response, by the name that YARP gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The path becomes this.
    PathSet(String),
    /// This goes before the path.
    PathPrefix(String),
    /// This goes from the beginning of the path, where it stands there.
    PathRemovePrefix(PathSegmentPrefix),
    /// The path is made anew from captured values.
    PathPattern(CaptureTemplate),
    /// A query parameter with a fixed value.
    QueryValueParameter {
        /// The parameter, not encoded.
        name: String,
        /// Its value, not encoded.
        value: String,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// A query parameter with a captured value.
    QueryRouteParameter {
        /// The parameter, not encoded.
        name: String,
        /// The captured value's name.
        value: String,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// No such query parameter.
    QueryRemoveParameter(String),
    /// One method for another.
    HttpMethodChange {
        /// The method that is changed.
        from: Method,
        /// What it becomes.
        to: Method,
    },
    /// Whether the client's headers are copied; they are unless this or `RequestHeadersAllowed` says otherwise.
    RequestHeadersCopy(bool),
    /// Whether the client's `Host` goes up; else it is the destination's.
    RequestHeaderOriginalHost(bool),
    /// A request header with a fixed value.
    RequestHeader {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: HeaderValue,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// A request header with a captured value, decoded.
    RequestHeaderRouteValue {
        /// The header.
        name: HeaderName,
        /// The captured value's name.
        value: String,
        /// Instead of or after what was sent.
        write: WriteMode,
    },
    /// No such request header.
    RequestHeaderRemove(HeaderName),
    /// Only these of the client's headers are copied.
    RequestHeadersAllowed(Vec<HeaderName>),
    /// `X-ForwardedTransform-*`.
    XForwarded(XForwardedTransform),
    /// `ForwardedTransform`.
    Forwarded(ForwardedTransform),
    /// Whether the destination's headers are copied.
    ResponseHeadersCopy(bool),
    /// A response header.
    ResponseHeader {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: HeaderValue,
        /// Instead of or after what was sent.
        write: WriteMode,
        /// On which responses.
        when: ResponseCondition,
    },
    /// No such response header.
    ResponseHeaderRemove {
        /// The header.
        name: HeaderName,
        /// On which responses.
        when: ResponseCondition,
    },
    /// Only these of the destination's headers are copied.
    ResponseHeadersAllowed(Vec<HeaderName>),
}

/// How a value meets those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Instead of them.
    Set,
    /// After them.
    Append,
}

/// Which responses a transform is for. Below 400 is a success.
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

/// The request that goes up; it comes in as the client's.
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

/// What is known of the client's request beside its own text.
#[derive(Clone, Copy, Debug)]
pub struct OriginalRequest<'a> {
    /// What the route's path captured.
    pub captures: &'a Captures,
    /// The host that the client asked for, with its port if it was sent.
    pub host: Option<&'a str>,
    /// The client's address, for `X-ForwardedTransform-For`.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'a str,
}

/// Turns the client's request into the one that goes up.
pub fn apply_request(transforms: &[Transform], outgoing: &mut OutgoingRequest, origin: &OriginalRequest<'_>) {
    let prefix = path_and_query::apply(transforms, outgoing, origin.captures);
    let headers = &mut outgoing.headers;
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
            Transform::XForwarded(transform) => transform.apply(headers, origin, &prefix),
            Transform::Forwarded(transform) => transform.apply(headers, origin),
            _ => {}
        }
    }
    let host = origin.host.filter(|_| original_host && !headers.contains_key(HOST));
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        headers.insert(HOST, host);
    }
    if !forwarded {
        XForwardedTransform::default().apply(headers, origin, &prefix);
    }
}

/// Turns the destination's response headers into the client's.
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

impl ResponseCondition {
    fn includes(self, status: StatusCode) -> bool {
        match self {
            Self::Success => status.as_u16() < 400,
            Self::Failure => status.as_u16() >= 400,
            Self::Always => true,
        }
    }
}

/// Leaves what is copied over: nothing of the connection, and where there are lists, only what they name.
fn restrict(headers: &mut HeaderMap, copy: bool, allowed: &[&[HeaderName]]) {
    strip_hop_by_hop(headers);
    if copy && allowed.is_empty() {
        return;
    }
    let kept = |name: &HeaderName| name == CONTENT_LENGTH || allowed.iter().any(|names| names.contains(name));
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| !kept(name)).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Without a value, `Set` still removes the client's: nobody may put a word in a captured value's place.
fn put(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>, write: WriteMode) {
    // A second Host would be another request to the next server.
    if write == WriteMode::Set || name == HOST {
        headers.remove(name);
    }
    if let Some(value) = value {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests;
