//! Manifests under other names: players go by the first bytes of what they get, and such a file was never checked.

/// Bytes at the beginning that are looked at in every file.
const LOOKED_AT: usize = 256;
/// Bytes by which text is told from media.
const TELLING: usize = 64;

/// Returns true where a body that begins so would be a manifest for a player.
pub fn is_manifest(beginning: &[u8]) -> bool {
    if beginning.starts_with(b"\xFF\xFE") || beginning.starts_with(b"\xFE\xFF") {
        // UTF-16, which browsers turn into text.
        let narrow: Vec<u8> = beginning[2..].iter().take(4 * LOOKED_AT).copied().filter(|byte| *byte != 0).collect();
        return is_manifest_text(&narrow);
    }
    is_manifest_text(beginning.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(beginning))
}

fn is_manifest_text(text: &[u8]) -> bool {
    const PLAYLISTS: [&[u8]; 3] = [b"#EXTM3U", b"[playlist]", b"ffconcat"];
    let text = text.trim_ascii_start();
    let begins = |word: &&[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let is_text =
        !text[..text.len().min(TELLING)].iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace());
    // In media the few letters may stand anywhere by chance.
    let looked_at = if is_text { text } else { &text[..text.len().min(LOOKED_AT)] };
    PLAYLISTS.iter().any(begins) || names_element(looked_at)
}

/// Returns true where the text has a tag of a manifest's root, or of a remote part of one.
fn names_element(text: &[u8]) -> bool {
    const ROOTS: [&[u8]; 4] = [b"MPD", b"Period", b"AdaptationSet", b"SmoothStreamingMedia"];
    text.split(|byte| *byte == b'<').skip(1).any(|tag| {
        let end = tag.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"-_.:".contains(byte));
        let name = &tag[..end.unwrap_or(tag.len())];
        let local = name.iter().rposition(|byte| *byte == b':').map_or(name, |colon| &name[colon + 1..]);
        ROOTS.iter().any(|root| root.eq_ignore_ascii_case(local))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_known_by_its_first_bytes_whatever_its_name() {
        let utf16: Vec<u8> = "\u{feff}#EXTM3U\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (text, expected) in [
            (&b"#EXTM3U\nv.ts"[..], true),
            (b"\xEF\xBB\xBF#EXTM3U", true),
            (b" \r\n#extm3u", true),
            (&utf16, true),
            (b"<MPD>", true),
            (b"<?xml version=\"1.0\"?><!-- x --><mpd xmlns=\"a\">", true),
            (b"<x:Period/>", true),
            (b"text <MPD>", true),
            (b"<tt xmlns=\"http://www.w3.org/ns/ttml\"><head/></tt>", false),
            (b"WEBVTT\n\n00:00.000 --> 00:01.000\n<b>MPD</b>", false),
            (b"G@\x00\x10segment", false),
            (b"", false),
        ] {
            assert_eq!(is_manifest(text), expected, "{:?}", String::from_utf8_lossy(text));
        }
    }
}
