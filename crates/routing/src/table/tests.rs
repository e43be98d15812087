//! Precedence, ties, and what each part of a match accepts.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

use super::{
    HeaderMatchMode, HeaderMatcher, HostPattern, PathPattern, QueryMatchMode, QueryMatcher, RouteEntry, RouteLookup,
    RouteMatch, RouteTable, RoutingInput, Separator,
};

fn route(id: &str, matches: RouteMatch) -> RouteEntry<&'static str> {
    RouteEntry { id: id.into(), order: 0, matches, value: "value" }
}

fn path(text: &str) -> RouteMatch {
    RouteMatch { path: Some(PathPattern::parse(text).expect("a valid pattern")), ..RouteMatch::default() }
}

fn hosts(names: &[&str]) -> Vec<HostPattern> {
    names.iter().map(|name| HostPattern::parse(name).expect("a valid host")).collect()
}

fn header(name: &'static str, mode: HeaderMatchMode, values: &[&str]) -> HeaderMatcher {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    HeaderMatcher { name: HeaderName::from_static(name), values, mode, case_sensitive: false }
}

fn query(name: &str, mode: QueryMatchMode, values: &[&str]) -> QueryMatcher {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    QueryMatcher { name: name.to_owned(), values, mode, case_sensitive: false }
}

type Lines = &'static [(&'static str, &'static str)];

fn headers(lines: Lines) -> HeaderMap {
    let line =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    lines.iter().map(line).collect()
}

/// The name of the route that a request takes; `405 …` or `404` where none.
fn taken(table: &RouteTable<&str>, method: Method, host: &str, target: &str, headers: &HeaderMap) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    match table.find(&RoutingInput { method: &method, host: Some(host), path, query, headers }, Separator::Slash) {
        RouteLookup::Found(found) => found.id.to_string(),
        RouteLookup::MethodNotAllowed(methods) => format!("405 {methods:?}"),
        RouteLookup::NotFound => "404".to_owned(),
    }
}

