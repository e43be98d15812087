//! What a cluster is told (`ReverseProxy.Clusters.<id>`).

use std::sync::Arc;

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
