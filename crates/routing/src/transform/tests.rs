//! Tests of each transform, and of the defaults around them.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{
    ForwardedHeaderAction, ForwardedTransform, NodeFormat, OriginalRequest, OutgoingRequest, PathSegmentPrefix,
    ResponseCondition, Transform, WriteMode, XForwardedActions, XForwardedTransform, apply_request, apply_response,
};
use crate::pattern::{Captures, PathPattern};
use crate::template::CaptureTemplate;

const CLIENT: &str = "192.0.2.7";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
    };
    lines.iter().map(line).collect()
}

/// The headers as sorted lines.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

fn captures(pattern: &str, path: &str) -> Captures {
    PathPattern::parse(pattern).expect("a pattern").matches(path, crate::pattern::Separator::Slash).expect("a match")
}

/// A request for `target` with `sent`, transformed.
fn transformed(transforms: &[Transform], target: &str, sent: &[(&str, &str)]) -> OutgoingRequest {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let captures = captures("/{first}/{**rest}", path);
    let mut outgoing = OutgoingRequest {
        method: Method::GET,
        path: path.to_owned(),
        query: query.map(str::to_owned),
        headers: headers(sent),
    };
    let client = CLIENT.parse().expect("an address");
    let origin = OriginalRequest {
        captures: &captures,
        host: Some("front.example:8443"),
        client,
        scheme: "https",
        client_certificate: None,
    };
    apply_request(transforms, &mut outgoing, &origin);
    outgoing
}

/// `X-Forwarded-*` off, so that only the subject of a test is there.
fn quiet() -> Transform {
    let off = XForwardedActions {
        client: ForwardedHeaderAction::Off,
        proto: ForwardedHeaderAction::Off,
        host: ForwardedHeaderAction::Off,
        prefix: ForwardedHeaderAction::Off,
    };
    Transform::XForwarded(XForwardedTransform::new("X-Forwarded-", off).expect("a header prefix"))
}

