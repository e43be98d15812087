use super::*;

const MOVIE: &str = "b1";

fn rules() -> ManifestRules {
    ManifestRules {
        store_hosts: vec!["minio:9000".to_owned(), "vod.minio:9000".to_owned()],
        allowed_hosts: vec!["cdn.example".to_owned()],
        bucket: "vod".to_owned(),
    }
}

fn checked(kind: ManifestType, text: &str, path: &str) -> Result<String, ManifestRefusal> {
    let rules = rules();
    let folder = FilmFolder { rules: &rules, movie: MOVIE, prefix: "library/b1/", key_prefix: Some("keys/b1/") };
    let checked = check(kind, text.as_bytes(), path, &folder)?;
    Ok(checked.rewritten.map_or(text.to_owned(), |bytes| String::from_utf8(bytes).expect("UTF-8 stays UTF-8")))
}

fn hls(lines: &str) -> Result<String, ManifestRefusal> {
    let text = format!("#EXTM3U\n{lines}\n");
    checked(ManifestType::Hls, &text, "720p/index.m3u8").map(|text| {
        let text = text.strip_prefix("#EXTM3U\n").and_then(|text| text.strip_suffix('\n'));
        text.expect("the ends stay").to_owned()
    })
}

fn fault(result: Result<String, ManifestRefusal>) -> ManifestFault {
    result.expect_err("it is refused").fault
}

fn foreign(host: &str) -> ManifestFault {
    ManifestFault::ForeignHost { host: host.to_owned() }
}

/// URIs as they come, and what becomes of them in `720p/index.m3u8` of the film.
const URIS: [(&str, &str); 19] = [
    ("seg-1.ts", "seg-1.ts"),
    ("./seg-1.ts", "./seg-1.ts"),
    ("../audio/seg 1.ts?x=1", "../audio/seg 1.ts?x=1"),
    ("a/b/../c.ts#t=1", "a/b/../c.ts#t=1"),
    ("caf%C3%A9.ts", "caf%C3%A9.ts"),
    ("http://minio:9000/vod/library/b1/720p/seg-1.ts", "seg-1.ts"),
    ("https://minio:9000/vod/library/b1/audio/a.ts?X-Amz-Signature=00", "../audio/a.ts"),
    ("HTTP://MINIO:9000/vod/library/b1/720p/x:y.ts", "./x:y.ts"),
    ("http://vod.minio:9000/library/b1/720p/seg-1.ts", "seg-1.ts"),
    ("//minio:9000/vod/library/b1/720p/seg-1.ts", "seg-1.ts"),
    ("/vod/library/b1/720p/seg-1.ts", "seg-1.ts"),
    ("/library/b1/720p/seg-1.ts", "seg-1.ts"),
    ("/vod/library/b1/720p/a%20b%22.ts", "a%20b%22.ts"),
    ("../../b1/720p/seg-1.ts", "../../b1/720p/seg-1.ts"),
    ("../../../library/b1/720p/seg-1.ts", "seg-1.ts"),
    ("seg-1.ts?X-Amz-Signature=00&x=1", "seg-1.ts"),
    ("https://cdn.example/b1/seg-1.ts", "https://cdn.example/b1/seg-1.ts"),
    ("seg.ts?_HLS_msn=4&_HLS_part=1", "seg.ts?_HLS_msn=4&_HLS_part=1"),
    ("https://minio:9000/vod/library/b1/", "../"),
];

