//! Settings of radio.

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
    pub directory: Option<Url>,
    /// Topic of events of listening, where there are any.
    pub events_topic: Option<Arc<str>>,
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
