//! Probes of destinations, beside the requests: over HTTP where the cluster has an active check, else by connecting.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, select_all};
use tokio::time::timeout;
use url::Url;

use super::cluster::{Cluster, ClusterMember};
use super::destination::Destination;
use super::health::HealthState;
use super::settings::ActiveHealthCheck;
use primitives::clock::monotonic_now;
use primitives::failure_log::chain;

/// Time between two probes that only connect.
const CONNECT_INTERVAL: Duration = Duration::from_secs(5);
/// Time limit of a probe that only connects.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two probes while a destination is out: requests that wait for it should not wait for the probe.
const URGENT_INTERVAL: Duration = Duration::from_secs(1);

/// Probes every destination of `cluster` once, all at the same time; returns the time before the next round: the
/// configured interval (5 seconds without an active check), at most 1 second while a destination is out.
pub async fn probe_cluster(cluster: &Cluster) -> Duration {
    join_all(cluster.members().iter().map(|member| async {
        let outcome = match cluster.active_check() {
            Some(active) => timeout(active.timeout, probe_over_http(member, active))
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {:?}", active.timeout))),
            // Always a new connection: an idle one says nothing about the server now.
            None => match member.destination.new_connection(CONNECT_TIMEOUT).await {
                Ok(_) => Ok(()),
                Err(error) => Err(chain(&error)),
            },
        };
        member.destination.health().probed(outcome.is_ok(), monotonic_now());
        member.destination.note_probe(outcome.err());
    }))
    .await;
    let now = monotonic_now();
    let is_out = |member: &ClusterMember| {
        let health = member.destination.health();
        !health.is_reachable() || matches!(health.state(now), HealthState::Open | HealthState::HalfOpen)
    };
    let interval = cluster.active_check().map_or(CONNECT_INTERVAL, |active| active.interval);
    // One round for all: probing a healthy server more often meanwhile costs it little.
    if cluster.members().iter().any(is_out) { interval.min(URGENT_INTERVAL) } else { interval }
}

/// Waits for the next round: for `wait`, or until the breaker of a destination opens, because a probe may be what
/// closes it.
pub async fn pause(cluster: &Cluster, wait: Duration) {
    let opening: Vec<_> =
        cluster.members().iter().map(|member| Box::pin(member.destination.health().opening())).collect();
    // `select_all` panics on an empty list.
    if opening.is_empty() {
        return tokio::time::sleep(wait).await;
    }
    // Whether the time passed or a breaker opened, a round is due.
    let _ = timeout(wait, select_all(opening)).await;
}

/// Sends a GET for the configured path on a new connection. Any status but 2xx is an error, in words for the operator.
async fn probe_over_http(member: &ClusterMember, active: &ActiveHealthCheck) -> Result<(), String> {
    let (destination, address): (&Arc<Destination>, &Url) = match &member.probe {
        Some((destination, address)) => (destination, address),
        None => (&member.destination, &member.address),
    };
    let connection = destination.new_connection(active.timeout).await.map_err(|error| chain(&error))?;
    let own = &address[url::Position::BeforeHost..url::Position::AfterPort];
    let host = member.host.as_deref().unwrap_or(own);
    // The path of the address is a prefix, as it is for requests.
    let prefix = address.path().trim_end_matches('/');
    let head = format!(
        "GET {prefix}{} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        active.target
    );
    let answer = connection.exchange(head.as_bytes(), false, |_| false, 0, active.timeout).await;
    match answer {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(format!("status {}", answer.status.as_u16())),
        Err(error) => Err(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;
    use crate::circuit_breaker::FailureKind;
    use crate::cluster::ClusterFactory;
    use crate::settings;
    use routing::load_balancing::LoadBalancing;
    use scripted_server::{ScriptedServer, empty_response, unreachable_url};

    fn cluster(address: Url, probe: Option<Url>, active: Option<ActiveHealthCheck>) -> Cluster {
        ClusterFactory::default().build(&settings::ClusterSettings {
            id: "c".into(),
            load_balancing: LoadBalancing::default(),
            destinations: vec![settings::DestinationSettings {
                id: "d".into(),
                address,
                host: Some("inside.example".into()),
                probe,
            }],
            health: settings::HealthCheckSettings { active, ..settings::HealthCheckSettings::default() },
            http_version: settings::UpstreamHttpVersion::default(),
            affinity: None,
        })
    }

    #[tokio::test]
    async fn two_bad_answers_take_a_destination_out_and_a_good_one_brings_it_back() {
        let status = Arc::new(AtomicU16::new(200));
        let told = Arc::clone(&status);
        let server = ScriptedServer::start(move |_, _| empty_response(told.load(Ordering::Relaxed))).await;
        let address = server.url().join("/under/").expect("a URL");
        let active = ActiveHealthCheck { target: "/health?full=1".to_owned(), ..ActiveHealthCheck::default() };
        let cluster = cluster(unreachable_url().await, Some(address), Some(active));
        for (answer, usable, reachable, wait) in
            [(204, true, true, 15), (503, true, false, 1), (302, false, false, 1), (200, true, true, 15)]
        {
            status.store(answer, Ordering::Relaxed);
            assert_eq!(probe_cluster(&cluster).await, Duration::from_secs(wait), "after {answer}");
            assert_eq!(cluster.pick(cluster.identify(&()), &[], monotonic_now()).is_some(), usable, "after {answer}");
            assert_eq!(cluster.is_reachable(), reachable, "after {answer}");
        }
        let seen = server.received_heads();
        assert!(seen[0].starts_with("GET /under/health?full=1 HTTP/1.1\r\nHost: inside.example\r\n"), "{}", seen[0]);
    }

    #[tokio::test]
    async fn without_an_active_check_a_probe_connects_and_hastens_the_trial() {
        let server = ScriptedServer::start(|_, _| None).await;
        let (dead, alive) = (cluster(unreachable_url().await, None, None), cluster(server.url(), None, None));
        for (cluster, reachable, wait) in [(&dead, false, 1), (&alive, true, 1)] {
            let destination = &cluster.members()[0].destination;
            (0..5).for_each(|_| {
                destination
                    .enter_unconditionally(cluster.identify(&()))
                    .failed(FailureKind::Unreachable, monotonic_now())
            });
            assert_eq!(probe_cluster(cluster).await, Duration::from_secs(wait));
            assert_eq!(cluster.pick(cluster.identify(&()), &[], monotonic_now()).is_some(), reachable);
            assert_eq!(cluster.is_reachable(), reachable);
        }
        assert!(server.received_heads().is_empty());
    }
}
