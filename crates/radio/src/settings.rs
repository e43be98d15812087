//! Settings of radio.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

/// Bounds and times of stations and their listeners.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Networks besides public addresses at which stations may be.
    pub allowed_networks: Vec<IpNet>,
    /// Most stations that are listed.
    pub max_stations: u32,
    /// Most stations that this node is connected to at once.
    pub max_upstreams: usize,
    /// Most listeners of sound and of titles on this node.
    pub max_listeners: usize,
    /// Most of them of one user.
    pub max_listeners_per_user: usize,
    /// Bytes that a listener gets at once when it begins.
    pub burst_bytes: usize,
    /// Bytes of a station's sound that are kept: a listener that is further behind is dropped.
    pub queue_bytes: usize,
    /// Time for which the connection to a station outlives its last listener.
    pub linger: Duration,
    /// Time without sound after which a station's listeners are let go.
    pub offline_timeout: Duration,
    /// Time within which a ticket opens a stream.
    pub ticket_ttl: Duration,
    /// Directory that is searched, if there is one.
    pub directory: Option<DirectorySettings>,
    /// Topic of events of listening, where there are any.
    pub events_topic: Option<Arc<str>>,
}

/// Directory of stations.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectorySettings {
    /// Its address.
    pub url: Url,
    /// Name under which DNS has its mirrors; where there is none they are asked of the directory.
    pub service: Option<ServiceName>,
    /// DNS server that is asked for them; the system's where there is none.
    pub dns_server: Option<SocketAddr>,
}

/// Name of a service in DNS, such as `_api._tcp.radio-browser.info` (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

impl ServiceName {
    /// Parses a name: the service, its protocol and a domain.
    pub fn parse(text: &str) -> Option<Self> {
        let is_label = |label: &str| {
            let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_known)
        };
        let labels: Vec<&str> = text.split('.').collect();
        let is_service = labels.len() > 2 && labels[..2].iter().all(|label| label.len() > 1 && label.starts_with('_'));
        (is_service && text.len() <= 253 && labels.into_iter().all(is_label)).then(|| Self(text.to_owned()))
    }

    /// Returns its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Settings {
    /// Burst and queue are Icecast's. The other numbers are more than a large site has.
    fn default() -> Self {
        Self {
            allowed_networks: Vec::new(),
            max_stations: 1000,
            max_upstreams: 100,
            max_listeners: 10_000,
            max_listeners_per_user: 20,
            burst_bytes: 64 * 1024,
            queue_bytes: 512 * 1024,
            linger: Duration::from_secs(30),
            offline_timeout: Duration::from_secs(120),
            ticket_ttl: Duration::from_secs(3600),
            directory: None,
            events_topic: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_with_its_protocol_and_domain() {
        for (text, expected) in [
            ("_api._tcp.radio-browser.info", true),
            ("_api._tcp.localhost", true),
            ("_api._tcp", false),
            ("api.tcp.radio-browser.info", false),
            ("_api.tcp.radio-browser.info", false),
            ("_._tcp.radio-browser.info", false),
            ("_api._tcp.radio-browser.info.", false),
            ("_api._tcp.radio browser.info", false),
            ("https://_api._tcp.radio-browser.info", false),
            ("", false),
        ] {
            assert_eq!(ServiceName::parse(text).is_some(), expected, "{text}");
        }
        assert_eq!(ServiceName::parse(&format!("_api._tcp.{}.info", "x".repeat(64))), None);
        assert_eq!(ServiceName::parse(&format!("_api._tcp{}", ".x".repeat(130))), None);
    }
}
