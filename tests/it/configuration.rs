//! The command line over configurations, good and bad: exit codes and where the report goes.

use std::net::TcpListener;

use serde_json::json;

use crate::support::gate::{run, write_config};
use crate::support::tools::TempFolder;
use crate::support::{Gate, config};

const BAD_CONFIGURATION: Option<i32> = Some(64);
const FAILED_START: Option<i32> = Some(1);

#[tokio::test]
async fn a_bad_file_ends_with_64_and_a_report_of_every_mistake() {
    let folder = TempFolder::new("bad");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["Server"]["Listners"] = json!([]);
    config["ReverseProxy"]["Routes"]["stream"]["Transforms"][0]["PresignedUrl"]["Store"] = json!("mian");
    config["ObjectStores"]["main"]["PresignExpiry"] = json!("9 lightyears");
    let file = write_config(&folder, &config);
    let name = file.to_str().expect("the path is text");
    for arguments in [["serve", "-c", name].as_slice(), &["check", name]] {
        let ended = run(arguments, &folder).await;
        assert_eq!(ended.code, BAD_CONFIGURATION, "{arguments:?}: {}", ended.stderr);
        for expected in ["tidegate.yaml:", "Listners", "Listeners", "mian", "9 lightyears", "^"] {
            assert!(ended.stderr.contains(expected), "{arguments:?}: no {expected:?} in:\n{}", ended.stderr);
        }
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let folder = TempFolder::new("literal");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["ObjectStores"]["main"]["Credentials"]["SecretKey"] = json!("hunter2-hunter2");
    let file = write_config(&folder, &config);
    let ended = run(&["check", file.to_str().expect("the path is text")], &folder).await;
    assert_eq!(ended.code, BAD_CONFIGURATION);
    assert!(ended.stderr.contains("env:") && ended.stderr.contains("file:"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_missing_variable_a_missing_file_and_no_yaml_end_with_64() {
    let folder = TempFolder::new("missing");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["ObjectStores"]["main"]["Credentials"]["SecretKey"] = json!("env:NO_SUCH_VARIABLE");
    let file = write_config(&folder, &config);
    let ended = run(&["serve", "-c", file.to_str().expect("the path is text")], &folder).await;
    assert_eq!(ended.code, BAD_CONFIGURATION);
    assert!(ended.stderr.contains("NO_SUCH_VARIABLE"), "{}", ended.stderr);
    let absent = run(&["serve", "-c", "absent.yaml"], &folder).await;
    assert_eq!(absent.code, BAD_CONFIGURATION);
    assert!(absent.stderr.contains("absent.yaml"), "{}", absent.stderr);
    std::fs::write(folder.path().join("broken.yaml"), "Server: [\n").expect("the file can be written");
    let broken = run(&["check", "broken.yaml"], &folder).await;
    assert_eq!(broken.code, BAD_CONFIGURATION);
    assert!(broken.stderr.contains("broken.yaml:"), "{}", broken.stderr);
}

#[tokio::test]
async fn an_ambiguous_pair_is_named() {
    let folder = TempFolder::new("ambiguous");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["ReverseProxy"]["Routes"]["other"] = config::object_route("/stream/{**rest}", "main", "audio", "{**rest}");
    let file = write_config(&folder, &config);
    let ended = run(&["check", file.to_str().expect("the path is text")], &folder).await;
    assert_eq!(ended.code, BAD_CONFIGURATION);
    assert!(ended.stderr.contains("stream") && ended.stderr.contains("other"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_good_file_is_checked_with_0() {
    let folder = TempFolder::new("good");
    let file = write_config(&folder, &config::private_objects("http://127.0.0.1:9000", "audio"));
    let ended = run(&["check", file.to_str().expect("the path is text")], &folder).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn a_port_in_use_is_a_failed_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound socket has an address").to_string();
    let folder = TempFolder::new("taken");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["Server"]["Listeners"][0]["Address"] = json!(address);
    let file = write_config(&folder, &config);
    let ended = run(&["serve", "-c", file.to_str().expect("the path is text")], &folder).await;
    assert_eq!(ended.code, FAILED_START, "{}", ended.stderr);
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
    assert!(!ended.stdout.contains("ready"), "{}", ended.stdout);
}

#[tokio::test]
async fn every_listener_serves_and_stops_on_sigterm() {
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0" }, { "Address": "127.0.0.1:0" }]);
    let mut gate = Gate::start(&config).await;
    assert_eq!(gate.listeners().len(), 2);
    for address in gate.listeners() {
        crate::support::Client::new(format!("http://{address}")).get("/openapi.json", &[]).await.is(200);
    }
    assert!(gate.stop().await.success());
}

#[tokio::test]
async fn the_token_command_makes_one_that_is_accepted() {
    let folder = TempFolder::new("token");
    let config = config::private_objects("http://127.0.0.1:1", "audio");
    let file = write_config(&folder, &config);
    let ended = run(&["token", "-c", file.to_str().expect("the path is text"), "--subject", "alice"], &folder).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let gate = Gate::start(&config).await;
    let bearer = format!("Bearer {}", ended.stdout.trim());
    // Past authentication; the store is not there.
    gate.client().get("/stream/track.mp3", &[("authorization", &bearer)]).await.is(503);
}

#[tokio::test]
async fn the_schema_is_a_json_schema() {
    let ended = run(&["schema"], &TempFolder::new("schema")).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let schema: serde_json::Value = serde_json::from_str(&ended.stdout).expect("the schema is JSON");
    assert!(schema["$schema"].as_str().is_some_and(|uri| uri.contains("json-schema.org")), "{schema}");
    assert!(schema["properties"]["ReverseProxy"].is_object(), "{schema}");
}
