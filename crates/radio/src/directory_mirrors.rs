//! Mirrors of the directory: as DNS names them, where that is configured, else as the directory lists them itself. They must be
//! of its own domain, and are asked one after another, in the order of their priorities and by chance within one.

use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use serde::Deserialize;
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
/// Weight of a mirror of weight 0 among others: small, and larger than nothing (RFC 2782).
const LEAST_WEIGHT: f64 = 0.01;

/// The mirrors.
pub struct DirectoryMirrors {
    base: StationLink,
    client: StationClient,
    service: Option<ServiceLookup>,
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

    /// Returns the mirrors in the order in which they are to be asked this time.
    pub async fn in_order(&self) -> Vec<StationLink> {
        ordered(self.find().await).into_iter().map(|mirror| mirror.link).collect()
    }

    /// Forgets them: what was found may be old.
    pub fn forget(&self) {
        *self.known.lock() = None;
    }

    fn known(&self, now: Instant) -> Option<Vec<Mirror>> {
        let known = self.known.lock();
        let (_, mirrors) = known.as_ref().filter(|(since, _)| now.duration_since(*since) < MIRRORS_TTL)?;
        Some(mirrors.clone())
    }

    /// Returns the mirrors: as DNS names them, as the directory lists them, else its own address.
    async fn find(&self) -> Vec<Mirror> {
        let now = Instant::from_std(monotonic_now());
        if let Some(mirrors) = self.known(now) {
            return mirrors;
        }
        let mut mirrors = match &self.service {
            Some(service) => self.named(service.find().await),
            None => Vec::new(),
        };
        if mirrors.is_empty() {
            mirrors = self.listed().await;
        }
        if mirrors.is_empty() {
            return vec![Mirror { link: self.base.clone(), priority: 0, weight: 0 }];
        }
        *self.known.lock() = Some((now, mirrors.clone()));
        mirrors
    }

    /// Returns the mirrors that DNS names, with the scheme of the directory.
    fn named(&self, targets: Vec<ServiceTarget>) -> Vec<Mirror> {
        let mirrors = targets.into_iter().filter_map(|target| {
            let mut link = self.base.clone();
            link.url.set_host(Some(&target.host)).ok()?;
            link.url.set_port(Some(target.port)).ok()?;
            Some(Mirror { link, priority: target.priority, weight: target.weight })
        });
        mirrors.filter(|mirror| self.may_be_mirror(&mirror.link.url)).collect()
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

    #[tokio::test(start_paused = true)]
    async fn what_was_found_is_used_for_an_hour() {
        let mirrors = mirrors_of("http://127.0.0.1:1/");
        let found = mirrors.named(vec![target("127.0.0.3", 2, 0, 0)]);
        let now = Instant::now();
        *mirrors.known.lock() = Some((now, found.clone()));
        assert_eq!(mirrors.find().await, found);
        tokio::time::advance(MIRRORS_TTL).await;
        assert_eq!(mirrors.find().await[0].link, mirrors.base, "asked anew, and nobody answers there");
    }
}
