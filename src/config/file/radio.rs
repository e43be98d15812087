//! `Radio`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigFlag, ConfigText, TimeSpan};

/// Radio stations at `/api/v1/radio`: a list, which is kept in `Database`, and their sound, relayed to any number of
/// listeners over one connection to each station.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Radio {
    /// Whether there is any. Default: `true` where the section is there.
    pub enabled: Option<ConfigFlag>,
    /// Networks besides public addresses at which stations may be, such as `10.1.0.0/16`. Default: none, so that nobody
    /// can have this server ask its own network.
    #[serde(default)]
    pub allowed_networks: Vec<ConfigText>,
    /// Stations that may be listed, 1 to 100000. Default: 1000.
    pub max_stations: Option<u32>,
    /// Stations that this node is connected to at once, 1 to 10000; one beyond them is 503. Default: 100.
    pub max_upstreams: Option<u32>,
    /// Open streams of sound and titles on this node, 1 to 1000000; one beyond them is 503. Default: 10000.
    pub max_listeners: Option<u32>,
    /// Open streams of one user on this node, 1 to 10000; one beyond them is 429. Default: 20.
    pub max_listeners_per_user: Option<u32>,
    /// How long the connection to a station outlives its last listener, `0s` to `1h`. Default: `30s`.
    pub linger: Option<TimeSpan>,
    /// When the listeners of a station that is away are let go, `1s` to `1d`. Default: `2m`.
    pub offline_timeout: Option<TimeSpan>,
    /// How long the addresses that `play` gives open a stream, `1m` to `1d`. Default: `1h`.
    pub ticket_ttl: Option<TimeSpan>,
    /// Directory that administrators may search, which speaks radio-browser's API, such as
    /// `https://all.api.radio-browser.info`. Default: none.
    pub directory: Option<ConfigText>,
    /// Name under which DNS has the mirrors of the directory (SRV records), such as `_api._tcp.radio-browser.info`. Default:
    /// none; they are asked of the directory itself.
    pub directory_service: Option<ConfigText>,
    /// DNS server that is asked for `DirectoryService`, such as `10.0.0.53` or `10.0.0.53:5353`. Default: those of
    /// `/etc/resolv.conf`.
    pub directory_dns_server: Option<ConfigText>,
    /// Whether it is published who begins and ends to hear which station; needs `Events`. Default: `false`.
    pub publish_events: Option<ConfigFlag>,
    /// The topic of these events. Default: `radio.events`.
    pub events_topic: Option<ConfigText>,
}
