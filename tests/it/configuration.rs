//! The command line over configurations, good and bad: exit codes and where the report goes.

use std::net::TcpListener;
use std::process::Stdio;

use rcgen::{CertificateParams, KeyPair, generate_simple_self_signed};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::gate::{Ended, command, run, write_config};
use crate::support::tools::TempFolder;
use crate::support::{Client, Gate, config, eventually};

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
    assert!(ended.stdout.ends_with(": good, 1 listener, 1 route, 0 clusters, 1 store\n"), "{}", ended.stdout);
}

/// The route of document 000 as it stands there, in the file of an application.
const DOCUMENT_000: &str = r#"{
  // Where the application listens
  "Urls": "http://localhost:5000",
  "ReverseProxy": {
    "DefaultAuthorizationPolicy": "Anonymous",
    "Routes": {
      "audio-stream": {
        "ClusterId": "minio",
        "Match": { "Path": "/stream/{**catch-all}" },
        "Transforms": [ { "PathRemovePrefix": "/stream" }, { "RequestHeader": "Host", "Set": "minio.internal" } ],
      },
      "beta": { "ClusterId": "web", "Match": { "Path": "/app", "Headers": [ { "Name": "X-Beta", "Mode": "Exists" } ] } },
      "mobile": { "ClusterId": "web", "Match": { "Path": "/app", "Headers": [ { "Name": "X-Mobile", "Mode": "Exists" } ] } },
    },
    "Clusters": {
      "minio": { "Destinations": { "primary": { "Address": "http://minio:9000" } }, "HttpClient": { "RequestHeaderEncoding": "Latin1" } },
      "web": { "Destinations": { "primary": { "Address": "http://web:80" } } },
    },
  },
}"#;

#[tokio::test]
async fn check_names_what_it_skips_and_what_is_probably_not_meant() {
    let folder = TempFolder::new("document-000");
    std::fs::write(folder.path().join("appsettings.json"), DOCUMENT_000).expect("the file can be written");
    let ended = run(&["check", "appsettings.json"], &folder).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for expected in [
        "appsettings.json: note: line 3: `Urls` is .NET's and was skipped",
        "appsettings.json: warning: `audio-stream` goes to the object store `minio` without `PresignedUrl`",
        "appsettings.json: warning: some requests satisfy both `beta` and `mobile`",
    ] {
        assert!(ended.stderr.contains(expected), "no {expected:?} in:\n{}", ended.stderr);
    }
    assert_eq!(ended.stderr.lines().count(), 3, "{}", ended.stderr);
    let json = run(&["check", "--json", "appsettings.json"], &folder).await.stdout;
    let outcome: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let count = |key: &str| outcome[0][key].as_array().map(Vec::len);
    assert_eq!((count("notes"), count("warnings"), count("problems")), (Some(1), Some(2), Some(0)), "{json}");
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
        Client::new(format!("http://{address}")).get("/openapi.json", &[]).await.is(200);
    }
    assert!(gate.stop().await.success());
    let said = async || gate.log_lines().pop().filter(|line| line["message"] == "stopped");
    eventually("the last line says so", said).await;
}

#[tokio::test]
async fn nothing_but_the_ready_line_is_written_to_standard_output() {
    let folder = TempFolder::new("stdout");
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    config["Server"].as_object_mut().expect("a map").remove("Admin");
    let file = write_config(&folder, &config);
    let mut child = command(&folder).args(["serve", "-c"]).arg(&file).spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        assert!(stdout.read_buf(&mut said).await.expect("it can be read") > 0, "it ended");
    }
    let line = String::from_utf8(said).expect("text");
    let ready: serde_json::Value = serde_json::from_str(line.strip_prefix("ready ").expect("ready")).expect("JSON");
    assert_eq!(ready.get("admin"), Some(&serde_json::Value::Null), "{ready}");
    let address = ready["listeners"][0].as_str().expect("an address");
    Client::new(format!("http://{address}")).get("/stream/x", &[]).await.problem(503);
    let id = child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").arg(id).status().expect("kill runs").success());
    let mut more = String::new();
    stdout.read_to_string(&mut more).await.expect("it can be read");
    assert_eq!(more, "");
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

