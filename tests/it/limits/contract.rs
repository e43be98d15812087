//! What every kind of count does, in memory, over a Redis and over a cluster.

use std::sync::Arc;
use std::time::Duration;

use server_kit::limit::egress_store::RedisEgressStore;
use server_kit::limit::rate_limiter::{LimitKind, LimitRejection, RateLimitPermit};

use super::{Nodes, adds_up, connect};
use crate::support::eventually;
use crate::support::redis::Redis;

/// What every kind of count does, at the same moments.
async fn contract(mut nodes: Nodes) {
    let table: [(&str, u64, usize, usize); 14] = [
        ("fixed", 0, 6, 6),
        ("fixed", 59_999, 6, 4),
        ("fixed", 60_000, 11, 10),
        ("sliding", 60_000, 4, 4),
        ("sliding", 70_000, 7, 6),
        ("sliding", 119_999, 1, 0),
        ("sliding", 120_000, 9, 4),
        ("sliding", 130_000, 9, 6),
        ("bucket", 200_000, 6, 5),
        ("bucket", 204_999, 1, 0),
        ("bucket", 205_000, 2, 1),
        ("bucket", 400_000, 9, 5),
        ("both", 400_000, 11, 10),
        ("both", 460_000, 1, 1),
    ];
    let mut now = 0;
    for (policy, at, tries, expected) in table {
        nodes.clock.advance(Duration::from_millis(at - now));
        now = at;
        assert_eq!(nodes.pass(policy, tries).await, expected, "{policy} after {at} ms");
    }
    let refused = nodes.ask("fixed", "u:bob").await.expect("another subject has its own count");
    assert_eq!(refused.status().map(|standing| (standing.limit, standing.remaining)), Some((10, 9)));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(nodes.ask("streams", "u:alice").await.expect("a stream"));
    }
    let refused = nodes.ask("streams", "u:alice").await.err().expect("the fourth");
    assert_eq!((refused.limit, refused.status.limit), (LimitKind::Streams, 3));
    held.pop();
    let again = eventually("the place is free", async || nodes.ask("streams", "u:alice").await.ok()).await;
    let usage = nodes.all[0].limiter("streams").expect("the policy").usage("u:alice").await;
    assert_eq!(usage.streams, Some((3, 3)));
    drop(again);
}

#[tokio::test]
async fn the_contract_holds_in_memory() {
    contract(Nodes::in_memory()).await;
}

#[tokio::test]
async fn the_contract_holds_over_redis_with_one_node_and_with_two() {
    for count in [1, 2] {
        let Some(redis) = Redis::start() else { return };
        contract(Nodes::over(&redis, count).await).await;
    }
}

#[tokio::test]
async fn the_contract_holds_over_a_cluster_of_redis() {
    let Some(cluster) = Redis::cluster().await else { return };
    contract(Nodes::at(cluster[1].cluster_url(), 2).await).await;
    let client = connect(cluster[2].cluster_url()).await;
    adds_up(|| Arc::new(RedisEgressStore(client.clone()))).await;
}

/// Moments and subjects as they come, always the same.
fn steps() -> impl Iterator<Item = (u64, usize)> {
    std::iter::successors(Some(7_u64), |last| {
        Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    })
    .map(|number| ((number >> 33) % 9_000, usize::try_from(number >> 60).expect("it is small") % 3))
}

#[tokio::test]
async fn two_nodes_over_redis_decide_as_one_in_memory_does() {
    let Some(redis) = Redis::start() else { return };
    let (mut one, mut two) = (Nodes::in_memory(), Nodes::over(&redis, 2).await);
    for (number, (pause, who)) in steps().take(600).enumerate() {
        // Many at one moment, then a pause.
        let pause = Duration::from_millis(if number % 4 == 0 { pause } else { 0 });
        one.clock.advance(pause);
        two.clock.advance(pause);
        let subject = ["u:alice", "u:bob", "a:192.0.2.1"][who];
        for policy in ["sliding", "fixed", "bucket"] {
            let (here, there) = (one.ask(policy, subject).await, two.ask(policy, subject).await);
            let left = |answer: &Result<RateLimitPermit, LimitRejection>| match answer {
                Ok(permit) => (true, permit.status()),
                Err(refused) => (false, Some(refused.status)),
            };
            assert_eq!(left(&here), left(&there), "{policy} at step {number}");
        }
    }
}

#[tokio::test]
async fn a_script_that_redis_has_forgotten_is_sent_again() {
    let Some(redis) = Redis::start() else { return };
    let mut nodes = Nodes::over(&redis, 2).await;
    assert_eq!(nodes.pass("fixed", 6).await, 6);
    assert!(redis.ask("SCRIPT FLUSH").starts_with("+OK"));
    assert_eq!(nodes.pass("fixed", 6).await, 4);
}

#[tokio::test]
async fn what_a_node_refuses_by_itself_asks_redis_nothing() {
    let Some(redis) = Redis::start() else { return };
    let mut nodes = Nodes::over(&redis, 1).await;
    // Every script is one call.
    let calls = || {
        let said = redis.ask("INFO commandstats");
        let scripts = said.lines().filter(|line| line.starts_with("cmdstat_eval"));
        scripts.filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    assert_eq!(nodes.pass("fixed", 10).await, 10);
    let asked = calls();
    assert!(asked >= 10, "{asked}");
    assert_eq!(nodes.pass("fixed", 100).await, 0);
    assert_eq!(calls(), asked);
    let held = nodes.ask("streams", "u:alice").await.expect("a stream");
    // Both kinds of keys expire by themselves.
    let keys = redis.ask("KEYS *");
    for start in ["it:limit:{fixed:u%3Aalice}:requests:", "it:limit:{streams:u%3Aalice}:streams"] {
        let key = keys.lines().find(|key| key.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {keys}"));
        let left = redis.ask(&format!("PTTL {key}"));
        assert!(left.trim_start_matches(':').trim().parse::<i64>().is_ok_and(|left| left > 0), "{key}: {left}");
    }
    drop(held);
}
