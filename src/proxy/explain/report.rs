//! Explanation of a request, as the commands and the admin address give it.

use object_engine::cache::CachedObjectState;
use serde::Serialize;

/// Explanation of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestExplanation {
    /// The method.
    pub method: String,
    /// The path, without a token that stood in it.
    pub path: String,
    /// Refusal: its status and the reason; `None` where the route's handler or a module answers.
    pub refusal: Option<Refusal>,
    /// What answers it, where no server and no store is asked.
    pub answered_by: Option<String>,
    /// The route.
    pub route: Option<RouteExplanation>,
    /// Routes that match too and come later.
    pub preceded: Vec<PassedRoute>,
    /// Routes of which only some conditions do not hold.
    pub near_misses: Vec<PassedRoute>,
}

/// A refusal.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The reason, as the answer has it.
    pub reason: String,
}

/// A route that the request does not take.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedRoute {
    /// Its id.
    pub id: String,
    /// The reasons.
    pub because: Vec<String>,
}

/// The route of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteExplanation {
    /// Its id.
    pub id: String,
    /// Its path.
    pub pattern: Option<String>,
    /// Values of the path, decoded.
    pub captures: Vec<(String, String)>,
    /// `Anonymous`, or the policy that a token must satisfy.
    pub authorization: String,
    /// Names of limits and other rules, with their values.
    pub rules: Vec<(&'static str, String)>,
    /// What answers; `None` where the request is refused.
    pub handler: Option<HandlerExplanation>,
}

/// The handler of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum HandlerExplanation {
    /// An object of a store.
    Object {
        /// The store.
        store: String,
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Rules of the cache; `None`: it is streamed past it.
        cache: Option<String>,
        /// What the cache has of it; `None` where nothing is kept.
        kept: Option<CachedObjectState>,
        /// Servers that are asked.
        destinations: Vec<DestinationExplanation>,
    },
    /// The object of a track, as the catalogue names it.
    Track {
        /// The track's id.
        track: String,
    },
    /// A server of a cluster.
    Cluster {
        /// The cluster.
        cluster: String,
        /// Rule by which one of its destinations is chosen.
        load_balancing: String,
        /// The transforms in order, each with what it changes.
        transforms: Vec<TransformExplanation>,
        /// The request as it is sent.
        request: Vec<String>,
        /// Its destinations.
        destinations: Vec<DestinationExplanation>,
    },
}

/// A transform, and what it changes of this request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransformExplanation {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Lines of the request that it adds, after `+ `, and removes, after `- `.
    pub changes: Vec<String>,
}

/// A server of a cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationExplanation {
    /// Its id.
    pub id: String,
    /// Its address.
    pub address: String,
    /// Its health, as the metrics name it.
    pub health: &'static str,
}