fn remove_prefix(text: &str) -> Transform {
    Transform::PathRemovePrefix(PathSegmentPrefix::parse(text).expect("a prefix"))
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

#[test]
fn paths_are_changed_in_the_listed_order() {
    let set = |path: &str| Transform::PathSet(path.to_owned());
    let prefix = |path: &str| Transform::PathPrefix(path.to_owned());
    let pattern = |text: &str| Transform::PathPattern(CaptureTemplate::parse(text).expect("a template"));
    let cases: [(&[Transform], &str, &str); 19] = [
        (&[], "/a/b%2Fc//", "/a/b%2Fc//"),
        (&[set("/new")], "/a/b", "/new"),
        (&[set("new path")], "/a/b", "/new%20path"),
        (&[prefix("/apis")], "/a/b", "/apis/a/b"),
        (&[prefix("apis/")], "/a/b", "/apis/a/b"),
        (&[prefix("/")], "/a/b", "/a/b"),
        (&[remove_prefix("/a")], "/a/b/c", "/b/c"),
        (&[remove_prefix("/a/")], "/a/b/c", "/b/c"),
        (&[remove_prefix("/a/b")], "/A/%62/c%20d", "/c%20d"),
        (&[remove_prefix("/a")], "/a//b/", "//b/"),
        (&[remove_prefix("/a")], "/a/", "/"),
        (&[remove_prefix("/a")], "/a", "/"),
        (&[remove_prefix("/a")], "/ab/c", "/ab/c"),
        (&[remove_prefix("/x")], "/a/b", "/a/b"),
        (&[remove_prefix("/")], "/a/b", "/a/b"),
        (&[remove_prefix("/a"), prefix("/v1")], "/a/b", "/v1/b"),
        (&[prefix("/v1"), remove_prefix("/a")], "/a/b", "/v1/a/b"),
        (&[pattern("/my/{first}/api/{**rest}")], "/v%201/x//y+", "/my/v%201/api/x//y+"),
        (&[pattern("/my/{other}/x")], "/a/b", "/my//x"),
    ];
    for (transforms, path, expected) in cases {
        assert_eq!(transformed(transforms, path, &[]).path, expected, "{transforms:?} on {path}");
    }
}

#[test]
fn query_parameters_are_set_appended_and_removed() {
    let value = |name: &str, value: &str, write| Transform::QueryValueParameter {
        name: name.to_owned(),
        value: value.to_owned(),
        write,
    };
    let route =
        |value: &str, write| Transform::QueryRouteParameter { name: "r".to_owned(), value: value.to_owned(), write };
    let remove = |name: &str| Transform::QueryRemoveParameter(name.to_owned());
    let cases: [(Transform, &str, Option<&str>); 16] = [
        (value("foo", "x", WriteMode::Append), "/a?a=b", Some("a=b&foo=x")),
        (value("foo", "x", WriteMode::Append), "/a?foo=1&a=%62", Some("foo=1&a=%62&foo=x")),
        (value("foo", "x", WriteMode::Set), "/a?foo=1&a=%62&Foo=2", Some("a=%62&foo=x")),
        (value("foo", "x", WriteMode::Set), "/a?f%6Fo=1", Some("foo=x")),
        (value("foo", "x y&z=é", WriteMode::Set), "/a", Some("foo=x%20y%26z%3D%C3%A9")),
        (value("foo", "", WriteMode::Set), "/a?", Some("foo=")),
        (route("rest", WriteMode::Append), "/a/more/stuff", Some("r=more/stuff")),
        (route("rest", WriteMode::Append), "/a/b+c%20%26%FF", Some("r=b%2Bc%20%26%FF")),
        (route("rest", WriteMode::Set), "/a?r=client", Some("r=")),
        (route("other", WriteMode::Set), "/a?r=client", Some("r=")),
        (remove("foo"), "/a?a=b&foo=c", Some("a=b")),
        (remove("foo"), "/a?FOO=c", None),
        (remove("foo"), "/a?foo", None),
        (remove("foo"), "/a?a=b&&c", Some("a=b&&c")),
        (remove("foo"), "/a?", Some("")),
        (remove("foo"), "/a", None),
    ];
    for (transform, target, expected) in cases {
        let query = transformed(&[quiet(), transform.clone()], target, &[]).query;
        assert_eq!(query.as_deref(), expected, "{transform:?} on {target}");
    }
}

#[test]
fn only_the_named_method_is_changed() {
    let change = |from| Transform::HttpMethodChange { from, to: Method::POST };
    assert_eq!(transformed(&[change(Method::GET)], "/a", &[]).method, Method::POST);
    assert_eq!(transformed(&[change(Method::PUT)], "/a", &[]).method, Method::GET);
}

#[test]
fn by_default_headers_are_copied_but_for_the_connection_s_and_the_client_is_told_of() {
    let sent = [
        ("host", "front.example:8443"),
        ("accept", "*/*"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "5"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("proxy-authorization", "Basic x"),
        ("forwarded", "for=6.6.6.6"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-prefix", "/evil"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x.forwarded.for", "6.6.6.6"),
    ];
    let expected = [
        "accept: */*",
        "cookie: a=1",
        "cookie: b=2",
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: front.example:8443",
        "x-forwarded-proto: https",
    ];
    assert_eq!(lines(&transformed(&[], "/a/b", &sent).headers), expected);
    let with_prefix = transformed(&[remove_prefix("/a")], "/A/b", &sent).headers;
    assert_eq!(with_prefix["x-forwarded-prefix"], "/A");
    let none_removed = transformed(&[remove_prefix("/x")], "/a/b", &sent).headers;
    assert!(!none_removed.contains_key("x-forwarded-prefix"));
}

#[test]
fn request_headers_are_copied_as_the_route_says() {
    let sent = [("accept", "*/*"), ("x-a", "1"), ("x-b", "2"), ("content-length", "3"), ("connection", "x-b")];
    let copy = Transform::RequestHeadersCopy;
    let allowed =
        |names: &[&'static str]| Transform::RequestHeadersAllowed(names.iter().map(|text| name(text)).collect());
    let cases: [(Vec<Transform>, &[&str]); 6] = [
        (vec![copy(true)], &["accept: */*", "content-length: 3", "x-a: 1"]),
        (vec![copy(false)], &["content-length: 3"]),
        (vec![copy(false), copy(true)], &["accept: */*", "content-length: 3", "x-a: 1"]),
        (vec![allowed(&["x-a", "x-b", "x-c"])], &["content-length: 3", "x-a: 1"]),
        (vec![allowed(&["x-a"]), copy(true)], &["content-length: 3", "x-a: 1"]),
        (vec![allowed(&["x-a"]), allowed(&["accept"])], &["accept: */*", "content-length: 3", "x-a: 1"]),
    ];
    for (mut transforms, expected) in cases {
        transforms.push(quiet());
        assert_eq!(lines(&transformed(&transforms, "/a", &sent).headers), expected, "{transforms:?}");
    }
}

#[test]
fn request_headers_are_set_appended_and_removed_in_order() {
    let put =
        |write, value| Transform::RequestHeader { name: name("x-a"), value: HeaderValue::from_static(value), write };
    let route =
        |value: &str, write| Transform::RequestHeaderRouteValue { name: name("x-a"), value: value.to_owned(), write };
    let remove = || Transform::RequestHeaderRemove(name("x-a"));
    let cases: [(Vec<Transform>, &str, &[&str]); 9] = [
        (vec![put(WriteMode::Set, "2")], "/a", &["x-a: 2"]),
        (vec![put(WriteMode::Append, "2")], "/a", &["x-a: 1", "x-a: 2"]),
        (vec![remove()], "/a", &[]),
        (vec![put(WriteMode::Set, "2"), remove()], "/a", &[]),
        (vec![remove(), put(WriteMode::Append, "2")], "/a", &["x-a: 2"]),
        (vec![route("rest", WriteMode::Set)], "/a/b%20c+", &["x-a: b c+"]),
        (vec![route("rest", WriteMode::Append)], "/a/b", &["x-a: 1", "x-a: b"]),
        (vec![route("rest", WriteMode::Set)], "/a/b%0d%0aevil:%201", &[]),
        (vec![route("other", WriteMode::Set)], "/a", &[]),
    ];
    for (mut transforms, target, expected) in cases {
        transforms.push(quiet());
        assert_eq!(lines(&transformed(&transforms, target, &[("x-a", "1")]).headers), expected, "{transforms:?}");
    }
}

#[test]
fn the_host_is_the_destination_s_unless_a_transform_decides_it() {
    let set = |write| Transform::RequestHeader {
        name: name("host"),
        value: HeaderValue::from_static("inner.example"),
        write,
    };
    let original = Transform::RequestHeaderOriginalHost;
    let cases: [(&[Transform], Option<&str>); 7] = [
        (&[], None),
        (&[original(false)], None),
        (&[original(true)], Some("front.example:8443")),
        (&[set(WriteMode::Set)], Some("inner.example")),
        (&[set(WriteMode::Append)], Some("inner.example")),
        (&[set(WriteMode::Set), original(true)], Some("inner.example")),
        (&[set(WriteMode::Append), set(WriteMode::Append), original(false)], Some("inner.example")),
    ];
    for (transforms, expected) in cases {
        let headers = transformed(transforms, "/a", &[("host", "front.example:8443")]).headers;
        let hosts: Vec<_> = headers.get_all("host").iter().map(|host| host.to_str().expect("text")).collect();
        assert_eq!(hosts, expected.into_iter().collect::<Vec<_>>(), "{transforms:?}");
    }
}

#[test]
fn x_forwarded_sets_appends_removes_or_leaves_each_header() {
    let sent = [
        ("forwarded", "for=6.6.6.6"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "5.5.5.5"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "other.example"),
    ];
    let mixed = XForwardedActions {
        client: ForwardedHeaderAction::Append,
        proto: ForwardedHeaderAction::Off,
        host: ForwardedHeaderAction::Remove,
        prefix: ForwardedHeaderAction::Append,
    };
    let transform =
        |prefix, actions| Transform::XForwarded(XForwardedTransform::new(prefix, actions).expect("a header prefix"));
    let headers = transformed(&[transform("X-Forwarded-", mixed), remove_prefix("/a")], "/a/b", &sent).headers;
    let expected =
        ["x-forwarded-for: 6.6.6.6, 5.5.5.5, 192.0.2.7", "x-forwarded-prefix: /a", "x-forwarded-proto: gopher"];
    assert_eq!(lines(&headers), expected);
    let headers = transformed(&[transform("X-Edge-", XForwardedActions::default())], "/a", &sent[..2]).headers;
    let expected =
        ["x-edge-for: 192.0.2.7", "x-edge-host: front.example:8443", "x-edge-proto: https", "x-forwarded-for: 6.6.6.6"];
    assert_eq!(lines(&headers), expected);
    assert_eq!(lines(&transformed(&[quiet()], "/a", &sent).headers).len(), 5);
    assert!(XForwardedTransform::new("X Forwarded", XForwardedActions::default()).is_err());
}

#[test]
fn forwarded_takes_the_place_of_x_forwarded() {
    let sent = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-port", "1")];
    let all = ForwardedTransform {
        action: ForwardedHeaderAction::Set,
        client: Some(NodeFormat::Ip),
        host: true,
        proto: true,
    };
    let ours = r#"proto=https;host="front.example:8443";for=192.0.2.7"#;
    let cases = [
        (all, vec![format!("forwarded: {ours}")]),
        (
            ForwardedTransform { action: ForwardedHeaderAction::Append, ..all },
            vec![format!("forwarded: for=6.6.6.6, {ours}")],
        ),
        (ForwardedTransform { action: ForwardedHeaderAction::Remove, ..all }, vec![]),
        (
            ForwardedTransform { client: Some(NodeFormat::Unknown), host: false, proto: false, ..all },
            vec!["forwarded: for=unknown".to_owned()],
        ),
    ];
    for (transform, expected) in cases {
        assert_eq!(lines(&transformed(&[Transform::Forwarded(transform)], "/a", &sent).headers), expected);
    }
    let off = Transform::Forwarded(ForwardedTransform { action: ForwardedHeaderAction::Off, ..all });
    assert_eq!(lines(&transformed(&[off], "/a", &sent).headers).len(), 3);
}

#[test]
fn addresses_and_hosts_are_written_as_rfc_7239_has_them() {
    let transform = ForwardedTransform {
        action: ForwardedHeaderAction::Set,
        client: Some(NodeFormat::Ip),
        host: true,
        proto: false,
    };
    let cases = [
        ("2001:db8::1", r#"host="a\"b\\c";for="[2001:db8::1]""#, "2001:db8::1"),
        ("::ffff:192.0.2.1", r#"host="a\"b\\c";for=192.0.2.1"#, "192.0.2.1"),
    ];
    for (client, forwarded, x_forwarded) in cases {
        let client = client.parse().expect("an address");
        let origin = OriginalRequest {
            captures: &Captures::default(),
            host: Some(r#"a"b\c"#),
            client,
            scheme: "http",
            client_certificate: None,
        };
        let mut headers = HeaderMap::new();
        transform.apply(&mut headers, &origin);
        XForwardedTransform::default().apply(&mut HeaderMap::new(), &origin, "");
        assert_eq!(headers["forwarded"], forwarded);
        XForwardedTransform::default().apply(&mut headers, &origin, "");
        assert_eq!(headers["x-forwarded-for"], x_forwarded);
    }
}

#[test]
fn response_headers_are_changed_when_the_status_fits() {
    let put = |write, when| Transform::ResponseHeader {
        name: name("x-a"),
        value: HeaderValue::from_static("2"),
        write,
        when,
    };
    let remove = |when| Transform::ResponseHeaderRemove { name: name("x-a"), when };
    let allowed = || Transform::ResponseHeadersAllowed(vec![name("x-a"), name("connection")]);
    let cases: [(&[Transform], u16, &[&str]); 14] = [
        (&[], 200, &["content-length: 3", "server: s", "x-a: 1"]),
        (&[put(WriteMode::Set, ResponseCondition::Success)], 399, &["content-length: 3", "server: s", "x-a: 2"]),
        (&[put(WriteMode::Set, ResponseCondition::Success)], 400, &["content-length: 3", "server: s", "x-a: 1"]),
        (&[put(WriteMode::Set, ResponseCondition::Failure)], 200, &["content-length: 3", "server: s", "x-a: 1"]),
        (&[put(WriteMode::Set, ResponseCondition::Failure)], 400, &["content-length: 3", "server: s", "x-a: 2"]),
        (
            &[put(WriteMode::Append, ResponseCondition::Always)],
            200,
            &["content-length: 3", "server: s", "x-a: 1", "x-a: 2"],
        ),
        (
            &[put(WriteMode::Append, ResponseCondition::Always)],
            500,
            &["content-length: 3", "server: s", "x-a: 1", "x-a: 2"],
        ),
        (&[remove(ResponseCondition::Success)], 200, &["content-length: 3", "server: s"]),
        (&[remove(ResponseCondition::Success)], 404, &["content-length: 3", "server: s", "x-a: 1"]),
        (&[remove(ResponseCondition::Always)], 404, &["content-length: 3", "server: s"]),
        (&[Transform::ResponseHeadersCopy(false)], 200, &["content-length: 3"]),
        (
            &[Transform::ResponseHeadersCopy(false), put(WriteMode::Append, ResponseCondition::Success)],
            200,
            &["content-length: 3", "x-a: 2"],
        ),
        (&[allowed()], 200, &["content-length: 3", "x-a: 1"]),
        (&[allowed(), remove(ResponseCondition::Always)], 500, &["content-length: 3"]),
    ];
    for (transforms, status, expected) in cases {
        let mut headers = headers(&[("server", "s"), ("x-a", "1"), ("content-length", "3"), ("connection", "close")]);
        apply_response(transforms, StatusCode::from_u16(status).expect("a status"), &mut headers);
        assert_eq!(lines(&headers), expected, "{transforms:?} at {status}");
    }
}

proptest! {
    #[test]
    fn a_removed_prefix_and_what_is_left_are_the_path(prefix in "/[a-z]{1,4}(/[a-z]{1,4})?", rest in "(/[ -~]{0,12})?") {
        let outgoing = transformed(&[remove_prefix(&prefix), quiet()], &format!("{prefix}{}", rest.replace('?', "")), &[]);
        let left = rest.replace('?', "");
        prop_assert_eq!(outgoing.path, if left.is_empty() { "/".to_owned() } else { left });
    }

    #[test]
    fn a_query_parameter_that_is_set_is_read_back(name in "[^A-Z]{1,8}", value in any::<String>(), query in "[a-z=&%+]{0,12}") {
        let set = Transform::QueryValueParameter { name: name.clone(), value: value.clone(), write: WriteMode::Set };
        let sent = transformed(&[set], &format!("/a?{query}"), &[]).query.unwrap_or_default();
        let read: Vec<_> = url::form_urlencoded::parse(sent.as_bytes()).filter(|(known, _)| *known == name).collect();
        prop_assert_eq!(read.len(), 1);
        prop_assert!(read[0].1 == value);
    }
}
