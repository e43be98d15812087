//! Titles in the comments of Ogg streams (Vorbis I §5, RFC 7845 §5.2), which Icecast begins anew with each title. Pure.

use crate::source::text::plain_text;

/// Most comments that are looked at.
const MAX_COMMENTS: usize = 64;

/// Returns the title in the header pages of a stream, as `Artist - Title`. Comments that go over a page's end are not read
/// past it.
pub fn comment_title(headers: &[u8]) -> Option<String> {
    let begin = [&b"OpusTags"[..], b"\x03vorbis"].into_iter();
    let mut begin = begin.filter_map(|magic| memchr::memmem::find(headers, magic).map(|at| at + magic.len()));
    let mut rest = headers.get(begin.next()?..)?;
    take_text(&mut rest)?;
    let count = take_length(&mut rest)?;
    let (mut artist, mut title) = (None, None);
    for _ in 0..count.min(MAX_COMMENTS) {
        let Some(comment) = take_text(&mut rest) else { break };
        let comment = String::from_utf8_lossy(comment);
        let Some((name, value)) = comment.split_once('=') else { continue };
        match name.to_ascii_uppercase().as_str() {
            "ARTIST" => artist = artist.or_else(|| Some(plain_text(value))),
            "TITLE" => title = title.or_else(|| Some(plain_text(value))),
            _ => {}
        }
    }
    let title = title.filter(|title| !title.is_empty())?;
    Some(match artist.filter(|artist| !artist.is_empty()) {
        Some(artist) => plain_text(&format!("{artist} - {title}")),
        None => title,
    })
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(rest)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comments(magic: &[u8], all: &[&str]) -> Vec<u8> {
        let text =
            |text: &str| [&u32::try_from(text.len()).expect("short").to_le_bytes()[..], text.as_bytes()].concat();
        let count = u32::try_from(all.len()).expect("few").to_le_bytes();
        let all: Vec<u8> = all.iter().flat_map(|comment| text(comment)).collect();
        [b"OggS head", magic, &text("vendor"), &count, &all].concat()
    }

    #[test]
    fn artist_and_title_are_read_and_nothing_makes_it_panic() {
        let opus = comments(b"OpusTags", &["artist=Кино", "TITLE=<b>Песня</b>", "x"]);
        assert_eq!(comment_title(&opus).as_deref(), Some("Кино - Песня"));
        let vorbis = comments(b"\x03vorbis", &["TITLE=Alone"]);
        assert_eq!(comment_title(&vorbis).as_deref(), Some("Alone"));
        for length in 0..opus.len() {
            let _ = comment_title(&opus[..length]);
        }
        assert_eq!(comment_title(&comments(b"OpusTags", &["ARTIST=Nobody"])), None);
        assert_eq!(comment_title(b"OpusTags\xff\xff\xff\xff"), None);
    }
}
