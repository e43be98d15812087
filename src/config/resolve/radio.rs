//! Section `Radio`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::playback::PlaybackSections;
use super::{ConfigLocation, events, http_url};
use crate::config::file;
use crate::config::report::ConfigProblem;
use http_semantics::client_ip::parse_network;
use radio::settings::{DirectorySettings, ServiceName, Settings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Topic of events where none is named.
const EVENTS_TOPIC: &str = "radio.events";

/// Resolves radio; `Some(None)` if there is none.
pub fn radio(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Radio>,
    sections: PlaybackSections,
) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let default = Settings::default();
    let networks = at.key("AllowedNetworks").each(&raw.allowed_networks, |at, text| {
        at.parse(text, "a network or an address, such as 10.1.0.0/16", parse_network)
    });
    let stations = number(at, "MaxStations", raw.max_stations, default.max_stations as usize, 100_000);
    let upstreams = number(at, "MaxUpstreams", raw.max_upstreams, default.max_upstreams, 10_000);
    let listeners = number(at, "MaxListeners", raw.max_listeners, default.max_listeners, 1_000_000);
    let per_user = default.max_listeners_per_user;
    let per_user = number(at, "MaxListenersPerUser", raw.max_listeners_per_user, per_user, 10_000);
    let linger = at.key("Linger").span(raw.linger, default.linger, Duration::ZERO, HOUR);
    let offline = at.key("OfflineTimeout").span(raw.offline_timeout, default.offline_timeout, SECOND, DAY);
    let ttl = at.key("TicketTtl").span(raw.ticket_ttl, default.ticket_ttl, MINUTE, DAY);
    let directory = directory(at, raw);
    let (publishes, topic) = (raw.publish_events, raw.events_topic.as_ref());
    let events_topic = events::module_topic(at, (publishes, topic), EVENTS_TOPIC, sections.events);
    if !sections.database {
        let problem = ConfigProblem::new("there is no database to keep stations in");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
        return None;
    }
    Some(Some(Settings {
        allowed_networks: networks?,
        max_stations: u32::try_from(stations?).ok()?,
        max_upstreams: upstreams?,
        max_listeners: listeners?,
        max_listeners_per_user: per_user?,
        linger: linger?,
        offline_timeout: offline?,
        ticket_ttl: ttl?,
        directory: directory?,
        events_topic: events_topic?,
        ..default
    }))
}

/// Resolves the directory of stations; `Some(None)` if there is none.
fn directory(at: &ConfigLocation<'_>, raw: &file::Radio) -> Option<Option<DirectorySettings>> {
    let service = raw.directory_service.as_ref().map(|text| {
        let expected = "a service in DNS, such as _api._tcp.radio-browser.info";
        at.key("DirectoryService").parse(text, expected, ServiceName::parse)
    });
    let dns_server = raw.directory_dns_server.as_ref().map(|text| {
        let expected = "an address, with a port or without, such as 10.0.0.53:53";
        at.key("DirectoryDnsServer").parse(text, expected, dns_server)
    });
    if service.is_none() && dns_server.is_some() {
        let problem = ConfigProblem::new("there is no name that a DNS server is asked for");
        at.key("DirectoryDnsServer").report(problem.help("add `DirectoryService: _api._tcp.radio-browser.info`"));
        return None;
    }
    let Some(text) = &raw.directory else {
        if service.is_some() {
            let problem = ConfigProblem::new("there is no directory that it has the mirrors of");
            let help = "add `Directory: \"https://all.api.radio-browser.info\"`";
            at.key("DirectoryService").report(problem.help(help));
            return None;
        }
        return Some(None);
    };
    let expected = "an address such as https://all.api.radio-browser.info";
    let url = at.key("Directory").parse(text, expected, http_url);
    let (service, dns_server) =
        (service.map_or(Some(None), |it| it.map(Some)), dns_server.map_or(Some(None), |it| it.map(Some)));
    Some(Some(DirectorySettings { url: url?, service: service?, dns_server: dns_server? }))
}

/// Parses the address of a DNS server, whose port is 53 unless it says otherwise (RFC 1035 §4.2).
fn dns_server(text: &str) -> Option<SocketAddr> {
    let with_port = text.parse().ok();
    with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53))).filter(|address| address.port() != 0)
}

fn number(at: &ConfigLocation<'_>, key: &str, raw: Option<u32>, default: usize, most: usize) -> Option<usize> {
    let value = raw.map_or(default, |value| value as usize);
    if !(1..=most).contains(&value) {
        let problem = ConfigProblem::new(format!("{value} is out of range"));
        at.key(key).report(problem.expected(format!("1 to {most}")));
        return None;
    }
    Some(value)
}
