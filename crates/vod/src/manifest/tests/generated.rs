//! Generated manifests, read by other readers than ours: every URI that they find leads into the film's folder, or to an
//! allowed host, or the manifest is refused.

use m3u8_rs::{ExtTag, MediaSegment, Playlist, SessionDataField};
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

/// A line of a playlist of segments.
fn media_line() -> impl Strategy<Value = String> {
    (uri(), 0_usize..16).prop_map(|(uri, form)| match form {
        0 => format!("#EXT-X-MAP:URI=\"{uri}\""),
        1 => format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\""),
        2 => format!("#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{uri}\""),
        3 => format!("#{uri}"),
        4 => format!("#EXT-X-PART:DURATION=1,URI=\"{uri}\""),
        5 => format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\""),
        6 => format!("#EXT-X-RENDITION-REPORT:URI=\"{uri}\""),
        7 => format!("#EXT-X-DATERANGE:ID=\"i\",START-DATE=\"2026-01-01T00:00:00Z\",X-ASSET-URI=\"{uri}\""),
        _ => format!("#EXTINF:6,\n{uri}"),
    })
}

/// A line of a playlist of playlists.
fn multivariant_line() -> impl Strategy<Value = String> {
    (uri(), 0_usize..14).prop_map(|(uri, form)| match form {
        0 => format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"n\",URI=\"{uri}\""),
        1 => format!("#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"{uri}\""),
        2 => format!("#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{uri}\""),
        3 => format!("#{uri}"),
        4 => format!("#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"{uri}\""),
        5 => format!("#EXT-X-SESSION-DATA:DATA-ID=\"d\",URI=\"{uri}\""),
        6..9 => format!("#EXT-X-CONTENT-STEERING:SERVER-URI=\"{uri}\""),
        _ => format!("#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}"),
    })
}

/// Lines between the beginning of a playlist and its end.
fn playlist_of(
    line: impl Strategy<Value = String>,
    (begin, last): (&'static str, &'static str),
) -> impl Strategy<Value = String> {
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n")];
    collection::vec((line, end), 1..6).prop_map(move |lines| {
        let lines = lines.into_iter().map(|(line, end)| format!("{line}{end}"));
        format!("#EXTM3U\n{begin}{}{last}", lines.collect::<String>())
    })
}

fn playlist() -> impl Strategy<Value = String> {
    // m3u8-rs keeps tags that it does not know with the segment that follows.
    let media = playlist_of(media_line(), ("#EXT-X-TARGETDURATION:6\n", "#EXTINF:6,\nseg-9.ts\n"));
    let multivariant = playlist_of(multivariant_line(), ("", "#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/index.m3u8\n"));
    prop_oneof![media, multivariant]
}

/// The tags whose URIs [`uris_of_playlist`] finds, besides those of segments and variants.
const TAGS: [&str; 11] = [
    "MAP",
    "KEY",
    "PART",
    "PRELOAD-HINT",
    "RENDITION-REPORT",
    "DATERANGE",
    "MEDIA",
    "I-FRAME-STREAM-INF",
    "SESSION-KEY",
    "SESSION-DATA",
    "CONTENT-STEERING",
];

/// A URI that was found, with the tag that has it.
struct FoundUri {
    uri: String,
    tag: &'static str,
}

impl FoundUri {
    fn is_key(&self) -> bool {
        self.tag.ends_with("KEY")
    }
}

fn found(tag: &'static str) -> impl Fn(String) -> FoundUri {
    move |uri| FoundUri { uri, tag }
}

