//! Which route answers, and what plain routes do on the way.

use http::Method;
use serde_json::{Value, json};

use crate::streaming_urls::{KEYS, url, urls};
use crate::support::fault::Step;
use crate::support::origin_http::Answer;
use crate::support::{Gate, Object, ScriptedOrigin, config, token};

/// Names and values.
type Headers = &'static [(&'static str, &'static str)];

/// An origin that answers everything with its name.
async fn named(name: &str) -> ScriptedOrigin {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", name).with("X-Origin", name)));
    origin
}

/// A plain route over `/plain/{**rest}` with these transforms before `origin`.
fn plain(origin: &ScriptedOrigin, transforms: Value) -> Value {
    let mut config = config::empty();
    let mut route = config::plain_route("/plain/{**rest}", "back");
    route["Transforms"] = transforms;
    config["ReverseProxy"]["Routes"]["plain"] = route;
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    config
}

#[tokio::test]
async fn a_plain_route_goes_round_its_destinations() {
    let (one, two) = (named("one").await, named("two").await);
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[one.url(), two.url()]);
    let gate = Gate::start(&config).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(gate.client().get("/plain/x", &[]).await.is(200).text());
    }
    assert_eq!((one.seen().len(), two.seen().len()), (3, 3), "{answers:?}");
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "{answers:?}");
}

#[tokio::test]
async fn a_plain_route_carries_path_query_headers_and_body() {
    let origin = named("back").await;
    let gate = Gate::start(&plain(&origin, json!([]))).await;
    let request = gate.client().request(Method::POST, "/plain/a%2Fb//c?x=1&y=%20").body("a body");
    let request = request.header("X-Mine", "yes").header("X-Forwarded-For", "6.6.6.6").header("TE", "trailers");
    let response = request.header("Proxy-Authorization", "secret").send().await.expect("an answer");
    assert_eq!(response.headers()["x-origin"], "back");
    let seen = origin.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/plain/a%2Fb//c?x=1&y=%20"));
    assert_eq!((seen.header("x-mine"), seen.body.as_slice()), (Some("yes"), b"a body".as_slice()));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("host"), Some(origin.address().to_string().as_str()));
    assert_eq!(seen.header("proxy-authorization"), None);
    // Leave for trailers is passed on; any other transfer coding is this connection's.
    assert_eq!(seen.header("te"), Some("trailers"));
}

