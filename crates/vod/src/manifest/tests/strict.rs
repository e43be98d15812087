//! Manifests that some players read differently from others, and manifests that others lead to: refused.

use super::*;

fn is_malformed(result: Result<String, ManifestRefusal>) -> bool {
    matches!(fault(result), ManifestFault::Malformed(_))
}

#[test]
fn a_tag_within_a_line_that_is_a_uri_or_a_title_is_refused() {
    for lines in [
        "#EXT-X-STREAM-INF:BANDWIDTH=1\nfoo#EXT-X-MEDIA:TYPE=AUDIO,URI=\"http://evil.example/a.m3u8\"",
        "#EXT-X-STREAM-INF:BANDWIDTH=1\nfoo#EXT-X-CONTENT-STEERING:SERVER-URI=\"http://evil.example/\"",
        "#EXTINF:6,\nfoo#EXT-X-KEY:METHOD=AES-128,URI=\"http://evil.example/k\"",
        "#EXTINF:6,title #EXT-X-KEY:METHOD=AES-128,URI=\"http://evil.example/k\"\nseg.ts",
        "#EXTINF:6,\nfoo#ext-x-key",
        "#ext-x-key:METHOD=AES-128,URI=\"http://evil.example/k\"",
        " #EXTINF:6,\nseg.ts",
    ] {
        assert!(is_malformed(hls(lines)), "{lines}");
    }
}

#[test]
fn characters_that_are_white_space_for_some_players_are_refused() {
    for lines in [
        "#EXTINF:4,\n\u{feff}//evil.example/x.ts",
        "\u{feff}#EXT-X-KEY:METHOD=AES-128,URI=\"http://evil.example/k\"",
        "#EXTINF:4,a\u{feff}\nseg.ts",
        "#EXT-X-MAP:URI=caf\u{e9}",
        "#EXTINF:4,a\u{9f}\nseg.ts",
    ] {
        assert!(is_malformed(hls(lines)), "{lines:?}");
    }
    for space in ['\u{a0}', '\u{1680}', '\u{180e}', '\u{2003}', '\u{200b}', '\u{2060}', '\u{3000}'] {
        for line in ["#EXTINF:4,\n@//evil.example/x.ts", "#EXTINF:4,\n@#x", "#EXT-X-MAP:URI=\"@//evil.example/x\""] {
            let lines = line.replace('@', &space.to_string());
            assert!(matches!(fault(hls(&lines)), ManifestFault::AmbiguousUri(_)), "{lines:?}");
        }
        assert!(mpd(&format!("<BaseURL>{space}//evil.example/</BaseURL>")).is_err());
    }
    let named = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Ti\u{1ebf}ng Vi\u{1ec7}t\",URI=\"a.m3u8\"";
    assert_eq!(hls(named), Ok(named.to_owned()));
}

#[test]
fn a_key_that_a_player_may_fetch_itself_is_judged() {
    for attributes in [
        "METHOD=AES-128,URI=\"@\",KEYFORMAT=\"com.x\"",
        "METHOD=AES-128,URI=\"@\",KEYFORMAT=\"com.apple.streamingkeydelivery\"",
        "METHOD=SAMPLE-AES,URI=\"@\",KEYFORMAT=\"com.apple.streamingkeydelivery\"",
        "METHOD=SAMPLE-AES,URI=\"@\",KEYFORMAT=\"identity \"",
        "METHOD=SAMPLE-AES,URI=\"@\",KEYFORMAT=\"com.x\"",
    ] {
        for tag in ["#EXT-X-KEY:", "#EXT-X-SESSION-KEY:"] {
            let line = format!("{tag}{}", attributes.replace('@', "http://evil.example/k"));
            assert_eq!(fault(hls(&line)), foreign("evil.example"), "{line}");
        }
    }
    for attributes in [
        "METHOD=AES-128,URI=\"http://evil.example/k\",keyformat=\"x\"",
        "METHOD=AES-128,URI=\"k\",KEYFORMAT=\"com.x\",KEYFORMAT=\"identity\"",
        "METHOD=AES-128,URI=\"k\",URI=\"http://evil.example/k\"",
        "METHOD=AES-128,uri=\"k\"",
        "METHOD=AES-128,UrI=\"k\"",
    ] {
        assert!(is_malformed(hls(&format!("#EXT-X-KEY:{attributes}"))), "{attributes}");
    }
    let data = "METHOD=AES-128,KEYFORMAT=\"com.widevine\",URI=\"data:text/plain;base64,AA==\"";
    assert!(hls(&format!("#EXT-X-KEY:{data}")).is_err());
}

