//! Files beside a track: `Song.lrc` beside `Song.mp3`, `Song.ru.lrc` in another language, `Song.ja-Latn.pronunciation.lrc` as
//! it is pronounced.

use super::SourceFailure;
use super::object_reader::{ObjectReader, TrackBucket};
use crate::text::{self, MAX_TEXT_BYTES, ParsedLyrics, TextBudget, TextFormat, TextKind, is_language};
use primitives::blocking_calls::BlockingCalls;

/// Most files of a track that are read.
const MAX_FILES: usize = 8;

/// A file of lyrics beside a track.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SidecarFile {
    key: String,
    format: TextFormat,
    kind: Option<TextKind>,
    lang: Option<String>,
}

/// Reads the files beside the track at `key`, in the formats `formats`, of which the first that is there is the main text;
/// `None` where there are none with a text in them.
pub async fn read(
    reader: &ObjectReader,
    parser: &BlockingCalls,
    bucket: &TrackBucket,
    key: &str,
    formats: &[TextFormat],
) -> Result<Option<ParsedLyrics>, SourceFailure> {
    let Some(stem) = stem(key) else { return Ok(None) };
    let listed = reader.list(bucket, &format!("{stem}.")).await?;
    let files = match listed {
        Some(listed) => chosen(listed.iter().filter_map(|object| file(&stem, &object.key, formats)), formats),
        // Each name is tried; files in other languages cannot be found.
        None => formats
            .iter()
            .filter_map(|format| file(&stem, &format!("{stem}.{}", format.extension()), formats))
            .collect(),
    };
    let (mut lyrics, mut budget) = (None::<ParsedLyrics>, TextBudget::default());
    for file in files {
        // Of texts with the same meaning and language the first one counts.
        let kind = file.kind.unwrap_or(if lyrics.is_some() { TextKind::Translation } else { TextKind::Main });
        let is_same = |text: &text::LyricsText| {
            text.lang == file.lang
                && (text.kind == kind || (text.kind, kind) == (TextKind::Main, TextKind::Translation))
        };
        let is_known = |known: &ParsedLyrics| known.texts.iter().any(is_same);
        let is_second_main = file.lang.is_none() && kind != TextKind::Pronunciation;
        if lyrics.as_ref().is_some_and(|known| is_known(known) || is_second_main || known.texts.len() >= MAX_FILES) {
            continue;
        }
        let Some(bytes) = reader.read(bucket, &file.key, MAX_TEXT_BYTES).await? else { continue };
        let parse = move || {
            let mut budget = budget;
            let parsed = text::parse(&bytes, Some(file.format), file.lang.as_deref(), &mut budget);
            (parsed, budget)
        };
        let parsed;
        (parsed, budget) = parser.run(parse).await?;
        match (parsed, &mut lyrics) {
            (Ok(parsed), None) => lyrics = Some(parsed),
            (Ok(parsed), Some(known)) => add(known, parsed, kind),
            (Err(reason), _) => tracing::info!(%reason, "a file of lyrics beside a track is not read"),
        }
    }
    Ok(lyrics)
}

/// Returns the key of a track without its file's ending; `None` where the name has none, or nothing else.
fn stem(key: &str) -> Option<String> {
    let name = key.rsplit('/').next()?;
    let (stem, ending) = name.rsplit_once('.')?;
    (!stem.is_empty() && !ending.is_empty()).then(|| key[..key.len() - ending.len() - 1].to_owned())
}

/// Returns the file that a key is, where it belongs to the track and has one of `formats`.
fn file(stem: &str, key: &str, formats: &[TextFormat]) -> Option<SidecarFile> {
    let rest = key.strip_prefix(stem)?.strip_prefix('.')?;
    let mut parts: Vec<&str> = rest.split('.').collect();
    let ending = parts.pop()?.to_ascii_lowercase();
    let format = formats.iter().find(|format| format.extension() == ending)?;
    let (lang, kind) = match parts[..] {
        [] => (None, None),
        [lang] => (Some(lang), None),
        [lang, "translation"] => (Some(lang), Some(TextKind::Translation)),
        [lang, "pronunciation"] => (Some(lang), Some(TextKind::Pronunciation)),
        // Another track, whose name begins like this one's.
        _ => return None,
    };
    lang.is_none_or(is_language).then(|| SidecarFile {
        key: key.to_owned(),
        format: *format,
        kind,
        lang: lang.map(str::to_owned),
    })
}

/// Puts the main text first: one without a language, then one without a meaning of its own; each in the order of formats.
fn chosen(files: impl Iterator<Item = SidecarFile>, formats: &[TextFormat]) -> Vec<SidecarFile> {
    let mut files: Vec<_> = files.collect();
    let place = |format: TextFormat| formats.iter().position(|known| *known == format);
    files.sort_by_cached_key(|file| (file.kind.is_some(), file.lang.is_some(), place(file.format), file.lang.clone()));
    files.truncate(4 * MAX_FILES);
    files
}

fn add(known: &mut ParsedLyrics, parsed: ParsedLyrics, kind: TextKind) {
    let texts = parsed.texts.into_iter().take(1).map(|text| text::LyricsText { kind, ..text });
    known.texts.extend(texts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beside_a_track_are_known_by_their_names() {
        let named = |key: &str| file("a/Song", key, &TextFormat::ALL).map(|file| (file.format, file.kind, file.lang));
        let lang = |lang: &str| Some(lang.to_owned());
        for (key, expected) in [
            ("a/Song.lrc", Some((TextFormat::Lrc, None, None))),
            ("a/Song.LRC", Some((TextFormat::Lrc, None, None))),
            ("a/Song.ru.ttml", Some((TextFormat::Ttml, None, lang("ru")))),
            ("a/Song.ru.translation.txt", Some((TextFormat::Txt, Some(TextKind::Translation), lang("ru")))),
            (
                "a/Song.ja-Latn.pronunciation.lrc",
                Some((TextFormat::Lrc, Some(TextKind::Pronunciation), lang("ja-Latn"))),
            ),
            ("a/Song.mp3", None),
            ("a/Song 2.lrc", None),
            ("a/Song.ru.x.lrc", None),
            ("a/Song.live version.lrc", None),
            ("a/Song", None),
        ] {
            assert_eq!(named(key), expected, "{key}");
        }
        assert_eq!(stem("a/Song.mp3").as_deref(), Some("a/Song"));
        assert_eq!(stem("a.b/Song").as_deref(), None);
        assert_eq!(stem(".mp3").as_deref(), None);
    }

    #[test]
    fn the_first_format_is_the_main_text_and_languages_follow() {
        let keys = ["s.de.lrc", "s.txt", "s.lrc", "s.ru.translation.ttml", "s.ttml"];
        let files = chosen(keys.iter().filter_map(|key| file("s", key, &TextFormat::ALL)), &TextFormat::ALL);
        let order: Vec<_> = files.iter().map(|file| &*file.key).collect();
        assert_eq!(order, ["s.ttml", "s.lrc", "s.txt", "s.de.lrc", "s.ru.translation.ttml"]);
    }
}
