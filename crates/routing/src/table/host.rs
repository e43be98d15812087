//! `RouteMatch.Hosts`: exact names, `*.example.com`, ports.

use std::cmp::Reverse;
use std::fmt;

use http_semantics::request_host::normalized;
use url::Host;

use crate::pattern::Overlap;

/// One of a route's hosts: `example.com`, `*.example.com` (its subdomains, at any depth), `*:8080`, each with or
/// without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    name: HostNamePattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostNamePattern {
    Exact(String),
    /// End of the name, with its first dot.
    Subdomains(String),
    Any,
}

/// Sort key of a host pattern: its class, its length, and true where it has no port.
pub(super) type HostRank = (u8, Reverse<usize>, bool);

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            HostNamePattern::Exact(name) => f.write_str(name)?,
            HostNamePattern::Subdomains(suffix) => write!(f, "*{suffix}")?,
            HostNamePattern::Any => f.write_str("*")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Reason why a text is not a host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a host; expected one such as `example.com`, `*.example.com` or `example.com:8443`")]
pub struct InvalidHostPattern {
    text: String,
}

impl HostPattern {
    /// Parses a host pattern. International names may be written in Unicode or in Punycode. Fails where the text is not
    /// a host, or has a `*` that is neither alone nor the first label.
    pub fn parse(text: &str) -> Result<Self, InvalidHostPattern> {
        let bad = || InvalidHostPattern { text: text.to_owned() };
        let sent = RequestHost::new(text);
        let ascii = |name: &str| match Host::parse(name) {
            Ok(host) if !name.contains('*') => Ok(normalized(&host.to_string()).into_owned()),
            _ => Err(bad()),
        };
        let name = match sent.name.strip_prefix('*') {
            Some("") => HostNamePattern::Any,
            Some(below) => {
                HostNamePattern::Subdomains(format!(".{}", ascii(below.strip_prefix('.').ok_or_else(bad)?)?))
            }
            None => HostNamePattern::Exact(ascii(sent.name)?),
        };
        Ok(Self { name, port: sent.port })
    }

    /// Returns true where the host that a request names, in the spelling of [`normalized`], fits the pattern.
    pub(super) fn accepts(&self, sent: &RequestHost<'_>) -> bool {
        let name = match &self.name {
            HostNamePattern::Exact(name) => sent.name.eq_ignore_ascii_case(name),
            HostNamePattern::Subdomains(suffix) => sent.name.len().checked_sub(suffix.len()).is_some_and(|start| {
                // Something must stand before the dot: `.a.com` is no subdomain.
                start > 0 && sent.name.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes())
            }),
            HostNamePattern::Any => true,
        };
        // A client leaves out the port of its scheme (RFC 9110 §4.2.3), and the scheme is not known here: no port can
        // be 80 or 443.
        name && self.port.is_none_or(|port| sent.port.map_or(port == 80 || port == 443, |sent| sent == port))
    }

    /// Returns the sort key of a host pattern; the smaller is tried first: exact, then the longest wildcard, then no
    /// host; with a port before without.
    pub(super) fn rank(host: Option<&Self>) -> HostRank {
        let Some(host) = host else { return (2, Reverse(0), true) };
        let (class, length) = match &host.name {
            HostNamePattern::Exact(_) => (0, 0),
            HostNamePattern::Subdomains(suffix) => (1, suffix.len()),
            HostNamePattern::Any => (1, 0),
        };
        (class, Reverse(length), host.port.is_none())
    }

    /// Returns true where this pattern accepts every host that `other` accepts.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let name = match (&self.name, &other.name) {
            (HostNamePattern::Any, _) => true,
            (HostNamePattern::Exact(name), HostNamePattern::Exact(other)) => name == other,
            (HostNamePattern::Subdomains(suffix), HostNamePattern::Exact(name) | HostNamePattern::Subdomains(name)) => {
                name.ends_with(suffix.as_str())
            }
            (HostNamePattern::Exact(_) | HostNamePattern::Subdomains(_), _) => false,
        };
        name && (self.port.is_none() || self.port == other.port)
    }

    /// Returns the hosts that two patterns of the same rank both match.
    pub(super) fn overlap(&self, other: &Self) -> Overlap {
        let default = |port: Option<u16>| matches!(port, Some(80 | 443));
        if self.name != other.name {
            Overlap::Never
        } else if self.port == other.port {
            Overlap::Whole
        } else if default(self.port) && default(other.port) {
            // Both match a host that was sent without a port.
            Overlap::Partial
        } else {
            Overlap::Never
        }
    }
}

/// A host as a request names it, its port apart.
pub(super) struct RequestHost<'a> {
    name: &'a str,
    port: Option<u16>,
}

impl<'a> RequestHost<'a> {
    /// Splits `text` at its port. Text behind the last colon that is no port number stays part of the name.
    pub(super) fn new(text: &'a str) -> Self {
        // An IPv6 address has colons of its own, but ends with a bracket.
        match text.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) if !text.ends_with(']') => Self { name, port: Some(port) },
            _ => Self { name: text, port: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        for (wide, narrow, expected) in [
            ("a.com", "a.com", true),
            ("a.com", "b.com", false),
            ("a.com", "a.com:8080", true),
            ("a.com:8080", "a.com", false),
            ("*.a.com", "b.a.com", true),
            ("*.a.com", "*.b.a.com", true),
            ("*.a.com", "a.com", false),
            ("*.a.com", "ba.com", false),
            ("*.b.a.com", "*.a.com", false),
            ("b.a.com", "*.a.com", false),
            ("*:8080", "b.a.com:8080", true),
            ("*:8080", "b.a.com", false),
        ] {
            let parse = |text| HostPattern::parse(text).expect("a pattern");
            assert_eq!(parse(wide).covers(&parse(narrow)), expected, "{wide} {narrow}");
        }
    }
}
