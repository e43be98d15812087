//! Transforms of an object route: headers of its responses, beside those that the object and its range decide. Pure.

use http::header::{
    ACCEPT_RANGES, AGE, ALLOW, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    DATE, ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER, SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{ResponseCondition, WriteMode, put};
use http_semantics::content_disposition::file_name_parameters;
use http_semantics::headers::is_hop_by_hop;

/// Name in a `Content-Disposition` in place of which the object's file name stands.
const FILE_NAME: &str = "{filename}";

/// Changes to the headers of an object route's responses, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaderChanges(Vec<ObjectHeaderChange>);

/// One change to the headers of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectHeaderChange {
    /// Writes a header.
    Write {
        /// The header.
        name: HeaderName,
        /// Its value.
        value: ObjectHeaderValue,
        /// Instead of or after the store's.
        write: WriteMode,
        /// The responses that it applies to.
        when: ResponseCondition,
    },
    /// Removes a header.
    Remove {
        /// The header.
        name: HeaderName,
        /// The responses that it applies to.
        when: ResponseCondition,
    },
}

/// Value of a header that an object route writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectHeaderValue {
    /// The same for every object.
    Fixed(HeaderValue),
    /// With the file name of the object's key in place of `{filename}`.
    WithFileName(Box<str>),
}

/// Reason why a header of an object route is not the configuration's to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectedHeader(pub &'static str);

impl ObjectHeaderValue {
    /// Returns the value `text` of the header `name`; `None` where it is none. `{filename}` has a meaning in
    /// `Content-Disposition` alone: other headers, such as `Report-To`, have braces of their own.
    pub fn parse(name: &HeaderName, text: &str) -> Option<Self> {
        let value = HeaderValue::from_str(text).ok()?;
        let has_file_name = name == CONTENT_DISPOSITION && text.contains(FILE_NAME);
        Some(if has_file_name { Self::WithFileName(text.into()) } else { Self::Fixed(value) })
    }

    /// Returns the value for the object `key`; `None` where it needs a key and there is none.
    fn render(&self, key: Option<&str>) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::WithFileName(text) => {
                let parameters = file_name_parameters(key?);
                let value = match parameters {
                    Some(parameters) => text.replace(FILE_NAME, &parameters),
                    // A key without a name: what stands before it, such as `attachment`, holds all the same.
                    None => text.replace(FILE_NAME, "").trim_end_matches([' ', ';']).to_owned(),
                };
                HeaderValue::try_from(value).ok().filter(|value| !value.is_empty())
            }
        }
    }
}

impl ObjectHeaderChange {
    /// The change by which a client stores the object under the name of its key (`Download: true`).
    pub fn download() -> Self {
        let value = ObjectHeaderValue::WithFileName(format!("attachment; {FILE_NAME}").into());
        let (write, when) = (WriteMode::Set, ResponseCondition::Success);
        Self::Write { name: CONTENT_DISPOSITION, value, write, when }
    }

    /// The header that it is about.
    pub fn name(&self) -> &HeaderName {
        match self {
            Self::Write { name, .. } | Self::Remove { name, .. } => name,
        }
    }
}

impl ObjectHeaderChanges {
    /// Changes in this order.
    pub fn new(changes: Vec<ObjectHeaderChange>) -> Self {
        Self(changes)
    }

    /// Returns the names of the headers that are changed, in order.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(ObjectHeaderChange::name)
    }

    /// Changes the `headers` of a response of this status; `key` is the object's, `None` for an error.
    pub fn apply(&self, status: StatusCode, key: Option<&str>, headers: &mut HeaderMap) {
        for change in &self.0 {
            match change {
                ObjectHeaderChange::Write { name, value, write, when } if when.includes(status) => {
                    if let Some(value) = value.render(key) {
                        put(headers, name, Some(value), *write);
                    }
                }
                ObjectHeaderChange::Remove { name, when } if when.includes(status) => drop(headers.remove(name)),
                ObjectHeaderChange::Write { .. } | ObjectHeaderChange::Remove { .. } => {}
            }
        }
    }
}

