//! Requests whose framing can be read in two ways, sent through Tidegate to servers that read them their own way: no server
//! behind ever sees a request that Tidegate did not count (CWE-444).

mod servers;
mod table;

use serde_json::json;

use self::servers::{BackServer, haproxy, nginx};
use self::table::rows;
use crate::support::raw::Raw;
use crate::support::{Gate, LIMIT, config, eventually};

/// Sends the bytes on a connection of their own and reads to its end. Returns the statuses that came.
async fn send(gate: &Gate, bytes: &[u8], method: &str) -> Vec<u16> {
    let mut raw: Raw = gate.raw().await;
    raw.send(bytes).await;
    raw.half_close().await;
    let mut statuses = Vec::new();
    // Until the end: what was smuggled would be answered too.
    while let Ok(response) = raw.response(method, LIMIT).await {
        statuses.push(response.status);
    }
    statuses
}

/// Sends an ordinary request and waits until the server behind has logged it: whatever went before it has been logged then.
/// On the connection that the row has used, a rest of the row's bytes would be the beginning of this one.
async fn fence(gate: &Gate, server: &BackServer, number: usize) -> Vec<String> {
    let path = format!("/{}/fence-{number}", server.name);
    assert_eq!(gate.client().get(&path, &[]).await.is(200).text(), "well", "the request after {number}");
    let seen = eventually("the request is logged", async || server.seen_until(&path).await).await;
    seen.into_iter().filter(|line| !line.contains("/fence-")).collect()
}

/// Request lines of the access log for `server`, in order, without those of fences.
fn counted(gate: &Gate, server: &BackServer) -> Vec<String> {
    let lines = gate.access_lines();
    let lines = lines.iter().filter(|line| line["route"] == server.name);
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = lines.map(|line| format!("{} {}", text(line, "method"), text(line, "path")));
    lines.filter(|line| !line.contains("/fence-")).collect()
}

async fn gate(servers: &[&BackServer]) -> Gate {
    let mut config = config::empty();
    for server in servers {
        let path = format!("/{}/{{**rest}}", server.name);
        config["ReverseProxy"]["Routes"][server.name] = config::plain_route(&path, server.name);
        config["ReverseProxy"]["Clusters"][server.name] = config::cluster(&[format!("http://{}", server.address)]);
    }
    config["Telemetry"] = json!({ "AccessLog": { "Format": "json" } });
    Gate::start(&config).await
}

#[tokio::test]
async fn no_server_behind_sees_a_request_that_was_not_counted() {
    let (Some(nginx), Some(haproxy)) = (nginx(), haproxy().await) else { return };
    let gate = gate(&[&nginx, &haproxy]).await;
    let rows = rows();
    assert!(rows.len() >= 40, "{}", rows.len());
    let mut wrong = Vec::new();
    for server in [&nginx, &haproxy] {
        let mut known = 0;
        for (number, row) in rows.iter().enumerate() {
            let name = row.name;
            let answered = send(&gate, &row.bytes(server.name), row.method()).await;
            if !row.expects(&answered) {
                wrong.push(format!("{name} ({}): answered {answered:?}, not {:?}", server.name, row.statuses));
            }
            let seen = fence(&gate, server, number).await;
            let all = counted(&gate, server);
            let mut uncounted = seen.clone();
            for line in &all[known..] {
                if let Some(at) = uncounted.iter().position(|seen| seen == line) {
                    uncounted.remove(at);
                }
            }
            if !uncounted.is_empty() {
                let counted = &all[known..];
                wrong.push(format!("{name}: {} saw {uncounted:?} that is not counted; {counted:?} is", server.name));
            }
            known = all.len();
            // What was answered is in the log, or the comparison would say nothing.
            let answers = answered.iter().filter(|status| **status == 200).count();
            if answers > seen.len() {
                wrong.push(format!("{name}: {answers} answers of {}, which saw {seen:?}", server.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
