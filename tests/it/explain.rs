//! `tidegate explain`: what it tells of a request is what the same configuration does with it.

use http::Method;
use serde_json::{Value, json};

use crate::support::gate;
use crate::support::origin::ScriptedOrigin;
use crate::support::tools::TempFolder;
use crate::support::{Gate, config};

/// Routes of each kind, beside two that the same request could take.
fn configuration(origin: &ScriptedOrigin) -> Value {
    let mut all = config::objects(&origin.url(), "music");
    let routes = &mut all["ReverseProxy"]["Routes"];
    routes["stream"] = config::object_route("/stream/{**rest}", "main", "music", "tracks/{rest}");
    routes["stream"]["Match"]["Methods"] = json!(["GET"]);
    let plain = |matches: Value, transforms: Value| json!({ "Match": matches, "AuthorizationPolicy": "Anonymous", "ClusterId": "back", "Transforms": transforms });
    let changes = json!([{ "PathPattern": "/v2/{id}/{**rest}" }, { "QueryValueParameter": "from", "Set": "edge" },
        { "RequestHeader": "X-Edge", "Set": "one" }, { "RequestHeaderRemove": "X-Debug" }]);
    routes["api"] = plain(json!({ "Path": "/back/{id}/{**rest}" }), changes);
    let beta = json!({ "Path": "/back/{id}/{**rest}", "Headers": [{ "Name": "X-Beta", "Mode": "Exists" }] });
    routes["beta"] = plain(beta, json!([]));
    routes["elsewhere"] = plain(json!({ "Path": "/stream/{**rest}", "Hosts": ["other.example"] }), json!([]));
    all["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    all
}

async fn explained(folder: &TempFolder, arguments: &[&str]) -> Value {
    let file = folder.path().join("explained.yaml").display().to_string();
    let ended = gate::run(&[&["explain", "-c", &file, "--json"], arguments].concat(), folder).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

#[tokio::test]
async fn the_route_of_a_request_is_told_with_those_that_come_later_and_those_that_nearly_match() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("explain");
    std::fs::write(folder.path().join("explained.yaml"), configuration(&origin).to_string()).expect("a file");
    let told = explained(&folder, &["GET", "http://edge.example/stream/a%20b.flac"]).await;
    assert_eq!(told["route"]["id"], "stream");
    assert_eq!(told["route"]["captures"], json!([["rest", "a b.flac"]]));
    let handler = &told["route"]["handler"];
    assert_eq!(
        (&handler["kind"], &handler["bucket"], &handler["key"]),
        (&json!("object"), &json!("music"), &json!("tracks/a b.flac"))
    );
    assert_eq!(told["nearMisses"], json!([{ "id": "elsewhere", "because": ["Hosts are `other.example`"] }]));
    // The other host's route comes first there.
    let told = explained(&folder, &["GET", "http://other.example/stream/a"]).await;
    assert_eq!(told["route"]["id"], "stream", "it lists methods");
    assert_eq!(told["preceded"], json!([{ "id": "elsewhere", "because": ["it lists Methods"] }]));
    let told = explained(&folder, &["GET", "/back/7/x", "-H", "X-Beta: yes"]).await;
    assert_eq!((&told["route"]["id"], &told["preceded"][0]["id"]), (&json!("beta"), &json!("api")));
    assert_eq!(told["preceded"][0]["because"], json!(["it has more conditions on Headers"]));
    let told = explained(&folder, &["POST", "/stream/a"]).await;
    assert_eq!(told["refusal"]["status"], 405);
    let told = explained(&folder, &["GET", "/nothing/here"]).await;
    assert_eq!(told["refusal"]["status"], 404);
    let near = told["nearMisses"].as_array().expect("a list");
    let stream = near.iter().find(|route| route["id"] == "stream").expect("it is a near miss");
    assert_eq!(stream["because"], json!(["Path is `/stream/{**rest}`"]));
    let told = explained(&folder, &["GET", "/a/../b"]).await;
    assert_eq!(told["refusal"]["status"], 400);
    let told = explained(&folder, &["GET", "/health"]).await;
    assert_eq!(told["module"], "health");
}

#[tokio::test]
async fn the_request_that_is_told_of_is_the_one_that_is_sent() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("explain");
    let all = configuration(&origin);
    std::fs::write(folder.path().join("explained.yaml"), all.to_string()).expect("a file");
    let told = explained(
        &folder,
        &["GET", "/back/7/x?a=1", "-H", "X-Debug: 1", "-H", "Authorization: Bearer secret", "-H", "Host: edge.example"],
    )
    .await;
    let handler = &told["route"]["handler"];
    let steps: Vec<&str> =
        handler["transforms"].as_array().expect("a list").iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(steps, ["PathPattern", "QueryValueParameter", "RequestHeader", "RequestHeaderRemove"]);
    assert_eq!(handler["transforms"][0]["changes"], json!(["- GET /back/7/x?a=1", "+ GET /v2/7/x?a=1"]));
    assert_eq!(handler["transforms"][3]["changes"], json!(["- x-debug: 1"]));
    assert_eq!(handler["request"][0], "GET /v2/7/x?a=1&from=edge");
    assert!(!told.to_string().contains("secret"), "{told}");
    let gate = Gate::start(&all).await;
    gate.client().get("/back/7/x?a=1", &[("X-Debug", "1")]).await;
    let seen = origin.seen().pop().expect("a request came");
    assert_eq!(format!("{} {}", seen.method, seen.target), handler["request"][0].as_str().expect("text"));
    assert_eq!((seen.header("x-edge"), seen.header("x-debug")), (Some("one"), None));
    // The running proxy tells the same, and the health of its servers.
    let asked = json!({ "method": "GET", "url": "http://edge.example/back/7/x?a=1", "headers": ["X-Debug: 1"] });
    let sent = gate.admin().request(Method::POST, "/explain").json(&asked).send().await.expect("it answers");
    let told: Value = sent.json().await.expect("JSON");
    assert_eq!(told["route"]["handler"]["request"][0], "GET /v2/7/x?a=1&from=edge");
    assert_eq!(told["route"]["handler"]["destinations"][0]["health"], "healthy");
}

