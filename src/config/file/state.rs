//! `State` and `Database`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::ConfigText;

/// Short-lived state that several nodes share: limits, cached URLs, positions' front, sharing sessions.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct State {
    /// `memory`, or where Redis or Valkey is: `redis://host:6379`, `rediss://`, `redis-cluster://`,
    /// `redis-sentinel://host:26379?sentinelServiceName=main`, `redis+unix:///path`. May be `env:NAME`, and must be where
    /// it has a password. Default: `REDIS_URL` of the environment, else Redis at its `REDIS_HOST`, else `memory`.
    pub url: Option<ConfigText>,
    /// Put before every key. Default: nothing.
    #[serde(default)]
    pub prefix: String,
}

/// Records that last: positions, tracks, grants.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Database {
    /// `sqlite://data/tidegate.db` or `postgres://user@host/name`. May be `env:NAME`, and must be where it has a password.
    pub url: ConfigText,
    /// Connections to PostgreSQL at most, 1 to 100. Default: 10.
    pub connections: Option<u32>,
}