/// URIs for which a manifest is refused.
fn refused_uris() -> Vec<(&'static str, ManifestFault)> {
    let ambiguous = ManifestFault::AmbiguousUri;
    let scheme = |scheme: &str| ManifestFault::Scheme { scheme: scheme.to_owned() };
    vec![
        ("https://evil.example/seg.ts", foreign("evil.example")),
        ("//evil.example/seg.ts", foreign("evil.example")),
        ("https://cdn.example.evil.example/seg.ts", foreign("cdn.example.evil.example")),
        ("https://minio:9000@evil.example/vod/library/b1/x", foreign("evil.example")),
        ("http://minio:9000/vod/library/b2/seg.ts", ManifestFault::OutsideFolder),
        ("http://minio:9000/vod/library/b1/../b2/seg.ts", ManifestFault::OutsideFolder),
        ("http://minio/vod/library/b1/seg.ts", ManifestFault::OutsideFolder),
        ("/vod/library/b2/seg.ts", ManifestFault::OutsideFolder),
        ("/v/the-token-of-the-grant/movies/b1/seg.ts", ManifestFault::OutsideFolder),
        ("../../b2/seg.ts", ManifestFault::OutsideFolder),
        ("../../../../../seg.ts", ManifestFault::OutsideFolder),
        ("%2e%2e/%2e%2e/b2/seg.ts", ManifestFault::OutsideFolder),
        ("..%2f..%2fb2/seg.ts", ManifestFault::OutsideFolder),
        ("https://film.invalid/v/x/movies/b1/seg.ts", ManifestFault::OutsideFolder),
        ("../../../keys/b1/k.key", ManifestFault::OutsideFolder),
        ("data:video/mp2t;base64,AA", scheme("data")),
        ("javascript:alert(1)", scheme("javascript")),
        ("file:///etc/passwd", scheme("file")),
        ("concat:a.ts", scheme("concat")),
        ("..\\..\\b2\\seg.ts", ambiguous("it has a backslash")),
        ("a b:c.ts", ambiguous("it has a colon in its first segment, and no scheme")),
        ("https:seg.ts", ambiguous("it has a scheme without a host")),
        ("///evil.example/seg.ts", ambiguous("it has more than two slashes before the host")),
        ("https:///evil.example/seg.ts", ambiguous("it has more than two slashes before the host")),
        ("a\tb.ts", ambiguous("it has a control character")),
        ("caf\u{e9}.ts", ambiguous("it has a character that is not ASCII; expected percent-encoding")),
        ("a\u{a0}b.ts", ambiguous("it has a character that is not ASCII; expected percent-encoding")),
        ("\u{200b}//evil.example/x", ambiguous("it has a character that is not ASCII; expected percent-encoding")),
    ]
}

#[test]
fn the_uri_of_a_segment_stays_or_becomes_relative() {
    for (uri, expected) in URIS {
        let line = |uri: &str| format!("#EXTINF:6,\n{uri}");
        assert_eq!(hls(&line(uri)), Ok(line(expected)), "{uri}");
    }
}

#[test]
fn a_uri_that_leads_elsewhere_refuses_the_playlist_with_its_line() {
    for (uri, expected) in refused_uris() {
        let refusal = hls(&format!("#EXTINF:6,\n{uri}")).expect_err(uri);
        assert_eq!((refusal.line, refusal.fault), (3, expected), "{uri}");
    }
}

#[test]
fn the_uri_of_every_tag_is_judged() {
    for tag in [
        "#EXT-X-MAP:URI=\"@\",BYTERANGE=\"10\"",
        "#EXT-X-SESSION-DATA:DATA-ID=\"a\",URI=\"@\"",
        "#EXT-X-PART:DURATION=1,URI=\"@\",INDEPENDENT=YES",
        "#EXT-X-PRELOAD-HINT:TYPE=PART, URI=\"@\"",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"@\",IV=0x00",
        "#EXT-X-SESSION-KEY:METHOD=AES-128,KEYFORMAT=\"identity\",URI=\"@\"",
        "#EXT-X-OF-TOMORROW:X-NEW-URI=\"@\"",
        "#EXT-X-MAP:URI=@",
    ] {
        for (uri, expected) in URIS {
            if tag.contains("=@") && uri.contains(['=', '"', ' ']) {
                continue;
            }
            assert_eq!(hls(&tag.replace('@', uri)), Ok(tag.replace('@', expected)), "{tag} {uri}");
        }
        assert_eq!(fault(hls(&tag.replace('@', "https://evil.example/x"))), foreign("evil.example"), "{tag}");
    }
}

