//! Section `Lyrics`.

use std::time::Duration;

use url::Url;

use super::playback::PlaybackSections;
use super::{ConfigLocation, cache, events};
use crate::config::file::{self, LyricsFormat, LyricsSourceName};
use crate::config::report::ConfigProblem;
use crate::config::value::{ConfigText, TimeSpan};
use lyrics::settings::{ServiceSettings, Settings};
use lyrics::sources::LyricsSource;
use lyrics::text::TextFormat;

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);
const LRCLIB: &str = "https://lrclib.net";
const GENIUS: &str = "https://api.genius.com";
/// Topic of events where none is named.
const EVENTS_TOPIC: &str = "lyrics.events";

/// Resolves lyrics; `Some(None)` if there are none.
pub fn lyrics(
    at: &ConfigLocation<'_>,
    raw: Option<&file::Lyrics>,
    sections: PlaybackSections,
) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let default = Settings::default();
    if !sections.database {
        let problem = ConfigProblem::new("there is no database to keep lyrics in");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
    }
    let sources = sources(at, raw);
    let formats = match &raw.formats {
        Some(formats) => distinct(&at.key("Formats"), formats).map(|formats| formats.iter().map(format).collect()),
        None => Some(default.formats),
    };
    let cache_for = at.key("CacheFor").span(raw.cache_for, default.cache_for, SECOND, 30 * DAY);
    let miss_cache_for = at.key("MissCacheFor").span(raw.miss_cache_for, default.miss_cache_for, SECOND, 30 * DAY);
    let max_bytes = cache::size(&at.key("MaxCacheSize"), raw.max_cache_size, default.max_bytes, 1 << 20, 1 << 40);
    let lrclib = raw.lrclib.as_ref().map(|raw| {
        let at = at.key("Lrclib");
        service(&at, raw.url.as_ref(), LRCLIB, raw.timeout)
    });
    let genius = raw.genius.as_ref().map(|raw| {
        let at = at.key("Genius");
        let (token, service) =
            (at.key("Token").secret(&raw.token), service(&at, raw.url.as_ref(), GENIUS, raw.timeout));
        Some(ServiceSettings { token: Some(token?.value), ..service? })
    });
    let (lrclib, genius) = (lrclib.map_or(Some(None), |it| it.map(Some)), genius.map_or(Some(None), |it| it.map(Some)));
    let (publishes, topic) = (raw.publish_events, raw.events_topic.as_ref());
    let events_topic = events::module_topic(at, (publishes, topic), EVENTS_TOPIC, sections.events);
    sections.database.then_some(())?;
    Some(Some(Settings {
        sources: sources?,
        formats: formats?,
        cache_for: cache_for?,
        miss_cache_for: miss_cache_for?,
        max_bytes: max_bytes?,
        lrclib: lrclib?,
        genius: genius?,
        events_topic: events_topic?,
    }))
}

fn sources(at: &ConfigLocation<'_>, raw: &file::Lyrics) -> Option<Vec<LyricsSource>> {
    let is_there = |source: LyricsSourceName| match source {
        LyricsSourceName::Sidecar | LyricsSourceName::Embedded => true,
        LyricsSourceName::Lrclib => raw.lrclib.is_some(),
        LyricsSourceName::Genius => raw.genius.is_some(),
    };
    let Some(named) = &raw.sources else {
        use LyricsSourceName::{Embedded, Genius, Lrclib, Sidecar};
        return Some([Sidecar, Embedded, Lrclib, Genius].into_iter().filter(|it| is_there(*it)).map(source).collect());
    };
    let at = at.key("Sources");
    let checked = at.each(named, |at, named| {
        if !is_there(*named) {
            let name = source(*named).name();
            let problem = ConfigProblem::new(format!("the source {name} is not configured"));
            at.report(
                problem.help("add its section, `Lrclib: {}` or `Genius: { Token: env:GENIUS_TOKEN }`, to `Lyrics`"),
            );
        }
        is_there(*named).then_some(*named)
    })?;
    distinct(&at, &checked).map(|sources| sources.iter().map(|named| source(*named)).collect())
}

/// Returns a list that is not empty and has nothing twice.
fn distinct<'a, T: PartialEq>(at: &ConfigLocation<'_>, list: &'a [T]) -> Option<&'a [T]> {
    let is_twice = list.iter().enumerate().any(|(number, item)| list[..number].contains(item));
    if list.is_empty() || is_twice {
        let what = if list.is_empty() { "the list is empty" } else { "an entry is there twice" };
        at.report(ConfigProblem::new(what).expected("each entry once, and at least one"));
        return None;
    }
    Some(list)
}

fn service(
    at: &ConfigLocation<'_>,
    url: Option<&ConfigText>,
    default: &str,
    timeout: Option<TimeSpan>,
) -> Option<ServiceSettings> {
    let own = ConfigText(default.to_owned());
    let url = at.key("Url").parse(url.unwrap_or(&own), "an http or https URL, such as https://lrclib.net", |text| {
        let url = Url::parse(text).ok()?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_base = url.has_host() && url.query().is_none() && url.fragment().is_none();
        (matches!(url.scheme(), "http" | "https") && is_plain && is_base).then_some(url)
    });
    let least = Duration::from_millis(100);
    let timeout = at.key("Timeout").span(timeout, ServiceSettings::TIMEOUT, least, 30 * SECOND);
    Some(ServiceSettings { url: url?, timeout: timeout?, token: None })
}

fn source(named: LyricsSourceName) -> LyricsSource {
    match named {
        LyricsSourceName::Sidecar => LyricsSource::Sidecar,
        LyricsSourceName::Embedded => LyricsSource::Embedded,
        LyricsSourceName::Lrclib => LyricsSource::Lrclib,
        LyricsSourceName::Genius => LyricsSource::Genius,
    }
}

fn format(named: &LyricsFormat) -> TextFormat {
    match named {
        LyricsFormat::Ttml => TextFormat::Ttml,
        LyricsFormat::Elrc => TextFormat::Elrc,
        LyricsFormat::Lrc => TextFormat::Lrc,
        LyricsFormat::Srt => TextFormat::Srt,
        LyricsFormat::Txt => TextFormat::Txt,
    }
}
