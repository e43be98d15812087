use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, prop_assert, proptest};
use proptest::sample::select;
use url::Url;

use super::*;
use crate::pattern::PathPattern;
use crate::table::{MatchedRoute, RouteEntry, RouteMatch};
use http_semantics::request_path;

/// A plain route that asks for a level, and for the captured values of these names to be the caller's own.
struct Guard {
    level: u8,
    own: &'static [&'static str],
}

impl GuardedRoute for Guard {
    fn is_read_by_server(&self) -> bool {
        true
    }

    fn asks_more(&self, own: &Captures, other: &Self, others: &Captures) -> bool {
        let differs = |name: &&str| own.decoded(name) != others.decoded(name);
        self.level > other.level || self.own.iter().any(differs)
    }
}

fn table() -> RouteTable<Guard> {
    let routes: [(&str, u8, &[&str]); 8] = [
        ("/admin/{**rest}", 2, &[]),
        ("/users/{userId}/{**file}", 1, &["userId"]),
        ("/part/{name}/secret", 2, &[]),
        ("/login", 1, &[]),
        ("/slash/", 1, &[]),
        ("/pre/admin/{**rest}", 2, &[]),
        ("/pre/{**rest}", 0, &[]),
        ("/{**rest}", 0, &[]),
    ];
    let entries = routes.into_iter().map(|(path, level, own)| RouteEntry {
        id: path.into(),
        order: 0,
        matches: RouteMatch { path: Some(PathPattern::parse(path).expect("a pattern")), ..RouteMatch::default() },
        value: Guard { level, own },
    });
    RouteTable::build(entries.collect()).expect("no two routes tie")
}

fn input<'a>(path: &'a str, headers: &'a HeaderMap) -> RoutingInput<'a> {
    RoutingInput { method: &Method::GET, host: None, path, query: None, headers }
}

/// A path that a server has decoded, as the client would have to write it for the table.
fn encoded(path: &[u8]) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');
    percent_encode(path, KEPT).to_string()
}

/// RFC 3986 §5.2.4, on a decoded path; with `collapses` one slash for several.
fn resolved(path: &[u8], collapses: bool) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => drop(segments.pop()),
            b"" if collapses => {}
            segment => segments.push(segment),
        }
    }
    let mut path = vec![b'/'];
    path.extend(segments.join(&b'/'));
    path
}

/// Without what stands between `;` and the next slash.
fn without_params(path: &[u8]) -> Vec<u8> {
    let cut = path.split(|byte| *byte == b'/').map(|it| it.split(|byte| *byte == b';').next().unwrap_or_default());
    cut.collect::<Vec<_>>().join(&b'/')
}

fn backslashed(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// Paths that known servers make of `path`, as the client would have written them in the plainest way.
fn servers(path: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let base = Url::parse("http://gate.test/").expect("a URL");
    // `new URL(request.url, base)`, and the same behind a transform that takes `/pre` away.
    if let Ok(url) = base.join(path) {
        all.push(("WHATWG", url.path().to_owned()));
    }
    if let Some(url) = path.strip_prefix("/pre").filter(|rest| rest.starts_with('/')).and_then(|it| base.join(it).ok())
    {
        all.push(("WHATWG behind PathRemovePrefix", format!("/pre{}", url.path())));
    }
    // Tomcat: parameters first, then escapes, then dots; Spring cuts parameters once more.
    let tomcat: Vec<u8> = percent_decode(&without_params(path.as_bytes())).collect();
    for (name, decoded) in [("Tomcat", tomcat.clone()), ("Tomcat with backslashes", backslashed(&tomcat))] {
        let normal = resolved(&decoded, true);
        all.push((name, encoded(&normal)));
        all.push((name, encoded(&without_params(&normal))));
    }
    // IIS: escapes first, backslashes are slashes.
    let iis = backslashed(&percent_decode(path.as_bytes()).collect::<Vec<u8>>());
    all.push(("IIS", encoded(&resolved(&iis, true))));
    all.push(("IIS", encoded(&resolved(&iis, false))));
    // Most of them take a path with a slash at its end for the one without, or the other way.
    let further: Vec<_> = all
        .iter()
        .filter(|(_, path)| path.len() > 1)
        .map(|(name, path)| (*name, path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned)))
        .collect();
    all.extend(further);
    all
}

fn paths() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "/", "/", "/", "/", "//", "\\", "\\", "%2F", "%2f", "%5C", "%5c", ";", "%3B", ";a=b", "..", ".", "%2e", ".%2E",
        "admin", "adm%69n", "users", "alice", "bob", "part", "secret", "login", "slash", "pre", "x", "/admin/",
        "/pre/", "/users/",
    ];
    vec(select(PIECES), 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_let_through_is_for_no_server_a_path_of_a_stricter_route(path in paths()) {
        let (routes, headers) = (table(), HeaderMap::new());
        if request_path::check(path.as_bytes()).is_ok()
            && let Ok(RouteLookup::Found(found)) = find(&routes, &input(&path, &headers))
        {
            for (server, read) in servers(&path) {
                let RouteLookup::Found(other) = routes.find(&input(&read, &headers), Separator::Slash) else { continue };
                let MatchedRoute { id, value, captures, .. } = other;
                let is_passed = value.asks_more(&captures, found.value, &found.captures);
                prop_assert!(!is_passed, "{}: {} reads {}, which is {}", path, server, read, id);
            }
        }
    }
}

#[test]
fn a_path_is_read_as_lax_servers_read_it() {
    let reads = |path: &str| server_readings(path, false, false).expect("few readings");
    assert!(reads("/web/admin/x%20y").is_empty() && reads("/").is_empty() && reads("/a%252Fb").is_empty());
    for (path, reading) in [
        ("/web//admin;a/x", "/web/admin/x"),
        ("/web/%5Cadmin%3Bb", "/web/admin"),
        ("/a/;b", "/a"),
        ("/a%2Fb\\c", "/a%2Fb/c"),
        ("/%2Fadmin;a%2Fb/y", "//admin/y"),
        ("//host/a/b", "/a/b"),
        ("/a/\\host", "/a/"),
        ("/login//", "/login"),
    ] {
        assert!(reads(path).contains(&reading.to_owned()), "{path}: {:?}", reads(path));
    }
    assert_eq!(server_readings("/a", true, true), Ok(vec!["/a".to_owned(), "/a/".to_owned(), "/a/".to_owned()]));
    let store = |path: &str| readings(path, &STORE_STEPS).expect("few readings");
    assert_eq!(store("/a//b;c"), ["/a/b;c"]);
    assert!(store("/a/").is_empty() && store("/a\\b").is_empty());
    assert!(store("/a/%2Fb").contains(&"/a/b".to_owned()));
}

#[test]
fn a_path_with_too_many_readings_is_refused() {
    let path = "/a;b%2Fc;d//e%5Cf%3Bg\\h//i%2Fj;k/l%3Bm/";
    assert_eq!(server_readings(path, false, false), Err(AmbiguousPath::TooManyReadings));
}
