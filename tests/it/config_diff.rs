//! `tidegate diff`: what it tells is what a reload changes, and nothing changes by it.

use serde_json::{Value, json};

use crate::reload::{reload, start, yaml};
use crate::support::origin::ScriptedOrigin;
use crate::support::tools::TempFolder;
use crate::support::{Gate, config, gate};

async fn diff(gate: &Gate, folder: &TempFolder, new: &Value, more: &[&str]) -> gate::Ended {
    let file = folder.path().join("new.yaml");
    std::fs::write(&file, yaml(new)).expect("a file");
    let (file, admin) = (file.display().to_string(), format!("http://{}", gate.admin_address()));
    gate::run(&[&["diff", &file, "--admin", &admin], more].concat(), folder).await
}

#[tokio::test]
async fn a_running_proxy_tells_what_another_file_would_change() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let (gate, folder) = (start(&mut config).await, TempFolder::new("diff"));
    assert_eq!(diff(&gate, &folder, &config, &[]).await.stdout.trim(), "nothing would change");

    let mut new = config.clone();
    let mut other = new["ReverseProxy"]["Routes"]["stream"].clone();
    other["Match"]["Path"] = json!("/other/{**key}");
    new["ReverseProxy"]["Routes"]["other"] = other;
    new["Server"]["ReloadOnChange"] = json!(true);
    new["Server"]["Threads"] = json!(7);
    let told = diff(&gate, &folder, &new, &[]).await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    for line in [
        "+ ReverseProxy.Routes.other.Match.Path: /other/{**key}",
        "~ Server.ReloadOnChange: false -> true",
        "a reload is refused, these need a restart: Server.Threads",
    ] {
        assert!(told.stdout.lines().any(|told| told == line), "{line} is missing in\n{}", told.stdout);
    }
    gate.client().get("/other/track.mp3", &[]).await.problem(404);

    // The same as what a reload then does.
    new["Server"]["Threads"] = config["Server"]["Threads"].clone();
    new["Server"]["ReloadOnChange"] = json!(false);
    let told: Value = serde_json::from_str(&diff(&gate, &folder, &new, &["--json"]).await.stdout).expect("JSON");
    assert_eq!(told["needs_restart"], json!([]));
    let changes = told["changes"].as_array().expect("a list");
    assert!(
        changes
            .iter()
            .all(|change| change["path"].as_str().is_some_and(|path| path.starts_with("ReverseProxy.Routes.other.")))
    );
    reload(&gate, &new).await;
    gate.client().get("/other/track.mp3", &[]).await.is(200);
    assert_eq!(diff(&gate, &folder, &new, &[]).await.stdout.trim(), "nothing would change");
}

#[tokio::test]
async fn what_is_in_force_is_told_with_its_lines_and_without_secrets() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("diff");
    let database = format!("sqlite://{}?mode=rwc", folder.path().join("kept.db").display());
    let mut config = config::objects(&origin.url(), "audio");
    config["Database"] = json!({ "Url": database });
    let gate = start(&mut config).await;
    let told: Value = serde_json::from_slice(&gate.admin().get("/config", &[]).await.is(200).body).expect("JSON");
    let keys = told["keys"].as_array().expect("a list");
    let key = |path: &str| keys.iter().find(|key| key["path"] == path).unwrap_or_else(|| panic!("{path}: {told}"));
    assert_eq!(key("Server.ReloadOnChange")["value"], "false");
    // A URL with a query may carry a password.
    assert_eq!(key("Database.Url")["value"], "***");
    let text = std::fs::read_to_string(gate.config_file()).expect("the file");
    let line =
        key("Server.ReloadOnChange")["line"].as_u64().and_then(|line| usize::try_from(line).ok()).expect("a line");
    assert!(text.lines().nth(line - 1).is_some_and(|line| line.contains("ReloadOnChange")), "line {line} of\n{text}");
}

#[tokio::test]
async fn a_file_that_is_not_good_is_reported_and_two_files_need_no_proxy() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let (gate, folder) = (start(&mut config).await, TempFolder::new("diff"));
    let mut bad = config.clone();
    bad["Server"]["Thread"] = json!(1);
    let told = diff(&gate, &folder, &bad, &[]).await;
    assert_eq!(told.code, Some(1));
    assert!(told.stderr.contains("unknown key `Thread`"), "{}", told.stderr);

    let [old, new] = ["old", "new"].map(|name| folder.path().join(name).display().to_string());
    std::fs::write(&old, yaml(&config)).expect("a file");
    config["Server"]["ReloadOnChange"] = json!(true);
    std::fs::write(&new, yaml(&config)).expect("a file");
    let told = gate::run(&["diff", &new, "--with", &old], &folder).await;
    assert_eq!((told.code, told.stdout.trim()), (Some(0), "~ Server.ReloadOnChange: false -> true"));
}
