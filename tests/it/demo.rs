//! `tidegate demo`: what it prints works as it stands.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::support::chromium::Chromium;
use crate::support::gate::command;
use crate::support::tools::TempFolder;
use crate::support::{Client, in_time, tools};

/// Held while a demo starts: the first one makes the music, the others find it.
static STARTING: Mutex<()> = Mutex::const_new(());

/// A running demo and the lines it printed.
struct Demo {
    lines: Vec<String>,
    folder: TempFolder,
    _child: Child,
}

impl Demo {
    /// Starts it on a free port and reads until it has printed the page's link. The music, which a debug build makes
    /// slowly, is kept under `target/`.
    async fn start() -> Self {
        let _alone = STARTING.lock().await;
        let folder = TempFolder::new("demo");
        let mut command = command(&folder);
        let music = concat!(env!("CARGO_TARGET_TMPDIR"), "/demo");
        command.args(["demo", "--port", "0", "--folder", music]).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut lines = Vec::new();
        let read = in_time("the demo is up", async {
            loop {
                let line = stdout.next_line().await.expect("readable").expect("it goes on until the link is printed");
                lines.push(line);
                let curls = lines.iter().filter(|line| line.trim().starts_with("curl ")).count();
                if curls >= 3 && link(&lines).is_some() {
                    break;
                }
            }
        });
        read.await;
        tokio::spawn(async move { while let Ok(Some(_)) = stdout.next_line().await {} });
        Self { lines, folder, _child: child }
    }

    fn link(&self) -> String {
        link(&self.lines).expect("a link to the page")
    }
}

/// The page's address: the folder's name is printed too.
fn link(lines: &[String]) -> Option<String> {
    let is_link = |word: &&str| word.starts_with("http://") && word.ends_with("/player/");
    lines.iter().flat_map(|line| line.split_whitespace()).find(is_link).map(str::to_owned)
}

#[tokio::test]
async fn the_demo_prints_three_curl_lines_that_work() {
    let demo = Demo::start().await;
    let curls: Vec<&str> = demo.lines.iter().map(|line| line.trim()).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(curls.len(), 3, "{:#?}", demo.lines);
    if tools::find("curl").is_none() {
        return;
    }
    // The lines share a variable that the line before them sets.
    let variable = demo.lines.iter().map(|line| line.trim()).find(|line| line.starts_with("TOKEN=")).unwrap_or(":");
    for line in curls {
        let script = format!("{variable}; {line}");
        let run = Command::new("sh").args(["-c", &script]).current_dir(demo.folder.path()).kill_on_drop(true).output();
        let output = in_time("it ends", run).await.expect("sh starts");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout[..output.stdout.len().min(200)]).into_owned();
        let expected = if line.contains("Authorization") || line.contains("access_token") {
            "HTTP/1.1 20"
        } else {
            "HTTP/1.1 401"
        };
        assert!(said.starts_with(expected), "{line}: {said}");
    }
}

#[tokio::test]
async fn the_demo_prints_a_token_and_a_page_that_lists_tracks() {
    let demo = Demo::start().await;
    let is_token = |word: &str| word.starts_with("eyJ") && word.matches('.').count() == 2;
    let words = |line: &String| line.split(|c: char| c.is_whitespace() || "=\"'&".contains(c)).any(is_token);
    assert!(demo.lines.iter().any(words), "no token in {:#?}", demo.lines);
    let link: url::Url = demo.link().parse().expect("the link is a URL");
    let client = Client::new(link.origin().ascii_serialization());
    let page = client.get("/player/", &[]).await;
    assert!(page.is(200).header("content-type").starts_with("text/html"));
    let settings: serde_json::Value =
        serde_json::from_slice(&client.get("/player/settings.json", &[]).await.is(200).body).expect("JSON");
    let authorization = format!("Bearer {}", settings["token"].as_str().expect("the page is given the token"));
    let listed = client.get("/api/v1/tracks", &[("authorization", &authorization)]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.is(200).body).expect("JSON");
    let tracks = listed["items"].as_array().expect("a list of tracks");
    assert!(tracks.len() >= 2, "{listed}");
    for track in tracks {
        assert!(track["contentType"].as_str().is_some_and(|it| it.starts_with("audio/")), "{track}");
    }
}

#[tokio::test]
async fn the_demo_page_plays_in_a_browser() {
    let Some(browser) = Chromium::start().await else { return };
    let demo = Demo::start().await;
    browser.open(&demo.link()).await;
    let result = browser.run(
        r#"
        const player = document.querySelector("audio");
        await until("a list of tracks", () => document.querySelector(".track-play"));
        document.querySelector(".track-play").click();
        await until("metadata", () => player.duration > 10);
        await until("playing", () => player.currentTime > 0.3);
        const seek = document.getElementById("seek");
        seek.value = player.duration - 5;
        seek.dispatchEvent(new Event("input"));
        await until("playing after the seek", () => player.currentTime > player.duration - 4.7);
        return player.duration;
        "#,
    );
    let duration = result.await;
    assert!(duration.as_f64().is_some_and(|seconds| seconds > 10.0), "{duration}");
    browser.close().await;
}
