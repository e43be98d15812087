//! Generated manifests, read by other readers than ours: every URI that they find leads into the film's folder, or to an
//! allowed host, or the manifest is refused.

use m3u8_rs::Playlist;
use proptest::prelude::{Just, Strategy, prop_assert, prop_oneof, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use proptest::{collection, sample};
use url::Url;

use super::super::ManifestType;
use super::checked;

/// URIs as packagers write them, and others, made of pieces.
fn uri() -> impl Strategy<Value = String> {
    let usual =
        ["seg-1.ts", "chunk_00001.m4s", "low/index.m3u8", "../720p/seg-2.ts", "https://cdn.example/a.ts", "a.ts?x=1"];
    prop_oneof![2 => sample::select(usual.map(str::to_owned).to_vec()), 3 => made_uri()]
}

fn made_uri() -> impl Strategy<Value = String> {
    let piece = sample::select(vec![
        "/",
        "//",
        "..",
        ".",
        "a",
        "seg-1.ts",
        "%2e",
        "%2F",
        "%5c",
        "\\",
        ":",
        "?",
        "#",
        "@",
        "http:",
        "https://",
        "minio:9000",
        "evil.example",
        "cdn.example",
        "/vod/library/b1/",
        "library/b1",
        "keys/b1/",
        "720p/",
        " ",
        "{$v}",
        "$Number$",
        "$RepresentationID$",
        "film.invalid",
        "v/the-token-of-the-grant/movies/b1/",
        "data:",
        "\u{e9}",
        "\t",
        "&amp;",
        ";",
        "~",
        "x-amz-a=1",
        "[",
        "]",
        "|",
        "^",
        "\u{3002}",
        "％２ｅ",
    ]);
    collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

fn playlist() -> impl Strategy<Value = String> {
    let line = (uri(), 0_usize..20).prop_map(|(uri, form)| match form {
        0 => format!("#EXT-X-MAP:URI=\"{uri}\""),
        1 => format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\""),
        2 => format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"n\",URI=\"{uri}\""),
        3 => format!("#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}"),
        4 => format!("#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"{uri}\""),
        5 => format!("#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{uri}\""),
        6 => format!("#{uri}"),
        7 => format!("#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"{uri}\""),
        8 => format!("#EXT-X-SESSION-DATA:DATA-ID=\"d\",URI=\"{uri}\""),
        9 => format!("#EXT-X-PART:DURATION=1,URI=\"{uri}\""),
        10 => format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\""),
        11 => format!("#EXT-X-RENDITION-REPORT:URI=\"{uri}\""),
        12 => format!("#EXT-X-CONTENT-STEERING:SERVER-URI=\"{uri}\""),
        13 => format!("#EXT-X-DATERANGE:ID=\"i\",START-DATE=\"2026-01-01T00:00:00Z\",X-ASSET-URI=\"{uri}\""),
        _ => format!("#EXTINF:6,{}\n{uri}", &uri[..0]),
    });
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n")];
    collection::vec((line, end), 1..6).prop_map(|lines| {
        let lines = lines.into_iter().map(|(line, end)| format!("{line}{end}"));
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n{}", lines.collect::<String>())
    })
}

/// The URIs that m3u8-rs finds, true for keys.
fn uris_of_playlist(text: &str) -> Vec<(String, bool)> {
    let Ok((_, playlist)) = m3u8_rs::parse_playlist(text.as_bytes()) else { return Vec::new() };
    match playlist {
        Playlist::MasterPlaylist(master) => {
            let variants = master.variants.into_iter().map(|variant| (variant.uri, false));
            variants.chain(master.alternatives.into_iter().filter_map(|it| Some((it.uri?, false)))).collect()
        }
        Playlist::MediaPlaylist(media) => {
            let of_segment = |segment: m3u8_rs::MediaSegment| {
                let map = segment.map.map(|map| (map.uri, false));
                let key = segment.key.and_then(|key| Some((key.uri?, true)));
                [Some((segment.uri, false)), map, key].into_iter().flatten()
            };
            media.segments.into_iter().flat_map(of_segment).collect()
        }
    }
}

/// Returns true where a browser that follows `uri` from the manifest stays in the folder, or asks an allowed host. A path is
/// read as the server reads it: what it refuses leads nowhere.
fn is_harmless(uri: &str, base: &Url, is_key: bool) -> bool {
    let Ok(url) = base.join(uri) else { return true };
    let folders: &[&str] =
        if is_key { &["/v/TOKEN/movies/b1/", "/v/TOKEN/keys/b1/"] } else { &["/v/TOKEN/movies/b1/"] };
    let is_ours = url.origin() == base.origin() && folders.iter().any(|folder| url.path().starts_with(folder));
    is_ours && http_semantics::request_path::check(url.path().as_bytes()).is_ok()
        || url.host_str() == Some("cdn.example") && matches!(url.scheme(), "http" | "https")
}

fn base() -> Url {
    Url::parse("http://media.example:8080/v/TOKEN/movies/b1/720p/index.m3u8").expect("a URL")
}