#[test]
fn a_key_may_lie_in_the_folder_of_keys_and_a_drm_systems_is_left_alone() {
    let key = |uri: &str| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\"");
    for (uri, expected) in [
        ("../../../keys/b1/k.key", "../../../keys/b1/k.key"),
        ("http://minio:9000/vod/keys/b1/k.key", "../../../keys/b1/k.key"),
        ("/vod/keys/b1/k.key", "../../../keys/b1/k.key"),
        ("k.key", "k.key"),
    ] {
        assert_eq!(hls(&key(uri)), Ok(key(expected)), "{uri}");
    }
    assert_eq!(fault(hls(&key("../../../keys/b2/k.key"))), ManifestFault::OutsideFolder);
    for line in [
        "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://a/b\",KEYFORMAT=\"com.apple.streamingkeydelivery\"",
        "#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES-CTR,KEYFORMAT=\"urn:uuid:edef8ba9\",URI=\"data:text/plain;base64,AA==\"",
        "#EXT-X-KEY:METHOD=NONE",
    ] {
        assert_eq!(hls(line), Ok(line.to_owned()));
    }
}

#[test]
fn variables_are_filled_in_before_a_uri_is_judged() {
    let defined = |define: &str, uri: &str| hls(&format!("#EXT-X-DEFINE:{define}\n#EXTINF:6,\n{uri}"));
    let unchanged = |define: &str, uri: &str| Ok(format!("#EXT-X-DEFINE:{define}\n#EXTINF:6,\n{uri}"));
    let name = "NAME=\"p\",VALUE=\"part\"";
    assert_eq!(defined(name, "{$p}/1.ts"), unchanged(name, "{$p}/1.ts"));
    let store = "NAME=\"p\",VALUE=\"http://minio:9000/vod/library/b1/720p\"";
    assert_eq!(defined(store, "{$p}/1.ts"), unchanged(store, "1.ts"));
    assert_eq!(fault(defined("NAME=\"p\",VALUE=\"https://evil.example\"", "{$p}/1.ts")), foreign("evil.example"));
    // Who knows no variables would leave the folder by the second one.
    let deep = "NAME=\"p\",VALUE=\"a/b/c/d\"";
    assert_eq!(defined(deep, "{$p}/../../../../1.ts"), unchanged(deep, "a/b/c/d/../../../../1.ts"));
    for define in ["IMPORT=\"p\"", "QUERYPARAM=\"p\""] {
        assert_eq!(fault(defined(define, "{$p}/1.ts")), ManifestFault::UnknownVariable);
        assert_eq!(defined(define, "1.ts?a={$p}"), unchanged(define, "1.ts?a={$p}"));
    }
    assert_eq!(fault(hls("#EXTINF:6,\n{$p}/1.ts")), ManifestFault::UnknownVariable);
    let twice = "#EXT-X-DEFINE:NAME=\"p\",VALUE=\"a\"\n#EXT-X-DEFINE:NAME=\"p\",VALUE=\"b\"";
    assert_eq!(fault(hls(twice)), ManifestFault::Malformed("a variable is defined twice"));
}

#[test]
fn what_players_read_differently_is_refused() {
    for lines in [
        "# see #EXT-X-MEDIA:URI=\"https://evil.example\"",
        "#EXTINF:6,title #EXT\r#EXTINF:6,\nhttps://evil.example/",
        "#EXTINF:6,a\rb\nseg.ts",
        "#EXTINF:6 https://evil.example/seg.ts\nseg.ts",
        "#EXTINF:,\nseg.ts",
        "#EXTINF:6,a\u{2028}https://evil.example\nseg.ts",
        "#EXTINF:6,a\u{b}b\nseg.ts",
        "#EXT-X-MAP:URI=\"a\\\"https://evil.example\"",
        "#EXT-X-MAP:URI=\"a",
        "#EXT-X-MAP:URI=\"a\"b",
        "#EXT-X-MAP:URI=a\"b\"",
        "#EXT-X-MAP:URI =\"a\"",
    ] {
        assert!(matches!(fault(hls(lines)), ManifestFault::Malformed(_)), "{lines:?}");
    }
    let text = "#EXTM3U\n#EXTINF:6,a https://evil.example/x";
    assert!(checked(ManifestType::Hls, text, "index.m3u8").is_err(), "hls.js takes the last word for the segment");
    assert!(checked(ManifestType::Hls, "seg.ts\n", "index.m3u8").is_err());
    assert_eq!(
        fault(checked(ManifestType::Hls, &format!("#EXTM3U\n{}", "#\n".repeat(MAX_MANIFEST_BYTES / 2)), "a.m3u8")),
        ManifestFault::TooLarge
    );
}