#[tokio::test]
async fn hop_by_hop_headers_never_cross() {
    let origin = named("back").await;
    let answer = Answer::new(200, "text/plain", "x").with("Connection", "X-Private").with("X-Private", "1");
    origin.always(Step::Answer(answer.with("Proxy-Authenticate", "Basic").with("Keep-Alive", "timeout=5")));
    let gate = Gate::start(&plain(&origin, json!([]))).await;
    let headers = [("connection", "X-Hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("x-stays", "1")];
    let reply = gate.client().get("/plain/x", &headers).await;
    let seen = origin.seen().remove(0);
    assert_eq!((seen.header("x-hop"), seen.header("keep-alive"), seen.header("x-stays")), (None, None, Some("1")));
    assert_eq!((reply.header("x-private"), reply.header("proxy-authenticate")), ("", ""));
}

#[tokio::test]
async fn transforms_change_path_query_and_headers() {
    let table = [
        (json!([{ "PathRemovePrefix": "/plain" }]), "/plain/a/b", "/a/b"),
        (json!([{ "PathPrefix": "/v2" }]), "/plain/a", "/v2/plain/a"),
        (json!([{ "PathSet": "/fixed" }]), "/plain/a?x=1", "/fixed?x=1"),
        (json!([{ "PathPattern": "/files/{**rest}" }]), "/plain/a%20b/c", "/files/a%20b/c"),
        (json!([{ "QueryValueParameter": "v", "Set": "1" }]), "/plain/a?x=2&v=0", "/plain/a?x=2&v=1"),
        (json!([{ "QueryRemoveParameter": "v" }]), "/plain/a?v=0&x=2", "/plain/a?x=2"),
        (json!([{ "PathRemovePrefix": "/plain" }, { "PathPrefix": "/new" }]), "/plain/a", "/new/a"),
    ];
    for (transforms, path, target) in table {
        let origin = named("back").await;
        let gate = Gate::start(&plain(&origin, transforms.clone())).await;
        gate.client().get(path, &[]).await.is(200);
        assert_eq!(origin.seen()[0].target, target, "{transforms} {path}");
    }
}

#[tokio::test]
async fn header_transforms_work_both_ways() {
    let origin = named("back").await;
    let transforms = json!([
        { "RequestHeader": "Host", "Set": "inside.test" },
        { "RequestHeader": "X-Added", "Set": "value" },
        { "RequestHeaderRemove": "X-Removed" },
        { "ResponseHeader": "X-Gate", "Set": "tidegate" },
        { "ResponseHeaderRemove": "X-Origin" },
    ]);
    let gate = Gate::start(&plain(&origin, transforms)).await;
    let reply = gate.client().get("/plain/x", &[("x-removed", "1")]).await;
    assert_eq!((reply.header("x-gate"), reply.header("x-origin")), ("tidegate", ""));
    let seen = origin.seen().remove(0);
    assert_eq!((seen.header("host"), seen.header("x-added")), (Some("inside.test"), Some("value")));
    assert_eq!(seen.header("x-removed"), None);
}

#[tokio::test]
async fn a_plain_route_without_a_living_destination_is_502_or_503() {
    let gone = ScriptedOrigin::start().await.url();
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["dead"] = config::plain_route("/dead/{**rest}", "dead");
    config["ReverseProxy"]["Routes"]["none"] = config::plain_route("/none/{**rest}", "none");
    config["ReverseProxy"]["Clusters"]["dead"] = config::cluster(&[gone]);
    config["ReverseProxy"]["Clusters"]["none"] = json!({ "Destinations": {} });
    let gate = Gate::start(&config).await;
    gate.client().get("/dead/x", &[]).await.problem(502);
    gate.client().get("/none/x", &[]).await.problem(503);
}

#[tokio::test]
async fn a_token_of_a_private_plain_route_stays_here() {
    let origin = named("back").await;
    let mut config = plain(&origin, json!([]));
    config["Auth"] = config::jwt();
    config["ReverseProxy"]["Routes"]["plain"]["AuthorizationPolicy"] = json!("Default");
    let gate = Gate::start(&config).await;
    let token = token::of("alice");
    gate.client().get(&format!("/plain/x?a=1&access_token={token}&b=2"), &[]).await.is(200);
    gate.client().get("/plain/x", &[("authorization", &format!("Bearer {token}"))]).await.is(200);
    gate.client().get("/plain/x", &[("cookie", &format!("a=b; session={token}; c=d"))]).await.is(200);
    gate.client().get("/plain/x", &[]).await.problem(401);
    let seen = origin.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].query(), "a=1&b=2");
    assert_eq!(seen[1].header("authorization"), None);
    assert_eq!(seen[2].header("cookie"), Some("a=b; c=d"));
}

#[tokio::test]
async fn an_anonymous_route_looks_at_no_token_and_takes_none_out() {
    let (back, store) = (named("back").await, ScriptedOrigin::with_track("music").await);
    let mut config = plain(&back, json!([]));
    config["Auth"] = config::jwt();
    config["ObjectStores"]["main"] = config::store(&store.url());
    config["ReverseProxy"]["Routes"]["stream"] = config::object_route("/stream/{**key}", "main", "audio", "{**key}");
    let gate = Gate::start(&config).await;
    let theirs = [("authorization", "Bearer x.y.z"), ("cookie", "session=abc")];
    for path in ["/plain/x?access_token=def", "/stream/track.mp3?access_token=def"] {
        gate.client().get(path, &theirs).await.is(200);
    }
    let seen = back.seen().remove(0);
    assert_eq!((seen.header("authorization"), seen.header("cookie")), (Some("Bearer x.y.z"), Some("session=abc")));
    assert_eq!(seen.query(), "access_token=def");
}

