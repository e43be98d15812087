//! Playlists that lead to a station: PLS, M3U, and the playlists of HLS (RFC 8216), which name pieces of sound instead.
//! Pure: a text goes in, addresses come out. Lines that are none of the format are passed over.

use std::collections::VecDeque;

use url::Url;

/// Most entries that are read of a playlist; of segments the last ones.
const MAX_ENTRIES: usize = 32;

/// Content of a playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Playlist {
    /// Addresses of one stream, the preferred one first.
    Links(Vec<Url>),
    /// An HLS playlist of variants: with their peak bit rates in bits per second.
    Variants(Vec<HlsVariant>),
    /// An HLS playlist of segments.
    Segments(HlsSegments),
}

/// Variant of an HLS stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HlsVariant {
    /// Its playlist.
    pub url: Url,
    /// Peak bit rate in bits per second; 0 where the playlist does not say it.
    pub bandwidth: u64,
    /// True where it has pictures too.
    pub has_video: bool,
}

/// Segments of an HLS stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HlsSegments {
    /// Number of the first segment of `segments`.
    pub first_sequence: u64,
    /// Longest segment in seconds.
    pub target_seconds: u64,
    /// The last segments: what a long playlist has before them is not heard any more.
    pub segments: Vec<Url>,
    /// True where no segment is added any more.
    pub is_finished: bool,
    /// True where segments are encrypted, or fragments of MP4, or ranges of a file.
    pub is_unsupported: bool,
}

/// Reads a playlist that was found at `base`. Returns `None` where `text` is no playlist with an address in it.
pub fn parse_playlist(text: &str, base: &Url) -> Option<Playlist> {
    let text = text.trim_start_matches('\u{feff}');
    if text.lines().any(|line| line.starts_with("#EXT-X-")) {
        return parse_hls(text, base);
    }
    let first = text.lines().find(|line| !line.trim().is_empty())?.trim();
    let links: Vec<Url> = if first.eq_ignore_ascii_case("[playlist]") {
        pls_links(text, base)
    } else {
        let entries = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        // Without its first line an M3U is any text; so every entry must be an address.
        let entries = entries.map(|line| parse_link(line, base, first.starts_with("#EXTM3U")));
        entries.take(MAX_ENTRIES).collect::<Option<_>>()?
    };
    (!links.is_empty()).then_some(Playlist::Links(links))
}

fn pls_links(text: &str, base: &Url) -> Vec<Url> {
    let entries = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let number = key.trim().get(4..)?;
        let is_file = key.trim().get(..4)?.eq_ignore_ascii_case("file") && number.bytes().all(|b| b.is_ascii_digit());
        is_file.then(|| base.join(value.trim()).ok()).flatten()
    });
    entries.take(MAX_ENTRIES).collect()
}

fn parse_link(line: &str, base: &Url, may_be_relative: bool) -> Option<Url> {
    if !may_be_relative && !line.contains("://") {
        return None;
    }
    base.join(line).ok()
}

fn parse_hls(text: &str, base: &Url) -> Option<Playlist> {
    let mut variants = Vec::new();
    let mut found = HlsSegments {
        first_sequence: 0,
        target_seconds: 10,
        segments: Vec::new(),
        is_finished: false,
        is_unsupported: false,
    };
    let mut variant: Option<(u64, bool)> = None;
    // Lines, and no addresses yet: an address has the whole base in it, and there may be many lines.
    let mut segments = VecDeque::with_capacity(MAX_ENTRIES);
    let mut skipped = 0_u64;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(attributes) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            let bandwidth = attribute(attributes, "BANDWIDTH").and_then(|text| text.parse().ok()).unwrap_or(0);
            variant = Some((bandwidth, attribute(attributes, "RESOLUTION").is_some()));
        } else if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            found.first_sequence = number.parse().unwrap_or(0);
        } else if let Some(seconds) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
            found.target_seconds = seconds.parse().unwrap_or(10_u64).clamp(1, 60);
        } else if line.starts_with("#EXT-X-ENDLIST") {
            found.is_finished = true;
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-KEY:") {
            found.is_unsupported |= attribute(attributes, "METHOD").is_some_and(|method| method != "NONE");
        } else if line.starts_with("#EXT-X-MAP:") || line.starts_with("#EXT-X-BYTERANGE:") {
            found.is_unsupported = true;
        } else if !line.starts_with('#') {
            match variant.take() {
                Some((bandwidth, has_video)) if variants.len() < MAX_ENTRIES => {
                    variants.push(HlsVariant { url: base.join(line).ok()?, bandwidth, has_video });
                }
                Some(_) => {}
                None => {
                    if segments.len() == MAX_ENTRIES {
                        segments.pop_front();
                        skipped += 1;
                    }
                    segments.push_back(line);
                }
            }
        }
    }
    if !variants.is_empty() {
        return Some(Playlist::Variants(variants));
    }
    found.first_sequence = found.first_sequence.saturating_add(skipped);
    found.segments = segments.into_iter().map(|line| base.join(line).ok()).collect::<Option<_>>()?;
    Some(Playlist::Segments(found))
}