fn manifest() -> impl Strategy<Value = String> {
    let base = |uri: String| if uri.is_empty() { uri } else { format!("<BaseURL>{uri}</BaseURL>") };
    let bases = || collection::vec(prop_oneof![3 => Just(String::new()), 1 => uri()], 4);
    (bases(), uri(), uri(), uri()).prop_map(move |(bases, media, first, id)| {
        let [mpd, period, set, representation] = <[String; 4]>::try_from(bases).unwrap_or_default().map(base);
        let id = if id.len() % 2 == 0 { "v1" } else { id.trim_start_matches('&') };
        let quoted = |text: &str| text.replace(['&', '"'], "");
        format!(
            "<MPD>{mpd}<Period>{period}<AdaptationSet>{set}<SegmentTemplate media=\"{}\"/>\
             <Representation id=\"{}\">{representation}<SegmentList><Initialization sourceURL=\"{}\"/></SegmentList>\
             </Representation></AdaptationSet></Period></MPD>",
            quoted(&media),
            quoted(id),
            quoted(&first),
        )
    })
}

/// The URLs that a player makes of a manifest, as roxmltree reads it.
fn urls_of_manifest(text: &str, base: &Url) -> Option<Vec<Option<Url>>> {
    let document = roxmltree::Document::parse(text).ok()?;
    let mut urls = Vec::new();
    let representations = document.descendants().filter(|node| node.has_tag_name("Representation"));
    for representation in representations {
        let mut levels: Vec<_> = representation.ancestors().filter(roxmltree::Node::is_element).collect();
        levels.reverse();
        let mut current = Some(base.clone());
        for level in &levels {
            if let Some(node) = level.children().find(|node| node.has_tag_name("BaseURL")) {
                let text: String = node.children().filter_map(|child| child.text()).collect();
                current = current.and_then(|current| current.join(text.trim()).ok());
            }
        }
        let id = representation.attribute("id").unwrap_or_default();
        let references = levels.iter().flat_map(|level| level.descendants());
        for node in references {
            for name in ["media", "sourceURL"] {
                let Some(template) = node.attribute(name) else { continue };
                let filled = template.replace("$RepresentationID$", id).replace("$Number$", "1");
                urls.push(current.as_ref().and_then(|current| current.join(&filled).ok()));
            }
        }
    }
    Some(urls)
}

proptest! {
    #[test]
    fn every_uri_of_a_generated_playlist_leads_into_the_folder_or_it_is_refused(text in playlist()) {
        if let Ok(given) = checked(ManifestType::Hls, &text, "720p/index.m3u8") {
            for (uri, is_key) in uris_of_playlist(&given) {
                prop_assert!(is_harmless(&uri, &base(), is_key), "{:?} of {:?}", uri, given);
            }
        }
    }

    #[test]
    fn every_url_of_a_generated_dash_manifest_leads_into_the_folder_or_it_is_refused(text in manifest()) {
        if let Ok(given) = checked(ManifestType::Dash, &text, "720p/index.m3u8") {
            for url in urls_of_manifest(&given, &base()).into_iter().flatten().flatten() {
                prop_assert!(is_harmless(url.as_str(), &base(), false), "{} of {:?}", url, given);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in collection::vec(proptest::num::u8::ANY, 0..200), text in "\\PC{0,80}") {
        let rules = super::rules();
        let folder = super::FilmFolder { rules: &rules, movie: "b1", prefix: "b1/", key_prefix: None };
        for kind in [ManifestType::Hls, ManifestType::Dash] {
            let _ = super::check(kind, &bytes, "index", &folder);
            let _ = super::check(kind, format!("#EXTM3U\n#EXT-X-MAP:URI=\"{text}\"\n{text}").as_bytes(), "index", &folder);
            let _ = super::check(kind, format!("<MPD><BaseURL>{text}</BaseURL></MPD>").as_bytes(), "index", &folder);
        }
    }
}

/// Some of what a strategy generates, the same each time.
fn samples(of: impl Strategy<Value = String>) -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    (0..1000).map(|_| of.new_tree(&mut runner).expect("a value").current()).collect()
}

#[test]
fn of_what_is_generated_enough_is_accepted_and_read_by_the_others() {
    let playlists = samples(playlist());
    let accepted = playlists.iter().filter_map(|text| checked(ManifestType::Hls, text, "720p/index.m3u8").ok());
    let uris: Vec<usize> = accepted.map(|given| uris_of_playlist(&given).len()).collect();
    assert!(uris.len() > 100 && uris.iter().sum::<usize>() > 100, "{} accepted", uris.len());
    let manifests = samples(manifest());
    let accepted = manifests.iter().filter_map(|text| checked(ManifestType::Dash, text, "720p/index.m3u8").ok());
    let urls: Vec<usize> =
        accepted.map(|given| urls_of_manifest(&given, &base()).map_or(0, |urls| urls.len())).collect();
    assert!(urls.len() > 100 && urls.iter().sum::<usize>() > 100, "{} accepted", urls.len());
}
