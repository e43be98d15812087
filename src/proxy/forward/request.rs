//! The request that a server gets: the client's, with what is about the connection made anew and the transforms applied.

use std::net::{IpAddr, Ipv4Addr};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use super::{Forwarding, answer};
use crate::proxy::admission::request_host;
use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::respond;
use crate::proxy::route::{Route, RouteAuthorization};
use crate::proxy::runtime::Runtime;
use http_semantics::headers::{has_token, is_plain_name};
use http_semantics::request_info::REQUEST_ID;
use http_server::Downstream;
use request_traces::{TRACE_PARENT, TRACE_STATE};
use routing::transform::{OriginalRequest, OutgoingRequest, Transform, apply_request};
use s3::signer::authority;
use server_kit::auth::{strip_headers, strip_query};
use upstream::cluster::ClusterMember;
use upstream::http_client::RequestBody;

/// Builds the request for the server `member`. Fails with `BadRequest` if the target is no URI, with `Internal` if a
/// header value is invalid.
pub fn build(
    downstream: &impl Downstream,
    ctx: &RequestContext,
    forwarding: &Forwarding<'_>,
    member: &ClusterMember,
    has_body: bool,
    body: RequestBody,
) -> Result<Request<RequestBody>, ProxyFailure> {
    let original = downstream.request();
    let origin = OriginalRequest {
        captures: &ctx.captures,
        host: request_host(original),
        client: ctx.client_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        scheme: if downstream.is_tls() { "https" } else { "http" },
        client_certificate: ctx.client_certificate.as_ref().map(|certificate| &certificate.encoded),
    };
    let mut outgoing = without_credentials(original, &ctx.runtime, forwarding.route);
    apply_request(&forwarding.handler.transforms, &mut outgoing, &origin);
    let prefix = member.address.path().trim_end_matches('/');
    let query = outgoing.query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
    let target: Result<Uri, _> = format!("{prefix}{}{query}", outgoing.path).parse();
    let mut request = Request::new(body);
    *request.uri_mut() = target.map_err(|_| ProxyFailure::BadRequest("the target cannot be sent on".into()))?;
    *request.method_mut() = outgoing.method;
    let headers = request.headers_mut();
    *headers = outgoing.headers;
    if !headers.contains_key(header::HOST) {
        let host = member.host.clone().unwrap_or_else(|| authority(&member.address));
        headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| ProxyFailure::Internal)?);
    }
    headers.insert(REQUEST_ID, HeaderValue::from_str(&ctx.id).map_err(|_| ProxyFailure::Internal)?);
    frame(original, has_body, headers);
    Ok(request)
}

/// The client's request, without what is meant for the proxy alone.
pub fn without_credentials(original: &Parts, runtime: &Runtime, route: &Route) -> OutgoingRequest {
    let mut headers = original.headers.clone();
    headers.remove(&respond::DEBUG);
    let mut query = original.uri.query().map(str::to_owned);
    if matches!(route.policies.authorization, RouteAuthorization::Policy { .. }) {
        let sources = &runtime.token_sources;
        strip_headers(&mut headers, sources);
        query = query.and_then(|query| strip_query(&query, sources));
    }
    OutgoingRequest { method: original.method.clone(), path: original.uri.path().to_owned(), query, headers }
}

/// Writes anew what is about the connection: the body's framing, whether trailers are taken, what it is to become. No
/// transform has a say in it.
fn frame(original: &Parts, has_body: bool, headers: &mut HeaderMap) {
    headers.remove(header::EXPECT);
    let mut options = Vec::new();
    if !has_body {
        // A length of zero is said where it was said: some servers want one with each POST.
        let zero = original.headers.get(header::CONTENT_LENGTH).filter(|length| length.as_bytes() == b"0");
        replace(headers, header::CONTENT_LENGTH, zero);
    } else {
        let length = original.headers.get(header::CONTENT_LENGTH);
        replace(headers, header::CONTENT_LENGTH, length);
        if length.is_none() {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            replace(headers, header::TRAILER, original.headers.get(header::TRAILER));
        }
        replace(headers, header::EXPECT, original.headers.get(header::EXPECT));
    }
    if has_token(&original.headers, &header::TE, "trailers") {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        options.push("TE");
    }
    if let Some(protocol) = requested_upgrade(original) {
        headers.insert(header::UPGRADE, protocol.clone());
        options.push("Upgrade");
    }
    if !options.is_empty()
        && let Ok(options) = HeaderValue::try_from(options.join(", "))
    {
        headers.insert(header::CONNECTION, options);
    }
}

fn replace(headers: &mut HeaderMap, name: HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value.clone())),
        None => drop(headers.remove(name)),
    }
}

/// The protocol that the client wants to change to (RFC 9110 §7.8). Not another HTTP: it would be a way past all rules here.
pub fn requested_upgrade(request: &Parts) -> Option<&HeaderValue> {
    let wanted = request.headers.get(header::UPGRADE)?;
    let bodiless =
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().all(|name| !request.headers.contains_key(name));
    let changes_version = |word: &str| {
        let word = word.trim().to_ascii_lowercase();
        word.starts_with("h2") || word.starts_with("h3") || word.starts_with("http")
    };
    let is_asked = request.version == Version::HTTP_11
        && request.method == Method::GET
        && bodiless
        && has_token(&request.headers, &header::CONNECTION, "upgrade")
        && request.headers.get_all(header::UPGRADE).iter().count() == 1
        && wanted.to_str().is_ok_and(|wanted| !wanted.split(',').any(changes_version));
    is_asked.then_some(wanted)
}

/// The client's trailers that may go up: none that a server could take for a field of the head which was taken out or
/// written by us (RFC 9110 §6.5.1), in whatever spelling.
pub fn trailers(mut trailers: HeaderMap, runtime: &Runtime, forwarding: &Forwarding<'_>) -> HeaderMap {
    strip_headers(&mut trailers, &runtime.token_sources);
    let mut trailers = answer::forwardable(trailers);
    let names: Vec<HeaderName> = trailers.keys().filter(|name| is_of_head(name, forwarding)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
    trailers
}

fn is_of_head(name: &HeaderName, forwarding: &Forwarding<'_>) -> bool {
    const WRITTEN_HERE: [HeaderName; 7] = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::FORWARDED,
        REQUEST_ID,
        respond::DEBUG,
        TRACE_PARENT,
        TRACE_STATE,
    ];
    let in_transforms = forwarding.handler.transforms.iter().any(|transform| match transform {
        Transform::RequestHeader { name: changed, .. }
        | Transform::RequestHeaderRouteValue { name: changed, .. }
        | Transform::RequestHeaderRemove(changed)
        | Transform::ClientCertificate(changed) => changed == name,
        Transform::RequestHeadersAllowed(names) => !names.contains(name),
        Transform::RequestHeadersCopy(copied) => !copied,
        _ => false,
    });
    let is_allowed = |transform: &Transform| match transform {
        Transform::RequestHeadersAllowed(names) => names.contains(name),
        _ => false,
    };
    let is_disguised = !is_plain_name(name) && !forwarding.handler.transforms.iter().any(is_allowed);
    is_disguised || WRITTEN_HERE.contains(name) || name.as_str().starts_with("x-forwarded-") || in_transforms
}
