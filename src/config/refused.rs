//! Keys that are known and not supported, each with the reason: an explicit refusal is better than ignoring them. A
//! release that supports one of them deletes its line.

use super::path::ConfigPath;
use super::source::{ConfigNode, NodeData};

const LATER: &str = "is not available in this version";
const QUEUE: &str = "is refused: what is over a limit is answered at once, with when to try again";
const NO_QUEUE: &str = "remove it, or write `QueueLimit: 0`";

/// Path (`*` is any key), reason, and advice.
pub const REFUSED: &[(&str, &str, &str)] = &[
    ("Policies.RateLimiter.*.SlidingWindow.QueueLimit", QUEUE, NO_QUEUE),
    ("Policies.RateLimiter.*.SlidingWindow.QueueProcessingOrder", QUEUE, NO_QUEUE),
    ("Policies.RateLimiter.*.FixedWindow.QueueLimit", QUEUE, NO_QUEUE),
    ("Policies.RateLimiter.*.FixedWindow.QueueProcessingOrder", QUEUE, NO_QUEUE),
    ("Policies.RateLimiter.*.TokenBucket.QueueLimit", QUEUE, NO_QUEUE),
    ("Policies.RateLimiter.*.TokenBucket.QueueProcessingOrder", QUEUE, NO_QUEUE),
    ("Policies.RateLimiter.*.Concurrency.QueueLimit", QUEUE, NO_QUEUE),
    ("Policies.RateLimiter.*.Concurrency.QueueProcessingOrder", QUEUE, NO_QUEUE),
    (
        "ReverseProxy.Routes.*.Transforms.ByFormat",
        "is refused: Tidegate does not tell its own address",
        "remove it, and `by` from `Forwarded`",
    ),
    ("ReverseProxy.Clusters.*.HttpClient.MaxConnectionsPerServer", LATER, "remove it: connections are not limited"),
    (
        "ReverseProxy.Clusters.*.HttpClient.DangerousAcceptAnyServerCertificate",
        "is refused: the certificate of a destination is always verified",
        "add the destination's CA to the system's trusted certificates",
    ),
    (
        "ReverseProxy.Clusters.*.HttpClient.SslProtocols",
        "is refused: TLS 1.2 and 1.3 are offered, and nothing older can be",
        "remove it",
    ),
    (
        "ReverseProxy.Clusters.*.HttpClient.WebProxy",
        "is refused: Tidegate connects to destinations directly",
        "remove it, or name the proxy as the destination",
    ),
];

/// Returns the reason for which the key at `path` is refused, and advice. A value that switches the feature off is
/// accepted.
pub fn reason(path: &ConfigPath, value: &ConfigNode) -> Option<KeySupport> {
    let (_, why, help) = REFUSED.iter().find(|(pattern, ..)| path.is_at(pattern))?;
    Some(if is_off(value) { KeySupport::Off } else { KeySupport::Refused { why, help } })
}

/// Returns the spelling of a refused key that is `key` in another case, in the mapping at `path`.
pub fn spelling(path: &ConfigPath, key: &str) -> Option<&'static str> {
    let last = |pattern: &'static str| pattern.rsplit('.').next().unwrap_or(pattern);
    let is_meant = |name: &str| name.eq_ignore_ascii_case(key);
    REFUSED
        .iter()
        .map(|(pattern, ..)| *pattern)
        .find(|pattern| is_meant(last(pattern)) && path.key(last(pattern)).is_at(pattern))
        .map(last)
}

/// Support of a known key.
pub enum KeySupport {
    /// The value switches the feature off.
    Off,
    /// The value asks for an unsupported feature.
    Refused {
        /// The reason, as the rest of a sentence that begins with the key.
        why: &'static str,
        /// Advice to the operator.
        help: &'static str,
    },
}

fn is_off(value: &ConfigNode) -> bool {
    match &value.data {
        NodeData::Null | NodeData::Bool(false) => true,
        NodeData::Text(text) => text == "Disable" || text == "false",
        NodeData::Map(members) => match value.get("Enabled") {
            Some(enabled) => is_off(&enabled.value),
            // An empty mapping asks for the feature with its defaults.
            None => !members.is_empty() && members.iter().all(|member| is_off(&member.value)),
        },
        NodeData::Integer(0) => true,
        NodeData::Integer(_) | NodeData::Float(_) | NodeData::Bool(true) | NodeData::List(_) => false,
    }
}
