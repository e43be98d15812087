//! Texts with captured path values in them: `tracks/{id}.mp3`. An object's key or an upstream path. Pure.
//!
//! A key takes values percent-decoded exactly once (the signer encodes it anew); a path takes them as the client wrote
//! them.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use http_semantics::placeholders;

use super::pattern::{Captures, InvalidCaptureName, parse_capture_name};

/// Bytes that are escaped in a path (RFC 3986 §3.3). `%` is not among them: the operator's own escapes are kept.
const NOT_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A text with captured path values in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureTemplate {
    parts: Vec<TemplatePart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(Box<str>),
    Value(Arc<str>),
}

/// Reason why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is empty.
    #[error("the text is empty; expected one such as `tracks/{{id}}.mp3`")]
    Empty,
    /// Braces not in pairs.
    #[error("a brace without its other half; expected `{{name}}`")]
    Unpaired,
    /// The text between braces is not a name.
    #[error(transparent)]
    Name(#[from] InvalidCaptureName),
}

/// Reason why captured values make no object key. Messages do not repeat the values, which are the client's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The route doesn't capture this name.
    #[error("`{{{name}}}` was not captured from the path")]
    Missing {
        /// The name.
        name: Arc<str>,
    },
    /// The value is not UTF-8 after decoding.
    #[error("`{{{name}}}` is not UTF-8 after decoding")]
    NotUtf8 {
        /// The name.
        name: Arc<str>,
    },
    /// The rendered key is empty.
    #[error("the key is empty")]
    Empty,
    /// NUL, CR or LF.
    #[error("the key has a NUL, CR or LF")]
    Control,
    /// `.` or `..` between slashes or backslashes.
    #[error("the key has a `.` or `..` segment")]
    DotSegment,
}

impl CaptureTemplate {
    /// Parses a template; `{name}`, `{*name}` and `{**name}` mean the same here. Fails for an empty text, an unpaired
    /// brace and an invalid name.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let part = |part| match part {
            placeholders::TemplatePart::Literal(text) if text.contains(['{', '}']) => Err(TemplateError::Unpaired),
            placeholders::TemplatePart::Literal(text) => Ok(TemplatePart::Text(text.into())),
            placeholders::TemplatePart::Name(inner) => Ok(TemplatePart::Value(parse_capture_name(inner)?.into())),
        };
        let parts: Vec<_> = placeholders::parts(text).into_iter().map(part).collect::<Result<_, _>>()?;
        if parts.is_empty() { Err(TemplateError::Empty) } else { Ok(Self { parts }) }
    }

    /// Returns the names of the values that the template needs, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Text(_) => None,
            TemplatePart::Value(name) => Some(&**name),
        })
    }

    /// Returns the text with which everything that is rendered begins; empty where a value comes first.
    pub fn fixed_prefix(&self) -> &str {
        match self.parts.first() {
            Some(TemplatePart::Text(text)) => text,
            Some(TemplatePart::Value(_)) | None => "",
        }
    }

    /// Renders an object key: values are percent-decoded once. Fails where a value is missing or not UTF-8, and where
    /// the key is empty, has NUL, CR or LF, or has a `.` or `..` segment.
    pub fn render_key(&self, captures: &Captures) -> Result<String, RenderError> {
        self.render_key_or_root(captures).and_then(|key| if key.is_empty() { Err(RenderError::Empty) } else { Ok(key) })
    }

    /// As [`CaptureTemplate::render_key`], but the text may be empty: the root of the bucket.
    pub fn render_key_or_root(&self, captures: &Captures) -> Result<String, RenderError> {
        let mut key = String::new();
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => key.push_str(text),
                TemplatePart::Value(name) => {
                    let raw = captures.get(name).ok_or_else(|| RenderError::Missing { name: Arc::clone(name) })?;
                    let value = percent_decode_str(raw).decode_utf8();
                    key.push_str(&value.map_err(|_| RenderError::NotUtf8 { name: Arc::clone(name) })?);
                }
            }
        }
        if key.contains(['\0', '\r', '\n']) {
            Err(RenderError::Control)
        } else if key.split(['/', '\\']).any(|segment| segment == "." || segment == "..") {
            // Checked on the whole: two values side by side can make one that the request path didn't have. Between
            // backslashes too: a store on Windows may part folders so.
            Err(RenderError::DotSegment)
        } else {
            Ok(key)
        }
    }

    /// Renders an upstream path, which begins with a slash: values as the client wrote them, and nothing for a value
    /// that was not captured (as in YARP).
    pub fn render_path(&self, captures: &Captures) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => path.push_str(&path_text(text)),
                // Not escaped again: the text was valid in the client's path, and `%2F` must stay `%2F`.
                TemplatePart::Value(name) => path.push_str(captures.get(name).unwrap_or_default()),
            }
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        path
    }
}

/// Escapes the bytes of an operator's text that a path cannot hold.
pub(super) fn path_text(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, NOT_IN_PATH).into()
}

