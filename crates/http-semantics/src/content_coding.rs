//! Content codings (RFC 9110 §8.4): which of them a client takes (`Accept-Encoding`, §12.5.3), and which media types are worth one.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl ContentCoding {
    /// Returns its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the extension that files in it have.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zst",
            Self::Gzip => "gz",
        }
    }
}

/// Returns those of `offered` that the client takes: what it weighs more first, and of the same weight in the order of
/// `offered`. None without `Accept-Encoding`: it then takes any coding, but may be older than this one.
pub fn accepted(headers: &HeaderMap, offered: &[ContentCoding]) -> Vec<ContentCoding> {
    if offered.is_empty() || !headers.contains_key(ACCEPT_ENCODING) {
        return Vec::new();
    }
    let mut weighed: Vec<(u16, ContentCoding)> =
        offered.iter().map(|coding| (weight(headers, *coding), *coding)).filter(|(weight, _)| *weight > 0).collect();
    weighed.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    weighed.into_iter().map(|(_, coding)| coding).collect()
}

/// Returns the weight of a coding in thousandths: its own, else that of `*`, else none.
fn weight(headers: &HeaderMap, coding: ContentCoding) -> u16 {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let (mut own, mut any) = (None, None);
    for element in lines.flat_map(|line| line.split(',')) {
        let (name, parameters) = element.split_once(';').unwrap_or((element, ""));
        let name = name.trim();
        // `x-gzip` is the same (RFC 9110 §8.4.1.3).
        let is_own = name.eq_ignore_ascii_case(coding.name())
            || (coding == ContentCoding::Gzip && name.eq_ignore_ascii_case("x-gzip"));
        if is_own {
            own = own.or(Some(quality(parameters)));
        } else if name == "*" {
            any = any.or(Some(quality(parameters)));
        }
    }
    own.or(any).unwrap_or(0)
}

/// Returns the quality value in thousandths (RFC 9110 §12.4.2): 1 where there is none, 0 where it cannot be read.
fn quality(parameters: &str) -> u16 {
    let mut values = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let Some((_, value)) = values.find(|(name, _)| name.trim().eq_ignore_ascii_case("q")) else { return 1000 };
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let is_sound = fraction.len() <= 3 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let thousandths = format!("{fraction:0<3}").parse().unwrap_or(0);
    match whole {
        "0" if is_sound => thousandths,
        "1" if is_sound && thousandths == 0 => 1000,
        _ => 0,
    }
}

/// Returns true for a media type whose content gets smaller: texts. Sounds, images and films are compressed in themselves.
pub fn is_compressible(content_type: &str) -> bool {
    const OTHERS: [&str; 10] = [
        "application/json",
        "application/javascript",
        "application/xml",
        "application/wasm",
        "application/manifest+json",
        "application/vnd.apple.mpegurl",
        "application/x-subrip",
        "audio/x-mpegurl",
        "audio/x-scpls",
        "image/vnd.microsoft.icon",
    ];
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // A stream of events is never over, and must not wait.
    (essence.starts_with("text/") && essence != "text/event-stream")
        || essence.ends_with("+xml")
        || essence.ends_with("+json")
        || OTHERS.contains(&&*essence)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::ContentCoding::{Brotli, Gzip, Zstd};
    use super::*;

    #[test]
    fn the_client_chooses_and_of_the_same_weight_the_first_that_is_offered() {
        let offered = [Brotli, Zstd, Gzip];
        for (lines, expected) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&["gzip, deflate, br, zstd"], &[Brotli, Zstd, Gzip]),
            (&["gzip", "br"], &[Brotli, Gzip]),
            (&["br;q=0.5, gzip"], &[Gzip, Brotli]),
            (&["br;q=0, *"], &[Zstd, Gzip]),
            (&["*;q=0, GZIP ; Q=0.001"], &[Gzip]),
            (&["x-gzip"], &[Gzip]),
            (&["identity"], &[]),
            (&["gzip;q=2, br;q=0.1234, zstd;q=x"], &[]),
            (&["brotli, gz"], &[]),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
            }
            assert_eq!(accepted(&headers, &offered), expected, "{lines:?}");
        }
    }

    #[test]
    fn texts_are_compressible_and_media_are_not() {
        for (content_type, expected) in [
            ("text/html; charset=utf-8", true),
            ("Text/CSS", true),
            ("application/json", true),
            ("application/problem+json", true),
            ("image/svg+xml", true),
            ("application/vnd.apple.mpegurl", true),
            ("text/event-stream", false),
            ("audio/mpeg", false),
            ("image/jpeg", false),
            ("application/octet-stream", false),
            ("application/gzip", false),
            ("", false),
        ] {
            assert_eq!(is_compressible(content_type), expected, "{content_type}");
        }
    }
}