/// The URIs that m3u8-rs finds.
fn uris_of_playlist(text: &str) -> Vec<FoundUri> {
    let Ok((_, playlist)) = m3u8_rs::parse_playlist(text.as_bytes()) else { return Vec::new() };
    match playlist {
        Playlist::MasterPlaylist(master) => {
            let variants = master
                .variants
                .into_iter()
                .map(|it| found(if it.is_i_frame { "I-FRAME-STREAM-INF" } else { "STREAM-INF" })(it.uri));
            let media = master.alternatives.into_iter().filter_map(|it| it.uri).map(found("MEDIA"));
            let keys = master.session_key.into_iter().filter_map(|key| key.0.uri).map(found("SESSION-KEY"));
            let data = master.session_data.into_iter().filter_map(|data| match data.field {
                SessionDataField::Uri(uri) => Some(found("SESSION-DATA")(uri)),
                SessionDataField::Value(_) => None,
            });
            let others = master.unknown_tags.iter().filter_map(uri_of_other_tag);
            variants.chain(media).chain(keys).chain(data).chain(others).collect()
        }
        Playlist::MediaPlaylist(media) => {
            let of_segment = |segment: MediaSegment| {
                let dates = segment.daterange.and_then(|it| it.x_prefixed?.remove("X-ASSET-URI"));
                let mut uris: Vec<FoundUri> = segment.unknown_tags.iter().filter_map(uri_of_other_tag).collect();
                uris.push(found("EXTINF")(segment.uri));
                uris.extend(segment.map.map(|map| found("MAP")(map.uri)));
                uris.extend(segment.key.and_then(|key| key.uri).map(found("KEY")));
                uris.extend(dates.map(|uri| found("DATERANGE")(uri.as_str().to_owned())));
                uris
            };
            media.segments.into_iter().flat_map(of_segment).collect()
        }
    }
}

/// The URI of a tag that m3u8-rs only keeps: its last attribute here.
fn uri_of_other_tag(tag: &ExtTag) -> Option<FoundUri> {
    let name = TAGS.into_iter().find(|name| tag.tag.strip_prefix("X-") == Some(name))?;
    let (_, uri) = tag.rest.as_ref()?.split_once("URI=\"")?;
    Some(found(name)(uri.strip_suffix('"')?.to_owned()))
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
    // Of the base URLs of one level a player takes any.
    let bases = |uris: &[String]| -> String {
        uris.iter().filter(|uri| !uri.is_empty()).map(|uri| format!("<BaseURL>{uri}</BaseURL>")).collect()
    };
    let level = || collection::vec(prop_oneof![5 => Just(String::new()), 1 => uri()], 2);
    let addressing = (uri(), uri(), 0_usize..10);
    (collection::vec(level(), 4), addressing, uri()).prop_map(move |(levels, (one, other, form), id)| {
        let [mpd, period, set, representation] =
            <[Vec<String>; 4]>::try_from(levels).unwrap_or_default().map(|uris| bases(&uris));
        let id = if id.len() % 2 == 0 { "v1" } else { id.trim_start_matches('&') };
        let [one, other, id] = [one, other, id.to_owned()].map(|text| text.replace(['&', '"'], ""));
        // A manifest names its later versions and its remote parts too.
        let outside = match form {
            0 => format!("<Location>{one}</Location>"),
            1 => format!("<PatchLocation>{one}</PatchLocation>"),
            2 => format!("<Period xlink:href=\"{one}\"/>"),
            _ => String::new(),
        };
        let segments = match form {
            3 => format!("<SegmentTemplate media=\"{one}\" initialization=\"{other}\" index=\"{other}\"/>"),
            4 => format!("<SegmentList><SegmentURL media=\"{one}\" index=\"{other}\"/></SegmentList>"),
            5 => format!("<SegmentTemplate media=\"{one}$Bandwidth$\" initialization=\"{other}\"/>"),
            6 => format!("<SegmentBase><RepresentationIndex sourceURL=\"{one}\"/></SegmentBase>"),
            _ => format!("<SegmentList><Initialization sourceURL=\"{other}\"/></SegmentList>"),
        };
        format!(
            "<MPD xmlns:xlink=\"http://www.w3.org/1999/xlink\">{outside}{mpd}<Period>{period}<AdaptationSet>{set}\
             <SegmentTemplate media=\"{one}\"/><Representation id=\"{id}\" bandwidth=\"8000\">{representation}{segments}\
             </Representation></AdaptationSet></Period></MPD>",
        )
    })
}

/// Attributes whose URLs players resolve against the base URLs.
const REFERENCES: [&str; 4] = ["media", "initialization", "index", "sourceURL"];

