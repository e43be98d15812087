//! Key `Transforms`: each element has one key that names it, and the keys that belong to it.

use http::{HeaderName, HeaderValue};

use super::ConfigLocation;
use crate::config::file::{self, ForwardedAction};
use crate::config::report::ConfigProblem;
use crate::config::shape::one_of;
use crate::config::source::NodeData;
use routing::template::CaptureTemplate;
use routing::transform::{
    ForwardedHeaderAction, ForwardedTransform, NodeFormat, PathSegmentPrefix, ResponseCondition, Transform, WriteMode,
    XForwardedActions, XForwardedTransform,
};

/// Name of each transform, the keys of which it needs one, and the keys that it may have.
const KINDS: &[(&str, &[&str], &[&str])] = &[
    ("PresignedUrl", &[], &[]),
    ("PathSet", &[], &[]),
    ("PathPrefix", &[], &[]),
    ("PathRemovePrefix", &[], &[]),
    ("PathPattern", &[], &[]),
    ("QueryValueParameter", &["Set", "Append"], &[]),
    ("QueryRouteParameter", &["Set", "Append"], &[]),
    ("QueryRemoveParameter", &[], &[]),
    ("HttpMethodChange", &["Set"], &[]),
    ("RequestHeadersCopy", &[], &[]),
    ("RequestHeaderOriginalHost", &[], &[]),
    ("RequestHeader", &["Set", "Append"], &[]),
    ("RequestHeaderRouteValue", &["Set", "Append"], &[]),
    ("RequestHeaderRemove", &[], &[]),
    ("ClientCert", &[], &[]),
    ("RequestHeadersAllowed", &[], &[]),
    ("X-Forwarded", &[], &["For", "Proto", "Host", "Prefix", "HeaderPrefix"]),
    ("Forwarded", &[], &["ForFormat", "Action"]),
    ("ResponseHeadersCopy", &[], &[]),
    ("ResponseHeader", &["Set", "Append"], &["When"]),
    ("ResponseHeaderRemove", &[], &["When"]),
    ("ResponseHeadersAllowed", &[], &[]),
    ("ResponseTrailersCopy", &[], &[]),
    ("ResponseTrailer", &["Set", "Append"], &["When"]),
    ("ResponseTrailerRemove", &[], &["When"]),
    ("ResponseTrailersAllowed", &[], &[]),
];

/// Resolves a transform of a plain route. `captured` are the names that the path captures, if known.
pub fn transform(at: &ConfigLocation<'_>, raw: &file::Transform, captured: Option<&[&str]>) -> Option<Transform> {
    kind(at)?;
    path(at, raw, captured)
        .or_else(|| query(at, raw, captured))
        .or_else(|| request(at, raw, captured))
        .or_else(|| response(at, raw))
        .or_else(|| trailers(at, raw))?
}

/// Returns true if the path captures `name`, or if the captures are unknown; otherwise reports it.
pub fn is_captured(at: &ConfigLocation<'_>, name: &str, captured: Option<&[&str]>) -> bool {
    let Some(names) = captured.filter(|names| !names.contains(&name)) else { return true };
    let problem = ConfigProblem::new(format!("`{{{name}}}` is not captured by this route's `Path`"));
    at.report(match names {
        [] => problem.help(format!("put `{{{name}}}` into `Match.Path`")),
        names => problem.suggest(name, names.iter().copied()).expected(one_of(names.iter().copied())),
    });
    false
}

