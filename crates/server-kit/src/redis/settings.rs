//! What the operator says of Redis.

use primitives::secret::Secret;

/// Where Redis is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address, which may hold a password: `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`,
    /// `redis+unix://`.
    pub url: Secret,
    /// Before every key; empty by default.
    pub prefix: String,
}