#[tokio::test]
async fn a_request_that_no_client_could_send_is_said_to_be_none() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("explain"));
    std::fs::write(folder.path().join("explained.yaml"), configuration(&origin).to_string()).expect("a file");
    let file = folder.path().join("explained.yaml").display().to_string();
    for (arguments, said) in [
        (&["GET", "ftp://edge.example/"][..], "is no URL of HTTP"),
        (&["GET", "/a b"], "is no target of a request"),
        (&["GET", "/a", "-H", "nothing"], "expected `Name: value`"),
        (&["GET", "/a", "-H", "a b: c"], "is no name of a header"),
    ] {
        let ended = gate::run(&[&["explain", "-c", &file], arguments].concat(), &folder).await;
        assert!(ended.code == Some(64) && ended.stderr.contains(said), "{}", ended.stderr);
    }
    // For people, without JSON.
    let ended = gate::run(&["explain", "-c", &file, "GET", "/stream/a"], &folder).await;
    assert!(ended.stdout.contains("route            stream\n"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_running_proxy_tells_what_its_cache_has_of_an_object() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut all = config::objects(&origin.url(), "audio");
    all["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    let gate = Gate::start(&all).await;
    let explained = async || {
        let asked = json!({ "method": "GET", "url": "/stream/track.mp3" });
        let sent = gate.admin().request(Method::POST, "/explain").json(&asked).send().await.expect("it answers");
        let told: Value = sent.json().await.expect("JSON");
        told["route"]["handler"]["kept"].clone()
    };
    assert_eq!(explained().await, Value::Null);
    let size = gate.client().get("/stream/track.mp3", &[]).await.is(200).body.len();
    let asked = origin.seen().len();
    let kept = explained().await;
    assert_eq!((&kept["freshness"], &kept["size"]), (&json!("fresh"), &json!(size)), "{kept}");
    assert_eq!(kept["keptSlices"], kept["slices"]);
    assert_eq!(origin.seen().len(), asked, "the store is not asked for that");
}

#[tokio::test]
async fn a_token_in_the_path_is_taken_out_only_where_the_listener_does_so() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("explain"));
    let file = folder.path().join("explained.yaml");
    let mut all = config::objects(&origin.url(), "audio");
    std::fs::write(&file, all.to_string()).expect("a file");
    let path = format!("/t/{}/stream/track.mp3", "a".repeat(80));
    assert_eq!(explained(&folder, &["GET", &path]).await["path"], json!(path));
    all["Auth"]["PathToken"] = json!({ "Ttl": "1h" });
    std::fs::write(&file, all.to_string()).expect("a file");
    assert_eq!(explained(&folder, &["GET", &path]).await["path"], "/stream/track.mp3");
}
