//! The session of a request: the destination that it belongs to, where the cluster has affinity.

use std::sync::Arc;

use http::HeaderMap;

use super::no_destination;
use crate::proxy::failure::ProxyFailure;
use primitives::clock::monotonic_now;
use upstream::circuit_breaker::RequestIdentity;
use upstream::cluster::{Cluster, ClusterMember};
use upstream::destination::InFlightRequest;
use upstream::session_affinity::{AffinityFailurePolicy, RequestedAffinity};

/// Session of a request.
pub enum RequestSession {
    /// The cluster has no affinity.
    None,
    /// The session begins, or its destination is gone and another one may have it.
    New,
    /// The session belongs to this destination.
    Of {
        /// Id of the destination.
        destination: Arc<str>,
        /// True where another destination may have it.
        may_move: bool,
    },
}

impl RequestSession {
    /// Returns the session of a request to `cluster` with `headers`. Fails with `DestinationUnavailable` where its destination is
    /// gone and the policy lets no other one have it.
    pub fn of(cluster: &Cluster, headers: &HeaderMap) -> Result<Self, ProxyFailure> {
        let Some(affinity) = cluster.affinity() else { return Ok(Self::None) };
        let may_move = affinity.on_failure() == AffinityFailurePolicy::Redistribute;
        let ids = cluster.members().iter().map(|member| member.destination.id());
        match affinity.find(headers, ids) {
            RequestedAffinity::New => Ok(Self::New),
            RequestedAffinity::Destination(destination) => Ok(Self::Of { destination, may_move }),
            RequestedAffinity::Unknown if may_move => Ok(Self::New),
            RequestedAffinity::Unknown => Err(ProxyFailure::DestinationUnavailable),
        }
    }

    /// Chooses the destination for the next attempt.
    pub fn pick<'c>(
        &self,
        cluster: &'c Cluster,
        identity: RequestIdentity,
        tried: &[Arc<str>],
    ) -> Result<(&'c ClusterMember, InFlightRequest), ProxyFailure> {
        let now = monotonic_now();
        if let Self::Of { destination, may_move } = self {
            let is_untried = !tried.contains(destination);
            let picked = is_untried.then(|| cluster.pick_destination(destination, identity, now)).flatten();
            match picked {
                Some(picked) => return Ok(picked),
                None if !may_move => return Err(ProxyFailure::DestinationUnavailable),
                None => {}
            }
        }
        cluster.pick(identity, tried, now).ok_or_else(|| no_destination(cluster))
    }

    /// Returns true where another destination than the session's may answer.
    pub fn may_move(&self) -> bool {
        !matches!(self, Self::Of { may_move: false, .. })
    }

    /// Returns true where the client does not know yet that `destination` has its session.
    pub fn is_new_at(&self, destination: &Arc<str>) -> bool {
        match self {
            Self::None => false,
            Self::New => true,
            Self::Of { destination: own, .. } => own != destination,
        }
    }
}
