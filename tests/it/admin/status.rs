//! Totals, routes, destinations and the last failures on the admin address.

use serde_json::{Value, json};

use crate::support::fault::{self, End, Step};
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually};

async fn ask(gate: &Gate, path: &str) -> Value {
    serde_json::from_str(&gate.admin().get(path, &[]).await.is(200).text()).expect("JSON")
}

#[tokio::test]
async fn the_operator_sees_totals_and_the_busiest_routes_first() {
    let origin = ScriptedOrigin::with_track("music").await;
    origin.put("/audio/a.mp3", Object::new("music"));
    let gate = Gate::start(&config::objects_both_ways(&origin.url(), "audio")).await;
    for _ in 0..3 {
        gate.client().get("/cached/a.mp3", &[]).await.is(200);
    }
    gate.client().get("/stream/none.mp3", &[]).await.is(404);
    let counted = async || Some(ask(&gate, "/status").await).filter(|status| status["requests"] == 4);
    let status = eventually("four requests are counted", counted).await;
    assert_eq!((&status["liveStreams"], &status["hasCache"]), (&json!(0), &json!(true)));
    assert_eq!((&status["cache"]["miss"], &status["cache"]["hit"]), (&json!(1), &json!(2)), "{status}");
    assert_eq!(status["health"]["status"], "healthy");
    let routes = ask(&gate, "/routes").await;
    let rows = routes["items"].as_array().expect("a list");
    assert_eq!((&routes["total"], rows.len()), (&json!(2), 2));
    assert_eq!(rows[0], json!({ "id": "cached", "handler": "object", "cluster": "main", "requests": { "2xx": 3 } }));
    assert_eq!((&rows[1]["id"], &rows[1]["requests"]), (&json!("stream"), &json!({ "4xx": 1 })));
    assert_eq!(ask(&gate, "/routes?limit=1").await["items"].as_array().map(Vec::len), Some(1));
    for path in ["/routes?limit=0", "/routes?limit=501"] {
        gate.admin().get(path, &[]).await.problem(422);
    }
}

#[tokio::test]
async fn a_destination_that_is_not_in_use_says_why() {
    let origin = ScriptedOrigin::start().await;
    let mut config = config::empty();
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url(), "http://127.0.0.1:1".to_owned()]);
    config["ReverseProxy"]["Clusters"]["back"]["HealthCheck"]["Active"] =
        json!({ "Enabled": true, "Interval": "100ms", "Timeout": "1s", "Path": "/ready" });
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    let gate = Gate::start(&config).await;
    let seen = async || {
        let clusters = ask(&gate, "/clusters").await;
        let all = clusters["items"][0]["destinations"].as_array().expect("a list").clone();
        all.into_iter().find(|one| one["state"] != "healthy" && one["address"] == "http://127.0.0.1:1")
    };
    let bad = eventually("the closed port is out of use", seen).await;
    assert!(bad["reason"].as_str().is_some_and(|reason| reason.len() > 10), "{bad}");
    assert_eq!((&bad["id"], &bad["inFlight"]), (&json!("d1"), &json!(0)));
}

#[tokio::test]
async fn the_last_failures_are_told_with_their_codes_and_nothing_of_their_addresses() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/a.mp3", Object::new("music"));
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    assert_eq!(ask(&gate, "/errors").await, json!({ "items": [] }));
    gate.client().get("/nowhere/secret-path?secret=query", &[]).await.is(404);
    origin.always(fault::DENIED);
    let reply = gate.client().get("/stream/a.mp3", &[]).await;
    let id = reply.header("x-request-id").to_owned();
    let both =
        async || Some(ask(&gate, "/errors").await).filter(|told| told["items"].as_array().map(Vec::len) == Some(2));
    let told = eventually("both are there", both).await;
    let last = &told["items"][0];
    assert_eq!((&last["requestId"], &last["route"]), (&json!(id), &json!("stream")), "{told}");
    assert!(last["explained"].as_str().is_some_and(|page| page.contains("/docs/errors.md#the-")), "{told}");
    assert_eq!((&told["items"][1]["code"], &told["items"][1]["route"]), (&json!("no_route"), &Value::Null));
    assert!(!told.to_string().contains("secret"), "{told}");
    // Clients that leave are no failures.
    origin.always(Step::Silence(End::Stall));
    origin.take_seen();
    let mut raw = gate.raw().await;
    raw.send(b"GET /stream/a.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    eventually("it is asked for", async || (!origin.seen().is_empty()).then_some(())).await;
    raw.reset();
    let left = async || gate.access_lines().into_iter().find(|line| line["failure"] == "client_left");
    eventually("it has left", left).await;
    assert_eq!(ask(&gate, "/errors").await["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_operator_sees_what_a_reload_of_the_file_would_change() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["ReloadOnChange"] = json!(false);
    let gate = Gate::start(&config).await;
    assert_eq!(ask(&gate, "/config/diff").await["changes"], json!([]));
    config["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!("/music/{**key}");
    gate.rewrite(&config);
    let told = ask(&gate, "/config/diff").await;
    let change = json!({
        "path": "ReverseProxy.Routes.stream.Match.Path", "before": "/stream/{**key}", "after": "/music/{**key}",
    });
    assert_eq!(told["changes"], json!([change]));
    gate.client().get("/music/track.mp3", &[]).await.is(404);
    config["Nonsense"] = json!(true);
    gate.rewrite(&config);
    let refused = gate.admin().get("/config/diff", &[]).await.problem(422);
    assert!(refused.to_string().contains("Nonsense"), "{refused}");
}