/// Returns the key that names the transform.
pub fn kind(at: &ConfigLocation<'_>) -> Option<&'static str> {
    let members = at.node()?.members();
    let keys: Vec<&str> = members
        .iter()
        // A key without a value is not there for serde either.
        .filter(|member| !matches!(member.value.data, NodeData::Null))
        .map(|member| member.key.as_str())
        .collect();
    let named: Vec<_> = KINDS.iter().filter(|(name, ..)| keys.contains(name)).collect();
    let (name, needed, more) = match named.as_slice() {
        [kind] => **kind,
        [] => {
            let some = "a key that names it, such as `PathRemovePrefix`, `RequestHeader` or `PresignedUrl`";
            at.report(ConfigProblem::new("nothing says which transform this is").expected(some));
            return None;
        }
        [first, second, ..] => {
            let problem = ConfigProblem::new(format!("`{}` and `{}` are two transforms", first.0, second.0));
            at.key(second.0).report(problem.help("write each as an element of its own, with its own `-`"));
            return None;
        }
    };
    // The schema allows the keys of all transforms in each; which belong together is known only here.
    let stranger = keys.iter().find(|key| **key != name && !needed.contains(key) && !more.contains(key));
    if let Some(stranger) = stranger {
        let problem = ConfigProblem::new(format!("`{stranger}` does not belong to `{name}`"));
        let known: Vec<&str> = needed.iter().chain(more).copied().collect();
        at.key(stranger).report(if known.is_empty() {
            problem.help("remove it")
        } else {
            problem.expected(one_of(known))
        });
        return None;
    }
    if !needed.is_empty() && keys.iter().filter(|key| needed.contains(key)).count() != 1 {
        let either = if needed.len() > 1 { "exactly one of " } else { "" };
        let problem = ConfigProblem::new(format!("`{name}` has no clear value"));
        at.report(problem.expected(format!("{either}{}", one_of(needed.iter().copied()))));
        return None;
    }
    Some(name)
}

/// Result of one family: `None` if the transform is not of it, `Some(None)` if it is invalid.
type TransformMatch = Option<Option<Transform>>;

fn path(at: &ConfigLocation<'_>, raw: &file::Transform, captured: Option<&[&str]>) -> TransformMatch {
    let prefix = |text: &String| {
        let report = |error| at.key("PathRemovePrefix").report(ConfigProblem::new(format!("{error}")));
        PathSegmentPrefix::parse(text).map_err(report).ok().map(Transform::PathRemovePrefix)
    };
    let pattern = |text: &String| {
        let at = at.key("PathPattern");
        let template =
            CaptureTemplate::parse(text).map_err(|error| at.report(ConfigProblem::new(error.to_string()))).ok()?;
        let good = template.names().all(|name| is_captured(&at, name, captured));
        good.then_some(Transform::PathPattern(template))
    };
    let fixed = |key: &str, text: &String, make: fn(String) -> Transform| {
        // It goes up as it stands: RFC 9112 §3.2 has no blanks or controls in a target, and `?` would begin a query.
        let good = text.bytes().all(|c| c.is_ascii_graphic() && c != b'?' && c != b'#');
        if !good {
            let problem = ConfigProblem::new(format!("`{text}` is not a path"))
                .expected("a path such as /files, percent-encoded where needed");
            at.key(key).report(problem);
        }
        good.then(|| make(text.clone()))
    };
    None.or_else(|| raw.path_remove_prefix.as_ref().map(prefix))
        .or_else(|| raw.path_pattern.as_ref().map(pattern))
        .or_else(|| raw.path_set.as_ref().map(|text| fixed("PathSet", text, Transform::PathSet)))
        .or_else(|| raw.path_prefix.as_ref().map(|text| fixed("PathPrefix", text, Transform::PathPrefix)))
}

fn query(at: &ConfigLocation<'_>, raw: &file::Transform, captured: Option<&[&str]>) -> TransformMatch {
    if let Some(name) = &raw.query_value_parameter {
        let (write, value, _) = written(at, raw)?;
        return Some(Some(Transform::QueryValueParameter { name: name.clone(), value, write }));
    }
    if let Some(name) = &raw.query_route_parameter {
        let (write, value, at) = written(at, raw)?;
        let good = is_captured(&at, &value, captured);
        return Some(good.then(|| Transform::QueryRouteParameter { name: name.clone(), value, write }));
    }
    raw.query_remove_parameter.as_ref().map(|name| Some(Transform::QueryRemoveParameter(name.clone())))
}

fn request(at: &ConfigLocation<'_>, raw: &file::Transform, captured: Option<&[&str]>) -> TransformMatch {
    if let Some(from) = &raw.http_method_change {
        let method = |key: &str, text: &str| super::route_match::method(&at.key(key), text);
        let (from, to) = (method("HttpMethodChange", from), method("Set", raw.set.as_deref().unwrap_or_default()));
        return Some(from.zip(to).map(|(from, to)| Transform::HttpMethodChange { from, to }));
    }
    if let Some(name) = &raw.request_header {
        let (write, value, place) = written(at, raw)?;
        let (name, value) = (header(&at.key("RequestHeader"), name), header_value(&place, &value));
        return Some(name.zip(value).map(|(name, value)| Transform::RequestHeader { name, value, write }));
    }
    if let Some(name) = &raw.request_header_route_value {
        let (write, value, place) = written(at, raw)?;
        let good = is_captured(&place, &value, captured);
        let name = header(&at.key("RequestHeaderRouteValue"), name).filter(|_| good);
        return Some(name.map(|name| Transform::RequestHeaderRouteValue { name, value, write }));
    }
    if let Some(name) = &raw.request_header_remove {
        return Some(header(&at.key("RequestHeaderRemove"), name).map(Transform::RequestHeaderRemove));
    }
    if let Some(name) = &raw.client_cert {
        return Some(header(&at.key("ClientCert"), name).map(Transform::ClientCertificate));
    }
    if let Some(names) = &raw.request_headers_allowed {
        return Some(headers(&at.key("RequestHeadersAllowed"), names).map(Transform::RequestHeadersAllowed));
    }
    if let Some(action) = raw.x_forwarded {
        return Some(x_forwarded(at, raw, action));
    }
    if let Some(parts) = &raw.forwarded {
        return Some(forwarded(at, raw, parts));
    }
    None.or_else(|| raw.request_headers_copy.map(|flag| Some(Transform::RequestHeadersCopy(flag.0))))
        .or_else(|| raw.request_header_original_host.map(|flag| Some(Transform::RequestHeaderOriginalHost(flag.0))))
}

fn condition(raw: &file::Transform) -> ResponseCondition {
    match raw.when.unwrap_or_default() {
        file::When::Success => ResponseCondition::Success,
        file::When::Failure => ResponseCondition::Failure,
        file::When::Always => ResponseCondition::Always,
    }
}

fn trailers(at: &ConfigLocation<'_>, raw: &file::Transform) -> TransformMatch {
    let when = condition(raw);
    if let Some(name) = &raw.response_trailer {
        let (write, value, place) = written(at, raw)?;
        let (name, value) = (trailer(&at.key("ResponseTrailer"), name), header_value(&place, &value));
        return Some(name.zip(value).map(|(name, value)| Transform::ResponseTrailer { name, value, write, when }));
    }
    if let Some(name) = &raw.response_trailer_remove {
        let name = header(&at.key("ResponseTrailerRemove"), name);
        return Some(name.map(|name| Transform::ResponseTrailerRemove { name, when }));
    }
    if let Some(names) = &raw.response_trailers_allowed {
        return Some(headers(&at.key("ResponseTrailersAllowed"), names).map(Transform::ResponseTrailersAllowed));
    }
    raw.response_trailers_copy.map(|flag| Some(Transform::ResponseTrailersCopy(flag.0)))
}

/// Parses the name of a field that may stand behind a body (RFC 9110 §6.5.1).
fn trailer(at: &ConfigLocation<'_>, name: &str) -> Option<HeaderName> {
    const HEAD_ONLY: [&str; 10] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "host",
        "set-cookie",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let name = header(at, name)?;
    let may_follow = !HEAD_ONLY.contains(&name.as_str());
    if !may_follow {
        at.report(
            ConfigProblem::new(format!("`{name}` cannot stand behind a body")).expected("a field that only adds to it"),
        );
    }
    may_follow.then_some(name)
}

fn response(at: &ConfigLocation<'_>, raw: &file::Transform) -> TransformMatch {
    let when = condition(raw);
    if let Some(name) = &raw.response_header {
        let (write, value, place) = written(at, raw)?;
        let (name, value) = (header(&at.key("ResponseHeader"), name), header_value(&place, &value));
        return Some(name.zip(value).map(|(name, value)| Transform::ResponseHeader { name, value, write, when }));
    }
    if let Some(name) = &raw.response_header_remove {
        let name = header(&at.key("ResponseHeaderRemove"), name);
        return Some(name.map(|name| Transform::ResponseHeaderRemove { name, when }));
    }
    if let Some(names) = &raw.response_headers_allowed {
        return Some(headers(&at.key("ResponseHeadersAllowed"), names).map(Transform::ResponseHeadersAllowed));
    }
    raw.response_headers_copy.map(|flag| Some(Transform::ResponseHeadersCopy(flag.0)))
}

/// Returns the write mode, the value, and its location.
fn written<'a>(at: &ConfigLocation<'a>, raw: &file::Transform) -> Option<(WriteMode, String, ConfigLocation<'a>)> {
    let set = raw.set.clone().map(|value| (WriteMode::Set, value, at.key("Set")));
    set.or_else(|| raw.append.clone().map(|value| (WriteMode::Append, value, at.key("Append"))))
}

