use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use uuid::Uuid;

use super::location::track_of_location;
use super::*;
use crate::playlist::PlaylistHead;
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

fn track(id: &str) -> TrackId {
    TrackId::parse(id).expect("an id")
}

fn playlist(name: &str, items: Vec<PlaylistItem>) -> Playlist {
    let head = PlaylistHead {
        id: Uuid::nil(),
        user: UserId::parse("alice").expect("an id"),
        name: name.to_owned(),
        description: Some("two & \"three\"".to_owned()),
        item_count: 0,
        revision: 1,
        created_at: UnixMillis::EPOCH,
        updated_at: UnixMillis::EPOCH,
    };
    Playlist { head, items }
}

fn item(id: &str, title: &str, artist: &str, duration_ms: Option<u32>) -> PlaylistItem {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    PlaylistItem { track: track(id), title: text(title), artist: text(artist), duration_ms }
}

#[test]
fn locations_name_tracks_by_their_path_or_their_bare_id() {
    for (location, id) in [
        ("/api/v1/tracks/a%2Fb%20c/stream", Some("a/b c")),
        ("https://music.example/api/v1/tracks/t1/stream?access_token=x#y", Some("t1")),
        ("https://music.example/t/token/api/v1/tracks/t1/stream", Some("t1")),
        ("t1", Some("t1")),
        ("urn:isrc:QZ123", Some("urn:isrc:QZ123")),
        ("albums/one/01.flac", Some("albums/one/01.flac")),
        ("/api/v1/tracks/a/b/stream", None),
        ("/api/v1/tracks/%ff/stream", None),
        ("/api/v1/tracks/t1/position", None),
        ("/home/me/music/01.flac", None),
        ("../01.flac", None),
        ("C:\\music\\01.flac", None),
        ("file:///music/01.flac", None),
        ("https://radio.example/live.mp3", None),
        ("", None),
    ] {
        assert_eq!(track_of_location(location), id.map(track), "{location}");
    }
}

#[test]
fn m3u_of_other_players_is_read() {
    let file = "\u{feff}#EXTM3U\r\n#PLAYLIST: Sunday \r\n#EXTINF:123 tvg-name=\"a,b\",Miles Davis - So What\r\n\
        /api/v1/tracks/so-what/stream\r\n\r\n#EXTINF:-1,Untitled\r\nblue\r\n# a remark\r\n/music/other.mp3\r\n\
        #EXTINF:2.5,<b>A</b> - B\rlast";
    let parsed = parse(file.as_bytes()).expect("it is M3U");
    assert_eq!(parsed.name.as_deref(), Some("Sunday"));
    let expected = [
        item("so-what", "So What", "Miles Davis", Some(123_000)),
        item("blue", "Untitled", "", None),
        item("last", "B", "A", Some(2500)),
    ];
    assert_eq!((parsed.items.as_slice(), parsed.skipped.as_slice()), (&expected[..], &[3][..]));
    // As old players write it.
    let parsed = parse(b"#EXTINF:1,Beyonc\xe9 - D\xe9j\xe0 Vu\nt1\n").expect("it is M3U");
    assert_eq!(parsed.items, [item("t1", "Déjà Vu", "Beyoncé", Some(1000))]);
}

#[test]
fn xspf_of_other_players_is_read() {
    let file = r#"<?xml version="1.0"?><x:playlist xmlns:x="http://xspf.org/ns/0/" version="1"><x:title>Sunday &amp; more</x:title>
        <x:trackList><x:track><x:location>file:///a.mp3</x:location><x:identifier>/api/v1/tracks/t1/stream</x:identifier>
        <x:title>So &#x57;hat</x:title><x:creator><![CDATA[Miles & co]]></x:creator><x:duration>545000</x:duration>
        <x:extension><x:title>none</x:title></x:extension></x:track>
        <x:track><x:location>https://other.example/x.mp3</x:location></x:track></x:trackList></x:playlist>"#;
    let parsed = parse(file.as_bytes()).expect("it is XSPF");
    assert_eq!(parsed.name.as_deref(), Some("Sunday & more"));
    assert_eq!(parsed.items, [item("t1", "So What", "Miles & co", Some(545_000))]);
    assert_eq!(parsed.skipped, [2]);
}

#[test]
fn what_is_no_list_of_tracks_is_refused() {
    let deep = "<a>".repeat(100);
    let long = "x\n".repeat(MAX_ENTRIES + 1);
    let wide = format!("<playlist>{}</playlist>", "<a/>".repeat(20 * MAX_ENTRIES));
    for (file, expected) in [
        ("a\0b", FormatError::NotText),
        ("<playlist>", FormatError::BadXml),
        ("<playlist><trackList></playlist>", FormatError::BadXml),
        ("<!DOCTYPE playlist [<!ENTITY a \"aaaa\">]><playlist>&a;</playlist>", FormatError::BadXml),
        ("<playlist><title>&a;</title></playlist>", FormatError::BadXml),
        ("<html></html>", FormatError::NotXspf),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n0.ts\n", FormatError::Hls),
        (&deep, FormatError::BadXml),
        (&long, FormatError::TooManyEntries),
        (&wide, FormatError::TooManyElements),
    ] {
        assert_eq!(parse(file.as_bytes()), Err(expected), "{}", file.chars().take(60).collect::<String>());
    }
}

