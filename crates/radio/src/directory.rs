//! Directory of stations: the API that the servers of radio-browser.info publish. Any of its mirrors answers alike, so that
//! another one is asked where one does not answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Error;
use super::directory_mirrors::DirectoryMirrors;
use super::service_lookup::ServiceLookup;
use super::settings::DirectorySettings;
use super::source::client::{StationClient, StationLink};
use super::source::text::plain_text;
use super::source::{SourceError, parse_station_url};

/// Largest answer, in bytes: a hundred stations have some 150 KB.
pub(super) const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Timeout of one mirror.
pub(super) const MIRROR_TIMEOUT: Duration = Duration::from_secs(5);

/// The directory.
pub struct StationDirectory {
    client: StationClient,
    mirrors: DirectoryMirrors,
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
    /// Creates the directory.
    pub fn new(settings: DirectorySettings, client: StationClient) -> Self {
        let DirectorySettings { url, service, dns_server } = settings;
        let service = service.map(|name| ServiceLookup::new(name, dns_server));
        Self { mirrors: DirectoryMirrors::new(url, service, client.clone()), client }
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

    async fn ask(&self, target: &str) -> Result<String, Error> {
        self.ask_in_order(&self.mirrors.in_order().await, target).await
    }

    /// Asks one mirror after another until one answers. Where only the last one does, the directory itself, or none, the mirrors
    /// are looked up anew.
    async fn ask_in_order(&self, mirrors: &[StationLink], target: &str) -> Result<String, Error> {
        let links = mirrors.iter().filter_map(|mirror| Some(mirror.to(mirror.url.join(target).ok()?)));
        let (mut is_answered, mut outcome) = (false, Err(Error::DirectoryAway));
        for (at, link) in links.enumerate() {
            match timeout(MIRROR_TIMEOUT, self.client.get_text(&link, MAX_ANSWER_BYTES)).await {
                Ok(Ok((_, text))) => {
                    is_answered |= at + 1 < mirrors.len() || at == 0;
                    outcome = Ok(text);
                    break;
                }
                Ok(Err(SourceError::TooLarge)) => return outcome,
                // It is there, and does not like what it is asked.
                Ok(Err(SourceError::Status(_))) => is_answered = true,
                Ok(Err(_)) | Err(_) => {}
            }
        }
        if !is_answered {
            self.mirrors.forget().await;
        }
        outcome
    }
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
    use url::Url;

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
        let settings = DirectorySettings { url: url("127.0.0.1"), service: None, dns_server: None };
        let directory = StationDirectory::new(settings, StationClient::new(policy));
        // Nobody listens at the first one.
        let mirrors = ["127.0.0.3", "127.0.0.1"].map(|host| StationLink::named(url(host)));
        let (found, asked) = tokio::join!(directory.ask_in_order(&mirrors, "/json/stations/search"), asked);
        assert_eq!(found.as_deref(), Ok("[]"));
        assert!(asked.starts_with("GET /json/stations/search "));
        assert_eq!(directory.ask_in_order(&mirrors[..1], "/x").await, Err(Error::DirectoryAway));
    }
}