/// Returns why the header `name` is not changed on the responses that `when` includes; `None` where it may be. Ranges,
/// conditions and caches depend on those that describe the bytes.
pub fn protection(name: &HeaderName, when: ResponseCondition) -> Option<ProtectedHeader> {
    const OF_BYTES: [HeaderName; 5] = [CONTENT_LENGTH, CONTENT_RANGE, ACCEPT_RANGES, CONTENT_ENCODING, ETAG];
    const OF_TIME: [HeaderName; 3] = [LAST_MODIFIED, DATE, AGE];
    const OF_ANSWERS: [HeaderName; 4] = [ALLOW, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE];
    let text = name.as_str();
    Some(ProtectedHeader(match () {
        () if is_hop_by_hop(name) => "it concerns one connection alone",
        () if OF_BYTES.contains(name) => "it describes the bytes that are sent, and ranges depend on it",
        () if OF_TIME.contains(name) => "conditions and caches depend on it",
        () if *name == CONTENT_TYPE => "`ContentType` of `PresignedUrl` says it",
        () if *name == VARY => "caches depend on it, and it follows from what an answer depends on",
        () if *name == SET_COOKIE => "caches would give one user's cookie to others",
        () if OF_ANSWERS.contains(name) => "it belongs to answers that are Tidegate's own",
        () if text.starts_with("access-control-") => "`CorsPolicy` decides it",
        () if text.starts_with("x-tidegate-") || text.starts_with("ratelimit-") => "Tidegate writes it",
        () if matches!(text, "x-request-id" | "x-retry-url" | "traceparent") => "Tidegate writes it",
        () if (matches!(text, "expires" | "pragma" | "surrogate-control") || text.ends_with("cache-control"))
            && when != ResponseCondition::Success =>
        {
            "an error that is kept by caches outlives its cause"
        }
        () => return None,
    }))
}

#[cfg(test)]
mod tests {
    use http::header::CACHE_CONTROL;

    use super::*;

    fn write(name: &'static str, value: &str, write: WriteMode, when: ResponseCondition) -> ObjectHeaderChange {
        let name = HeaderName::from_static(name);
        let value = ObjectHeaderValue::parse(&name, value).expect("a value");
        ObjectHeaderChange::Write { name, value, write, when }
    }

    #[test]
    fn headers_are_written_and_removed_when_the_status_fits() {
        let (set, append) = (WriteMode::Set, WriteMode::Append);
        let (success, failure, always) =
            (ResponseCondition::Success, ResponseCondition::Failure, ResponseCondition::Always);
        let remove = ObjectHeaderChange::Remove { name: CACHE_CONTROL, when: success };
        let disposition = |value| write("content-disposition", value, set, success);
        type Row<'a> = (Vec<ObjectHeaderChange>, u16, Option<&'a str>, &'a [&'a str]);
        let cases: Vec<Row<'_>> = vec![
            (vec![], 200, Some("k"), &["cache-control: store"]),
            (vec![write("cache-control", "no-cache", set, success)], 304, Some("k"), &["cache-control: no-cache"]),
            (vec![write("x-a", "1", append, success)], 404, None, &["cache-control: store"]),
            (vec![write("x-a", "{filename}", set, failure)], 404, None, &["cache-control: store", "x-a: {filename}"]),
            (vec![write("x-a", "1", set, always), remove.clone()], 206, Some("k"), &["x-a: 1"]),
            (vec![remove], 500, None, &["cache-control: store"]),
            (
                vec![disposition("inline; {filename}")],
                200,
                Some("a/b.mp3"),
                &["cache-control: store", r#"content-disposition: inline; filename="b.mp3""#],
            ),
            (
                vec![ObjectHeaderChange::download()],
                206,
                Some("a/b/"),
                &["cache-control: store", "content-disposition: attachment"],
            ),
            (vec![disposition("inline; {filename}")], 200, None, &["cache-control: store"]),
        ];
        for (changes, status, key, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("store"));
            let status = StatusCode::from_u16(status).expect("a status");
            ObjectHeaderChanges::new(changes.clone()).apply(status, key, &mut headers);
            let line =
                |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
            let mut lines: Vec<String> = headers.iter().map(line).collect();
            lines.sort();
            assert_eq!(lines, expected, "{changes:?} at {status}");
        }
    }

    #[test]
    fn what_ranges_and_caches_depend_on_is_protected() {
        let free =
            ["cache-control", "content-disposition", "content-security-policy", "content-language", "x-a", "server"];
        for name in free {
            assert_eq!(protection(&HeaderName::from_static(name), ResponseCondition::Success), None, "{name}");
        }
        let protected = [
            "content-length",
            "content-range",
            "accept-ranges",
            "content-encoding",
            "content-type",
            "etag",
            "last-modified",
            "date",
            "age",
            "vary",
            "transfer-encoding",
            "connection",
            "proxy-authenticate",
            "set-cookie",
            "location",
            "retry-after",
            "access-control-allow-origin",
            "x-request-id",
            "x-tidegate-cache",
        ];
        for name in protected {
            assert!(protection(&HeaderName::from_static(name), ResponseCondition::Success).is_some(), "{name}");
        }
        assert!(protection(&CACHE_CONTROL, ResponseCondition::Always).is_some());
        assert_eq!(protection(&HeaderName::from_static("x-a"), ResponseCondition::Always), None);
    }
}
