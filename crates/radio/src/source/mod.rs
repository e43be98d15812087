//! Sources: the way from a station's address to its sound. Owns who may be connected to, playlists, and what is in a stream;
//! knows nothing of listeners.

pub mod address_policy;
pub mod audio_format;
pub mod client;
mod hls;
mod icy;
mod intake_pace;
mod playlist;
mod resolver;
mod station_url;
mod status_line;
pub mod text;
mod transport_stream;

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, header};
use url::Url;

use audio_format::{AudioFormat, SNIFF_BYTES, detect_format};
use client::{ResponseBody, StationClient, StationLink, StationResponse};
use hls::{HlsStream, MAX_PLAYLIST_BYTES};
use icy::IcyDemuxer;
pub use icy::StreamPart;
use playlist::{HlsVariant, Playlist, parse_playlist};
pub use station_url::{StationUrlError, parse_station_url};
use text::decode_text;

/// Longest time without sound before a stream counts as broken (Icecast's source timeout).
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of sound after which the format is looked for again.
const LOOK_INTERVAL: usize = 1024;
/// Most bytes, titles among them, within which there must be sound.
const MAX_SNIFFED_BYTES: usize = 256 * 1024;
/// Least bytes of sound between two blocks of titles: servers have thousands, and each piece between them costs something.
const MIN_METADATA_INTERVAL: usize = 256;
/// Most playlists that lead to one another.
const MAX_DEPTH: usize = 3;
/// Most addresses that are asked for one station.
const MAX_REQUESTS: usize = 8;
/// Entries of a playlist that are tried.
const MAX_LINKS: usize = 3;
/// Peak bit rate up to which the best variant is taken, in bits per second.
const MAX_BANDWIDTH: u64 = 400_000;

/// Reason for which a station cannot be heard. The texts name no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The URL, or one that it leads to.
    #[error("the URL, or one that it leads to, cannot be a station's: {0}")]
    Url(#[from] StationUrlError),
    /// The name has no address.
    #[error("its name cannot be resolved")]
    Unresolved,
    /// An address that is not public.
    #[error("its address is not a public one, or it leads to one that is not")]
    Forbidden,
    /// Nobody accepts connections.
    #[error("its server cannot be reached")]
    Unreachable,
    /// TLS.
    #[error("its server has no valid certificate, or no TLS")]
    Tls,
    /// Too slow.
    #[error("its server does not answer in time")]
    TimedOut,
    /// Redirects.
    #[error("it leads from one address to another without an end")]
    TooManyRedirects,
    /// A status other than success.
    #[error("its server answers with status {0}")]
    Status(u16),
    /// No HTTP, or nothing that can be read.
    #[error("its server gives an answer that cannot be read")]
    BadAnswer,
    /// A playlist or a segment past its bound.
    #[error("its playlist is too large")]
    TooLarge,
    /// HLS with encryption or fragments of MP4.
    #[error("it is HLS with encryption, fragmented MP4 or byte ranges, which are not relayed")]
    UnsupportedHls,
    /// Another kind of content.
    #[error("there is no sound there: expected MP3, AAC, or Opus, Vorbis or FLAC in Ogg")]
    NoSound,
    /// The stream ended or broke.
    #[error("its stream broke")]
    Broken,
}

/// Stream of a station that was connected to.
pub struct OpenedStation {
    /// Its parts.
    pub parts: BoxStream<'static, Result<StreamPart, SourceError>>,
    /// Format of its sound.
    pub format: AudioFormat,
    /// Address that the stream comes from.
    pub resolved_url: Url,
    /// Name that the station gives itself.
    pub name: Option<String>,
    /// True for HLS.
    pub is_hls: bool,
    /// Longest time without a part.
    pub idle_limit: Duration,
}

