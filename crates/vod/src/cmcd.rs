//! Common Media Client Data (CTA-5004): what a player says of its playback with each request, in the query (`CMCD=`) or in
//! four headers. Read strictly and within bounds, since anybody may write anything there, and only for metrics: it changes
//! no answer, and of what names a viewer (`sid`, `cid`) nothing is read.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

/// Headers that players send, in lower case.
pub const CMCD_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("cmcd-object"),
    HeaderName::from_static("cmcd-request"),
    HeaderName::from_static("cmcd-session"),
    HeaderName::from_static("cmcd-status"),
];
/// Parameter of the query, with its sign.
const PARAMETER: &str = "CMCD=";
/// Longest text that is read, in bytes.
const MAX_BYTES: usize = 2048;
/// Most keys that are read.
const MAX_KEYS: usize = 64;
/// Largest rate in kbit/s: beyond it a number is no rate.
const MAX_RATE: u32 = 10_000_000;
/// Longest buffer in milliseconds: a day.
const MAX_BUFFER: u32 = 86_400_000;

/// Kind of media that was asked for (`ot`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// Audio alone.
    Audio,
    /// Video alone.
    Video,
    /// Audio and video in one.
    Muxed,
}

/// State of a player's playback, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaybackState {
    /// Kind of what is asked for; `None` for anything but audio and video.
    pub kind: Option<MediaKind>,
    /// Encoded bitrate of what is asked for, in kbit/s (`br`).
    pub bitrate: Option<u32>,
    /// Throughput as the player has measured it, in kbit/s (`mtp`).
    pub throughput: Option<u32>,
    /// Media that are buffered (`bl`).
    pub buffer: Option<Duration>,
    /// True if the buffer ran empty since the request before, so that playback stalled (`bs`).
    pub has_stalled: bool,
}

/// The data cannot be read: none of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data are not in the form of CTA-5004")]
pub struct MalformedClientData;

/// Reads the data of a request with this query and these headers; `None` where there are none.
pub fn read(query: Option<&str>, headers: &HeaderMap) -> Option<Result<PlaybackState, MalformedClientData>> {
    let mut parameters =
        query.into_iter().flat_map(|query| query.split('&')).filter_map(|it| it.strip_prefix(PARAMETER));
    if let Some(parameter) = parameters.next() {
        let is_only = parameters.next().is_none();
        return Some(if is_only { read_parameter(parameter) } else { Err(MalformedClientData) });
    }
    CMCD_HEADERS.iter().any(|name| headers.contains_key(name)).then(|| read_headers(headers))
}

fn read_parameter(text: &str) -> Result<PlaybackState, MalformedClientData> {
    // Escaped it is three times as long at most.
    if text.len() > 3 * MAX_BYTES {
        return Err(MalformedClientData);
    }
    let text = percent_decode_str(text).decode_utf8().map_err(|_| MalformedClientData)?;
    let mut reader = ClientDataReader::default();
    reader.read(&text)?;
    Ok(reader.state)
}

fn read_headers(headers: &HeaderMap) -> Result<PlaybackState, MalformedClientData> {
    let mut reader = ClientDataReader::default();
    for name in &CMCD_HEADERS {
        let mut values = headers.get_all(name).iter();
        let (first, second) = (values.next(), values.next());
        match (first, second) {
            (None, _) => {}
            (Some(value), None) => reader.read(value.to_str().map_err(|_| MalformedClientData)?)?,
            (Some(_), Some(_)) => return Err(MalformedClientData),
        }
    }
    Ok(reader.state)
}

#[derive(Default)]
struct ClientDataReader {
    state: PlaybackState,
    /// Keys that were there, since none may stand twice.
    keys: Vec<Box<str>>,
    bytes: usize,
}

impl ClientDataReader {
    /// Reads a list of keys, each alone or with a value.
    fn read(&mut self, text: &str) -> Result<(), MalformedClientData> {
        self.bytes += text.len();
        if self.bytes > MAX_BYTES {
            return Err(MalformedClientData);
        }
        let mut rest = text.trim_matches(' ');
        while !rest.is_empty() {
            let length = rest.bytes().take_while(|byte| is_of_key(*byte)).count();
            let (key, after) = rest.split_at(length);
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => split_value(after).map(|(value, after)| (Some(value), after))?,
                None => (None, after),
            };
            self.take(key, value)?;
            rest = match after.strip_prefix(',') {
                Some(more) if !more.is_empty() => more.trim_start_matches(' '),
                None if after.is_empty() => after,
                _ => return Err(MalformedClientData),
            };
        }
        Ok(())
    }

    fn take(&mut self, key: &str, value: Option<&str>) -> Result<(), MalformedClientData> {
        if key.is_empty() || self.keys.len() == MAX_KEYS || self.keys.iter().any(|known| **known == *key) {
            return Err(MalformedClientData);
        }
        self.keys.push(key.into());
        let state = &mut self.state;
        match key {
            "br" => state.bitrate = Some(number(value, MAX_RATE)?),
            "mtp" => state.throughput = Some(number(value, MAX_RATE)?),
            "bl" => state.buffer = Some(Duration::from_millis(number(value, MAX_BUFFER)?.into())),
            "bs" if value.is_none() => state.has_stalled = true,
            "bs" => return Err(MalformedClientData),
            "ot" => state.kind = media_kind(value)?,
            // Another version has other forms.
            "v" if value != Some("1") => return Err(MalformedClientData),
            // Keys that nothing is counted of, those of players among them.
            _ => {}
        }
        Ok(())
    }
}

fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// Splits a value from what follows it: a text in quotes, or a token.
fn split_value(text: &str) -> Result<(&str, &str), MalformedClientData> {
    let end = if text.starts_with('"') {
        quoted_length(text).ok_or(MalformedClientData)?
    } else {
        text.bytes().take_while(|byte| byte.is_ascii_graphic() && !b",\"".contains(byte)).count()
    };
    if end == 0 { Err(MalformedClientData) } else { Ok(text.split_at(end)) }
}

/// Returns the length of a text in quotes, both of them included.
fn quoted_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn number(value: Option<&str>, most: u32) -> Result<u32, MalformedClientData> {
    let digits = value.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok()).filter(|number| *number <= most);
    number.ok_or(MalformedClientData)
}

fn media_kind(value: Option<&str>) -> Result<Option<MediaKind>, MalformedClientData> {
    Ok(match value {
        Some("a") => Some(MediaKind::Audio),
        Some("v") => Some(MediaKind::Video),
        Some("av") => Some(MediaKind::Muxed),
        Some("m" | "i" | "c" | "tt" | "k" | "o") => None,
        _ => return Err(MalformedClientData),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_query(text: &str) -> Result<PlaybackState, MalformedClientData> {
        read(Some(text), &HeaderMap::new()).expect("there are data")
    }

    /// As hls.js and shaka send it.
    const QUERY: &str = "_HLS_msn=4&CMCD=bl%3D4200%2Cbr%3D3000%2Cbs%2Ccid%3D%22a%2Cb%5C%22%22%2Cd%3D4004%2Cmtp%3D25400%2Cot%3Dv%2Csf%3Dh%2Csid%3D%226e2fb550%22%2Csu%2Ctb%3D6000";

    fn expected() -> PlaybackState {
        PlaybackState {
            kind: Some(MediaKind::Video),
            bitrate: Some(3000),
            throughput: Some(25_400),
            buffer: Some(Duration::from_millis(4200)),
            has_stalled: true,
        }
    }

    #[test]
    fn the_data_of_a_player_are_read_from_its_query_and_its_headers() {
        assert_eq!(of_query(QUERY), Ok(expected()));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("cmcd-object", "br=3000,d=4004,ot=v,tb=6000"),
            ("cmcd-request", "bl=4200, mtp=25400,su"),
            ("cmcd-session", "sid=\"6e2fb550\",sf=h,v=1"),
            ("cmcd-status", "bs"),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        assert_eq!(read(Some("a=b"), &headers), Some(Ok(expected())));
        assert_eq!(read(Some("a=CMCD"), &HeaderMap::new()), None);
        assert_eq!(read(None, &HeaderMap::new()), None);
        assert_eq!(of_query("CMCD=ot%3Dm"), Ok(PlaybackState::default()));
        assert_eq!(of_query("CMCD="), Ok(PlaybackState::default()));
    }

    #[test]
    fn data_in_another_form_count_for_nothing() {
        for text in [
            "br",
            "br%3D",
            "br%3D-1",
            "br%3D1.5",
            "br%3D%281500%29",
            "br%3D99999999999",
            "br%3D1%2Cbr%3D1",
            "bs%3D1",
            "bl%3D90000000",
            "ot%3Dvideo",
            "ot",
            "sid%3D%22open",
            "%2C",
            "bs%2C",
            "bs%20bl%3D1",
            "%3D1",
            "v%3D2",
            "br%FF",
            "bs&CMCD=bs",
        ] {
            assert_eq!(of_query(&format!("CMCD={text}")), Err(MalformedClientData), "{text}");
        }
        let long = format!("CMCD=x%3D{}", "a".repeat(MAX_BYTES));
        assert_eq!(of_query(&long), Err(MalformedClientData));
        let many: String = (0..=MAX_KEYS).map(|number| format!("k{number}%2C")).collect();
        assert_eq!(of_query(&format!("CMCD={many}bs")), Err(MalformedClientData));
        let mut twice = HeaderMap::new();
        twice.append("cmcd-status", "bs".parse().expect("a value"));
        twice.append("cmcd-status", "rtp=1".parse().expect("a value"));
        assert_eq!(read(None, &twice), Some(Err(MalformedClientData)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(CMCD=)?[a-z,=\"\\\\% 0-9üß]{0,80}") {
            let _ = read(Some(&text), &HeaderMap::new());
            let _ = read(Some(&format!("CMCD={text}")), &HeaderMap::new());
        }
    }
}
