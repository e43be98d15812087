//! Asks destinations how they are, beside the requests: over HTTP where the cluster says so, else by connecting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;
use url::Url;

use super::cluster::{Cluster, Member};
use super::destination::Destination;
use super::health::State;
use super::settings::Active;

/// Between two probes that only connect.
const CONNECT_INTERVAL: Duration = Duration::from_secs(5);
/// For a probe that only connects.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two probes while a destination is out: whoever waits for it should not wait for the probe.
const URGENT_INTERVAL: Duration = Duration::from_secs(1);

/// Probes every destination of `cluster` once, and says how long to wait before the next time.
pub async fn round(cluster: &Cluster) -> Duration {
    join_all(cluster.members().iter().map(|member| async {
        let success = match cluster.active() {
            Some(active) => timeout(active.timeout, is_well(member, active)).await.unwrap_or(false),
            None => member.destination.new_connection(CONNECT_TIMEOUT).await.is_ok(),
        };
        member.destination.health().probed(success, Instant::now());
    }))
    .await;
    let now = Instant::now();
    let is_out = |member: &Member| {
        let health = member.destination.health();
        !health.is_reachable() || matches!(health.state(now), State::Open | State::HalfOpen)
    };
    let interval = cluster.active().map_or(CONNECT_INTERVAL, |active| active.interval);
    if cluster.members().iter().any(is_out) { interval.min(URGENT_INTERVAL) } else { interval }
}

/// Whether a GET of the configured path is answered with 2xx.
async fn is_well(member: &Member, active: &Active) -> bool {
    let (destination, address): (&Arc<Destination>, &Url) = match &member.probe {
        Some((destination, address)) => (destination, address),
        None => (&member.destination, &member.address),
    };
    let Ok(connection) = destination.new_connection(active.timeout).await else { return false };
    let own = &address[url::Position::BeforeHost..url::Position::AfterPort];
    let host = member.host.as_deref().unwrap_or(own);
    let prefix = address.path().trim_end_matches('/');
    let head = format!(
        "GET {prefix}{} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        active.target
    );
    let answer = connection.exchange(head.as_bytes(), false, active.timeout).await;
    answer.is_ok_and(|answer| answer.status.is_success())
}
