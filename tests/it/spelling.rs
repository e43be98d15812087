//! Other spellings of a request: paths, hosts and header names that a server takes for something else than the route
//! table and the transforms do. None of them leads past a rule.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::bearer;
use crate::protected_routes::{ask, get, objects, plain, server, start, with_routes};
use crate::support::h2::H2;
use crate::support::service::{Service, free_port};
use crate::support::tools::{self, TempFolder};
use crate::support::{Gate, Object, ScriptedOrigin, config};

#[tokio::test]
async fn no_dot_segment_reaches_a_server_however_it_is_spelled() {
    let origin = server().await;
    let routes = json!({
        "adm": plain("/admin/{**r}", "Default"),
        "own": plain("/users/{userId}/{**file}", "owner"),
        "web": plain("/{**rest}", "Anonymous"),
    });
    let mut config = with_routes(&origin.url(), routes);
    config["Policies"]["Authorization"]["owner"] = json!({ "Require": [{ "Claim": "sub", "Equals": "{userId}" }] });
    let gate = Gate::start(&config).await;
    let alice = format!("Authorization: {}\r\n", bearer("alice"));
    assert_eq!(ask(&gate, "GET", "/users/alice/file", &alice).await.0, 200);
    origin.take_seen();
    for path in [
        "/public/..\\admin/x",
        "/public/%2e%2e\\admin/x",
        "/public\\..\\admin\\x",
        "/public/..%5Cadmin/x",
        "/public%5c..%5cadmin/x",
        "/public%2F..%2Fadmin/x",
        "/public%2F..;%2Fadmin/x",
        "/public%2F..;/admin/x",
        "/public%5C..;%5Cadmin/x",
        "/public%5C%2E%2e%3Bv=1%5Cadmin/x",
        "/public/.;/..;x\\y/admin/x",
        "/users/alice/..\\bob/secret",
        "/users/alice/..%5Cbob/secret",
        "/users/alice%5C..;a%2Fbob/secret",
        "/users/alice/.;",
    ] {
        assert_eq!(ask(&gate, "GET", path, &alice).await.0, 400, "{path}");
    }
    assert!(origin.take_seen().is_empty(), "the server was asked");
    // Dots that no server takes for a step.
    for path in ["/public/...", "/public/..a;b/.c", "/public/a..;b", "/public/%252e%252e/x"] {
        assert_eq!(get(&gate, path).await, 200, "{path}");
        assert_eq!(origin.take_seen()[0].target, path);
    }
}

#[tokio::test]
async fn no_mixture_of_spellings_leads_past_a_stricter_route() {
    let origin = server().await;
    let routes = json!({
        "admin": plain("/admin/{**rest}", "Default"),
        "part": plain("/part/{name}/secret", "Default"),
        "web": plain("/{**rest}", "Anonymous"),
    });
    let gate = start(&origin, routes).await;
    origin.take_seen();
    for path in [
        // The place of a host, for a server that resolves the target against a URL of its own.
        "//x/admin/y",
        "/\\x/admin/y",
        "\\/x",
        "//user@host:80/admin/y",
        // Parameters that end at the next slash as it was written.
        "/%2Fadmin;a%2Fb/y",
        "/admin;a\\b/y",
        "/admin%3Ba%5Cb/y",
        // One escape is read, and the other is not.
        "/part/a%2Fb\\secret",
        "/part/%3Bx/secret;y",
    ] {
        assert_eq!(get(&gate, path).await, 400, "{path}");
    }
    assert_eq!(get(&gate, "/part/a%5Cb%2Fsecret").await, 401);
    assert!(origin.take_seen().is_empty(), "the server was asked");
    for path in ["//x/y", "/part/a%2Fb%2Fsecret", "/part;x/a/b"] {
        assert_eq!(get(&gate, path).await, 200, "{path}");
        assert_eq!(origin.take_seen()[0].target, path);
    }
}