#[test]
fn what_a_playlist_leads_to_further_is_checked_or_refused() {
    let playlists = [
        "#EXT-X-STREAM-INF:BANDWIDTH=1\n@",
        "@",
        "#EXTINF:6,\nseg.ts\n@",
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x, y=z\",URI=\"@\"",
        "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"@\"",
        "#EXT-X-RENDITION-REPORT:URI=\"@\",LAST-MSN=1",
        "#EXT-X-DATERANGE:ID=\"a\",X-ASSET-URI=\"@\"",
    ];
    for line in playlists {
        for uri in ["v.txt", "v", "v.m3u8.txt", "v.txt?x.m3u8", "v.txt#x.m3u8", "v.mpd", "/vod/library/b1/v.txt"] {
            let refused = fault(hls(&line.replace('@', uri)));
            assert!(matches!(refused, ManifestFault::UncheckedDocument(..)), "{line} {uri}: {refused}");
        }
        for (uri, expected) in [
            ("v.m3u8", "v.m3u8"),
            ("../a/v.M3U8?x=1", "../a/v.M3U8?x=1"),
            ("/vod/library/b1/v.m3u", "../v.m3u"),
            ("https://cdn.example/v", "https://cdn.example/v"),
        ] {
            assert_eq!(hls(&line.replace('@', uri)), Ok(line.replace('@', expected)), "{line} {uri}");
        }
    }
    for line in
        ["#EXT-X-CONTENT-STEERING:SERVER-URI=\"@\",PATHWAY-ID=\"a\"", "#EXT-X-DATERANGE:ID=\"a\",X-ASSET-LIST=\"@\""]
    {
        assert!(matches!(fault(hls(&line.replace('@', "a.json"))), ManifestFault::UncheckedDocument(..)));
        let allowed = line.replace('@', "https://cdn.example/a.json");
        assert_eq!(hls(&allowed), Ok(allowed.clone()));
        assert_eq!(fault(hls(&line.replace('@', "https://evil.example/a.json"))), foreign("evil.example"));
    }
    assert!(is_malformed(hls("#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n#EXTINF:6,\nseg.ts")));
    assert!(is_malformed(hls("#EXT-X-TARGETDURATION:6\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8")));
}

#[test]
fn variables_do_not_multiply_a_playlist() {
    let long = format!("http://minio:9000/vod/library/b1/{}", "x".repeat(4000));
    let lines = |value: &str, count: usize| {
        format!("#EXT-X-DEFINE:NAME=\"a\",VALUE=\"{value}\"\n{}", "#EXTINF:6,\n{$a}\n".repeat(count))
    };
    assert!(hls(&lines(&long, 100)).is_ok());
    assert_eq!(fault(hls(&lines(&long, 100_000))), ManifestFault::TooLarge);
    assert_eq!(fault(hls(&lines(&"a%20".repeat(1900), 30_000))), ManifestFault::TooLarge);
    // Replacements alone can be longer than what they replace.
    let deep = "d/".repeat(400) + "index.m3u8";
    let text = format!("#EXTM3U\n{}", "#EXTINF:6,\n/vod/library/b1/1%20.ts\n".repeat(10_000));
    assert_eq!(fault(checked(ManifestType::Hls, &text, &deep)), ManifestFault::TooLarge);
}

#[test]
fn xml_that_parsers_read_differently_is_refused() {
    for inner in [
        "<!--><BaseURL>http://evil.example/</BaseURL><!-- --><Period/>",
        "<!---><BaseURL>http://evil.example/</BaseURL><!-- --><Period/>",
        "<!-- a -- ><BaseURL>http://evil.example/</BaseURL> -->",
        "<!-- a --->",
        "<?x ><BaseURL>http://evil.example/</BaseURL><?y ?>",
        "<?xml version=\"1.0\"?>",
        "<Period id=\"><BaseURL>http://evil.example/</BaseURL>\"/>",
        "<Period><![CDATA[ ]]<BaseURL>x</BaseURL> ]]></Period>",
        "<baseurl>http://evil.example/</baseurl>",
        "<BASEURL>http://evil.example/</BASEURL>",
        "<x:BaseURL>a/b/</x:BaseURL>",
        "<period><BaseURL>a/</BaseURL></period>",
        "<Period><Foo><BaseURL>a/b/c/</BaseURL></Foo></Period>",
        "<Period><SegmentTemplate Media=\"a.mp4\"/></Period>",
        "<Period id=\"a\u{1}\"/>",
        "<Period>\u{feff}</Period>",
        "<P\u{e9}riod/>",
    ] {
        assert!(is_malformed(mpd(inner)), "{inner}");
    }
    let fine = "<!-- <BaseURL>http://other.example/</BaseURL> --><Period/>";
    assert_eq!(mpd(fine), Ok(fine.to_owned()));
}

