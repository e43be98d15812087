//! Routes that ask for a token beside weaker ones: neither the spelling of a path nor the method of a request leads past
//! the stricter one.

use http::Method;
use serde_json::{Value, json};

use crate::limits::bearer;
use crate::support::fault::Step;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, LIMIT, Object, ScriptedOrigin, config, gate};

/// A gate with JWT and these routes, before `origin` as store and as server.
pub async fn start(origin: &ScriptedOrigin, routes: Value) -> Gate {
    Gate::start(&with_routes(&origin.url(), routes)).await
}

/// The configuration of [`start`], with `url` as store and as server.
pub fn with_routes(url: &str, routes: Value) -> Value {
    let mut config = config::empty();
    config["Auth"] = config::jwt();
    config["ObjectStores"]["main"] = config::store(url);
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[url.to_owned()]);
    config["ReverseProxy"]["Routes"] = routes;
    config
}

/// An object route of the bucket `audio`.
pub fn objects(path: &str, key: &str, policy: &str) -> Value {
    let mut route = config::object_route(path, "main", "audio", key);
    route["AuthorizationPolicy"] = json!(policy);
    route
}

/// A plain route.
pub fn plain(path: &str, policy: &str) -> Value {
    let mut route = config::plain_route(path, "back");
    route["AuthorizationPolicy"] = json!(policy);
    route
}

/// A request by hand, since clients tidy paths up.
pub async fn ask(gate: &Gate, method: &str, path: &str, header: &str) -> (u16, String) {
    let mut raw = gate.raw().await;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gate\r\n{header}Connection: close\r\n\r\n");
    raw.send(head.as_bytes()).await;
    let reply = raw.response(method, LIMIT).await;
    let reply = reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
}

/// The status of a GET.
pub async fn get(gate: &Gate, path: &str) -> u16 {
    ask(gate, "GET", path, "").await.0
}

/// A server that answers everything with 200.
pub async fn server() -> ScriptedOrigin {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    origin
}

#[tokio::test]
async fn an_escaped_slash_leads_nobody_past_a_stricter_object_route() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/private/secret.mp3", Object::new("secret"));
    origin.put("/audio/open/track.mp3", Object::new("open"));
    let routes = json!({
        "private": objects("/stream/private/{**key}", "private/{**key}", "Default"),
        "stream": objects("/stream/{**key}", "{**key}", "Anonymous"),
    });
    let gate = start(&origin, routes).await;
    let alice = format!("Authorization: {}\r\n", bearer("alice"));
    for path in [
        "/stream/private/secret.mp3",
        "/stream/private%2Fsecret.mp3",
        "/stream/private%2fsecret.mp3",
        "/stream%2Fprivate%2Fsecret.mp3",
        "/stream/PRIVATE%2Fsecret.mp3",
        "/stream/%70rivate%2Fsecret.mp3",
    ] {
        for method in ["GET", "HEAD"] {
            assert_eq!(ask(&gate, method, path, "").await.0, 401, "{method} {path}");
        }
        assert_eq!(ask(&gate, "GET", path, &alice).await, (200, "secret".to_owned()), "{path}");
    }
    assert_eq!(ask(&gate, "GET", "/stream/open%2Ftrack.mp3", "").await, (200, "open".to_owned()));
    // A key of its own: escapes are taken off once.
    assert_eq!(get(&gate, "/stream/private%252Fsecret.mp3").await, 404);
    // Some stores keep objects in folders, where this is the same file.
    assert_eq!(get(&gate, "/stream//private/secret.mp3").await, 400);
}

#[tokio::test]
async fn a_name_with_a_slash_is_found_where_no_stricter_route_takes_it_as_two() {
    let origin = server().await;
    origin.put("/audio/a/b.mp3", Object::new("two"));
    let routes = json!({
        "track": objects("/tracks/{id}/stream", "{id}.mp3", "Anonymous"),
        "rest": plain("/{**all}", "Anonymous"),
    });
    let gate = start(&origin, routes).await;
    origin.reset();
    origin.put("/audio/a/b.mp3", Object::new("two"));
    assert_eq!(ask(&gate, "GET", "/tracks/a%2Fb/stream", "").await, (200, "two".to_owned()));
    let routes = json!({
        "one": objects("/files/{name}", "{name}", "Anonymous"),
        "two": objects("/files/{folder}/{name}", "{folder}/{name}", "Default"),
    });
    let gate = start(&origin, routes).await;
    assert_eq!(get(&gate, "/files/a%2Fb.mp3").await, 401);
}

