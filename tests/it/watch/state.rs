//! The state of a session, as its player asks for it; and the page without a browser.

use http::Method;
use serde_json::{Value, json};

use crate::films::{Viewer, embedded, json_of};
use crate::support::described::Described;
use crate::support::tools::TempFolder;
use crate::support::{Gate, LIMIT, config, eventually, in_time};

const NONE: &str = "00000000-0000-4000-8000-000000000000";

async fn session(viewer: &Viewer) -> String {
    let started = viewer.post("dune", json!({ "manifest_type": "hls", "grant": "path" })).await;
    json_of(started.is(200))["session_id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_request_that_waits_is_told_the_end_of_its_session_and_why() {
    let folder = TempFolder::new("watch-state");
    let gate = Gate::start(&embedded(&folder)).await;
    let described = Described::by(&gate.client()).await;
    let (ada, bob, admin) = (Viewer::new(&gate, "ada"), Viewer::new(&gate, "bob"), Viewer::admin(&gate));
    let id = session(&ada).await;
    let path = |id: &str, wait: &str| format!("/api/v1/stream/dune/session?session_id={id}&wait={wait}");
    let ask = async |viewer: &Viewer, path: &str| {
        let reply = viewer.send(Method::GET, path, None).await;
        described.checks("GET", path, &reply);
        reply
    };
    assert_eq!(json_of(ask(&ada, &path(&id, "0")).await.is(200)), json!({ "live": true, "ended": null }));
    assert_eq!(json_of(ask(&ada, &path(&id, "1")).await.is(200)), json!({ "live": true, "ended": null }));
    for (viewer, path, status) in [
        (&bob, path(&id, "0"), 404),
        (&ada, path(NONE, "0"), 404),
        (&ada, path(&id, "0").replace("dune", "heat"), 404),
        (&ada, path("x", "0"), 422),
        (&ada, path(&id, "31"), 422),
        (&ada, path(&id, "-1"), 400),
        (&ada, path(&id, "0").replace("dune", "a%2Fb"), 400),
    ] {
        ask(viewer, &path).await.problem(status);
    }
    gate.client().get(&path(&id, "0"), &[]).await.problem(401);
    let waiting = in_time("the waiting request is answered", async {
        let waits = path(&id, "30");
        let revoked = async {
            let path = "/api/v1/admin/stream-sessions?user_id=ada";
            admin.send(Method::DELETE, path, None).await.is(204);
        };
        tokio::join!(ask(&ada, &waits), revoked).0
    });
    assert_eq!(json_of(waiting.await.is(200)), json!({ "live": false, "ended": "revoked" }));
    let id = session(&ada).await;
    ada.stop("dune", 5).await.is(200);
    assert_eq!(json_of(ask(&ada, &path(&id, "30")).await.is(200)), json!({ "live": false, "ended": "stopped" }));
}

#[tokio::test]
async fn a_request_that_waits_does_not_hold_up_the_end_of_the_process() {
    let folder = TempFolder::new("watch-state");
    let mut config = embedded(&folder);
    // What takes longer is cut, and has no answer.
    config["Server"]["ShutdownGrace"] = json!("10s");
    let mut gate = Gate::start(&config).await;
    let ada = Viewer::new(&gate, "ada");
    let id = session(&ada).await;
    let open = async || gate.metric("tidegate_connections_open", "").await;
    let before = open().await;
    let mut raw = gate.raw().await;
    let path = format!("/api/v1/stream/dune/session?session_id={id}&wait=30");
    let authorization = &ada.0.authorization;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate\r\nAuthorization: {authorization}\r\n\r\n").as_bytes()).await;
    eventually("the question is on its way", async || (open().await > before).then_some(())).await;
    gate.signal("TERM").await;
    let answer = in_time("the waiting request is answered", raw.rest(LIMIT)).await.expect("an answer");
    assert!(String::from_utf8_lossy(&answer).ends_with(r#"{"live":true,"ended":null}"#), "{answer:?}");
    in_time("the process ends", gate.ended()).await;
}

#[tokio::test]
async fn the_film_page_is_there_where_films_are_unless_it_is_switched_off() {
    let folder = TempFolder::new("watch-page");
    let mut config = embedded(&folder);
    // A route that takes whatever nothing else does.
    config["ReverseProxy"]["Routes"]["rest"] = config::object_route("/{**rest}", "main", "vod", "{**rest}");
    let gate = Gate::start(&config).await;
    for path in ["/watch/", "/watch/dune", "/watch/assets/watch.js"] {
        assert!(
            gate.client()
                .get(path, &[])
                .await
                .is(200)
                .header("content-security-policy")
                .starts_with("default-src 'none'"),
            "{path}"
        );
    }
    let line = gate.access_lines().into_iter().find(|line| line["path"] == "/watch/dune").expect("a line");
    assert_eq!(line["module"], Value::from("films"));
    drop(gate);
    config["Vod"]["Page"] = json!(false);
    let gate = Gate::start(&config).await;
    gate.client().get("/watch/dune", &[]).await.problem(404);
}