fn header(at: &ConfigLocation<'_>, name: &str) -> Option<HeaderName> {
    let parsed = HeaderName::try_from(name).ok();
    if parsed.is_none() {
        at.report(ConfigProblem::new(format!("`{name}` is not a header's name")).expected("a name such as X-Source"));
    }
    parsed
}

/// Parses a list as .NET writes it: `Range;If-Range`.
fn headers(at: &ConfigLocation<'_>, names: &str) -> Option<Vec<HeaderName>> {
    let names = names.split(';').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| header(at, name)).collect::<Vec<_>>().into_iter().collect()
}

fn header_value(at: &ConfigLocation<'_>, value: &str) -> Option<HeaderValue> {
    let parsed = HeaderValue::from_str(value).ok();
    if parsed.is_none() {
        at.report(
            ConfigProblem::new("this cannot stand in a header")
                .expected("a text without line breaks and control characters"),
        );
    }
    parsed
}

fn x_forwarded(at: &ConfigLocation<'_>, raw: &file::Transform, default: ForwardedAction) -> Option<Transform> {
    let actions = XForwardedActions {
        client: action(raw.r#for.unwrap_or(default)),
        proto: action(raw.proto.unwrap_or(default)),
        host: action(raw.host.unwrap_or(default)),
        prefix: action(raw.prefix.unwrap_or(default)),
    };
    let prefix = raw.header_prefix.as_deref().unwrap_or("X-Forwarded-");
    let made = XForwardedTransform::new(prefix, actions).ok();
    if made.is_none() {
        at.key("HeaderPrefix").report(ConfigProblem::new(format!("`{prefix}` cannot begin a header's name")));
    }
    made.map(Transform::XForwarded)
}

fn action(raw: ForwardedAction) -> ForwardedHeaderAction {
    match raw {
        ForwardedAction::Set => ForwardedHeaderAction::Set,
        ForwardedAction::Append => ForwardedHeaderAction::Append,
        ForwardedAction::Remove => ForwardedHeaderAction::Remove,
        ForwardedAction::Off => ForwardedHeaderAction::Off,
    }
}

fn forwarded(at: &ConfigLocation<'_>, raw: &file::Transform, parts: &str) -> Option<Transform> {
    let (mut names_client, mut host, mut proto) = (false, false, false);
    for part in parts.split(',').map(str::trim) {
        match part.to_ascii_lowercase().as_str() {
            "for" => names_client = true,
            "host" => host = true,
            "proto" => proto = true,
            _ => {
                let what = if part.eq_ignore_ascii_case("by") {
                    "Tidegate does not tell its own address".to_owned()
                } else {
                    format!("`{part}` is not known")
                };
                at.key("Forwarded").report(ConfigProblem::new(what).expected(one_of(["for", "host", "proto"])));
                return None;
            }
        }
    }
    let client = match raw.for_format.as_deref() {
        None if !names_client => None,
        Some("Ip") => Some(NodeFormat::Ip),
        Some("Unknown") => Some(NodeFormat::Unknown),
        given => {
            let what = match given {
                None => "nothing says how `for` names the client; YARP's `Random` is not available".to_owned(),
                Some(given) => format!("`{given}` is not available"),
            };
            let place = if given.is_some() { at.key("ForFormat") } else { at.key("Forwarded") };
            place.report(ConfigProblem::new(what).expected("`ForFormat: Ip` or `ForFormat: Unknown`"));
            return None;
        }
    };
    // YARP's default for `Forwarded`.
    let action = action(raw.action.unwrap_or(ForwardedAction::Set));
    Some(Transform::Forwarded(ForwardedTransform { action, client: client.filter(|_| names_client), host, proto }))
}
