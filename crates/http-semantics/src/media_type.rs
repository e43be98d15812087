//! Media type by the extension of an object's key, for stores that do not give one (RFC 9110 §8.3). No type that a
//! browser would run (HTML, SVG, scripts): for those the store or the route has to give the type.

/// Returns the extension of a key's last segment, without its dot; `None` if there is none.
pub fn key_extension(key: &str) -> Option<&str> {
    key.rsplit('/').next()?.rsplit_once('.').map(|(_, extension)| extension)
}

/// Returns the media type of a key's extension, in any case; `None` if there is no extension or it is unknown.
pub fn from_key_extension(key: &str) -> Option<&'static str> {
    let ending = key_extension(key)?;
    // Longer than every extension below; a longer one is unknown, and no allocation is needed to lower its case.
    let mut lower = [0; 8];
    let lower = lower.get_mut(..ending.len())?;
    lower.copy_from_slice(ending.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"mp3" => "audio/mpeg",
        b"m4a" | b"m4b" | b"cmfa" => "audio/mp4",
        b"aac" => "audio/aac",
        b"flac" => "audio/flac",
        b"ogg" | b"oga" | b"opus" => "audio/ogg",
        b"wav" => "audio/wav",
        b"weba" => "audio/webm",
        b"mka" => "audio/x-matroska",
        b"aif" | b"aiff" => "audio/aiff",
        b"ac3" => "audio/ac3",
        b"ec3" | b"eac3" => "audio/eac3",
        b"caf" => "audio/x-caf",
        b"wma" => "audio/x-ms-wma",
        b"mid" | b"midi" => "audio/midi",
        b"mp4" | b"m4v" | b"cmfv" => "video/mp4",
        b"webm" => "video/webm",
        b"mkv" => "video/x-matroska",
        b"mov" => "video/quicktime",
        b"ogv" => "video/ogg",
        b"mpg" | b"mpeg" => "video/mpeg",
        b"avi" => "video/x-msvideo",
        b"3gp" => "video/3gpp",
        b"m3u8" => "application/vnd.apple.mpegurl",
        b"m3u" => "audio/x-mpegurl",
        b"pls" => "audio/x-scpls",
        b"mpd" => "application/dash+xml",
        b"ts" => "video/mp2t",
        b"m4s" => "video/iso.segment",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"png" => "image/png",
        b"gif" => "image/gif",
        b"webp" => "image/webp",
        b"avif" => "image/avif",
        b"jxl" => "image/jxl",
        b"heic" => "image/heic",
        b"bmp" => "image/bmp",
        b"ico" => "image/vnd.microsoft.icon",
        b"lrc" | b"elrc" | b"txt" | b"cue" | b"log" => "text/plain; charset=utf-8",
        b"vtt" => "text/vtt",
        b"srt" => "application/x-subrip",
        b"ttml" => "application/ttml+xml",
        b"csv" => "text/csv; charset=utf-8",
        b"json" => "application/json",
        b"xml" => "application/xml",
        b"pdf" => "application/pdf",
        b"zip" => "application/zip",
        b"gz" => "application/gzip",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_the_type() {
        let table = [
            ("albums/one/01 Song.mp3", Some("audio/mpeg")),
            ("a.FLAC", Some("audio/flac")),
            ("v1.2/track.opus", Some("audio/ogg")),
            ("live/index.m3u8", Some("application/vnd.apple.mpegurl")),
            ("live/seg-1.m4s", Some("video/iso.segment")),
            ("live/seg-1.ts", Some("video/mp2t")),
            ("cover.JPeg", Some("image/jpeg")),
            ("song.lrc", Some("text/plain; charset=utf-8")),
            ("meta.json", Some("application/json")),
            ("backup.tar.gz", Some("application/gzip")),
            ("v1.mp3/track", None),
            ("track.", None),
            ("mp3", None),
            ("", None),
            ("page.html", None),
            ("cover.svg", None),
            ("song.unknownlongending", None),
            ("song.mp3\u{fc}", None),
        ];
        for (key, expected) in table {
            assert_eq!(from_key_extension(key), expected, "{key:?}");
        }
    }
}