#[test]
fn each_location_is_parsed_once_however_many_an_entry_has() {
    let begin = primitives::clock::monotonic_now();
    let long = format!("http://a.example/{}", "x".repeat(2 << 20));
    for kind in ["location", "identifier"] {
        let many = format!("<{kind}/>").repeat(150_000);
        let file = format!(
            "<playlist><trackList><track><{kind}>{long}</{kind}>{many}<{kind}>t1</{kind}><{kind}>t2</{kind}></track></trackList></playlist>"
        );
        let parsed = parse(file.as_bytes()).expect("it is XSPF");
        assert_eq!(parsed.items, [item("t1", "", "", None)], "{kind}");
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn a_location_that_is_too_long_is_not_taken_for_its_beginning() {
    let id = "x".repeat(200);
    for (fill, is_found) in [(100, true), (5000, false)] {
        let location = format!("http://a.example/{}/api/v1/tracks/{id}/stream", "a".repeat(fill));
        let file =
            format!("<playlist><trackList><track><location>{location}</location></track></trackList></playlist>");
        for file in [file, location] {
            assert_eq!(parse(file.as_bytes()).expect("a list").items.len(), usize::from(is_found), "{fill}");
        }
    }
}

#[test]
fn lengths_that_the_api_refuses_are_unknown() {
    for (millis, expected) in [
        ("0", None),
        ("1", Some(1)),
        ("604800000", Some(604_800_000)),
        ("604800001", None),
        ("99999999999999999999", None),
    ] {
        let file = format!(
            "<playlist><trackList><track><location>t1</location><duration>{millis}</duration></track></trackList></playlist>"
        );
        assert_eq!(parse(file.as_bytes()).expect("it is XSPF").items[0].duration_ms, expected, "{millis}");
    }
    for (seconds, expected) in [
        ("0.0001", None),
        ("0.001", Some(1)),
        ("604800", Some(604_800_000)),
        ("604801", None),
        ("1e300", None),
        ("NaN", None),
    ] {
        let parsed = parse(format!("#EXTINF:{seconds},x\nt1\n").as_bytes()).expect("it is M3U");
        assert_eq!(parsed.items[0].duration_ms, expected, "{seconds}");
    }
}

#[test]
fn long_texts_are_cut_between_characters() {
    let file = format!("#EXTINF:1,{}\nt1\n", "ж".repeat(400));
    let parsed = parse(file.as_bytes()).expect("it is M3U");
    let title = parsed.items[0].title.as_deref().expect("a title");
    assert_eq!((title.len(), title.chars().all(|c| c == 'ж')), (MAX_TEXT_BYTES, true));
}

/// Texts as the API takes them.
fn line() -> impl Strategy<Value = String> {
    let any_line = "[^\\p{C}<]{1,40}".prop_map(|text: String| text.trim().to_owned());
    prop_oneof![any_line, Just("A - B".to_owned()), Just("#EXTINF:1,x".to_owned()), Just("&amp; \"'>".to_owned())]
}

fn items() -> impl Strategy<Value = Vec<PlaylistItem>> {
    let id = "[^\\p{C}]{1,30}".prop_filter("an id", |id: &String| TrackId::parse(id.as_str()).is_some());
    let one = (id, prop::option::of(line()), prop::option::of(line()), prop::option::of(1..=MAX_DURATION_MILLIS));
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let one = one.prop_map(move |(id, title, artist, duration_ms)| PlaylistItem {
        track: track(&id),
        title: filled(title),
        artist: filled(artist),
        duration_ms,
    });
    prop::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn what_is_exported_is_imported_as_it_was(name in line(), items in items()) {
        let playlist = playlist(&name, items);
        for format in [PlaylistFormat::M3u, PlaylistFormat::M3u8, PlaylistFormat::Xspf] {
            let parsed = parse(format.write(&playlist).as_bytes());
            let parsed = parsed.map_err(|error| proptest::test_runner::TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&parsed.items, &playlist.items);
            prop_assert!(parsed.skipped.is_empty());
            let is_described = format == PlaylistFormat::Xspf;
            prop_assert_eq!(&parsed.description, &playlist.head.description.clone().filter(|_| is_described));
            if !name.is_empty() {
                prop_assert_eq!(parsed.name.as_deref(), Some(name.as_str()));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>(), text in "[<>/&;a-z#:,\\n EXTINF0-9.-]{0,200}") {
        let _ = parse(&bytes);
        let _ = parse(text.as_bytes());
        let _ = parse(format!("<playlist><trackList><track><location>{text}").as_bytes());
    }
}
