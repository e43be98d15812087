//! Directory of stations: the API that the servers of radio-browser.info publish. Any of its mirrors answers alike: they are
//! found through its list, as far as they are of its own domain, and tried one after another.

use std::time::Duration;

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use url::{Host, Url};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Error;
use super::source::client::{StationClient, StationLink};
use super::source::text::plain_text;
use super::source::{SourceError, parse_station_url};
use primitives::clock::monotonic_now;

/// Largest answer, in bytes: a hundred stations have some 150 KB.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Timeout of one mirror.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(5);
/// Most mirrors that are asked in one search.
const MAX_MIRRORS: usize = 3;
/// Most mirrors that are read of the list.
const MAX_LISTED_MIRRORS: usize = 32;
/// Time for which the list of mirrors is used.
const MIRRORS_TTL: Duration = Duration::from_secs(3600);

/// The directory.
pub struct StationDirectory {
    base: StationLink,
    client: StationClient,
    mirrors: Mutex<Option<(Instant, Vec<StationLink>)>>,
}

/// Search for stations.
#[derive(Clone, Debug, Default)]
pub struct DirectorySearch {
    /// Piece of the name.
    pub name: Option<String>,
    /// Tag.
    pub genre: Option<String>,
    /// Country's code (ISO 3166-1 alpha-2), or its name.
    pub country: Option<String>,
    /// Entries that are passed over.
    pub offset: u32,
    /// Most entries.
    pub limit: u32,
}

/// Station of the directory.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DirectoryEntry {
    /// Its id in the directory.
    #[schema(value_type = String)]
    directory_id: Uuid,
    name: String,
    url: String,
    codec: Option<String>,
    bitrate_kbps: Option<u32>,
    hls: bool,
    genre: Option<String>,
    country: Option<String>,
    homepage: Option<String>,
    votes: u64,
    clicks: u64,
}

/// Station as the servers write it; what they add is passed over.
#[derive(Deserialize)]
struct RawStation {
    stationuuid: Uuid,
    name: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    url_resolved: String,
    #[serde(default)]
    homepage: String,
    #[serde(default)]
    tags: String,
    #[serde(default)]
    countrycode: String,
    #[serde(default)]
    codec: String,
    #[serde(default)]
    bitrate: u32,
    #[serde(default)]
    hls: u8,
    #[serde(default)]
    votes: i64,
    #[serde(default)]
    clickcount: i64,
}

#[derive(Deserialize)]
struct RawServer {
    name: String,
}

impl DirectorySearch {
    /// Returns the path and the query of the search.
    fn target(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let country = self.country.as_deref();
        let is_code = country.is_some_and(|country| country.len() == 2);
        let pairs = [
            ("name", self.name.as_deref()),
            ("tag", self.genre.as_deref()),
            ("countrycode", country.filter(|_| is_code)),
            ("country", country.filter(|_| !is_code)),
        ];
        query.extend_pairs(pairs.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        query.append_pair("hidebroken", "true").append_pair("order", "clickcount").append_pair("reverse", "true");
        query.append_pair("offset", &self.offset.to_string()).append_pair("limit", &self.limit.to_string());
        format!("/json/stations/search?{}", query.finish())
    }
}

impl StationDirectory {
    /// Creates the directory at `base`.
    pub fn new(base: Url, client: StationClient) -> Self {
        Self { base: StationLink::named(base), client, mirrors: Mutex::default() }
    }

    /// Returns stations that are found; those whose address cannot be a station's are left out. True: there may be more.
    pub async fn search(&self, search: &DirectorySearch) -> Result<(Vec<DirectoryEntry>, bool), Error> {
        let text = self.ask(&search.target()).await?;
        let found: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|_| Error::DirectoryAway)?;
        let more = found.len() >= search.limit as usize;
        // One entry that is none does not spoil the others.
        let entries = found.into_iter().filter_map(|entry| serde_json::from_value(entry).ok().and_then(entry_of));
        Ok((entries.collect(), more))
    }

    /// Tells the directory that a station was chosen; a failure is none of the caller's.
    pub async fn count_click(&self, id: Uuid) {
        if let Err(error) = self.ask(&format!("/json/url/{id}")).await {
            tracing::debug!(%error, "the directory of stations could not be told of a choice");
        }
    }

    /// Asks the mirrors in any order, so that each has its share.
    async fn ask(&self, target: &str) -> Result<String, Error> {
        let mirrors = shuffled(self.mirrors().await);
        self.ask_in_order(&mirrors, target).await
    }

