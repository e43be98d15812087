//! Settings of Redis.

use primitives::secret::Secret;

/// Address and key prefix of Redis.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The address, which may hold a password: `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`,
    /// `redis+unix://`.
    pub url: Secret,
    /// Prefix of every key; empty by default.
    pub prefix: String,
}