#[cfg(test)]
mod tests {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, prop_assume, proptest};

    use super::{CaptureTemplate, RenderError, TemplateError};
    use crate::pattern::{Captures, PathPattern};

    fn captures(pattern: &str, path: &str) -> Captures {
        PathPattern::parse(pattern)
            .expect("a valid pattern")
            .matches(path, crate::pattern::Separator::Slash)
            .expect("a match")
    }

    fn template(text: &str) -> CaptureTemplate {
        CaptureTemplate::parse(text).expect("a valid template")
    }

    #[test]
    fn keys_are_decoded_exactly_once() {
        let cases = [
            ("a.mp3", "a.mp3"),
            ("a%20b+c.mp3", "a b+c.mp3"),
            ("%2F", "/"),
            ("%252F", "%2F"),
            ("%25252e", "%252e"),
            ("%C3%A9/%e2%99%ab", "é/♫"),
            ("/a//b/", "/a//b/"),
            ("'(a)'!*\"", "'(a)'!*\""),
            ("@:$,;&=~%7E", "@:$,;&=~~"),
            ("...", "..."),
            ("a..b/.c", "a..b/.c"),
        ];
        for (path, key) in cases {
            let captures = captures("/stream/{**rest}", &format!("/stream/{path}"));
            assert_eq!(template("{**rest}").render_key(&captures).as_deref(), Ok(key), "{path}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let cases = [
            ("", RenderError::Empty),
            ("a%00b", RenderError::Control),
            ("a%0d", RenderError::Control),
            ("a%0Ab", RenderError::Control),
            ("..", RenderError::DotSegment),
            ("a%5C..%5Cb", RenderError::DotSegment),
            ("a/%2e%2E/b", RenderError::DotSegment),
            ("a%2F..%2Fb", RenderError::DotSegment),
            ("a/.", RenderError::DotSegment),
            ("%ff", RenderError::NotUtf8 { name: "rest".into() }),
        ];
        for (path, error) in cases {
            let captures = captures("/stream/{**rest}", &format!("/stream/{path}"));
            assert_eq!(template("{rest}").render_key(&captures), Err(error), "{path}");
        }
        let two = captures("/{a}/{b}", "/./.");
        assert_eq!(template("x/{a}{b}").render_key(&two), Err(RenderError::DotSegment));
        let root = captures("/{**rest}", "/");
        assert_eq!(template("{rest}").render_key_or_root(&root).as_deref(), Ok(""));
        assert_eq!(template("{c}").render_key(&two), Err(RenderError::Missing { name: "c".into() }));
    }

    #[test]
    fn values_stand_among_text() {
        let captures = captures("/api/{user}/tracks/{id}/**", "/api/ann/tracks/7%2B/x/y%20z");
        let cases = [
            ("tracks/{id}.mp3", "tracks/7+.mp3", "/tracks/7%2B.mp3"),
            ("/{user}/{id}-{**rest}", "/ann/7+-x/y z", "/ann/7%2B-x/y%20z"),
            ("my files/{user}?", "my files/ann?", "/my%20files/ann%3F"),
            ("a%20b", "a%20b", "/a%20b"),
        ];
        for (text, key, path) in cases {
            let template = template(text);
            assert_eq!(template.render_key(&captures).as_deref(), Ok(key), "{text}");
            assert_eq!(template.render_path(&captures), path, "{text}");
        }
        for (text, prefix) in [("tracks/{id}.mp3", "tracks/"), ("{**key}", ""), ("{a}b", ""), ("one.mp3", "one.mp3")] {
            assert_eq!(template(text).fixed_prefix(), prefix, "{text}");
        }
        assert_eq!(template("/{user}/{id}").names().collect::<Vec<_>>(), ["user", "id"]);
        assert_eq!(template("/x/{other}").render_path(&captures), "/x/");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        assert_eq!(CaptureTemplate::parse(""), Err(TemplateError::Empty));
        for text in ["{", "}", "a{b", "a}b", "{a}}"] {
            assert_eq!(CaptureTemplate::parse(text), Err(TemplateError::Unpaired), "{text}");
        }
        for text in ["{}", "{**}", "{a b}", "{{a}}", "{id:int}"] {
            assert!(matches!(CaptureTemplate::parse(text), Err(TemplateError::Name(_))), "{text}");
        }
    }

    const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    const PATH: &AsciiSet = &SEGMENT.remove(b'/');

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn every_key_round_trips(key in any::<String>()) {
            prop_assume!(!key.is_empty() && !key.contains(['\0', '\r', '\n']));
            prop_assume!(key.split(['/', '\\']).all(|segment| segment != "." && segment != ".."));
            let path = format!("/stream/{}", utf8_percent_encode(&key, PATH));
            prop_assert_eq!(template("{**k}").render_key(&captures("/stream/{**k}", &path)), Ok(key.clone()));
            let path = format!("/t/{}/x", utf8_percent_encode(&key, SEGMENT));
            prop_assert_eq!(template("{k}").render_key(&captures("/t/{k}/x", &path)), Ok(key));
        }

        #[test]
        fn a_rendered_key_is_always_one_a_store_can_hold(path in "[ -~]{0,24}") {
            if let Ok(key) = template("{k}").render_key(&captures("/{**k}", &format!("/{path}"))) {
                prop_assert_eq!(key.is_empty() || key.contains(['\0', '\r', '\n']), false);
                prop_assert_eq!(key.split(['/', '\\']).any(|segment| segment == "." || segment == ".."), false);
            }
        }
    }
}
