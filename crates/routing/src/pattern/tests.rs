//! Which paths patterns match, what they capture, and which comes first.

use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

use super::{Captures, PathPattern, PatternError, Separator, has_escaped_slash};

type Values = &'static [(&'static str, &'static str)];

fn captured(pattern: &str, path: &str) -> Option<Captures> {
    PathPattern::parse(pattern).expect("a valid pattern").matches(path, Separator::Slash)
}

#[test]
fn paths_match_and_capture_their_raw_bytes() {
    let cases: [(&str, &str, Values); 20] = [
        ("/", "/", &[]),
        ("/health", "/HEALTH", &[]),
        ("/health", "/he%61lth", &[]),
        ("/my files", "/my%20Files", &[]),
        ("/my%20files", "/my%20files", &[]),
        ("/étoile", "/%C3%89toile", &[]),
        ("/a/", "/a/", &[]),
        ("/stream/{**rest}", "/stream/A/b.mp3", &[("rest", "A/b.mp3")]),
        ("/stream/{**rest}", "/Stream//a//b/", &[("rest", "/a//b/")]),
        ("/stream/{**rest}", "/stream/", &[("rest", "")]),
        ("/stream/{**rest}", "/stream", &[("rest", "")]),
        ("/stream/{**catch-all}", "/stream/%2F%252F+%20", &[("catch-all", "%2F%252F+%20")]),
        ("/stream/{*rest}", "/stream/a/b", &[("rest", "a/b")]),
        ("/stream/**", "/stream/a/b", &[("rest", "a/b")]),
        ("/**", "/", &[("rest", "")]),
        ("{**all}", "/a/b", &[("all", "a/b")]),
        ("/t/{id}/stream", "/t/a%2Fb/stream", &[("id", "a%2Fb")]),
        ("/t/{id}", "/t/%C3%A9", &[("id", "%C3%A9")]),
        ("/{user}/{**key}", "/Ann/x/y", &[("user", "Ann"), ("key", "x/y")]),
        ("/{user}/{**key}", "/Ann", &[("user", "Ann"), ("key", "")]),
    ];
    for (pattern, path, expected) in cases {
        let captures = captured(pattern, path).unwrap_or_else(|| panic!("{pattern} must match {path}"));
        for (name, value) in expected {
            assert_eq!(captures.get(name), Some(*value), "{pattern} on {path}");
        }
        assert_eq!(captures.0.len(), expected.len(), "{pattern} on {path}");
    }
}

#[test]
fn values_may_be_absent_have_defaults_and_be_constrained() {
    let cases: [(&str, &str, Option<Values>); 24] = [
        ("/{c=Home}/{a=Index}/{id?}", "/", Some(&[("c", "Home"), ("a", "Index")])),
        ("/{c=Home}/{a=Index}/{id?}", "/Shop", Some(&[("c", "Shop"), ("a", "Index")])),
        ("/{c=Home}/{a=Index}/{id?}", "/Shop/List/7", Some(&[("c", "Shop"), ("a", "List"), ("id", "7")])),
        ("/{c=Home}/{a=Index}/{id?}", "/Shop/List/7/8", None),
        ("/a/{id?}", "/a", Some(&[])),
        ("/a/{id?}", "/a/", Some(&[])),
        ("/a/{id?}", "/a//", None),
        ("/a/{id:int?}", "/a", Some(&[])),
        ("/a/{id:int?}", "/a/x", None),
        ("/a/{id=x y}", "/a", Some(&[("id", "x%20y")])),
        ("/{c=Home}/list", "/", None),
        ("/{c=Home}/list", "/Shop/list", Some(&[("c", "Shop")])),
        ("/a/{**path=index.html}", "/a", Some(&[("path", "index.html")])),
        ("/a/{**path=index.html}", "/a/b/c", Some(&[("path", "b/c")])),
        ("/a/{*path:nonfile}", "/a/b/c", Some(&[("path", "b/c")])),
        ("/a/{*path:nonfile}", "/a/b/c.txt", None),
        ("/a/{id:length(2,3):alpha}", "/a/bc", Some(&[("id", "bc")])),
        ("/a/{id:length(2,3):alpha}", "/a/b1", None),
        ("/{ssn:regex(^\\d{{3}}-\\d{{2}}$)}/x", "/123-45/x", Some(&[("ssn", "123-45")])),
        ("/{ssn:regex(^\\d{{3}}-\\d{{2}}$)}/x", "/123-456/x", None),
        ("/{p:regex(^(a/b|c:d=e)$)}", "/a%2Fb", Some(&[("p", "a%2Fb")])),
        ("/{p:regex(^(a/b|c:d=e)$)}", "/c:d=e", Some(&[("p", "c:d=e")])),
        ("~/a/{Id:INT}", "/A/5", Some(&[("id", "5")])),
        ("/a/{id:int}", "/a/%31", Some(&[("id", "%31")])),
    ];
    for (pattern, path, expected) in cases {
        let captures = captured(pattern, path);
        assert_eq!(captures.is_some(), expected.is_some(), "{pattern} on {path}");
        for (name, value) in expected.unwrap_or_default() {
            assert_eq!(captures.as_ref().and_then(|it| it.get(name)), Some(*value), "{pattern} on {path}");
        }
        let count = captures.map_or(0, |captures| captures.0.len());
        assert_eq!(count, expected.unwrap_or_default().len(), "{pattern} on {path}");
    }
}

