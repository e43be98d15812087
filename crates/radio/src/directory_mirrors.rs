//! Mirrors of the directory: as DNS names them, where that is configured, else as the directory lists them itself. They must be
//! of its own domain, and are asked one after another, in the order of their priorities and by chance within one.

use std::time::Duration;

use rand::Rng;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use super::directory::{MAX_ANSWER_BYTES, MIRROR_TIMEOUT};
use super::service_lookup::{ServiceLookup, ServiceTarget};
use super::source::client::{StationClient, StationLink};
use primitives::clock::monotonic_now;

/// Most mirrors that are read of the list.
const MAX_LISTED_MIRRORS: usize = 32;
/// Time for which the mirrors that were found are used.
const MIRRORS_TTL: Duration = Duration::from_secs(3600);
/// The same where DNS should have named them and did not, or nothing has named any.
const STOPGAP_TTL: Duration = Duration::from_secs(60);
/// Most mirrors that are asked in one search, before the directory itself is.
const MAX_MIRRORS: usize = 3;
/// Weight of a mirror of weight 0 among others: small, and larger than nothing (RFC 2782).
const LEAST_WEIGHT: f64 = 0.01;

/// The mirrors.
pub struct DirectoryMirrors {
    base: StationLink,
    client: StationClient,
    service: Option<ServiceLookup>,
    /// What was found, and until when it is used. Locked while it is looked up: all who search wait for one lookup.
    known: Mutex<Option<(Instant, Vec<Mirror>)>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Mirror {
    link: StationLink,
    priority: u16,
    weight: u16,
}

#[derive(Deserialize)]
struct RawServer {
    name: String,
}

impl DirectoryMirrors {
    /// Creates the mirrors of the directory at `base`, which `service` names, if there is one.
    pub fn new(base: Url, service: Option<ServiceLookup>, client: StationClient) -> Self {
        Self { base: StationLink::named(base), client, service, known: Mutex::default() }
    }

    /// Returns those that are to be asked this time, in their order, the directory itself as the last one.
    pub async fn in_order(&self) -> Vec<StationLink> {
        let mut links: Vec<StationLink> = chosen(ordered(self.find().await)).into_iter().map(|it| it.link).collect();
        if !links.contains(&self.base) {
            links.push(self.base.clone());
        }
        links
    }

    /// Forgets them: what was found may be old.
    pub async fn forget(&self) {
        *self.known.lock().await = None;
    }

    /// Returns the mirrors: as DNS names them, else as the directory lists them; none where nobody says.
    async fn find(&self) -> Vec<Mirror> {
        let mut known = self.known.lock().await;
        let now = Instant::from_std(monotonic_now());
        if let Some((_, mirrors)) = known.as_ref().filter(|(until, _)| now < *until) {
            return mirrors.clone();
        }
        let mut mirrors = match &self.service {
            Some(service) => self.named(service.find().await),
            None => Vec::new(),
        };
        let mut is_stopgap = self.service.is_some() && mirrors.is_empty();
        if mirrors.is_empty() {
            mirrors = self.listed().await;
            is_stopgap |= mirrors.is_empty();
        }
        *known = Some((now + if is_stopgap { STOPGAP_TTL } else { MIRRORS_TTL }, mirrors.clone()));
        mirrors
    }

    /// Returns the mirrors that DNS names, each once, with the scheme of their port, else that of the directory. DNS that is not
    /// the operator's own leads into no internal network.
    fn named(&self, targets: Vec<ServiceTarget>) -> Vec<Mirror> {
        let has_own_dns = self.service.as_ref().is_some_and(ServiceLookup::has_own_server);
        let mut mirrors: Vec<Mirror> = Vec::new();
        for target in targets {
            let mut link = StationLink { may_be_internal: has_own_dns, ..self.base.clone() };
            let is_set = link.url.set_host(Some(&target.host)).is_ok()
                && match target.port {
                    443 => link.url.set_scheme("https").is_ok(),
                    80 => link.url.set_scheme("http").is_ok(),
                    _ => true,
                }
                && link.url.set_port(Some(target.port)).is_ok();
            let is_new = mirrors.iter().all(|known| known.link != link);
            if is_set && is_new && self.may_be_mirror(&link.url) {
                mirrors.push(Mirror { link, priority: target.priority, weight: target.weight });
            }
        }
        mirrors
    }

