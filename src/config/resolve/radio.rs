//! Section `Radio`.

use std::sync::Arc;
use std::time::Duration;

use super::playback::PlaybackSections;
use super::{ConfigLocation, events, http_url};
use crate::config::file;
use crate::config::report::ConfigProblem;
use http_semantics::client_ip::parse_network;
use radio::settings::Settings;

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
    let directory = raw.directory.as_ref().map(|text| {
        let expected = "an address such as https://all.api.radio-browser.info";
        at.key("Directory").parse(text, expected, http_url)
    });
    let events_topic = events_topic(at, raw, sections.events);
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
        directory: directory.map_or(Some(None), |directory| directory.map(Some))?,
        events_topic: events_topic?,
        ..default
    }))
}

/// Resolves the topic of events; `Some(None)` if there are none.
fn events_topic(at: &ConfigLocation<'_>, raw: &file::Radio, has_events: bool) -> Option<Option<Arc<str>>> {
    let topic = raw.events_topic.as_ref().map(|text| events::topic(&at.key("EventsTopic"), text));
    if !raw.publish_events.is_some_and(|flag| flag.0) {
        return topic.is_none_or(|topic| topic.is_some()).then_some(None);
    }
    if !has_events {
        events::report_missing(&at.key("PublishEvents"));
        return None;
    }
    Some(Some(topic.unwrap_or_else(|| Some(EVENTS_TOPIC.to_owned()))?.into()))
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