#[test]
fn other_paths_do_not_match() {
    let cases = [
        ("/", "/a"),
        ("/", ""),
        ("/health", "/health/"),
        ("/health", "/healthy"),
        ("/health", "/h"),
        ("/a/", "/a"),
        ("/a/b", "/a%2Fb"),
        ("/étoile", "/%E9toile"),
        ("/stream/{**rest}", "/streams/a"),
        ("/stream/{**rest}", "//stream/a"),
        ("/t/{id}", "/t/"),
        ("/t/{id}", "/t"),
        ("/t/{id}", "/t/a/b"),
        ("/t/{id}", "/t/a/"),
        ("/t/{id}/stream", "/t//stream"),
        ("{**all}", "*"),
    ];
    for (pattern, path) in cases {
        assert_eq!(captured(pattern, path), None, "{pattern} must not match {path}");
    }
}

#[test]
fn an_escaped_slash_parts_segments_where_it_is_asked_to() {
    let cases: [(&str, &str, Option<Values>); 8] = [
        ("/a/b", "/a%2Fb", Some(&[])),
        ("/a/{x}/{**rest}", "/a%2fb%2Fc/d%2F", Some(&[("x", "b"), ("rest", "c/d%2F")])),
        ("/a/{x}", "/a/b%2Fc", None),
        ("/a/{x}", "/a/b%252Fc", Some(&[("x", "b%252Fc")])),
        ("/a/{x}", "/a%2F", None),
        ("/a/{**rest}", "/a%2F", Some(&[("rest", "")])),
        ("/étoile/{x}", "/%C3%89toile%2Fb", Some(&[("x", "b")])),
        ("/a/{x}", "/a/%2", Some(&[("x", "%2")])),
    ];
    for (pattern, path, expected) in cases {
        let parsed = PathPattern::parse(pattern).expect("a valid pattern");
        let captures = parsed.matches(path, Separator::EscapedSlash);
        assert_eq!(captures.is_some(), expected.is_some(), "{pattern} on {path}");
        for (name, value) in expected.unwrap_or_default() {
            assert_eq!(captures.as_ref().and_then(|captures| captures.get(name)), Some(*value), "{pattern} on {path}");
        }
    }
    assert!(has_escaped_slash("/a%2fb") && !has_escaped_slash("/a%252Fb/%2"));
}