/// Route names over what they match; each answers with an object of its own name.
async fn table(routes: &[(&str, Value, i64)]) -> (ScriptedOrigin, Gate) {
    let origin = ScriptedOrigin::start().await;
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"] = json!({});
    for (name, matches, order) in routes {
        origin.put(&format!("/audio/{name}"), Object::new(*name));
        let mut route = config::object_route("/", "main", "audio", name);
        route["Match"] = matches.clone();
        route["Order"] = json!(order);
        config["ReverseProxy"]["Routes"][*name] = route;
    }
    let gate = Gate::start(&config).await;
    (origin, gate)
}

#[tokio::test]
async fn the_most_specific_route_answers() {
    let (_origin, gate) = table(&[
        ("rest", json!({ "Path": "/a/{**rest}" }), 0),
        ("value", json!({ "Path": "/a/{id}" }), 0),
        ("literal", json!({ "Path": "/a/fixed" }), 0),
        ("host", json!({ "Path": "/a/{**rest}", "Hosts": ["special.test"] }), 0),
        ("wildcard", json!({ "Path": "/a/{**rest}", "Hosts": ["*.wild.test"] }), 0),
        ("method", json!({ "Path": "/m/{**rest}", "Methods": ["HEAD"] }), 0),
        ("header", json!({ "Path": "/h/{**rest}", "Headers": [{ "Name": "X-Kind", "Values": ["a", "b"] }] }), 0),
        ("no-header", json!({ "Path": "/h/{**rest}" }), 0),
        ("query", json!({ "Path": "/q/{**rest}", "QueryParameters": [{ "Name": "v", "Values": ["2"] }] }), 0),
        ("no-query", json!({ "Path": "/q/{**rest}" }), 0),
        ("late", json!({ "Path": "/o/fixed" }), 5),
        ("early", json!({ "Path": "/o/{**rest}" }), 1),
    ])
    .await;
    let rows: &[(&str, Headers, &str)] = &[
        ("/a/x/y", &[], "rest"),
        ("/a/", &[], "rest"),
        ("/a/x", &[], "value"),
        ("/a/fixed", &[], "literal"),
        ("/A/FIXED", &[], "literal"),
        ("/a/x/y", &[("host", "special.test")], "host"),
        ("/a/x/y", &[("host", "special.test:8080")], "host"),
        ("/a/x/y", &[("host", "one.wild.test")], "wildcard"),
        ("/a/x/y", &[("host", "wild.test")], "rest"),
        ("/h/x", &[("x-kind", "b")], "header"),
        ("/h/x", &[("x-kind", "c")], "no-header"),
        ("/h/x", &[], "no-header"),
        ("/q/x?v=2", &[], "query"),
        ("/q/x?v=3", &[], "no-query"),
        ("/o/fixed", &[], "early"),
    ];
    for &(path, headers, name) in rows {
        assert_eq!(gate.client().get(path, headers).await.is(200).text(), name, "{path} {headers:?}");
    }
    let reply = gate.client().get("/m/x", &[]).await;
    reply.problem(405);
    assert!(reply.header("allow").contains("HEAD"), "{:?}", reply.headers);
    gate.client().get("/nowhere", &[]).await.problem(404);
    gate.client().get("/", &[]).await.problem(404);
}

#[tokio::test]
async fn options_without_an_origin_says_what_may_be_asked() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let reply = gate.client().send(Method::OPTIONS, "/stream/track.mp3", &[]).await;
    assert_eq!(reply.is(204).header("allow"), "GET, HEAD, OPTIONS");
    assert!(origin.seen().is_empty() && !reply.header("x-request-id").is_empty());
    let reply = gate.client().send(Method::DELETE, "/stream/track.mp3", &[]).await;
    reply.problem(405);
    assert_eq!(reply.header("allow"), "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn two_stores_with_their_own_keys_serve_side_by_side() {
    let (one, two) = (ScriptedOrigin::with_track("one").await, ScriptedOrigin::start().await);
    two.put("/video/track.mp3", Object::new("two"));
    let mut config = config::objects(&one.url(), "audio");
    config["ObjectStores"]["second"] = config::store(&two.url());
    config["ObjectStores"]["second"]["Region"] = json!("eu-west-1");
    config["ObjectStores"]["second"]["Credentials"] =
        json!({ "AccessKey": "env:SECOND_ACCESS_KEY", "SecretKey": "env:SECOND_SECRET_KEY" });
    config["ReverseProxy"]["Routes"]["video"] = config::object_route("/video/{**key}", "second", "video", "{**key}");
    let environment = [("SECOND_ACCESS_KEY", "second-key"), ("SECOND_SECRET_KEY", "second-secret")];
    let gate = Gate::start_with(&config, &environment).await;
    assert_eq!(gate.client().get("/stream/track.mp3", &[]).await.is(200).text(), "one");
    assert_eq!(gate.client().get("/video/track.mp3", &[]).await.is(200).text(), "two");
    assert!(one.seen()[0].query().contains("tidegate-test%2F"), "{}", one.seen()[0].target);
    assert!(two.seen()[0].query().contains("second-key%2F") && two.seen()[0].query().contains("eu-west-1"));
}

