use proptest::prelude::*;

use super::times::MAX_MILLIS;
use super::*;
use primitives::markup::has_markup;

fn read(text: &str) -> ParsedLyrics {
    parse(text.as_bytes(), None, None, &mut TextBudget::default()).expect("a text")
}

/// Lines as `start-end text`, words as `start-end:text` behind it.
fn shown(text: &LyricsText) -> Vec<String> {
    let time = |time: Option<u32>| time.map_or("?".to_owned(), |time| time.to_string());
    let word = |word: &LyricsWord| format!(" {}-{}:{}", word.start_ms, time(word.end_ms), word.text);
    let line = |line: &LyricsLine| {
        let words: String = line.words.iter().map(word).collect();
        format!("{}-{} {}{words}", time(line.start_ms), time(line.end_ms), line.text)
    };
    text.lines.iter().map(line).collect()
}

#[test]
fn lines_of_lrc_are_sorted_repeated_and_shifted() {
    let text = "\u{feff}[ar: Ada ]\r\n[ti:Prelude]\r\n[la:en]\r\n[offset:+500]\r\n[by:me]\r\n[00:20.00][00:10.5]Again\r\n\
        [00:01.250]First\r\n[00:15]\r\n[Chorus]\r\n";
    let parsed = read(text);
    assert_eq!(
        (parsed.artist.as_deref(), parsed.title.as_deref(), parsed.offset_ms),
        (Some("Ada"), Some("Prelude"), 500)
    );
    let main = &parsed.texts[0];
    assert_eq!((main.is_synced, main.lang.as_deref()), (true, Some("en")));
    assert_eq!(shown(main), ["750-10000 First", "10000-14500 Again", "14500-19500 [Chorus]", "19500-? Again"]);
    assert_eq!(to_lrc(main).as_deref(), Some("[00:00.75]First\n[00:10.00]Again\n[00:14.50][Chorus]\n[00:19.50]Again"));
    assert_eq!(to_plain(main), "First\nAgain\n[Chorus]\nAgain");
}

#[test]
fn words_of_enhanced_lrc_have_their_times_and_are_the_line() {
    let main = &read("[00:12.00]<00:12.00>First <00:12.50>line<00:13.00>\n[00:14.00]One <00:14.50>two\n<00:20.00>Only <00:21.00>words")
        .texts[0];
    assert_eq!(
        shown(main),
        [
            "12000-14000 First line 12000-12500:First  12500-13000:line",
            "14000-20000 One two 14000-14500:One  14500-20000:two",
            "20000-? Only words 20000-21000:Only  21000-?:words",
        ]
    );
    let again = &read("[00:30.00][00:10.00]<00:30.00>a <00:31.00>b").texts[0];
    assert_eq!(shown(again)[0], "10000-30000 a b 10000-11000:a  11000-30000:b", "words move with their line");
    assert_eq!(shown(&read("[00:01.00]I <3 you").texts[0]), ["1000-? I <3 you"]);
}

#[test]
fn a_text_without_times_is_its_lines() {
    let parsed = read("\nFirst line\n\nSecond line\r\n\r\n");
    assert!(!parsed.texts[0].is_synced);
    assert_eq!(to_plain(&parsed.texts[0]), "First line\n\nSecond line");
    assert_eq!(to_lrc(&parsed.texts[0]), None);
    for empty in ["", "\n\n", "[ar:Ada]\n", "[00:01.00]\n[00:02.00]", "1\n00:00:01,000 --> 00:00:02,000\n\n"] {
        assert_eq!(
            parse(empty.as_bytes(), None, None, &mut TextBudget::default()),
            Err(ParseError::Empty),
            "{empty:?}"
        );
    }
}