#[test]
fn a_wider_pattern_covers_a_narrower_one() {
    let cases = [
        ("/{**x}", "/a/b", true),
        ("/a/{**x}", "/a", true),
        ("/a/{**x}", "/a/{b}/{**c}", true),
        ("/a/{**x}", "/b/{**x}", false),
        ("/a/{b}", "/a/b", true),
        ("/a/{b}", "/a/{**b}", false),
        ("/a/{b}", "/a/b/c", false),
        ("/a/{b}", "/a/", false),
        ("/a/b", "/A/b", true),
        ("/a/b", "/a/{x}", false),
        ("/a/{x}", "/a/{x:int}", true),
        ("/a/{x:int}", "/a/{x}", false),
        ("/a/{x:int}", "/a/5", false),
        ("/a/{x}", "/a/{x?}", false),
        ("/a/{x?}", "/a/{x}", true),
        ("/a/{x?}", "/a", true),
        ("/a/{x=1}/{y?}", "/a", true),
        ("/a/{**x:file}", "/a/{**x}", false),
        ("/a/{**x:file}", "/a/{**x:file}", true),
    ];
    for (one, other, expected) in cases {
        let parse = |text| PathPattern::parse(text).expect("a valid pattern");
        assert_eq!(parse(one).covers(&parse(other)), expected, "{one} {other}");
    }
}

#[test]
fn what_is_not_a_pattern_is_refused_with_the_reason() {
    let cases = [
        ("", "empty"),
        ("/{**a}/b", "must be the last"),
        ("/a/{id}.mp3", "a whole segment"),
        ("/a/{id", "a whole segment"),
        ("/a/id}", "a whole segment"),
        ("/{a}{b}", "a whole segment"),
        ("/{}", "not a captured value"),
        ("/{id:digits}", "`digits` is not a constraint"),
        ("/{id:int", "a whole segment"),
        ("/{id=}", "not a captured value"),
        ("/{id=5?}", "not a captured value"),
        ("/{**rest?}", "not a captured value"),
        ("/{id?x}", "not a captured value"),
        ("/{a}/{A}", "captured twice"),
        ("/{**}", "not a captured value"),
        ("/{***a}", "not a captured value"),
        ("/{a}/{a}", "captured twice"),
        ("/**/a", "no meaning"),
        ("/a*", "no meaning"),
        ("/a?b=c", "QueryParameters"),
        ("/a//b", "an empty segment"),
        ("/a/../b", "refused"),
        ("/%2e", "refused"),
    ];
    for (text, part) in cases {
        let error = PathPattern::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert_eq!(PathPattern::parse(""), Err(PatternError::Empty));
}

#[test]
fn literals_come_before_names_and_names_before_the_rest() {
    let ordered = [
        "/a",
        "/a/b",
        "/a/{x:int}",
        "/a/{x}",
        "/a/{**x:file}",
        "/a/{**x}",
        "/{x:int}/{y}",
        "/{x}/b",
        "/{x}/{y?}",
        "/{x}/{**y}",
        "/{**x}",
    ];
    let ranks: Vec<_> =
        ordered.iter().map(|text| PathPattern::parse(text).expect("a valid pattern").specificity()).collect();
    assert!(ranks.is_sorted_by(|one, two| one < two), "{ranks:?}");
}

#[test]
fn decoding_happens_once_and_needs_utf8() {
    let captures = captured("/{**k}", "/a+b%252F%20%C3%A9").expect("a match");
    assert_eq!(captures.decoded("k").expect("captured").expect("UTF-8"), "a+b%2F é");
    let captures = captured("/{**k}", "/%FF").expect("a match");
    assert!(captures.decoded("k").expect("captured").is_err());
    assert!(captures.decoded("other").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_parses_or_is_refused_and_matching_never_panics(text in any::<String>(), path in any::<String>()) {
        if let Ok(pattern) = PathPattern::parse(&text) {
            for separator in [Separator::Slash, Separator::EscapedSlash] {
                prop_assert_eq!(pattern.is_match(&path, separator), pattern.matches(&path, separator).is_some());
            }
        }
    }

    #[test]
    fn the_rest_is_kept_byte_by_byte(rest in "[ -~]{0,40}") {
        let captures = captured("/x/{**rest}", &format!("/x/{rest}")).expect("it takes everything");
        prop_assert_eq!(captures.get("rest"), Some(&*rest));
    }
}