    /// Returns the mirrors that the directory lists.
    async fn listed(&self) -> Vec<Mirror> {
        let Ok(list) = self.base.url.join("/json/servers") else { return Vec::new() };
        let list = self.base.to(list);
        let answer = timeout(MIRROR_TIMEOUT, self.client.get_text(&list, MAX_ANSWER_BYTES)).await;
        let Ok(Ok((list, text))) = answer else { return Vec::new() };
        let listed: Vec<RawServer> = serde_json::from_str(&text).unwrap_or_default();
        let mut mirrors: Vec<Mirror> = Vec::new();
        for server in listed.into_iter().take(MAX_LISTED_MIRRORS) {
            let mut link = list.to(self.base.url.clone());
            let is_host = link.url.set_host(Some(&server.name)).is_ok();
            let mirror = Mirror { link, priority: 0, weight: 0 };
            if is_host && self.may_be_mirror(&mirror.link.url) && !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
        mirrors
    }

    /// Returns true where `url` is in the domain of the configured address: whoever answers for that could else have any host
    /// asked in its place. An address that is no name has no domain: its mirrors are those that the operator allows.
    fn may_be_mirror(&self, url: &Url) -> bool {
        match (self.base.url.host(), url.host()) {
            (base, host) if base == host => true,
            (Some(Host::Domain(base)), Some(Host::Domain(name))) => is_in_domain(name, directory_domain(base)),
            (Some(Host::Ipv4(_) | Host::Ipv6(_)), Some(Host::Ipv4(address))) => {
                self.client.policy().allows(address.into())
            }
            (Some(Host::Ipv4(_) | Host::Ipv6(_)), Some(Host::Ipv6(address))) => {
                self.client.policy().allows(address.into())
            }
            _ => false,
        }
    }
}

/// Returns the mirrors by their priorities; of those of one priority each is first as often as its weight says (RFC 2782), by the
/// smallest of exponential random numbers.
fn ordered(mirrors: Vec<Mirror>) -> Vec<Mirror> {
    let mut random = rand::rng();
    let mut keyed: Vec<(u16, f64, Mirror)> = mirrors
        .into_iter()
        .map(|mirror| {
            let weight = f64::from(mirror.weight).max(LEAST_WEIGHT);
            // Of (0, 1], so that the logarithm is a number.
            let uniform = 1.0 - random.random::<f64>();
            (mirror.priority, -uniform.ln() / weight, mirror)
        })
        .collect();
    keyed.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    keyed.into_iter().map(|(_, _, mirror)| mirror).collect()
}

/// Returns those that are asked of `mirrors`, which are in order: the first ones, but the first of a later priority among them,
/// since a whole priority may be away.
fn chosen(mirrors: Vec<Mirror>) -> Vec<Mirror> {
    let first = mirrors.first().map(|mirror| mirror.priority);
    let later = mirrors.iter().position(|mirror| Some(mirror.priority) != first);
    let last = later.unwrap_or(0).max(MAX_MIRRORS - 1);
    let is_chosen = |at: usize| at < MAX_MIRRORS - 1 || at == last;
    mirrors.into_iter().enumerate().filter(|(at, _)| is_chosen(*at)).map(|(_, mirror)| mirror).collect()
}

/// Returns the domain that the mirrors of a directory have in common: `api.radio-browser.info` of
/// `all.api.radio-browser.info`. Of a name of three labels or fewer it is the name itself: above it may be other owners.
fn directory_domain(name: &str) -> &str {
    let name = name.trim_end_matches('.');
    name.split_once('.').map(|(_, rest)| rest).filter(|rest| rest.matches('.').count() > 1).unwrap_or(name)
}

fn is_in_domain(name: &str, domain: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::address_policy::AddressPolicy;

    fn mirrors_of(base: &str) -> DirectoryMirrors {
        let policy = AddressPolicy::new(vec!["127.0.0.3/32".parse().expect("a network")]);
        DirectoryMirrors::new(Url::parse(base).expect("a URL"), None, StationClient::new(policy))
    }

    fn target(host: &str, port: u16, priority: u16, weight: u16) -> ServiceTarget {
        ServiceTarget { host: host.to_owned(), port, priority, weight }
    }

    #[test]
    fn mirrors_are_of_the_configured_domain() {
        for (base, name, expected) in [
            ("all.api.radio-browser.info", "de1.api.radio-browser.info", true),
            ("all.api.radio-browser.info", "all.api.radio-browser.info", true),
            ("all.api.radio-browser.info", "api.radio-browser.info", true),
            ("all.api.radio-browser.info", "radio-browser.info", false),
            ("all.api.radio-browser.info", "evil-api.radio-browser.info.example", false),
            ("all.api.radio-browser.info", "evilapi.radio-browser.info", false),
            ("all.api.radio-browser.info", "metadata.google.internal", false),
            ("all.api.radio-browser.info", "10.0.0.1", false),
            ("radio.example", "a.radio.example", true),
            ("radio.co.uk", "a.radio.co.uk", true),
            ("radio.co.uk", "other.co.uk", false),
            ("radio.example", "other.example", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.3", true),
            ("127.0.0.1", "127.0.0.4", false),
            ("127.0.0.1", "8.8.8.8", false),
            ("127.0.0.1", "de1.api.radio-browser.info", false),
        ] {
            let mirrors = mirrors_of(&format!("https://{base}/"));
            let mut mirror = mirrors.base.url.clone();
            mirror.set_host(Some(name)).expect("a host");
            assert_eq!(mirrors.may_be_mirror(&mirror), expected, "{name} of {base}");
        }
    }

    #[test]
    fn servers_that_dns_names_are_mirrors_where_they_are_of_the_directorys_domain() {
        let named = mirrors_of("https://all.api.radio-browser.info").named(vec![
            target("de1.api.radio-browser.info", 443, 0, 0),
            target("nl1.api.radio-browser.info", 8443, 1, 5),
            target("metadata.google.internal", 443, 0, 0),
            target("169.254.169.254", 80, 0, 0),
            target("two words", 443, 0, 0),
        ]);
        let seen: Vec<_> = named.iter().map(|it| (it.link.url.as_str(), it.priority, it.weight)).collect();
        let expected =
            [("https://de1.api.radio-browser.info/", 0, 0), ("https://nl1.api.radio-browser.info:8443/", 1, 5)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn mirrors_are_asked_by_priority_and_within_one_as_often_as_their_weights_say() {
        let mirrors = mirrors_of("https://a.b.radio.example").named(vec![
            target("last.b.radio.example", 443, 2, 60_000),
            target("seldom.b.radio.example", 443, 1, 0),
            target("often.b.radio.example", 443, 1, 30),
            target("less.b.radio.example", 443, 1, 10),
        ]);
        let mut first = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..4000 {
            let order = ordered(mirrors.clone());
            assert_eq!(order[3].priority, 2, "whatever its weight");
            *first.entry(order[0].link.url.host_str().expect("a name").to_owned()).or_default() += 1;
        }
        // Of 4,000 some 3,000 and 1,000; eight standard deviations are 220.
        assert!((2700..3300).contains(&first["often.b.radio.example"]), "{first:?}");
        assert!((700..1300).contains(&first["less.b.radio.example"]), "{first:?}");
        let alike = mirrors_of("https://a.b.radio.example")
            .named((1..=4).map(|number| target(&format!("m{number}.b.radio.example"), 443, 0, 0)).collect());
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..200 {
            first.insert(ordered(alike.clone())[0].link.url.to_string());
        }
        assert_eq!(first.len(), 4, "each has its share where none has a weight");
    }

    #[test]
    fn of_many_mirrors_the_first_are_asked_and_one_of_a_later_priority() {
        let all = |priorities: &[u16]| {
            let named = priorities.iter().enumerate();
            let named = named.map(|(at, priority)| target(&format!("m{at}.b.radio.example"), 443, *priority, 0));
            let mirrors = mirrors_of("https://a.b.radio.example").named(named.collect());
            let hosts = chosen(mirrors).into_iter().map(|it| it.link.url.host_str().expect("a name")[1..2].to_owned());
            hosts.collect::<Vec<_>>().concat()
        };
        for (priorities, expected) in [
            (&[][..], ""),
            (&[1], "0"),
            (&[1, 2], "01"),
            (&[1, 1, 1, 1], "012"),
            (&[1, 1, 1, 1, 2], "014"),
            (&[1, 2, 3, 4], "012"),
        ] {
            assert_eq!(all(priorities), expected, "{priorities:?}");
        }
    }

    #[test]
    fn the_scheme_is_that_of_the_port_each_is_there_once_and_none_leads_inside() {
        let base = mirrors_of("http://a.b.radio.example");
        let named = base.named(vec![
            target("m1.b.radio.example", 443, 0, 0),
            target("m1.b.radio.example", 443, 0, 5),
            target("m2.b.radio.example", 80, 0, 0),
            target("m3.b.radio.example", 8080, 0, 0),
        ]);
        let seen: Vec<_> = named.iter().map(|it| it.link.url.as_str()).collect();
        let expected = ["https://m1.b.radio.example/", "http://m2.b.radio.example/", "http://m3.b.radio.example:8080/"];
        assert_eq!(seen, expected);
        assert!(named.iter().all(|it| !it.link.may_be_internal) && base.base.may_be_internal);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_is_used_for_an_hour_and_a_stopgap_for_a_minute() {
        let mirrors = mirrors_of("http://127.0.0.1:1/");
        let found = mirrors.named(vec![target("127.0.0.3", 2, 0, 0)]);
        *mirrors.known.lock().await = Some((Instant::now() + MIRRORS_TTL, found.clone()));
        assert_eq!(mirrors.find().await, found);
        tokio::time::advance(MIRRORS_TTL).await;
        let itself = std::slice::from_ref(&mirrors.base);
        assert_eq!(mirrors.in_order().await, itself, "asked anew, and nobody answers there");
        let until = mirrors.known.lock().await.as_ref().map(|(until, _)| *until);
        assert!(until.is_some_and(|until| until <= Instant::now() + STOPGAP_TTL), "no search pays for that again soon");
    }
}