#[test]
fn encodings_are_told_by_their_marks() {
    let utf16: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain("[00:01.00]Ж".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    for (bytes, expected) in [(utf16.as_slice(), "Ж"), (b"[00:01.00]caf\xe9", "café"), ("[00:01.00]Ü".as_bytes(), "Ü")]
    {
        let parsed = parse(bytes, Some(TextFormat::Lrc), None, &mut TextBudget::default()).expect("a text");
        assert_eq!(parsed.texts[0].lines[0].text, expected);
    }
}

#[test]
fn subrip_has_ends_and_no_styles() {
    let text = "1\r\n00:00:05,000 --> 00:00:07,500 X1:1\r\n<i>Second</i> {\\an8}of\r\nall\r\n\r\n2\r\n00:00:01,000 --> 00:00:02,000\r\nFirst\r\n";
    assert_eq!(shown(&read(text).texts[0]), ["1000-2000 First", "5000-7500 Second of all"]);
}

#[test]
fn ttml_has_words_translations_and_pronunciations() {
    let text = r#"<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" xmlns:itunes="x" xml:lang="ja">
      <head><metadata><ttm:title>Prelude &amp; Fugue</ttm:title><iTunesMetadata><transliterations><transliteration xml:lang="ja-Latn">
        <text for="L1">hajime</text></transliteration></transliterations></iTunesMetadata></metadata></head>
      <body><div><p begin="5.5" end="00:08.000" itunes:key="L2">Second<br/>line <span ttm:role="x-translation" xml:lang="en">2nd</span></p>
        <p begin="00:01.000" end="4s" itunes:key="L1"><span begin="00:01.000" end="00:02.000">は&#x3058;</span><span begin="00:02.000" end="00:03.000">め</span>
        <span begin="3s" end="4s">!</span><span ttm:role="x-translation" xml:lang="en">first</span></p></div></body></tt>"#;
    let parsed = read(text);
    assert_eq!(parsed.title.as_deref(), Some("Prelude & Fugue"));
    let of =
        |kind, lang: &str| parsed.texts.iter().find(|text| text.kind == kind && text.lang.as_deref() == Some(lang));
    let main = of(TextKind::Main, "ja").expect("a main text");
    assert_eq!(shown(main), ["1000-4000 はじめ ! 1000-2000:はじ 2000-3000:め  3000-4000:!", "5500-8000 Second line"]);
    assert_eq!(shown(of(TextKind::Translation, "en").expect("a translation")), ["1000-4000 first", "5500-8000 2nd"]);
    assert_eq!(shown(of(TextKind::Pronunciation, "ja-Latn").expect("a pronunciation")), ["1000-4000 hajime"]);
}

#[test]
fn a_key_of_a_line_has_so_many_bytes_and_a_longer_one_is_none() {
    let text = |key: &str| {
        format!(
            r#"<tt><head><translation xml:lang="en"><text for="{key}">a&lt;{}<i>b</i></text><text for="{key}">c</text></translation></head>
            <body><p key="{key}">x</p></body></tt>"#,
            "&amp;".repeat(3)
        )
    };
    let found = read(&text(&"k".repeat(256)));
    assert_eq!(shown(&found.texts[1]), ["?-? a<&&&bc"], "its pieces in their order");
    assert_eq!(read(&text(&"k".repeat(257))).texts.len(), 1, "no line has that key");
}

#[test]
fn xml_that_would_become_more_than_its_bytes_is_refused() {
    let bomb = r#"<!DOCTYPE tt [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><tt><body><p>&b;</p></body></tt>"#;
    let external = r#"<!DOCTYPE tt SYSTEM "file:///etc/passwd"><tt><body><p>x</p></body></tt>"#;
    let deep = format!("<tt>{}{}</tt>", "<div>".repeat(100), "</div>".repeat(100));
    for text in [bomb, external, &deep, "<tt><body><p>&x;</p></body></tt>", "<tt><body><p>x", "<div><p>x</p></div>"] {
        let parsed = parse(text.as_bytes(), Some(TextFormat::Ttml), None, &mut TextBudget::default());
        assert_eq!(parsed, Err(ParseError::BadXml), "{text:.80}");
    }
}

#[test]
fn a_few_bytes_do_not_become_many_lines() {
    let times = "[00:01.00]".repeat(20_000);
    let long = format!("{}{}", "[00:01.00]".repeat(4_000), "x".repeat(200_000));
    let words = "<00:01.00>a".repeat(23_000);
    let lines = "a\n".repeat(100_000);
    assert!(parse("<".repeat(MAX_TEXT_BYTES).as_bytes(), None, None, &mut TextBudget::default()).is_ok(), "and soon");
    let large = "a".repeat(MAX_TEXT_BYTES + 1);
    for text in [times, long, format!("[00:01.00]{words}"), lines, large] {
        let parsed = parse(text.as_bytes(), None, None, &mut TextBudget::default());
        assert_eq!(parsed, Err(ParseError::TooLarge), "{text:.40}");
    }
}

/// Pieces of which files are made, good and bad.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\[[0-9]{1,3}:[0-9]{2}(\\.[0-9]{1,4})?\\]",
        "<[0-9]{1,2}:[0-9]{2}\\.[0-9]{2}>",
        "[a-zA-Z <>&;\\[\\]:.é]{0,8}",
        "\\PC{0,4}",
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("[offset:-250]".to_owned()),
        Just("00:00:01,000 --> 00:00:00,500\n".to_owned()),
        Just("<tt>".to_owned()),
        Just("<p begin=\"1s\" end=\"500ms\">".to_owned()),
        Just("<span begin=\"2s\">".to_owned()),
        Just("</span>".to_owned()),
        Just("</p>".to_owned()),
        Just("</tt>".to_owned()),
        Just("<script>".to_owned()),
    ]
}

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let of_pieces = proptest::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![4 => of_pieces, 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn whatever_is_read_keeps_the_form(bytes in any_file(), format in proptest::sample::select(TextFormat::ALL.to_vec())) {
        for format in [Some(format), None] {
            let Ok(parsed) = parse(&bytes, format, Some("en"), &mut TextBudget::default()) else { continue };
            prop_assert!(!parsed.texts.is_empty());
            for text in &parsed.texts {
                holds(text)?;
            }
        }
    }
}

fn holds(text: &LyricsText) -> Result<(), TestCaseError> {
    prop_assert!(text.lines.iter().all(|line| line.start_ms.is_some() == text.is_synced));
    prop_assert!(text.lines.is_sorted_by_key(|line| line.start_ms));
    for line in &text.lines {
        prop_assert!(!line.text.chars().any(char::is_control) && !has_markup(&line.text), "{:?}", line.text);
        prop_assert!(
            line.start_ms.is_none_or(|start| start <= MAX_MILLIS && line.end_ms.is_none_or(|end| end >= start))
        );
        let words: String = line.words.iter().map(|word| word.text.as_str()).collect();
        prop_assert!(line.words.is_empty() || words == line.text, "{words:?} {:?}", line.text);
        prop_assert!(line.words.is_sorted_by_key(|word| word.start_ms));
        prop_assert!(line.words.iter().all(|word| word.end_ms.is_none_or(|end| end >= word.start_ms)));
    }
    Ok(())
}