/// Connects to the station at `url`: through redirects and playlists, until there is sound of a known format.
///
/// `url` was named by an administrator; what it leads to was not.
pub async fn open_station(client: &StationClient, url: &Url) -> Result<OpenedStation, SourceError> {
    let mut waiting = vec![(StationLink::named(url.clone()), 0)];
    let mut first_error = None;
    for _ in 0..MAX_REQUESTS {
        let Some((link, depth)) = waiting.pop() else { break };
        let step = open_link(client, &link).await;
        match step {
            Ok(OpenedLink::Station(station)) => return Ok(*station),
            Ok(OpenedLink::Links(links)) if depth < MAX_DEPTH => {
                // The last one is the next: the first entry comes first.
                waiting.extend(links.into_iter().take(MAX_LINKS).rev().map(|link| (link, depth + 1)));
            }
            Ok(OpenedLink::Links(_)) => drop(first_error.get_or_insert(SourceError::TooManyRedirects)),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    Err(first_error.unwrap_or(SourceError::TooManyRedirects))
}

enum OpenedLink {
    Station(Box<OpenedStation>),
    Links(Vec<StationLink>),
}

async fn open_link(client: &StationClient, link: &StationLink) -> Result<OpenedLink, SourceError> {
    let StationResponse { link, headers, mut body } = client.get(link).await?;
    let mut demuxer = IcyDemuxer::new(metadata_interval(&headers)?);
    let (mut parts, mut raw, mut sound) = (Vec::new(), Vec::new(), Vec::new());
    let (mut taken, mut sniffer) = (0, FormatSniffer::default());
    let limit = tokio::time::sleep(IDLE_LIMIT);
    tokio::pin!(limit);
    let format = loop {
        let bytes = tokio::select! {
            bytes = body.next() => bytes,
            () = &mut limit => return Err(SourceError::TimedOut),
        };
        let ended = bytes.is_none();
        if let Some(bytes) = bytes {
            let bytes = bytes?;
            taken += bytes.len();
            if raw.len() < SNIFF_BYTES {
                raw.extend_from_slice(&bytes);
            }
            let before = parts.len();
            demuxer.push(bytes, &mut parts);
            for part in &parts[before..] {
                if let StreamPart::Sound(bytes) = part {
                    sound.extend_from_slice(bytes);
                }
            }
        }
        if is_playlist(&link.url, &headers, &raw) {
            return open_playlist(client, link, body, raw).await;
        }
        if let Some(format) = sniffer.look(&sound, ended)? {
            break format;
        }
        if taken > MAX_SNIFFED_BYTES {
            return Err(SourceError::NoSound);
        }
    };
    let name = text_field(&headers, "icy-name").or_else(|| text_field(&headers, "ice-name"));
    let bitrate_kbps = format.bitrate_kbps.or_else(|| announced_bitrate(&headers));
    Ok(OpenedLink::Station(Box::new(OpenedStation {
        parts: stream_of(body, demuxer, parts).boxed(),
        format: AudioFormat { bitrate_kbps, ..format },
        resolved_url: link.url,
        name,
        is_hls: false,
        idle_limit: IDLE_LIMIT,
    })))
}

async fn open_playlist(
    client: &StationClient,
    link: StationLink,
    body: ResponseBody,
    read: Vec<u8>,
) -> Result<OpenedLink, SourceError> {
    let text = body.text(read, MAX_PLAYLIST_BYTES).await?;
    let found = |urls: Vec<Url>| OpenedLink::Links(urls.into_iter().map(|url| link.to(url)).collect());
    match parse_playlist(&text, &link.url).ok_or(SourceError::NoSound)? {
        Playlist::Links(links) => Ok(found(links)),
        Playlist::Variants(variants) => Ok(found(by_preference(variants))),
        Playlist::Segments(segments) => {
            let url = link.url.clone();
            let stream = HlsStream::new(client.clone(), link, segments)?;
            open_hls(url, stream).await.map(|station| OpenedLink::Station(Box::new(station)))
        }
    }
}

/// Sorts variants: sound alone first, then the best bit rate that is a station's.
fn by_preference(mut variants: Vec<HlsVariant>) -> Vec<Url> {
    variants.sort_by_key(|variant| {
        let rate = variant.bandwidth;
        (variant.has_video, rate > MAX_BANDWIDTH, if rate > MAX_BANDWIDTH { rate } else { MAX_BANDWIDTH - rate })
    });
    variants.into_iter().map(|variant| variant.url).collect()
}

async fn open_hls(url: Url, mut stream: HlsStream) -> Result<OpenedStation, SourceError> {
    let (mut sound, mut parts, mut sniffer) = (Vec::new(), Vec::new(), FormatSniffer::default());
    let format = loop {
        let bytes = tokio::time::timeout(IDLE_LIMIT, stream.next()).await.map_err(|_| SourceError::TimedOut)?;
        let bytes = bytes.ok_or(SourceError::NoSound)??;
        sound.extend_from_slice(&bytes);
        parts.push(StreamPart::Sound(bytes));
        if let Some(format) = sniffer.look(&sound, false)? {
            break format;
        }
    };
    let idle_limit = stream.idle_limit().max(IDLE_LIMIT);
    let rest = stream::unfold(stream, async |mut stream| {
        let bytes = stream.next().await?;
        Some((bytes.map(StreamPart::Sound), stream))
    });
    let parts = stream::iter(parts.into_iter().map(Ok)).chain(rest).boxed();
    Ok(OpenedStation { parts, format, resolved_url: url, name: None, is_hls: true, idle_limit })
}

/// Looks for the format of what was read so far: not at each byte of a server that sends them one by one.
#[derive(Default)]
struct FormatSniffer {
    next_look: usize,
}

impl FormatSniffer {
    /// Returns the format of `sound`, which may have `ended`; fails where there can be none.
    fn look(&mut self, sound: &[u8], ended: bool) -> Result<Option<AudioFormat>, SourceError> {
        if !ended && sound.len() < self.next_look.max(1) {
            return Ok(None);
        }
        self.next_look = sound.len() + LOOK_INTERVAL;
        match detect_format(sound) {
            None if ended || sound.len() > 2 * SNIFF_BYTES => Err(SourceError::NoSound),
            found => Ok(found),
        }
    }
}

/// Returns the parts that were read, and then those that come.
fn stream_of(
    body: ResponseBody,
    demuxer: IcyDemuxer,
    read: Vec<StreamPart>,
) -> impl futures::Stream<Item = Result<StreamPart, SourceError>> + Send {
    let begin = (body, demuxer, std::collections::VecDeque::from(read));
    stream::unfold(begin, async |(mut body, mut demuxer, mut parts)| {
        loop {
            if let Some(part) = parts.pop_front() {
                return Some((Ok(part), (body, demuxer, parts)));
            }
            match body.next().await? {
                Ok(bytes) => {
                    let mut more = Vec::new();
                    demuxer.push(bytes, &mut more);
                    parts.extend(more);
                }
                Err(error) => return Some((Err(error), (body, demuxer, parts))),
            }
        }
    })
}

fn metadata_interval(headers: &HeaderMap) -> Result<Option<usize>, SourceError> {
    let interval = headers.get("icy-metaint").and_then(|value| value.to_str().ok()?.trim().parse::<usize>().ok());
    match interval {
        Some(1..MIN_METADATA_INTERVAL) => Err(SourceError::BadAnswer),
        interval => Ok(interval),
    }
}

/// Returns the bit rate that a server announces, such as `128` or `128,128`.
fn announced_bitrate(headers: &HeaderMap) -> Option<u32> {
    let text = headers.get("icy-br")?.to_str().ok()?;
    text.split(',').next()?.trim().parse().ok().filter(|kbps| (1..=10_000).contains(kbps))
}

fn text_field(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(decode_text(headers.get(name)?.as_bytes())).filter(|text| !text.is_empty())
}

/// Returns true where a response is a playlist by its media type, its name or its first bytes.
fn is_playlist(url: &Url, headers: &HeaderMap, bytes: &[u8]) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let by_type = matches!(
        media_type.as_str(),
        "audio/x-scpls"
            | "application/pls+xml"
            | "audio/scpls"
            | "audio/x-mpegurl"
            | "audio/mpegurl"
            | "application/x-mpegurl"
            | "application/vnd.apple.mpegurl"
    );
    let path = url.path().to_ascii_lowercase();
    let by_name = media_type.starts_with("text/") || media_type.is_empty() || media_type == "application/octet-stream";
    let by_name = by_name && [".pls", ".m3u", ".m3u8"].iter().any(|end| path.ends_with(end));
    let begins = |text: &[u8]| bytes.get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text));
    by_type || by_name || begins(b"[playlist]") || begins(b"#EXTM3U")
}
