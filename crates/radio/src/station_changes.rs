//! Changes of the list: stations are added, changed and deleted, and whoever listens to one that is no longer the same is let go.

use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use super::Error;
use super::metrics::StreamEnd;
use super::relay::upstream_task;
use super::service::RadioService;
use super::source::audio_format::AudioCodec;
use super::source::text::plain_text;
use super::source::{OpenedStation, SourceError, open_station};
use super::station::Station;
use super::station_store::StationUpdate;
use primitives::ids::UserId;

/// Station that is to be listed.
pub struct NewStation {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: Url,
    /// Its genre.
    pub genre: Option<String>,
    /// Its country.
    pub country: Option<String>,
    /// Station that is heard in its place while it is away.
    pub fallback: Option<Uuid>,
    /// Its id in the directory, which is told of it.
    pub directory_id: Option<Uuid>,
}

impl RadioService {
    /// Adds a station, which must be heard now.
    pub async fn add(&self, new: NewStation, by: &UserId) -> Result<Station, Error> {
        let NewStation { name, url, genre, country, fallback, directory_id } = new;
        if self.0.store.count().await? >= u64::from(self.0.settings.max_stations) {
            return Err(Error::TooManyStations(self.0.settings.max_stations));
        }
        if self.0.store.is_listed(&url, url.as_str(), None).await? {
            return Err(Error::Duplicate);
        }
        let opened = self.connect(&url).await?;
        if let Some(fallback) = fallback {
            self.check_fallback(fallback, opened.format.codec).await?;
        }
        let resolved_url = opened.resolved_url.as_str().to_owned();
        if self.0.store.is_listed(&url, &resolved_url, None).await? {
            return Err(Error::Duplicate);
        }
        let station = Station {
            id: Uuid::now_v7(),
            name,
            url,
            resolved_url,
            genre,
            country,
            codec: opened.format.codec,
            bitrate_kbps: opened.format.bitrate_kbps,
            is_hls: opened.is_hls,
            icy_name: station_name(opened.name),
            fallback,
            created_at: self.now(),
        };
        if !self.0.store.add(&station, by).await? {
            return Err(Error::Duplicate);
        }
        self.tell_directory(directory_id);
        Ok(station)
    }

    /// Changes a station. Under another address it must be heard now, and its listeners' streams end: whoever comes again
    /// hears the new one. Under the same address it may be away.
    pub async fn update(&self, id: Uuid, new: NewStation) -> Result<Station, Error> {
        let before = self.station(id).await?;
        let NewStation { name, url, genre, country, fallback, directory_id } = new;
        let is_moved = url != before.url;
        let mut station = Station { name, genre, country, fallback, ..before };
        if is_moved {
            station = self.moved(station, url).await?;
        }
        if fallback == Some(id) {
            return Err(Error::Invalid("`fallback_id` must be the id of another station".to_owned()));
        }
        if let Some(fallback) = fallback {
            self.check_fallback(fallback, station.codec).await?;
        }
        match self.0.store.update(&station).await? {
            StationUpdate::Updated => {}
            StationUpdate::Missing => return Err(Error::NoSuchStation),
            StationUpdate::Duplicate => return Err(Error::Duplicate),
        }
        if is_moved {
            self.end_relay(id, StreamEnd::Moved);
        }
        self.tell_directory(directory_id);
        Ok(station)
    }

    /// Returns a station as it is under another address, which is listed nowhere else.
    async fn moved(&self, station: Station, url: Url) -> Result<Station, Error> {
        if self.0.store.is_listed(&url, url.as_str(), Some(station.id)).await? {
            return Err(Error::Duplicate);
        }
        let opened = self.connect(&url).await?;
        let resolved_url = opened.resolved_url.as_str().to_owned();
        if self.0.store.is_listed(&url, &resolved_url, Some(station.id)).await? {
            return Err(Error::Duplicate);
        }
        Ok(Station {
            url,
            resolved_url,
            codec: opened.format.codec,
            bitrate_kbps: opened.format.bitrate_kbps,
            is_hls: opened.is_hls,
            icy_name: station_name(opened.name),
            ..station
        })
    }

    async fn connect(&self, url: &Url) -> Result<OpenedStation, Error> {
        let opened = timeout(upstream_task::OPEN_TIMEOUT, open_station(&self.0.client, url)).await;
        opened.unwrap_or(Err(SourceError::TimedOut)).map_err(Error::Refused)
    }

    /// Tells the directory that a station of it was chosen; nobody waits for it.
    fn tell_directory(&self, id: Option<Uuid>) {
        if let (Some(directory), Some(id)) = (self.0.directory.clone(), id) {
            self.0.tasks.spawn(async move { directory.count_click(id).await });
        }
    }

    async fn check_fallback(&self, id: Uuid, codec: AudioCodec) -> Result<(), Error> {
        let refused = |text: &str| Err(Error::Invalid(text.to_owned()));
        match self.0.store.get(id).await? {
            None => refused("`fallback_id` must be the id of a listed station"),
            Some(fallback) if fallback.codec != codec => refused(
                "the station of `fallback_id` has another codec: listeners could not go on from the one to the other",
            ),
            Some(_) => Ok(()),
        }
    }

    /// Deletes a station; its listeners' streams end.
    pub async fn delete(&self, id: Uuid) -> Result<(), Error> {
        if !self.0.store.delete(id).await? {
            return Err(Error::NoSuchStation);
        }
        self.end_relay(id, StreamEnd::Deleted);
        self.close_board(id);
        Ok(())
    }

    /// Ends the streams of a station at this node; other nodes look at the list themselves.
    fn end_relay(&self, id: Uuid, end: StreamEnd) {
        // Its task finds nobody any more, and ends.
        let relay = self.0.relays.lock().get(&id).cloned();
        relay.into_iter().for_each(|relay| relay.end(end));
    }
}

/// Returns the name that a station gives itself, as plain text.
fn station_name(name: Option<String>) -> Option<String> {
    name.map(|name| plain_text(&name)).filter(|name| !name.is_empty())
}
