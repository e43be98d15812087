//! A worker that no longer answers: found, named, and told to whoever watches the process.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;
use tokio::process::{Child, Command};

use crate::support::{Gate, ScriptedOrigin, config, eventually};

/// The threads of the gate that serve clients.
fn workers(gate: &Gate) -> Vec<String> {
    let tasks = PathBuf::from(format!("/proc/{}/task", gate.process()));
    let name = |id: &String| std::fs::read_to_string(tasks.join(id).join("comm")).unwrap_or_default();
    let all = std::fs::read_dir(&tasks).expect("it runs").flatten();
    let ids = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    ids.filter(|id| name(id).starts_with("worker-")).collect()
}

/// Holds one thread still, as a loop without an end would, until this is killed: by ptrace (SEIZE, INTERRUPT).
fn hold(thread: &str) -> Child {
    let script = format!(
        "syscall(101, 0x4206, {thread}, 0, 0) == 0 or die \"SEIZE: $!\"; \
         syscall(101, 0x4207, {thread}, 0, 0) == 0 or die \"INTERRUPT: $!\"; sleep 60"
    );
    let mut perl = Command::new("perl");
    perl.args(["-e", &script]).stdin(Stdio::null()).kill_on_drop(true).spawn().expect("perl is part of Debian")
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn a_worker_that_stands_still_fails_livez_and_is_named_in_the_log() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Threads"] = json!(2);
    let gate = Gate::start(&config).await;
    assert_eq!(workers(&gate).len(), 2);
    gate.admin().get("/livez", &[]).await.is(200);
    let mut holder = hold(&workers(&gate)[0]);
    let status = async || gate.admin().get("/livez", &[]).await.status;
    eventually("livez fails", async || (status().await == 503).then_some(())).await;
    eventually("the worker is counted", async || {
        (gate.metric("tidegate_worker_stuck_total", "").await > 0.0).then_some(())
    })
    .await;
    let named =
        gate.log_lines().into_iter().any(|line| line["level"] == "ERROR" && line.to_string().contains("is stuck"));
    assert!(named, "{}", gate.log());
    holder.kill().await.expect("it runs");
    eventually("livez is well again", async || (status().await == 200).then_some(())).await;
}
