//! `RouteMatch.Hosts`: exact names, `*.example.com`, ports.

use std::cmp::Reverse;

use url::Host;

/// One of a route's hosts: `example.com`, `*.example.com` (its subdomains, at any depth), `*:8080`, each with or without
/// a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    name: HostNamePattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostNamePattern {
    Exact(String),
    /// With its first dot.
    Subdomains(String),
    Any,
}

/// Why a text is not a host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a host; expected one such as `example.com`, `*.example.com` or `example.com:8443`")]
pub struct InvalidHostPattern {
    text: String,
}

impl HostPattern {
    /// Reads a host pattern. International names may be written in either form.
    pub fn parse(text: &str) -> Result<Self, InvalidHostPattern> {
        let bad = || InvalidHostPattern { text: text.to_owned() };
        let sent = RequestHost::new(text);
        let ascii = |name: &str| match Host::parse(name) {
            Ok(host) if !name.contains('*') => Ok(host.to_string()),
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

    /// Whether the host that a request names is one of these.
    pub(super) fn accepts(&self, sent: &RequestHost<'_>) -> bool {
        let name = match &self.name {
            HostNamePattern::Exact(name) => sent.name.eq_ignore_ascii_case(name),
            HostNamePattern::Subdomains(suffix) => sent.name.len().checked_sub(suffix.len()).is_some_and(|start| {
                start > 0 && sent.name.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes())
            }),
            HostNamePattern::Any => true,
        };
        // A client leaves its scheme's own port out.
        name && self.port.is_none_or(|port| sent.port.map_or(port == 80 || port == 443, |sent| sent == port))
    }

    /// The smaller is tried first: exact, then the longest wildcard, then none; with a port before without.
    pub(super) fn rank(host: Option<&Self>) -> impl Ord + use<> {
        let Some(host) = host else { return (2, Reverse(0), true) };
        let (class, length) = match &host.name {
            HostNamePattern::Exact(_) => (0, 0),
            HostNamePattern::Subdomains(suffix) => (1, suffix.len()),
            HostNamePattern::Any => (1, 0),
        };
        (class, Reverse(length), host.port.is_none())
    }

    /// Whether two of the same rank can name the same host.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let default = |port: Option<u16>| matches!(port, Some(80 | 443));
        self.name == other.name && (self.port == other.port || default(self.port) && default(other.port))
    }
}

/// A host as a request names it, its port apart.
pub(super) struct RequestHost<'a> {
    name: &'a str,
    port: Option<u16>,
}

impl<'a> RequestHost<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // An IPv6 address has colons of its own, but ends with a bracket.
        match text.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) if !text.ends_with(']') => Self { name, port: Some(port) },
            _ => Self { name: text, port: None },
        }
    }
}