#[test]
fn values_that_stand_in_segments_names_are_plain() {
    let manifest = |attributes: &str, media: &str| {
        format!(
            "<Period><AdaptationSet><SegmentTemplate media=\"{media}\"/><Representation {attributes}/></AdaptationSet></Period>"
        )
    };
    let good = "id=\"video/avc1=1\" bandwidth=\"1000\"";
    let all = "$RepresentationID$/$Bandwidth$/$Number%05d$-$Time$.m4s";
    assert_eq!(mpd(&manifest(good, all)), Ok(manifest(good, all)));
    for (attributes, media) in [
        ("id=\"http://evil.example\"", "$RepresentationID%05d$/i.mp4"),
        ("id=\"../../b2\"", "$representationid$/i.mp4"),
        ("id=\"../../b2\"", "i.mp4"),
        ("id=\"v\u{e9}\"", "i.mp4"),
        ("id=\"a b\"", "i.mp4"),
        ("ID=\"v\"", "i.mp4"),
        ("bandwidth=\"1\"", "i.mp4"),
        ("id=\"v\" bandwidth=\"../../../../../evil\"", "$Bandwidth$/i.mp4"),
        ("id=\"v\" bandwidth=\"\"", "$Bandwidth$/i.mp4"),
        ("id=\"v\"", "$Bandwidth$/i.mp4"),
        ("id=\"v\"", "$Foo$/i.mp4"),
        ("id=\"v\"", "a$.mp4"),
        ("id=\"e\"", "%2$RepresentationID$/i.mp4"),
    ] {
        assert!(is_malformed(mpd(&manifest(attributes, media))), "{attributes} {media}");
    }
    for inner in [
        "<Period><SegmentTemplate startNumber=\"../1\" media=\"a\"/></Period>",
        "<Period><SegmentTemplate><SegmentTimeline><S t=\"/x\" d=\"1\"/></SegmentTimeline></SegmentTemplate></Period>",
        "<BaseURL>$RepresentationID$/</BaseURL>",
    ] {
        assert!(is_malformed(mpd(inner)), "{inner}");
    }
}

#[test]
fn what_a_dash_manifest_leads_to_further_is_checked_or_refused() {
    for element in [
        "<PatchLocation ttl=\"9\">@</PatchLocation>",
        "<ContentSteering>@</ContentSteering>",
        "<Period xlink:href=\"@\" xlink:actuate=\"onLoad\"/>",
        "<Period><AdaptationSet x:href=\"@\"><Role schemeIdUri=\"urn:a\"/></AdaptationSet></Period>",
    ] {
        for uri in ["period.xml", "a.mpd", "http://minio:9000/vod/library/b1/a.mpd"] {
            let refused = fault(mpd(&element.replace('@', uri)));
            assert!(matches!(refused, ManifestFault::UncheckedDocument(..)), "{element}: {refused}");
        }
        let allowed = element.replace('@', "https://cdn.example/x");
        assert_eq!(mpd(&allowed), Ok(allowed.clone()));
        assert_eq!(fault(mpd(&element.replace('@', "https://evil.example/x"))), foreign("evil.example"));
    }
    for element in ["<Location>@</Location>", "<ImportedMPD>@</ImportedMPD>"] {
        let refused = fault(mpd(&element.replace('@', "a.xml")));
        assert!(matches!(refused, ManifestFault::UncheckedDocument(..)), "{element}: {refused}");
        let store = element.replace('@', "http://minio:9000/vod/library/b1/720p/a.mpd");
        assert_eq!(mpd(&store), Ok(element.replace('@', "a.mpd")));
    }
}

#[test]
fn pairs_of_uris_and_bases_are_counted_by_their_bytes() {
    let manifest = |bases: usize, base: &str, segments: usize| {
        format!(
            "<Period><AdaptationSet><Representation id=\"v\">{}<SegmentList>{}</SegmentList></Representation></AdaptationSet></Period>",
            format!("<BaseURL>{base}</BaseURL>").repeat(bases),
            "<SegmentURL media=\"a%20\"/>".repeat(segments),
        )
    };
    assert!(mpd(&manifest(1, "a/", 20_000)).is_ok());
    assert!(is_malformed(mpd(&manifest(32, "a/", 20_000))));
    assert!(is_malformed(mpd(&manifest(32, &"a/".repeat(4000), 500))));
}