#[test]
fn every_byte_that_is_no_uri_stays() {
    let text = "\u{feff}#EXTM3U\r\n#EXT-X-VERSION:7\r\n\r\n# caf\u{e9}\r\n#EXTINF:6.006,\ttitle, \u{442}\r\n \
                http://minio:9000/vod/library/b1/1.ts \r\n#EXTINF:6,\r\n2.ts\r\n#EXT-X-ENDLIST";
    let expected = text.replace("http://minio:9000/vod/library/b1/1.ts", "1.ts");
    assert_eq!(checked(ManifestType::Hls, text, "index.m3u8"), Ok(expected));
}

#[test]
fn segments_side_by_side_become_relative_one_by_one() {
    let lines = |names: &[&str]| names.iter().map(|name| format!("#EXTINF:6,\n{name}")).collect::<Vec<_>>().join("\n");
    let store = "http://minio:9000/vod/library/b1";
    let given = [
        &*format!("{store}/720p/1.ts"),
        &format!("{store}/720p/2.ts"),
        &format!("{store}/720p/a/3.ts"),
        &format!("{store}/720p/4.ts?X-Amz-Signature=0"),
        &format!("{store}/audio/5.ts"),
        &format!("{store}/audio/6.ts"),
        "7.ts",
        "/vod/library/b1/720p/8.ts",
    ];
    let expected = ["1.ts", "2.ts", "a/3.ts", "4.ts", "../audio/5.ts", "../audio/6.ts", "7.ts", "8.ts"];
    assert_eq!(hls(&lines(&given)), Ok(lines(&expected)));
    for next in ["../b2/x.ts", "..", "../../b2/720p/1.ts", "%2e%2e/1.ts"] {
        let given = [format!("{store}/720p/1.ts"), format!("{store}/720p/../{next}")];
        assert!(hls(&lines(&[&given[0], &given[1]])).is_err() || next == "..", "{next}");
    }
}

#[test]
fn a_live_playlist_is_asked_for_again_after_half_its_target_duration() {
    let rules = rules();
    let folder = FilmFolder { rules: &rules, movie: MOVIE, prefix: "movies/b1/", key_prefix: None };
    let refresh = |text: &str| check(ManifestType::Hls, text.as_bytes(), "a.m3u8", &folder).expect("good").refresh;
    let live = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n1.ts\n";
    assert_eq!(refresh(live), Some(Duration::from_secs(3)));
    assert_eq!(refresh(&format!("{live}#EXT-X-ENDLIST\n")), None);
    assert_eq!(refresh("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n"), None);
}

fn mpd(inner: &str) -> Result<String, ManifestRefusal> {
    let (head, tail) =
        ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\">", "</MPD>\n");
    let text = checked(ManifestType::Dash, &format!("{head}{inner}{tail}"), "720p/index.mpd")?;
    Ok(text.strip_prefix(head).and_then(|text| text.strip_suffix(tail)).expect("the ends stay").to_owned())
}

#[test]
fn the_uris_of_every_element_are_judged() {
    for element in [
        "<BaseURL>@</BaseURL>",
        "<BaseURL serviceLocation=\"a\"> <![CDATA[@]]> </BaseURL>",
        "<Period><AdaptationSet><SegmentTemplate media=\"@\"/></AdaptationSet></Period>",
        "<Period><SegmentTemplate initialization='@' media=\"1\"></SegmentTemplate></Period>",
        "<Period><SegmentTemplate index=\"@\"/></Period>",
        "<Period><SegmentList><Initialization sourceURL=\"@\"/><SegmentURL media=\"@\"/></SegmentList></Period>",
        "<Period><SegmentBase><RepresentationIndex sourceURL=\"@\"/></SegmentBase></Period>",
        "<Period><AdaptationSet><Representation id=\"v\"><BaseURL>@</BaseURL></Representation></AdaptationSet></Period>",
    ] {
        let escaped = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;");
        for (uri, expected) in URIS {
            let (given, expected) = (element.replace('@', uri), element.replace('@', expected));
            if element.contains("CDATA") {
                let is_kept = given == expected;
                let plain = expected.replace(" <![CDATA[", "").replace("]]> ", "");
                assert_eq!(mpd(&given), Ok(if is_kept { given } else { plain }));
                continue;
            }
            let (given, expected) = (given.replace(uri, &escaped(uri)), expected);
            let expected = if uri.contains('&') && expected.contains('&') { given.clone() } else { expected };
            assert_eq!(mpd(&given), Ok(expected), "{element} {uri}");
        }
        for (uri, _) in refused_uris() {
            assert!(mpd(&element.replace('@', &escaped(uri))).is_err(), "{element} {uri}");
        }
    }
}

