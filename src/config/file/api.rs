//! `Api`.

use schemars::JsonSchema;
use serde::Deserialize;

/// What Tidegate answers itself: `/api/` and the other paths of its modules.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Api {
    /// A policy of `Policies.Cors` for all of these paths, or `Disable`. Default: pages of other origins may not use
    /// them.
    pub cors_policy: Option<String>,
}
