//! URLs of services that are asked about a user, with names in braces for what they are asked about.

use http_semantics::placeholders::{self, TemplatePart};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// What is encoded of a path's segment or a query's value: everything but unreserved characters (RFC 3986 §2.3).
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// URL with names in braces in its path or query; each may be absent or repeated. It may name an internal host: `Debug`
/// hides it.
///
/// Not a `CaptureTemplate` of routing, whose values are percent-encoded already, or go into a key without encoding: here
/// values are encoded whole, and the result must be a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    text: String,
    /// Characters of a value that are encoded: `/`, `?` and `#` among them, so that it stays one segment or one value.
    encoded: &'static AsciiSet,
}

impl UrlTemplate {
    /// Parses a template in which `names` may stand in braces. `None` if it is no http or https URL, has user information
    /// or a fragment, has other names in braces, or has one in the host.
    pub fn parse(text: &str, names: &[&str], encoded: &'static AsciiSet) -> Option<Self> {
        let template = Self { text: text.to_owned(), encoded };
        let filled = |sample| template.fill(&names.iter().map(|name| (*name, sample)).collect::<Vec<_>>());
        let url = filled("a")?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        // A value in the host would let a user's id choose the server. It shows by another host for another value.
        let host = url.has_host() && filled("b")?.host() == url.host();
        (matches!(url.scheme(), "http" | "https") && plain && host).then_some(template)
    }

    /// Returns the URL with `values` in the places of their names; `None` if the text has a name without a value.
    pub fn fill(&self, values: &[(&str, &str)]) -> Option<Url> {
        let part = |part| match part {
            TemplatePart::Literal(text) => (!text.contains(['{', '}'])).then(|| text.to_owned()),
            TemplatePart::Name(name) => {
                let (_, value) = values.iter().find(|(known, _)| *known == name)?;
                Some(utf8_percent_encode(value, self.encoded).to_string())
            }
        };
        Url::parse(&placeholders::parts(&self.text).into_iter().map(part).collect::<Option<String>>()?).ok()
    }
}

impl std::fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::{UNRESERVED, UrlTemplate};

    #[test]
    fn a_name_stands_in_the_path_or_query_only() {
        let parse = |text| UrlTemplate::parse(text, &["user"], UNRESERVED);
        for text in ["http://h/", "https://h:8000/{user}/x?u={user}", "http://[::1]/{user}"] {
            assert!(parse(text).is_some(), "{text}");
        }
        for text in
            ["http://{user}/", "http://{user}.h/", "http://h.{user}:80/", "http://h:{user}/", "http://{user}@h/"]
        {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
