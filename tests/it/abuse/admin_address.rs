//! The admin address under connections that only hold its places: health checks are answered all the same.

use std::net::SocketAddr;

use tokio::task::JoinSet;

use crate::support::eventually::in_time;
use crate::support::raw::Raw;
use crate::support::{Gate, config, eventually};

/// Places of the admin address.
const PLACES: usize = 64;

async fn half_head(address: SocketAddr) -> Raw {
    let mut raw = Raw::connect(address).await;
    raw.send(b"GET /livez HTTP/1.1\r\nHost: gate\r\n").await;
    raw
}

#[tokio::test]
async fn a_half_head_gives_its_place_to_a_health_check() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let mut held = Vec::new();
    for _ in 0..PLACES {
        held.push(half_head(gate.admin_address()).await);
    }
    gate.admin().get("/livez", &[]).await.is(200);
    let mut open = 0;
    for raw in &mut held {
        open += usize::from(!raw.has_ended().await);
    }
    // Not by the time for heads, which ends all of them.
    assert_eq!(open, PLACES - 1, "one has given its place");
    // The rest of a request that has its place is answered.
    let last = held.last_mut().expect("there are some");
    last.send(b"\r\n").await;
    let answer = last.response("GET", crate::support::eventually::LIMIT).await.expect("it has its place");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_gives_its_place_too() {
    let gate = Gate::start(&config::objects_both_ways("http://127.0.0.1:1", "audio")).await;
    let mut held = Vec::new();
    for _ in 0..PLACES {
        let mut raw = Raw::connect(gate.admin_address()).await;
        let head = "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        raw.send(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes()).await;
        held.push(raw);
    }
    gate.admin().get("/livez", &[]).await.is(200);
    eventually("one has given its place", async || {
        for raw in &mut held {
            if raw.has_ended().await {
                return Some(());
            }
        }
        None
    })
    .await;
}

#[tokio::test]
async fn health_checks_are_answered_while_half_heads_come_again_and_again() {
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    let (address, mut attackers) = (gate.admin_address(), JoinSet::new());
    for _ in 0..PLACES + 16 {
        attackers.spawn(async move {
            loop {
                let mut raw = half_head(address).await;
                let _ = in_time("the connection ends", raw.rest(crate::support::eventually::LIMIT)).await;
            }
        });
    }
    for _ in 0..50 {
        gate.admin().get("/livez", &[]).await.is(200);
        gate.admin().get("/readyz", &[]).await;
    }
    attackers.abort_all();
}