#[tokio::test]
async fn no_spelling_gives_a_rule_over_captured_values_other_values_than_the_server_has() {
    let origin = server().await;
    let mut config = with_routes(&origin.url(), json!({ "own": plain("/users/{userId}/{**file}", "owner") }));
    config["Policies"]["Authorization"]["owner"] = json!({ "Require": [{ "Claim": "sub", "Equals": "{userId}" }] });
    let gate = Gate::start(&config).await;
    // Names that an identity provider may let a user choose.
    for (subject, path) in [
        ("bob;x", "/users/bob;x/secret"),
        ("bob;x", "/users/bob%3Bx/secret"),
        ("bob\\x", "/users/bob\\x/secret"),
        ("bob\\x", "/users/bob%5Cx/secret"),
    ] {
        let header = format!("Authorization: {}\r\n", bearer(subject));
        assert_eq!(ask(&gate, "GET", path, &header).await.0, 400, "{path}");
    }
    let bob = format!("Authorization: {}\r\n", bearer("bob"));
    for path in ["/users/bob/a;b/c", "/users/bob/a//b/", "/users/bob/a%2Fb%5Cc"] {
        assert_eq!(ask(&gate, "GET", path, &bob).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn no_spelling_leads_past_the_limits_of_another_route() {
    let origin = server().await;
    let mut login = plain("/login", "Anonymous");
    login["RateLimiterPolicy"] = json!("login");
    let mut upload = plain("/upload", "Anonymous");
    upload["MaxRequestBodySize"] = json!(10);
    let mut shared = plain("/shared/a", "Anonymous");
    shared["RateLimiterPolicy"] = json!("all");
    let mut shared_rest = plain("/shared/{**rest}", "Anonymous");
    shared_rest["RateLimiterPolicy"] = json!("all");
    let mut page = plain("/pages/own", "Anonymous");
    page["CorsPolicy"] = json!("own");
    let mut pages = plain("/pages/{**rest}", "Anonymous");
    pages["CorsPolicy"] = json!("other");
    let routes = json!({
        "login": login, "upload": upload, "shared": shared, "sharedRest": shared_rest, "page": page, "pages": pages,
        "rest": plain("/{**rest}", "Anonymous"),
    });
    let mut config = with_routes(&origin.url(), routes);
    config["Policies"]["RateLimiter"] = json!({
        "login": { "FixedWindow": { "PermitLimit": 2, "Window": "10m" }, "PartitionBy": "Address" },
        "all": { "FixedWindow": { "PermitLimit": 100, "Window": "10m" }, "PartitionBy": "Address" },
    });
    config["Policies"]["Cors"] = json!({
        "own": { "Origins": ["https://app.example"] },
        "other": { "Origins": ["https://other.example"] },
    });
    let gate = Gate::start(&config).await;
    origin.take_seen();
    for rest in ["//login", "/login/", "/login;x", "/login%3Bx", "/login%2F", "/login\\", "/login%5C", "/;/login"] {
        assert_eq!(get(&gate, rest).await, 400, "{rest}");
    }
    for (path, status) in [("//upload", 400), ("/upload/", 400), ("/pages/own/", 400), ("/pages/own;a", 400)] {
        let posted = ask(&gate, "POST", path, "Content-Length: 0\r\n").await;
        assert_eq!(posted.0, status, "{path}");
    }
    assert!(origin.take_seen().is_empty(), "the server was asked");
    let statuses = [get(&gate, "/login").await, get(&gate, "/login").await, get(&gate, "/login").await];
    assert_eq!(statuses, [200, 200, 429]);
    // The same limit counts both.
    assert_eq!((get(&gate, "/shared/a/").await, get(&gate, "/other//x;y/").await), (200, 200));
}

#[tokio::test]
async fn every_spelling_of_a_host_is_the_host_of_its_route() {
    let origin = server().await;
    let mut admin = plain("/{**rest}", "Default");
    admin["Match"]["Hosts"] = json!(["admin.example.com", "[2001:db8::1]"]);
    let mut open = plain("/{**rest}", "Anonymous");
    open["Transforms"] = json!([{ "RequestHeaderOriginalHost": true }]);
    let mut config = with_routes(&origin.url(), json!({ "admin": admin, "open": open }));
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    let gate = Gate::start(&config).await;
    origin.take_seen();
    let h2 = H2::connect(gate.address()).await;
    for (host, status) in [
        ("admin.example.com", 401),
        ("ADMIN.example.com", 401),
        ("admin.example.com.", 401),
        ("admin.example.com.:80", 401),
        ("admin.example.com:", 401),
        ("[2001:DB8::1]", 401),
        ("[2001:db8:0:0:0:0:0:1]:80", 401),
        ("admin%2Eexample.com", 400),
        ("admin.example.com..", 400),
        ("admin.example.com:65536", 400),
    ] {
        assert_eq!(from_host(&gate, host, "/x").await, status, "{host}");
        assert_eq!(from_host(&gate, host, &format!("http://{host}/x")).await, status, "{host}, as a URL");
        // What is no URI at all does not leave this client.
        if !host.contains('%') && !host.ends_with("65536") {
            assert_eq!(h2.status_from(host, "/x").await, status, "{host}, over HTTP/2");
        }
    }
    assert!(origin.take_seen().is_empty(), "the server was asked");
    for (host, expected) in [("WWW.example.com.:8080", "www.example.com:8080"), ("other.example:", "other.example")] {
        assert_eq!((from_host(&gate, host, "/x").await, h2.status_from(host, "/x").await), (200, 200));
        for seen in origin.take_seen() {
            assert_eq!((seen.header("host"), seen.header("x-forwarded-host")), (Some(expected), Some(expected)));
        }
    }
}

/// The status of a GET of `target` with this `Host`.
async fn from_host(gate: &Gate, host: &str, target: &str) -> u16 {
    let mut raw = gate.raw().await;
    raw.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await;
    raw.response("GET", Duration::from_secs(10)).await.expect("an answer").status
}

/// Answers with the variables that CGI makes of the request's headers (RFC 3875 §4.1.18).
const WSGI: &str = r#"
import json, sys
from wsgiref.simple_server import make_server
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({k: v for k, v in environ.items() if k.startswith("HTTP_")}).encode()]
make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
"#;

#[tokio::test]
async fn no_header_passes_for_one_that_is_written_here() {
    let Some(python) = tools::find("python3") else { return };
    let port = free_port();
    let command = vec![python.into(), "-c".into(), WSGI.into(), port.to_string().into()];
    let ready = move || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let _wsgi = Service::start(TempFolder::new("wsgi"), command, ready);
    let mut route = config::plain_route("/{user}/{**rest}", "back");
    route["Transforms"] = json!([
        { "RequestHeader": "X-Role", "Set": "guest" },
        { "RequestHeaderRouteValue": "X-User", "Set": "user" },
    ]);
    let mut allowed = route.clone();
    allowed["Match"]["Path"] = json!("/allowed/{user}");
    allowed["Transforms"] = json!([{ "RequestHeadersAllowed": "X_Odd" }]);
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"] = json!({ "all": route, "allowed": allowed });
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[format!("http://127.0.0.1:{port}")]);
    let gate = Gate::start(&config).await;
    let forged = "X_Forwarded_For: 6.6.6.6\r\nX_Request_Id: forged\r\nX_Role: admin\r\nX-User_: x\r\nX_User: root\r\n\
                  X.Role: admin\r\nX-Odd: plain\r\nX_Odd: odd\r\n";
    let variables = async |path: &str| -> Value {
        let (status, body) = ask(&gate, "GET", path, forged).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let seen = variables("/alice/x").await;
    let of = |name: &str| seen[name].as_str().unwrap_or_default();
    assert_eq!((of("HTTP_X_FORWARDED_FOR"), of("HTTP_X_ROLE"), of("HTTP_X_USER")), ("127.0.0.1", "guest", "alice"));
    assert_eq!(of("HTTP_X_ODD"), "plain");
    assert!(!of("HTTP_X_REQUEST_ID").contains("forged"), "{seen}");
    let names: Vec<&String> = seen.as_object().expect("an object").keys().collect();
    assert!(names.iter().all(|name| !name.contains('.') && *name != "HTTP_X_USER_"), "{seen}");
    // Where the operator names it, it is meant.
    assert_eq!(variables("/allowed/x").await["HTTP_X_ODD"], "odd");
}

#[tokio::test]
async fn what_a_backslash_or_a_semicolon_means_in_a_key_is_the_store_s() {
    let origin = ScriptedOrigin::start().await;
    for key in ["a\\b.mp3", "a;b.mp3", "a/;/b.mp3"] {
        origin.put(&format!("/audio/{key}"), Object::new("it"));
    }
    let routes = json!({
        "private": objects("/stream/private/{**key}", "private/{**key}", "Default"),
        "stream": objects("/stream/{**key}", "{**key}", "Anonymous"),
    });
    let gate = start(&origin, routes).await;
    for path in ["/stream/a%5Cb.mp3", "/stream/a\\b.mp3", "/stream/a;b.mp3", "/stream/a/;/b.mp3"] {
        assert_eq!(ask(&gate, "GET", path, "").await, (200, "it".to_owned()), "{path}");
    }
    // A store on a system that parts folders so would leave the folder.
    for path in ["/stream/x%5C..%5Cprivate/y.mp3", "/stream/x\\..\\y.mp3", "/stream/a%5C.%5Cb.mp3"] {
        assert_eq!(get(&gate, path).await, 400, "{path}");
    }
}