/// What `check` says of `config`.
async fn checked(label: &str, config: &serde_json::Value, environment: &[(&str, &str)]) -> Ended {
    let folder = TempFolder::new(label);
    let file = write_config(&folder, config);
    let mut command = command(&folder);
    let output = command.arg("check").arg(&file).envs(environment.iter().copied()).output().await.expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A listener with the certificate and key in `folder`.
fn secured(folder: &TempFolder, certificate: &str, key: &str) -> serde_json::Value {
    for (name, text) in [("a.pem", certificate), ("a.key", key)] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let file = |name| folder.path().join(name);
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["Server"]["Listeners"][0]["Tls"] = json!({ "Certificate": file("a.pem"), "Key": file("a.key") });
    config
}

#[tokio::test]
async fn check_refuses_what_serve_refuses() {
    let config = config::private_objects("http://127.0.0.1:9000", "audio");
    let short = checked("short", &config, &[("JWT_SECRET_KEY", "hunter2")]).await;
    assert_eq!(short.code, BAD_CONFIGURATION, "{}", short.stdout);
    assert!(short.stderr.contains("Issuers[0].Secret") && !short.stderr.contains("hunter2"), "{}", short.stderr);
    let pairs = ["one.test", "two.test"].map(|name| generate_simple_self_signed([name.to_owned()]).expect("a pair"));
    let folder = TempFolder::new("pair");
    let config = secured(&folder, &pairs[0].cert.pem(), &pairs[1].signing_key.serialize_pem());
    let mixed = checked("mixed", &config, &[]).await;
    assert_eq!(mixed.code, BAD_CONFIGURATION, "{}", mixed.stdout);
    assert!(mixed.stderr.contains("cannot be used with its key"), "{}", mixed.stderr);
    let config = secured(&folder, &pairs[0].cert.pem(), &pairs[0].signing_key.serialize_pem());
    let fitting = checked("fitting", &config, &[]).await;
    assert_eq!((fitting.code, fitting.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn an_expired_certificate_is_warned_of_by_check_and_by_serve() {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new(["old.test".to_owned()]).expect("parameters");
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let folder = TempFolder::new("expired");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let config = secured(&folder, &certificate.pem(), &key.serialize_pem());
    let checked = checked("expired", &config, &[]).await;
    assert_eq!(checked.code, Some(0));
    assert!(checked.stderr.contains("warning") && checked.stderr.contains("expired"), "{}", checked.stderr);
    let gate = Gate::start(&config).await;
    assert!(gate.log().contains("a.pem expired"), "{}", gate.log());
}

#[tokio::test]
async fn check_takes_the_file_as_serve_does_or_standard_input_and_writes_json() {
    let folder = TempFolder::new("ways");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    let file = write_config(&folder, &config);
    let name = file.to_str().expect("the path is text");
    assert_eq!(run(&["check", "-c", name], &folder).await.code, Some(0));
    let good = run(&["check", "--json", name], &folder).await;
    let outcome: serde_json::Value = serde_json::from_str(&good.stdout).expect("JSON");
    assert_eq!((&outcome[0]["file"], &outcome[0]["good"]), (&json!(name), &json!(true)));
    config["Server"]["Listners"] = json!([]);
    let text = serde_yaml::to_string(&config).expect("JSON is YAML");
    let mut child = command(&folder).args(["check", "--json", "-"]).stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).await.expect("it reads");
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), BAD_CONFIGURATION);
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problem = &outcome[0]["problems"][0];
    assert_eq!((&problem["path"], &problem["suggestion"]), (&json!("Server.Listners"), &json!("Listeners")));
    assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{outcome}");
}

#[tokio::test]
async fn json_takes_comments_and_trailing_commas() {
    let folder = TempFolder::new("json");
    let config = serde_json::to_string_pretty(&config::objects("http://127.0.0.1:9000", "audio")).expect("JSON");
    let commented =
        config.replacen('{', "// first\n{ /* http://x */", 1).replace("\n  \"", "\n  // it's a comment\n  \"");
    let commented = format!("{},\n}} // end\n", commented.trim_end().trim_end_matches('}').trim_end());
    std::fs::write(folder.path().join("tidegate.json"), &commented).expect("a file");
    let ended = run(&["check", "tidegate.json"], &folder).await;
    assert_eq!(ended.code, Some(0), "{}\n{commented}", ended.stderr);
    std::fs::write(folder.path().join("wrong.json"), "{\n  // a comment\n  \"Sevrer\": {}\n}\n").expect("a file");
    let wrong = run(&["check", "wrong.json"], &folder).await;
    assert_eq!(wrong.code, BAD_CONFIGURATION);
    assert!(wrong.stderr.contains("wrong.json:3:3: Sevrer: unknown key `Sevrer`"), "{}", wrong.stderr);
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_shown() {
    let folder = TempFolder::new("shown");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["ReverseProxy"]["Routes"]["stream"]["Match"]["Methods"] = json!("GET");
    let file = write_config(&folder, &config);
    let ended = run(&["check", file.to_str().expect("the path is text")], &folder).await;
    assert_eq!(ended.code, BAD_CONFIGURATION);
    assert!(ended.stderr.contains("Methods: GET"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_told_with_its_own_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    for key in ["Listeners", "Admin"] {
        // 192.0.2.0/24 is nobody's (RFC 5737).
        for (address, words) in [
            ("192.0.2.1:80", "no network interface of this machine has the address"),
            (taken.as_str(), "is another process using it?"),
        ] {
            let folder = TempFolder::new("address");
            let mut config = config::objects("http://127.0.0.1:9000", "audio");
            let server = &mut config["Server"][key];
            *server = if key == "Admin" {
                json!({ "Address": address, "Token": "env:ADMIN_TOKEN" })
            } else {
                json!([{ "Address": address }])
            };
            let file = write_config(&folder, &config);
            let mut serve = command(&folder);
            serve
                .args(["serve", "-c", file.to_str().expect("the path is text")])
                .env("ADMIN_TOKEN", "sixteen characters");
            let ended = serve.output().await.expect("it runs");
            let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), FAILED_START, "{stderr}");
            // Tasks of the start may say something after it.
            let said = stderr.lines().rfind(|line| line.starts_with("tidegate: ")).unwrap_or_default();
            assert!(said.contains(address) && said.contains(words), "{key}: {said}");
            assert_eq!(said.contains("another process"), address == taken, "{said}");
        }
    }
}

#[tokio::test]
async fn a_port_in_the_environment_that_is_none_is_told_before_anything_starts() {
    let folder = TempFolder::new("port");
    let mut config = config::objects("http://127.0.0.1:9000", "audio");
    config["Server"].as_object_mut().expect("a map").remove("Listeners");
    let file = write_config(&folder, &config);
    let name = file.to_str().expect("the path is text");
    for arguments in [["serve", "-c", name].as_slice(), &["check", name]] {
        for port in ["abc", "70000", "-1", "80 80", "tcp://10.0.0.1:80"] {
            let output = command(&folder).args(arguments).env("PORT", port).output().await.expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), BAD_CONFIGURATION, "{arguments:?} {port}: {said}");
            for words in ["Server.Listeners", "the environment variable `PORT` cannot be read", "a port such as 8080"] {
                assert!(said.contains(words), "{arguments:?} {port}: no {words:?} in: {said}");
            }
        }
        if arguments[0] == "check" {
            let output = command(&folder).args(arguments).env("PORT", " 8081 ").output().await.expect("it runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[tokio::test]
async fn relative_paths_begin_where_the_process_was_started() {
    let folder = TempFolder::new("relative");
    std::fs::create_dir(folder.path().join("sub")).expect("a folder");
    let mut config = config::objects("http://127.0.0.1:9", "audio");
    config["Server"]["Admin"]["Token"] = json!("file:secret");
    let file = write_config(&folder, &config);
    std::fs::rename(file, folder.path().join("sub/tidegate.yaml")).expect("it is there");
    for (place, code) in [("sub/secret", 64), ("secret", 0)] {
        std::fs::write(folder.path().join(place), "a secret of sixteen letters or more").expect("a file");
        assert_eq!(run(&["check", "sub/tidegate.yaml"], &folder).await.code, Some(code), "{place}");
    }
}
