//! A disk that is full, and an outbox that is.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::super::{id, post, to_file, with_events};
use super::{all_or_none, arrived, away, list, nothing_waits, try_post};
use crate::support::tools::TempFolder;
use crate::support::{Gate, eventually, in_time};

/// A disk of a few MiB; to make one takes root.
struct SmallDisk(TempFolder);

impl SmallDisk {
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
    fn mount(size: &str) -> Option<Self> {
        let folder = TempFolder::new("disk");
        let option = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("\n*** SKIPPED: no disk of its own can be mounted; that takes root ***\n");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no byte to anybody else.
    fn fill(&self) {
        let mut file = fs::File::create(self.path().join("other")).expect("a file");
        while std::io::Write::write_all(&mut file, &[0; 1024]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_whole_lists_and_what_it_has_is_delivered_once_and_makes_room() {
    let Some(disk) = SmallDisk::mount("3m") else { return };
    let folder = TempFolder::new("events");
    let outbox = json!({ "Path": disk.path().join("outbox"), "Size": "64MiB" });
    let on_disk = |events: Value| {
        let mut config = with_events(events, &folder);
        config["Events"]["Outbox"] = outbox.clone();
        config
    };
    let mut gate = Gate::start(&on_disk(away().await)).await;
    let (mut acknowledged, mut number, mut refused) = (Vec::new(), 0, 0);
    while refused < 20 {
        match try_post(&gate.client(), &list(number, 100)).await.map(|status| status.as_u16()) {
            Some(202) => acknowledged.push(number),
            Some(503) => refused += 1,
            other => panic!("{other:?}"),
        }
        number += 1;
    }
    assert!(acknowledged.len() > 20, "only {} lists are 3 MiB", acknowledged.len());
    gate.signal("KILL").await;
    gate.ended().await;
    disk.fill();

    let mut gate = Gate::start(&on_disk(to_file(&folder))).await;
    nothing_waits(&gate).await;
    let once = arrived(&folder);
    all_or_none(&once, (0..number).map(|number| (number, 100)), &acknowledged);
    assert!(once.values().all(|count| *count == 1), "something arrived twice");
    eventually("there is room again", async || {
        number += 1;
        (try_post(&gate.client(), &list(number, 100)).await? == 202).then_some(())
    })
    .await;
    nothing_waits(&gate).await;
    gate.stop().await;
    let before = arrived(&folder);
    assert!(before.contains_key(&id(number * 1000).to_string()), "what was taken on the full disk arrived");
    let files = fs::read_dir(disk.path().join("outbox")).expect("the folder is there").count();
    assert!(files <= 4, "{files} files are left");
    for _ in 0..2 {
        let mut gate = Gate::start(&on_disk(to_file(&folder))).await;
        post(&gate.client(), "alice", &json!({ "action": "Start", "positionMs": 0 })).await;
        nothing_waits(&gate).await;
        gate.stop().await;
    }
    let after = arrived(&folder);
    assert!(before.keys().all(|id| after[id] == 1), "a restart delivered something again");
}

#[tokio::test]
async fn a_full_outbox_refuses_and_keeps_what_it_has() {
    let folder = TempFolder::new("events");
    let mut events = away().await;
    events["Outbox"] = json!({ "Size": "1MiB" });
    let mut gate = Gate::start(&with_events(events, &folder)).await;
    let client = gate.client();
    let (mut taken, mut number) = (0, 0);
    let filling = async {
        loop {
            let reply = post(&client, "alice", &list(number, 100)).await;
            if reply.status != 202 {
                return reply;
            }
            (taken, number) = (taken + 100, number + 1);
        }
    };
    let refused = in_time("it is full", filling).await;
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "1");
    assert!(taken >= 3000, "{taken} events are less than a MiB");
    assert_eq!(gate.metric("tidegate_events_backlog_events", "").await, f64::from(taken));
    post(&client, "alice", &list(number, 100)).await.problem(503);
    let said = gate.log().matches("new events are refused").count();
    assert_eq!(said, 1, "once is enough");
    gate.stop().await;

    let mut gate = Gate::start(&with_events(to_file(&folder), &folder)).await;
    nothing_waits(&gate).await;
    assert_eq!(arrived(&folder).len(), usize::try_from(taken).expect("a few thousand"));
    post(&gate.client(), "alice", &list(number, 100)).await.is(202);
    gate.stop().await;
}