#[tokio::test]
async fn no_spelling_leads_past_a_stricter_plain_route() {
    let origin = server().await;
    let routes = json!({
        "admin": plain("/web/admin/{**rest}", "Default"),
        "page": plain("/web/account", "Default"),
        "web": plain("/web/{**rest}", "Anonymous"),
    });
    let gate = start(&origin, routes).await;
    origin.take_seen();
    for (path, status) in [
        ("/web/admin/x", 401),
        ("/web/admin%2Fx", 401),
        ("/web/admin%2fx", 401),
        ("/web//admin/x", 400),
        ("/web/%2Fadmin/x", 400),
        ("/web/admin;a/x", 400),
        ("/web/admin;a=b;c/x", 400),
        ("/web/admin%3Ba/x", 400),
        ("/web//admin;a/x", 400),
        ("/web/\\admin\\x", 400),
        ("/web/%5Cadmin/x", 400),
        ("/web/x/..;/admin/y", 400),
        ("/web/.;a/admin/y", 400),
        ("/web/;/admin/y", 400),
        ("/web/account", 401),
        ("/web/account/", 400),
        ("/web/account/;x", 400),
    ] {
        assert_eq!(get(&gate, path).await, status, "{path}");
    }
    assert!(origin.take_seen().is_empty(), "the server was asked");
    // Where nothing stricter is meant, paths pass as they came.
    for path in ["/web/a//b;c=d/e%2Ff", "/web//a", "/web/a/", "/web/a;b", "/web/administer%2Fx"] {
        assert_eq!(get(&gate, path).await, 200, "{path}");
        assert_eq!(origin.take_seen()[0].target, path);
    }
}

#[tokio::test]
async fn a_route_that_takes_get_takes_head_too_unless_another_names_it() {
    let origin = server().await;
    let mut strict = plain("/web/admin/{**rest}", "Default");
    strict["Match"]["Methods"] = json!(["GET"]);
    let routes = json!({ "admin": strict, "web": plain("/web/{**rest}", "Anonymous") });
    let gate = start(&origin, routes).await;
    let statuses = async |gate: &Gate| {
        let path = "/web/admin/x";
        (ask(gate, "GET", path, "").await.0, ask(gate, "HEAD", path, "").await.0)
    };
    assert_eq!(statuses(&gate).await, (401, 401));
    let (mut get_only, mut head_only) = (plain("/web/admin/x", "Anonymous"), plain("/web/admin/x", "Default"));
    get_only["Match"]["Methods"] = json!(["GET"]);
    let gate = start(&origin, json!({ "get": get_only })).await;
    assert_eq!(statuses(&gate).await, (200, 200));
    let post = ask(&gate, "POST", "/web/admin/x", "Content-Length: 0\r\n").await;
    assert_eq!(post.0, 405);
    head_only["Match"]["Methods"] = json!(["HEAD"]);
    let gate = start(&origin, json!({ "get": get_only, "head": head_only })).await;
    assert_eq!(statuses(&gate).await, (200, 401));
}

#[tokio::test]
async fn a_preflight_is_routed_by_the_method_it_asks_for_only_where_the_route_answers_it() {
    let origin = server().await;
    let mut route = plain("/web/{**rest}", "Anonymous");
    route["Match"]["Methods"] = json!(["GET"]);
    let mut open = route.clone();
    open["CorsPolicy"] = json!("page");
    let asked = [("origin", "https://app.example"), ("access-control-request-method", "GET")];
    for (route, status) in [(route, 405), (open, 204)] {
        let mut config = with_routes(&origin.url(), json!({ "web": route }));
        config["Policies"]["Cors"]["page"] = json!({ "Origins": ["https://app.example"] });
        let gate = Gate::start(&config).await;
        origin.take_seen();
        gate.client().send(Method::OPTIONS, "/web/x", &asked).await.is(status);
        assert!(origin.take_seen().is_empty(), "the server was asked by a method that its route does not take");
    }
}

#[tokio::test]
async fn check_names_a_weaker_route_that_takes_the_other_methods_of_a_stricter_one() {
    let folder = TempFolder::new("check");
    let mut strict = plain("/web/admin/{**rest}", "Default");
    strict["Match"]["Methods"] = json!(["GET"]);
    let routes = json!({
        "admin": strict,
        "web": plain("/web/{**rest}", "Anonymous"),
        "elsewhere": plain("/other/{**rest}", "Anonymous"),
    });
    let file = gate::write_config(&folder, &with_routes("http://127.0.0.1:9", routes.clone()));
    let ended = gate::run(&["check", &file.display().to_string()], &folder).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let warned =
        |text: &str| text.contains("warning: `admin`") && text.contains("`web`") && !text.contains("elsewhere");
    assert!(warned(&ended.stderr), "{}", ended.stderr);
    let mut routes = routes;
    routes["admin"]["Match"] = json!({ "Path": "/web/admin/{**rest}" });
    let file = gate::write_config(&folder, &with_routes("http://127.0.0.1:9", routes));
    let ended = gate::run(&["check", &file.display().to_string()], &folder).await;
    assert!(ended.code == Some(0) && ended.stderr.is_empty(), "{}", ended.stderr);
}