#[test]
fn a_base_of_a_manifest_is_the_base_of_what_is_below() {
    let levels = |bases: [&str; 3], media: &str| {
        let [mpd, period, representation] = bases.map(|base| match base {
            "" => String::new(),
            base => format!("<BaseURL>{base}</BaseURL>"),
        });
        format!(
            "{mpd}<Period>{period}<AdaptationSet><Representation id=\"v\">{representation}\
             <SegmentTemplate media=\"{media}\"/></Representation></AdaptationSet></Period>"
        )
    };
    let store = "http://minio:9000/vod/library/b1/";
    let given = levels([store, "video/", "high/"], "$Number%05d$.m4s");
    assert_eq!(mpd(&given), Ok(levels(["../", "video/", "high/"], "$Number%05d$.m4s")));
    let given = levels([store, "", "video/"], &format!("{store}video/$RepresentationID$/$Number%05d$.m4s"));
    assert_eq!(mpd(&given), Ok(levels(["../", "", "video/"], "$RepresentationID$/$Number%05d$.m4s")));
    // Each alone stays inside.
    assert_eq!(fault(mpd(&levels(["../", "../", ""], "a.m4s"))), ManifestFault::OutsideFolder);
    let cdn = levels(["https://cdn.example/x/", "video/", ""], "$Number$.m4s");
    assert_eq!(mpd(&cdn), Ok(cdn));
    let up = "<Period><SegmentTemplate media=\"../../$Number$.m4s\"/><AdaptationSet><Representation id=\"v\">\
              <BaseURL>../a/b/</BaseURL></Representation><Representation id=\"w\"><BaseURL>../</BaseURL></Representation>\
              </AdaptationSet></Period>";
    assert!(mpd(up).is_err());
}

#[test]
fn what_is_no_players_request_is_left_alone() {
    let inner = "<ProgramInformation moreInformationURL=\"https://evil.example/\"><Source>x</Source></ProgramInformation>\
                 <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"https://time.example/\"/>\
                 <Period><EventStream schemeIdUri=\"urn:a\"><Event><a href=\"https://b.example\"/></Event></EventStream>\
                 <AdaptationSet><ContentProtection schemeIdUri=\"urn:uuid:a\"><laurl href=\"https://drm.example\"/>\
                 </ContentProtection></AdaptationSet></Period>\
                 <Period xlink:href=\"urn:mpeg:dash:resolve-to-zero:2013\"/>";
    assert_eq!(mpd(inner), Ok(inner.to_owned()));
}

#[test]
fn a_dash_manifest_that_could_hide_a_uri_is_refused() {
    for inner in [
        "<Period xml:base=\"https://evil.example/\"/>",
        "<BaseURL>a<b/></BaseURL>",
        "<BaseURL>&evil;</BaseURL>",
        "<Period><SegmentTemplate media=\"a\"/><BaseURL>video/</BaseURL></Period>",
        "<Period/><BaseURL>video/</BaseURL>",
        "<Period><SegmentTemplate media=\"$RepresentationID$/1\"/><Representation id=\"../../x\"/></Period>",
        "<Period><SegmentTemplate media=\"http://minio:9000/vod/library/b1/1\"/><AdaptationSet><BaseURL>a/</BaseURL>\
         </AdaptationSet></Period>",
        "<Period>",
    ] {
        assert!(mpd(inner).is_err(), "{inner}");
    }
    for text in [
        "<!DOCTYPE MPD [<!ENTITY e \"https://evil.example\">]><MPD/>",
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><MPD/>",
        "<MPD/><MPD/>",
        "<html/>",
        "",
    ] {
        assert!(checked(ManifestType::Dash, text, "index.mpd").is_err(), "{text}");
    }
    let refusal = mpd("\n<Period>\n<BaseURL>https://evil.example/</BaseURL></Period>").expect_err("foreign");
    assert_eq!((refusal.line, refusal.fault), (4, foreign("evil.example")));
}

mod generated;
mod strict;
