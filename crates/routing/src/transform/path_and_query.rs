//! The transforms of method, path and query.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use url::form_urlencoded;

use super::{OutgoingRequest, Transform, WriteMode};
use crate::pattern::{Captures, PathPattern, PatternError, Separator};
use crate::template::path_text;

/// Bytes that are escaped in a query's names and values; a slash may stand there (RFC 3986 §3.4).
const NOT_IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The beginning of a path, in whole segments, compared as a route's literals are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSegmentPrefix(PathPattern);

impl PathSegmentPrefix {
    /// Parses a prefix such as `/stream`; a trailing slash makes no difference. Fails as [`PathPattern::parse`] does.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        PathPattern::parse(&format!("{}/**", text.trim_end_matches('/'))).map(Self)
    }

    /// Splits `path` into the prefix as the client wrote it and the rest, which begins with a slash; `None` where the
    /// path does not begin with the prefix.
    fn split<'p>(&self, path: &'p str) -> Option<(&'p str, String)> {
        let captures = self.0.matches(path, Separator::Slash)?;
        let rest = self.0.names().last().and_then(|name| captures.get(name))?;
        // Captures keep the client's bytes, so the rest is a suffix of the path and the prefix keeps its spelling.
        let prefix = path.strip_suffix(rest)?;
        Some((prefix.strip_suffix('/').unwrap_or(prefix), format!("/{rest}")))
    }
}

/// Applies the transforms of method, path and query in their order. Returns the prefixes that were removed, as the
/// client wrote them; empty where none was.
pub(super) fn apply(transforms: &[Transform], outgoing: &mut OutgoingRequest, captures: &Captures) -> String {
    let mut removed = String::new();
    let query = &mut outgoing.query;
    for transform in transforms {
        match transform {
            Transform::PathSet(path) => outgoing.path = rooted(path).into_owned(),
            Transform::PathPrefix(prefix) => {
                outgoing.path.insert_str(0, rooted(prefix).trim_end_matches('/'));
            }
            Transform::PathRemovePrefix(prefix) => {
                if let Some((before, rest)) = prefix.split(&outgoing.path) {
                    removed.push_str(before);
                    outgoing.path = rest;
                }
            }
            Transform::PathPattern(template) => outgoing.path = template.render_path(captures),
            Transform::QueryValueParameter { name, value, write } => {
                put(query, name, value.as_bytes(), *write);
            }
            Transform::QueryRouteParameter { name, value, write } => {
                let value: Vec<u8> = percent_decode_str(captures.get(value).unwrap_or_default()).collect();
                put(query, name, &value, *write);
            }
            Transform::QueryRemoveParameter(name) => remove(query, name),
            Transform::HttpMethodChange { from, to } if outgoing.method == *from => outgoing.method = to.clone(),
            _ => {}
        }
    }
    removed
}

fn rooted(path: &str) -> Cow<'_, str> {
    let path = path_text(path);
    if path.starts_with('/') { path } else { Cow::Owned(format!("/{path}")) }
}

/// Writes a query parameter. The other parameters keep their bytes and order.
fn put(query: &mut Option<String>, name: &str, value: &[u8], write: WriteMode) {
    if write == WriteMode::Set {
        remove(query, name);
    }
    let text = query.get_or_insert_default();
    if !text.is_empty() {
        text.push('&');
    }
    text.extend(percent_encode(name.as_bytes(), NOT_IN_QUERY));
    text.push('=');
    text.extend(percent_encode(value, NOT_IN_QUERY));
}

/// Removes a query parameter. Names are compared decoded and without regard to case, as ASP.NET does.
fn remove(query: &mut Option<String>, name: &str) {
    let Some(text) = query else { return };
    let named = |pair: &str| {
        form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    // A query without the parameter keeps its bytes: `?` alone stays, as an empty query.
    if text.split('&').any(named) {
        let kept: Vec<&str> = text.split('&').filter(|pair| !named(pair)).collect();
        *query = Some(kept.join("&")).filter(|text| !text.is_empty());
    }
}