/// The URLs that a player makes of a manifest, as roxmltree reads it, with what each is made of (ISO/IEC 23009-1 §5.6.4).
fn urls_of_manifest(text: &str, base: &Url) -> Option<Vec<(&'static str, Option<Url>)>> {
    let document = roxmltree::Document::parse(text).ok()?;
    let mut urls = Vec::new();
    let text_of = |node: roxmltree::Node<'_, '_>| -> String { node.children().filter_map(|it| it.text()).collect() };
    for node in document.descendants() {
        // Against the manifest's own URL (§5.15, §5.5).
        for name in ["Location", "PatchLocation"].into_iter().filter(|name| node.has_tag_name(*name)) {
            urls.push((name, base.join(text_of(node).trim()).ok()));
        }
        if let Some(link) = node.attribute(("http://www.w3.org/1999/xlink", "href")) {
            urls.push(("xlink", base.join(link).ok()));
        }
    }
    for representation in document.descendants().filter(|node| node.has_tag_name("Representation")) {
        let mut levels: Vec<_> = representation.ancestors().filter(roxmltree::Node::is_element).collect();
        levels.reverse();
        let mut current = vec![base.clone()];
        for level in &levels {
            let named: Vec<_> = level.children().filter(|node| node.has_tag_name("BaseURL")).collect();
            if !named.is_empty() {
                let joined = |url: &Url| named.iter().filter_map(|it| url.join(text_of(*it).trim()).ok()).collect();
                current = current.iter().flat_map::<Vec<Url>, _>(joined).collect();
            }
        }
        let id = representation.attribute("id").unwrap_or_default();
        for node in levels.iter().flat_map(|level| level.descendants()) {
            for name in REFERENCES {
                let Some(template) = node.attribute(name) else { continue };
                let filled = template.replace("$RepresentationID$", id).replace("$Number$", "1");
                let filled = filled.replace("$Bandwidth$", representation.attribute("bandwidth").unwrap_or_default());
                urls.extend(current.iter().map(|url| (name, url.join(&filled).ok())));
            }
        }
    }
    Some(urls)
}

proptest! {
    #[test]
    fn every_uri_of_a_generated_playlist_leads_into_the_folder_or_it_is_refused(text in playlist()) {
        if let Ok(given) = checked(ManifestType::Hls, &text, "720p/index.m3u8") {
            for found in uris_of_playlist(&given) {
                prop_assert!(is_harmless(&found.uri, &base(), found.is_key()), "{:?} of {:?}", found.uri, given);
            }
        }
    }

    #[test]
    fn every_url_of_a_generated_dash_manifest_leads_into_the_folder_or_it_is_refused(text in manifest()) {
        if let Ok(given) = checked(ManifestType::Dash, &text, "720p/index.m3u8") {
            for (_, url) in urls_of_manifest(&given, &base()).into_iter().flatten() {
                let is_harmless = url.as_ref().is_none_or(|url| is_harmless(url.as_str(), &base(), false));
                prop_assert!(is_harmless, "{:?} of {:?}", url, given);
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
    (0..4000).map(|_| of.new_tree(&mut runner).expect("a value").current()).collect()
}

#[test]
fn of_what_is_generated_enough_is_accepted_and_read_by_the_others() {
    let playlists = samples(playlist());
    let accepted = playlists.iter().filter_map(|text| checked(ManifestType::Hls, text, "720p/index.m3u8").ok());
    let found: Vec<&str> = accepted.flat_map(|given| uris_of_playlist(&given)).map(|found| found.tag).collect();
    for tag in TAGS.into_iter().chain(["EXTINF", "STREAM-INF"]) {
        let count = found.iter().filter(|found| **found == tag).count();
        assert!(count > 5, "{count} of {tag}");
    }
    let manifests = samples(manifest());
    let accepted = manifests.iter().filter_map(|text| checked(ManifestType::Dash, text, "720p/index.m3u8").ok());
    let found: Vec<&str> = accepted
        .filter_map(|given| urls_of_manifest(&given, &base()))
        .flatten()
        .filter_map(|(name, url)| url.map(|_| name))
        .collect();
    for name in REFERENCES.into_iter().chain(["Location", "PatchLocation", "xlink"]) {
        let count = found.iter().filter(|found| **found == name).count();
        assert!(count > 5, "{count} of {name}");
    }
}