    /// Asks one mirror after another until one answers.
    async fn ask_in_order(&self, mirrors: &[StationLink], target: &str) -> Result<String, Error> {
        let links = mirrors.iter().filter_map(|mirror| Some(mirror.to(mirror.url.join(target).ok()?)));
        for link in links.take(MAX_MIRRORS) {
            match timeout(MIRROR_TIMEOUT, self.client.get_text(&link, MAX_ANSWER_BYTES)).await {
                Ok(Ok((_, text))) => return Ok(text),
                Ok(Err(SourceError::TooLarge)) => break,
                Ok(Err(_)) | Err(_) => {}
            }
        }
        // The list may be old.
        self.forget_mirrors();
        Err(Error::DirectoryAway)
    }

    fn known_mirrors(&self, now: Instant) -> Option<Vec<StationLink>> {
        let known = self.mirrors.lock();
        let (_, mirrors) = known.as_ref().filter(|(since, _)| now.duration_since(*since) < MIRRORS_TTL)?;
        Some(mirrors.clone())
    }

    fn forget_mirrors(&self) {
        *self.mirrors.lock() = None;
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

    /// Returns the mirrors: as the directory lists them, else its own address.
    async fn mirrors(&self) -> Vec<StationLink> {
        let now = Instant::from_std(monotonic_now());
        if let Some(mirrors) = self.known_mirrors(now) {
            return mirrors;
        }
        let Ok(list) = self.base.url.join("/json/servers") else { return vec![self.base.clone()] };
        let list = self.base.to(list);
        let Ok(Ok((list, text))) = timeout(MIRROR_TIMEOUT, self.client.get_text(&list, MAX_ANSWER_BYTES)).await else {
            return vec![self.base.clone()];
        };
        let listed: Vec<RawServer> = serde_json::from_str(&text).unwrap_or_default();
        let mut mirrors: Vec<StationLink> = Vec::new();
        for server in listed.into_iter().take(MAX_LISTED_MIRRORS) {
            let mut mirror = list.to(self.base.url.clone());
            let is_host = mirror.url.set_host(Some(&server.name)).is_ok();
            if is_host && self.may_be_mirror(&mirror.url) && !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
        if mirrors.is_empty() {
            return vec![self.base.clone()];
        }
        *self.mirrors.lock() = Some((now, mirrors.clone()));
        mirrors
    }
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

fn shuffled(mut mirrors: Vec<StationLink>) -> Vec<StationLink> {
    mirrors.shuffle(&mut rand::rng());
    mirrors
}

fn entry_of(raw: RawStation) -> Option<DirectoryEntry> {
    let text = |text: &str| Some(plain_text(text)).filter(|text| !text.is_empty());
    // As it was entered: it follows the station when that moves. The resolved one is for those that follow no playlist.
    let url = parse_station_url(&raw.url).or_else(|_| parse_station_url(&raw.url_resolved)).ok()?;
    Some(DirectoryEntry {
        directory_id: raw.stationuuid,
        name: text(&raw.name)?,
        url: url.into(),
        codec: text(&raw.codec).map(|codec| codec.to_ascii_lowercase()),
        bitrate_kbps: Some(raw.bitrate).filter(|kbps| *kbps > 0),
        hls: raw.hls != 0,
        genre: raw.tags.split(',').next().and_then(text),
        country: text(&raw.countrycode),
        homepage: parse_station_url(&raw.homepage).ok().map(String::from),
        votes: u64::try_from(raw.votes).unwrap_or_default(),
        clicks: u64::try_from(raw.clickcount).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::source::address_policy::AddressPolicy;

    #[tokio::test]
    async fn another_mirror_is_asked_where_one_does_not_answer() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let asked = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a whole head"));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await.expect("it is read");
            String::from_utf8(head).expect("text")
        };
        let url = |host: &str| Url::parse(&format!("http://{host}:{port}/")).expect("a URL");
        let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")]);
        let directory = StationDirectory::new(url("127.0.0.1"), StationClient::new(policy));
        // Nobody listens at the first one.
        let mirrors = ["127.0.0.3", "127.0.0.1"].map(|host| StationLink::named(url(host)));
        let (found, asked) = tokio::join!(directory.ask_in_order(&mirrors, "/json/stations/search"), asked);
        assert_eq!(found.as_deref(), Ok("[]"));
        assert!(asked.starts_with("GET /json/stations/search "));
        assert_eq!(directory.ask_in_order(&mirrors[..1], "/x").await, Err(Error::DirectoryAway));
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
            let policy = AddressPolicy::new(vec!["127.0.0.3/32".parse().expect("a network")]);
            let base = Url::parse(&format!("https://{base}/")).expect("a URL");
            let mut mirror = base.clone();
            mirror.set_host(Some(name)).expect("a host");
            let directory = StationDirectory::new(base.clone(), StationClient::new(policy));
            assert_eq!(directory.may_be_mirror(&mirror), expected, "{name} of {base}");
        }
    }
}