fn table(entries: Vec<RouteEntry<&'static str>>) -> RouteTable<&'static str> {
    RouteTable::build(entries).expect("no ties")
}

fn ties(entries: Vec<RouteEntry<&'static str>>) -> Vec<(String, String)> {
    let pair = |tie: super::AmbiguousRoutes| (tie.first.to_string(), tie.second.to_string());
    RouteTable::build(entries).err().unwrap_or_default().into_iter().map(pair).collect()
}

/// Both orders of the file give the same answer, so the file's order decides nothing.
fn first_of(
    one: RouteEntry<&'static str>,
    two: RouteEntry<&'static str>,
    ask: impl Fn(&RouteTable<&str>) -> String,
) -> String {
    let answer = ask(&table(vec![one.clone(), two.clone()]));
    assert_eq!(answer, ask(&table(vec![two, one])));
    answer
}

#[test]
fn a_route_that_takes_get_takes_head_unless_one_beside_it_names_it() {
    let with = |list: &[Method], text| RouteMatch { methods: list.to_vec(), ..path(text) };
    let table = table(vec![
        route("get", with(&[Method::GET], "/a")),
        route("head", with(&[Method::HEAD], "/a")),
        route("only", with(&[Method::GET], "/b/c")),
        // Wider: it takes nothing away from the narrower one.
        route("wide", with(&[Method::GET, Method::HEAD], "/b/{**rest}")),
        route("post", with(&[Method::POST, Method::GET], "/c")),
    ]);
    let ask = |method, target| taken(&table, method, "x.com", target, &HeaderMap::new());
    assert_eq!((ask(Method::GET, "/a"), ask(Method::HEAD, "/a")), ("get".to_owned(), "head".to_owned()));
    assert_eq!((ask(Method::GET, "/b/c"), ask(Method::HEAD, "/b/c")), ("only".to_owned(), "only".to_owned()));
    assert_eq!(ask(Method::HEAD, "/b/d"), "wide");
    assert_eq!(ask(Method::PUT, "/c"), "405 [POST, GET, HEAD]");
}

#[test]
fn order_comes_before_everything_else() {
    let narrow = route("narrow", RouteMatch { methods: vec![Method::GET], hosts: hosts(&["a.com"]), ..path("/a/b") });
    let wide = RouteEntry { order: -1, ..route("wide", path("/{**all}")) };
    let ask = |table: &RouteTable<&str>| taken(table, Method::GET, "a.com", "/a/b", &HeaderMap::new());
    assert_eq!(first_of(narrow, wide, ask), "wide");
}

#[test]
fn each_criterion_decides_where_those_before_it_are_equal() {
    let sent = headers(&[("x-a", "1"), ("x-b", "2")]);
    let ask = |table: &RouteTable<&str>| taken(table, Method::GET, "www.a.com", "/a/b?q=1&r=2", &sent);
    let base = || path("/a/{x}");
    let get = || RouteMatch { methods: vec![Method::GET], ..base() };
    let at = |host: &str| RouteMatch { hosts: hosts(&[host]), ..base() };
    let exists = |name| header(name, HeaderMatchMode::Exists, &[]);
    let asked = |name| query(name, QueryMatchMode::Exists, &[]);
    let cases: [(RouteMatch, RouteMatch); 12] = [
        (path("/a/b"), RouteMatch { methods: vec![Method::GET], ..base() }),
        (base(), RouteMatch { hosts: hosts(&["www.a.com"]), ..RouteMatch::default() }),
        (base(), path("/a/{**x}")),
        (get(), at("www.a.com")),
        (at("www.a.com:80"), at("www.a.com")),
        (at("www.a.com"), at("*.a.com")),
        (at("*.a.com"), at("*.com")),
        (at("*.a.com"), at("*")),
        (at("*"), base()),
        (at("www.a.com"), RouteMatch { headers: vec![exists("x-a")], ..base() }),
        (
            RouteMatch { headers: vec![exists("x-a"), exists("x-b")], ..base() },
            RouteMatch { headers: vec![exists("x-a")], query: vec![asked("q")], ..base() },
        ),
        (
            RouteMatch { query: vec![asked("q"), asked("r")], ..base() },
            RouteMatch { query: vec![asked("q")], ..base() },
        ),
    ];
    for (index, (first, second)) in cases.into_iter().enumerate() {
        assert_eq!(first_of(route("first", first), route("second", second), ask), "first", "case {index}");
    }
}

#[test]
fn a_route_with_several_hosts_is_ranked_by_the_one_that_matches() {
    let mixed = route("mixed", RouteMatch { hosts: hosts(&["a.com", "*.b.com"]), ..path("/") });
    let exact = route("exact", RouteMatch { hosts: hosts(&["www.b.com"]), ..path("/") });
    let table = table(vec![mixed, exact]);
    let ask = |host| taken(&table, Method::GET, host, "/", &HeaderMap::new());
    assert_eq!([ask("a.com"), ask("www.b.com"), ask("x.b.com"), ask("c.com")], ["mixed", "exact", "mixed", "404"]);
}

#[test]
fn true_ties_are_named() {
    let get = |text| RouteMatch { methods: vec![Method::GET, Method::HEAD], ..path(text) };
    let at = |text, host: &[&str]| RouteMatch { hosts: hosts(host), ..path(text) };
    let with = |matcher| RouteMatch { headers: vec![matcher], ..path("/a") };
    let asked = |matcher| RouteMatch { query: vec![matcher], ..path("/a") };
    let cases: [(RouteMatch, RouteMatch); 12] = [
        (path("/a"), path("/A")),
        (path("/a b"), path("/a%20b")),
        (path("/{x}/b"), path("/{y}/b")),
        (path("/{**x}"), RouteMatch::default()),
        (get("/a"), RouteMatch { methods: vec![Method::HEAD], ..path("/a") }),
        (at("/a", &["x.com", "y.com"]), at("/a", &["z.com", "Y.com"])),
        (path("/{x:int}"), path("/{y:int}")),
        (path("/{x:int}"), path("/{y:int:min(3)}")),
        (with(header("x-a", HeaderMatchMode::Exact, &["1"])), with(header("x-a", HeaderMatchMode::Exists, &[]))),
        (with(header("x-a", HeaderMatchMode::Exact, &["1", "2"])), with(header("x-a", HeaderMatchMode::Exact, &["2"]))),
        (
            with(header("x-a", HeaderMatchMode::NotContains, &["ab", "x"])),
            with(header("x-a", HeaderMatchMode::NotContains, &["abc"])),
        ),
        (asked(query("q", QueryMatchMode::Exact, &["1"])), asked(query("q", QueryMatchMode::Prefix, &["1"]))),
    ];
    for (index, (one, two)) in cases.into_iter().enumerate() {
        let found = ties(vec![route("one", one), route("two", two)]);
        assert_eq!(found, [("one".to_owned(), "two".to_owned())], "case {index}");
    }
}

#[test]
fn routes_that_some_requests_satisfy_both_are_told_and_the_first_takes_those() {
    let with = |name, mode, values: &[&str]| RouteMatch { headers: vec![header(name, mode, values)], ..path("/a") };
    let exists = |name| with(name, HeaderMatchMode::Exists, &[]);
    let asked = |name| RouteMatch { query: vec![query(name, QueryMatchMode::Exists, &[])], ..path("/a") };
    let at = |host: &str| RouteMatch { hosts: hosts(&[host]), ..path("/a") };
    let cases: [(RouteMatch, RouteMatch); 7] = [
        (exists("x-a"), exists("x-b")),
        (exists("x-a"), with("x-b", HeaderMatchMode::NotExists, &[])),
        (with("x-a", HeaderMatchMode::Exact, &["1", "2"]), with("x-a", HeaderMatchMode::Exact, &["2", "3"])),
        (with("x-a", HeaderMatchMode::Contains, &["1"]), with("x-a", HeaderMatchMode::Prefix, &["2"])),
        (asked("q"), asked("r")),
        (at("x.com:80"), at("x.com:443")),
        (path("/{id:regex(^a)}"), path("/{id:regex(z$)}")),
    ];
    for (index, (one, two)) in cases.into_iter().enumerate() {
        let table = table(vec![route("one", one), route("two", two)]);
        let told: Vec<_> = table.partial_ties().iter().map(|tie| (&*tie.first, &*tie.second)).collect();
        assert_eq!(told, [("one", "two")], "case {index}");
    }
    let both = table(vec![route("one", exists("x-b")), route("two", exists("x-a"))]);
    let ask = |sent: Lines| taken(&both, Method::GET, "x.com", "/a", &headers(sent));
    assert_eq!(ask(&[("x-a", "1"), ("x-b", "2")]), "one");
    assert_eq!((ask(&[("x-a", "1")]), ask(&[("x-b", "1")])), ("two".to_owned(), "one".to_owned()));
}

#[test]
fn a_slash_at_the_end_is_ignored_where_that_is_asked_for_and_no_route_names_it() {
    let loose = |text: &str| RouteMatch {
        path: Some(PathPattern::parse(text).expect("a pattern").ignoring_last_slash()),
        ..RouteMatch::default()
    };
    let table = table(vec![
        route("a", loose("/a")),
        route("b", loose("/b/")),
        route("c", loose("/c")),
        route("c/", loose("/c/")),
        route("d", loose("/d/{id}")),
        route("strict", path("/e")),
        route("rest", loose("/{**rest}")),
    ]);
    let ask = |target| taken(&table, Method::GET, "x.com", target, &HeaderMap::new());
    for (target, id) in [
        ("/a", "a"),
        ("/a/", "a"),
        ("/a//", "rest"),
        ("/b", "b"),
        ("/b/", "b"),
        ("/c", "c"),
        ("/c/", "c/"),
        ("/d/1/", "d"),
        ("/d/", "rest"),
        ("/e", "strict"),
        ("/e/", "rest"),
        ("/", "rest"),
    ] {
        assert_eq!(ask(target), id, "{target}");
    }
}

#[test]
fn a_constraint_makes_a_path_another_routes_and_a_constrained_route_comes_first() {
    let table = table(vec![
        route("any", path("/{x}")),
        route("int", path("/{id:int}")),
        route("guid", path("/{id:guid}")),
        route("page", path("/list/{page:int=1}")),
        route("item", path("/item/{id?}")),
        route("file", path("/files/{**name:file}")),
        route("folder", path("/files/{**name}")),
    ]);
    let ask = |target| taken(&table, Method::GET, "x.com", target, &HeaderMap::new());
    for (target, id) in [
        ("/7", "int"),
        ("/seven", "any"),
        ("/cd2c1638-1638-72d5-1638-deadbeef1638", "guid"),
        ("/list", "page"),
        ("/list/2", "page"),
        ("/list/two", "404"),
        ("/item", "item"),
        ("/item/", "item"),
        ("/item/3", "item"),
        ("/item/3/4", "404"),
        ("/files/a/b.txt", "file"),
        ("/files/a/b", "folder"),
        ("/files", "folder"),
    ] {
        assert_eq!(ask(target), id, "{target}");
    }
}

#[test]
fn routes_that_cannot_meet_are_no_tie() {
    let methods = |list: &[Method]| RouteMatch { methods: list.to_vec(), ..path("/a") };
    let at = |host: &str| RouteMatch { hosts: hosts(&[host]), ..path("/a") };
    let with = |mode, value: &[&str]| RouteMatch { headers: vec![header("x-a", mode, value)], ..path("/a") };
    let asked = |value| RouteMatch { query: vec![query("v", QueryMatchMode::Exact, &[value])], ..path("/a") };
    let cases: [(RouteMatch, RouteMatch); 15] = [
        (path("/{x:int}"), path("/{x:alpha}")),
        (with(HeaderMatchMode::Prefix, &["a", "b"]), with(HeaderMatchMode::Prefix, &["c"])),
        (with(HeaderMatchMode::Exact, &["abc"]), with(HeaderMatchMode::Prefix, &["bc"])),
        (with(HeaderMatchMode::Exact, &["abc"]), with(HeaderMatchMode::Contains, &["x"])),
        (with(HeaderMatchMode::Contains, &["abc"]), with(HeaderMatchMode::NotContains, &["b"])),
        (with(HeaderMatchMode::NotExists, &[]), with(HeaderMatchMode::Exists, &[])),
        (path("/a"), path("/b")),
        (path("/{x}/a"), path("/{x}/b")),
        (methods(&[Method::GET]), methods(&[Method::PUT, Method::POST])),
        (at("x.com"), at("y.com")),
        (at("*.x.com"), at("*.y.com")),
        (at("x.com:8080"), at("x.com:8081")),
        (with(HeaderMatchMode::Exact, &["1"]), with(HeaderMatchMode::Exact, &["2"])),
        (with(HeaderMatchMode::NotExists, &[]), with(HeaderMatchMode::Prefix, &["2"])),
        (asked("1"), asked("2")),
    ];
    for (index, (one, two)) in cases.into_iter().enumerate() {
        let table = table(vec![route("one", one), route("two", two)]);
        assert_eq!(table.partial_ties(), [], "case {index}");
    }
    let ordered = RouteEntry { order: 1, ..route("two", path("/a")) };
    assert_eq!(ties(vec![route("one", path("/a")), ordered]), []);
}

#[test]
fn every_tie_is_named_once() {
    let at = || RouteMatch { hosts: hosts(&["x.com", "y.com"]), ..path("/a") };
    let found = ties(vec![route("a", at()), route("b", at()), route("c", at())]);
    let pair = |one: &str, two: &str| (one.to_owned(), two.to_owned());
    assert_eq!(found, [pair("a", "b"), pair("a", "c"), pair("b", "c")]);
}

#[test]
fn a_wrong_method_is_told_only_where_all_else_matches() {
    let only =
        |list: &[Method], text, host: &str| RouteMatch { methods: list.to_vec(), hosts: hosts(&[host]), ..path(text) };
    let table = table(vec![
        route("read", only(&[Method::GET, Method::HEAD], "/a", "x.com")),
        route("write", only(&[Method::PUT, Method::GET], "/a", "*.com")),
        route("elsewhere", only(&[Method::DELETE], "/a", "x.org")),
        route("open", path("/b/**")),
        route("closed", RouteMatch { methods: vec![Method::GET], ..path("/b/c") }),
    ]);
    let ask = |method, host, target| taken(&table, method, host, target, &HeaderMap::new());
    assert_eq!(ask(Method::PUT, "x.com", "/a"), "write");
    assert_eq!(ask(Method::DELETE, "x.com", "/a"), "405 [GET, HEAD, PUT]");
    assert_eq!(ask(Method::DELETE, "y.com", "/a"), "405 [PUT, GET, HEAD]");
    assert_eq!(ask(Method::DELETE, "y.net", "/a"), "404");
    assert_eq!(ask(Method::DELETE, "x.com", "/a/"), "404");
    assert_eq!(ask(Method::POST, "x.com", "/b/c"), "open");
}

#[test]
fn hosts_match_names_subdomains_and_ports() {
    let cases = [
        ("a.com", "A.com", true),
        ("a.com", "a.com:8080", true),
        ("a.com", "b.a.com", false),
        ("a.com:8080", "a.com:8080", true),
        ("a.com:8080", "a.com:8081", false),
        ("a.com:8080", "a.com", false),
        ("a.com:443", "a.com", true),
        ("a.com:443", "a.com:80", false),
        ("*.a.com", "x.A.com", true),
        ("*.a.com", "x.y.a.com:1", true),
        ("*.a.com", "a.com", false),
        ("*.a.com", ".a.com", false),
        ("*.a.com", "xa.com", false),
        ("*.a.com", "é.com", false),
        ("*:8080", "anything:8080", true),
        ("*:8080", "anything", false),
        ("bücher.example", "xn--bcher-kva.example", true),
        ("[::1]", "[::1]", true),
        ("[::1]:80", "[::1]:80", true),
        ("[::1]:8080", "[::1]", false),
        ("127.0.0.1", "127.0.0.1:9000", true),
    ];
    for (pattern, host, expected) in cases {
        let table = table(vec![route("it", RouteMatch { hosts: hosts(&[pattern]), ..path("/") })]);
        let answer = taken(&table, Method::GET, host, "/", &HeaderMap::new());
        assert_eq!(answer == "it", expected, "{pattern} and {host}");
    }
    for text in ["", "*a.com", "a.*", "a b", "a/b", "*.", "a.com:", "a.com:x", "http://a.com"] {
        assert!(HostPattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_request_without_a_host_takes_routes_without_one() {
    let table = table(vec![route("it", RouteMatch { hosts: hosts(&["*"]), ..path("/") }), route("open", path("/"))]);
    let headers = HeaderMap::new();
    let request = RoutingInput { method: &Method::GET, host: None, path: "/", query: None, headers: &headers };
    assert!(matches!(table.find(&request, Separator::Slash), RouteLookup::Found(found) if &**found.id == "open"));
}

#[test]
fn headers_match_by_their_mode() {
    let cases: [(HeaderMatchMode, &[&str], Lines, bool); 24] = [
        (HeaderMatchMode::Exact, &["one"], &[("x-a", "One")], true),
        (HeaderMatchMode::Exact, &["one"], &[("x-a", "onemore")], false),
        (HeaderMatchMode::Exact, &["one", "two"], &[("x-a", "two")], true),
        (HeaderMatchMode::Exact, &["one"], &[("x-a", "zero, one ,two")], true),
        (HeaderMatchMode::Exact, &["one"], &[("x-a", "zero"), ("x-a", "one")], true),
        (HeaderMatchMode::Exact, &["a,b"], &[("x-a", "\"a,b\", c")], true),
        (HeaderMatchMode::Exact, &["b"], &[("x-a", "\"a,b\"")], false),
        (HeaderMatchMode::Exact, &["one"], &[("x-b", "one")], false),
        (HeaderMatchMode::Exact, &["one"], &[], false),
        (HeaderMatchMode::Prefix, &["on"], &[("x-a", "zero, One")], true),
        (HeaderMatchMode::Prefix, &["ne"], &[("x-a", "one")], false),
        (HeaderMatchMode::Prefix, &["long"], &[("x-a", "lo")], false),
        (HeaderMatchMode::Contains, &["o, o"], &[("x-a", "zero, one")], true),
        (HeaderMatchMode::Contains, &["x"], &[("x-a", "zero, one")], false),
        (HeaderMatchMode::Contains, &["x"], &[], false),
        (HeaderMatchMode::NotContains, &["x"], &[("x-a", "one")], true),
        (HeaderMatchMode::NotContains, &["x", "n"], &[("x-a", "one")], false),
        (HeaderMatchMode::NotContains, &["x"], &[("x-a", "one"), ("x-a", "x")], false),
        (HeaderMatchMode::NotContains, &["x"], &[], true),
        (HeaderMatchMode::Exists, &[], &[("x-a", "one")], true),
        (HeaderMatchMode::Exists, &[], &[("x-a", "")], false),
        (HeaderMatchMode::NotExists, &[], &[], true),
        (HeaderMatchMode::NotExists, &[], &[("x-a", "")], true),
        (HeaderMatchMode::NotExists, &[], &[("x-a", "one")], false),
    ];
    for (mode, values, sent, expected) in cases {
        assert_eq!(header("x-a", mode, values).accepts(&headers(sent)), expected, "{mode:?} {values:?} {sent:?}");
    }
    let cookie = header("cookie", HeaderMatchMode::Exact, &["b=2"]);
    assert!(cookie.accepts(&headers(&[("cookie", "a=1; b=2")])));
    let strict = HeaderMatcher { case_sensitive: true, ..header("x-a", HeaderMatchMode::Prefix, &["on"]) };
    assert!(!strict.accepts(&headers(&[("x-a", "One")])));
}

#[test]
fn query_parameters_match_by_their_mode() {
    let cases: [(QueryMatchMode, &[&str], &str, bool); 17] = [
        (QueryMatchMode::Exact, &["one"], "q=One", true),
        (QueryMatchMode::Exact, &["one"], "Q=one", true),
        (QueryMatchMode::Exact, &["one"], "q=ones", false),
        (QueryMatchMode::Exact, &["a b/c"], "x=1&q=a+b%2Fc", true),
        (QueryMatchMode::Exact, &["one"], "q=zero&q=one", true),
        (QueryMatchMode::Exact, &["one"], "", false),
        (QueryMatchMode::Contains, &["x", "n"], "q=one", true),
        (QueryMatchMode::Contains, &["x"], "q=one", false),
        (QueryMatchMode::NotContains, &["x"], "q=one", true),
        (QueryMatchMode::NotContains, &["n"], "q=one", false),
        (QueryMatchMode::NotContains, &["n"], "r=one", true),
        (QueryMatchMode::Prefix, &["on"], "q=one", true),
        (QueryMatchMode::Prefix, &["ne"], "q=one", false),
        (QueryMatchMode::Exists, &[], "q=1", true),
        (QueryMatchMode::Exists, &[], "q=", false),
        (QueryMatchMode::Exists, &[], "q", false),
        (QueryMatchMode::Exists, &[], "r=1", false),
    ];
    for (mode, values, sent, expected) in cases {
        assert_eq!(query("q", mode, values).accepts(sent), expected, "{mode:?} {values:?} {sent}");
    }
    let strict = QueryMatcher { case_sensitive: true, ..query("q", QueryMatchMode::Exact, &["one"]) };
    assert!(!strict.accepts("q=One"));
}

#[test]
fn the_found_route_brings_its_value_and_captures() {
    let table = table(vec![route("it", path("/{user}/{**key}"))]);
    let headers = HeaderMap::new();
    let request =
        RoutingInput { method: &Method::GET, host: None, path: "/Ann/a%2Fb/c", query: None, headers: &headers };
    let RouteLookup::Found(found) = table.find(&request, Separator::Slash) else { panic!("a match") };
    assert_eq!(
        (*found.value, found.captures.get("user"), found.captures.get("key")),
        ("value", Some("Ann"), Some("a%2Fb/c"))
    );
    assert_eq!(table.entries().map(|entry| Arc::clone(&entry.id)).collect::<Vec<_>>(), ["it".into()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_request_makes_it_panic(host in any::<String>(), path in any::<String>(), query in any::<String>(), line in any::<Vec<u8>>()) {
        let matches = RouteMatch {
            hosts: hosts(&["a.com", "*.b.com:80", "*"]),
            headers: vec![header("x-a", HeaderMatchMode::NotContains, &["", "b"]), header("x-b", HeaderMatchMode::NotExists, &[])],
            query: vec![self::query("q", QueryMatchMode::NotContains, &["z"])],
            ..self::path("/**")
        };
        let table = table(vec![route("it", matches)]);
        let headers: HeaderMap = HeaderValue::from_bytes(&line).ok().into_iter().map(|value| (HeaderName::from_static("x-a"), value)).collect();
        let request = RoutingInput { method: &Method::GET, host: Some(&host), path: &path, query: Some(&query), headers: &headers };
        let found = matches!(table.find(&request, Separator::Slash), RouteLookup::Found(_));
        prop_assert!(!found || path.starts_with('/'));
    }
}