#[tokio::test]
async fn an_object_route_connects_where_its_cluster_says() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects("http://minio.internal:9000", "audio");
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("minio");
    config["ReverseProxy"]["Clusters"]["minio"] = config::cluster(&[origin.url()]);
    let gate = Gate::start(&config).await;
    assert_eq!(gate.client().get("/stream/track.mp3", &[]).await.is(200).text(), "music");
    assert_eq!(origin.seen()[0].header("host"), Some("minio.internal:9000"), "the signed host");
}

#[tokio::test]
async fn a_yarp_section_works_as_it_stands() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects("http://minio:9000", "audio");
    config["ReverseProxy"] = json!({
        "Routes": { "audio-stream": {
            "ClusterId": "minio",
            "Match": { "Path": "/stream/{**catch-all}" },
            "AuthorizationPolicy": "Anonymous",
            "Transforms": [
                { "PathRemovePrefix": "/stream" },
                { "RequestHeader": "Host", "Set": "minio.internal" },
                { "PresignedUrl": { "Store": "main", "Bucket": "audio", "Key": "{**catch-all}" } },
            ],
        } },
        "Clusters": { "minio": {
            "Destinations": { "primary": { "Address": origin.url() } },
            "HttpClient": { "RequestHeaderEncoding": "Latin1" },
        } },
    });
    let gate = Gate::start(&config).await;
    assert_eq!(gate.client().get("/stream/track.mp3", &[]).await.is(200).text(), "music");
}

#[tokio::test]
async fn a_route_with_captures_takes_no_path_of_the_api_for_an_id() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = urls(&origin.url(), "audio", &["env:OLD_KEY"]);
    let routes = &mut config["ReverseProxy"]["Routes"];
    routes["any"] = config::object_route("/api/v1/tracks/{id}/{quality}", "main", "audio", "{id}.mp3");
    routes["rest"] = config::object_route("/{**rest}", "main", "audio", "track.mp3");
    routes["own"] = config::object_route("/api/v1/usage", "main", "audio", "track.mp3");
    config["Share"] = json!({});
    let gate = Gate::start_with(&config, &[KEYS[0], ("BEARER_TOKEN", "a-token-for-sharing")]).await;
    let share = "a-token-for-sharing";
    for path in ["/api/share/start", "/api/v1/share/start"] {
        let request = gate.client().request(Method::POST, path).header("authorization", share).body("{}");
        assert_eq!(request.send().await.expect("it answers").status(), 200, "{path}");
    }
    assert!(gate.client().get("/listen/123456", &[]).await.is(200).header("content-type").starts_with("text/html"));
    let script = gate.client().get("/listen/assets/listen.js", &[]).await;
    assert!(script.is(200).header("content-type").starts_with("text/javascript"));
    // It asks `/api/v1/tracks/track/stream-url`.
    let path = url(&gate, "track", "alice").await;
    gate.client().get(&path, &[]).await.is(200);
    let alice = format!("Bearer {}", token::of("alice"));
    let logout = gate.client().send(Method::POST, "/api/v1/logout", &[("authorization", &alice)]).await;
    logout.is(204);
    for path in
        ["/api/v1/tracks/track/lossless", "/api/v1/tracks/stream-url/lossless", "/api/v1/other", "/api/v1/usage"]
    {
        let reply = gate.client().get(path, &[]).await;
        assert_eq!((path, reply.status.as_u16()), (path, if path.contains("stream-url") { 404 } else { 200 }));
    }
}
