//! What a cluster is told (`ReverseProxy.Clusters.<id>`).

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::route::cluster::LoadBalancing;

/// A named set of destinations.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its id in the YAML.
    pub id: Arc<str>,
    /// How one is chosen.
    pub load_balancing: LoadBalancing,
    /// The destinations in the order of the file; may be empty (then 503).
    pub destinations: Vec<Destination>,
}

/// One server of a cluster.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its id in the YAML.
    pub id: Arc<str>,
    /// Scheme, host and port, with an optional path prefix.
    pub address: Url,
    /// The `Host` to send instead of the address's.
    pub host: Option<String>,
}

/// Time limits toward the upstream (`Policies.Timeout.<name>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To be connected, TLS included.
    pub connect: Duration,
    /// From the request sent to the response header.
    pub first_byte: Duration,
    /// Between two reads of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// Values that let a healthy store on the same continent answer and a dead one be noticed before a player gives up.
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), first_byte: Duration::from_secs(5), idle: Duration::from_secs(30) }
    }
}