/// Returns the value of an attribute in a list (RFC 8216 §4.2), without its quotes.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"')?;
                (value, next.strip_prefix(',').unwrap_or(next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim() == name {
            return Some(value.trim());
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("http://radio.example/dir/listen.pls").expect("a URL")
    }

    fn links(text: &str) -> Option<Vec<String>> {
        match parse_playlist(text, &base())? {
            Playlist::Links(links) => Some(links.into_iter().map(String::from).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pls_and_m3u_lead_to_their_addresses() {
        let pls = "\u{feff}[Playlist]\r\nNumberOfEntries=2\r\nFile1=http://a.example:8000/;\r\nTitle1=x=y\r\nLength1=-1\r\nfile2=b\r\n";
        assert_eq!(links(pls).expect("entries"), ["http://a.example:8000/;", "http://radio.example/dir/b"]);
        let m3u = "#EXTM3U\n#EXTINF:-1,Name\n/live.mp3\n\nhttps://b.example/x\n";
        assert_eq!(links(m3u).expect("entries"), ["http://radio.example/live.mp3", "https://b.example/x"]);
        assert_eq!(links("http://c.example/\n").expect("an entry"), ["http://c.example/"]);
        for none in ["", "[playlist]\nTitle1=x", "<html>\n<a href=\"http://a.example/\">", "hello", "#EXTM3U\n"] {
            assert_eq!(links(none), None, "{none:?}");
        }
        let many = format!("#EXTM3U\n{}", "http://a.example/\n".repeat(1000));
        assert_eq!(links(&many).expect("entries").len(), MAX_ENTRIES);
    }

    #[test]
    fn hls_has_variants_and_segments() {
        let variants = "#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"mp4a.40.2,avc1\",BANDWIDTH=64000,RESOLUTION=1x1\nv.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=128000\nhttp://b.example/a.m3u8\n";
        let Some(Playlist::Variants(found)) = parse_playlist(variants, &base()) else { panic!("variants") };
        assert_eq!(
            found.iter().map(|v| (v.bandwidth, v.has_video)).collect::<Vec<_>>(),
            [(64_000, true), (128_000, false)]
        );
        let segments = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:6,\ns7.aac\n#EXTINF:6,\ns8.aac\n";
        let Some(Playlist::Segments(found)) = parse_playlist(segments, &base()) else { panic!("segments") };
        assert_eq!((found.first_sequence, found.target_seconds, found.segments.len()), (7, 6, 2));
        assert!(!found.is_finished && !found.is_unsupported);
        let hidden = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n";
        let Some(Playlist::Segments(found)) = parse_playlist(hidden, &base()) else { panic!("segments") };
        assert!(found.is_finished && found.is_unsupported);
    }

    #[test]
    fn of_many_segments_the_last_ones_are_read() {
        let text = format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n{}last\n", "a\n".repeat(100_000));
        let Some(Playlist::Segments(found)) = parse_playlist(&text, &base()) else { panic!("segments") };
        assert_eq!((found.segments.len(), found.first_sequence), (MAX_ENTRIES, 7 + 100_001 - MAX_ENTRIES as u64));
        assert!(found.segments[MAX_ENTRIES - 1].path().ends_with("/last"));
    }
}
