//! `ReverseProxy.Routes`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{NamedEntries, Transform};
use crate::config::value::{ByteSize, TimeSpan};

/// A route: which requests, who may make them, what answers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Route {
    /// Whether the route is served. Default: `true`.
    pub enabled: Option<bool>,
    /// The cluster that requests go to. Optional with `PresignedUrl`: then the store's endpoint.
    pub cluster_id: Option<String>,
    /// Routes with a lower number are tried first. Default: `0`.
    #[schemars(range(min = -2_147_483_648, max = 2_147_483_647))]
    pub order: Option<i32>,
    /// Which requests; `Path` or `Hosts` is needed.
    pub r#match: Match,
    /// `Anonymous`, `Default` (a valid token), or a name in `Policies.Authorization`. Default:
    /// `ReverseProxy.DefaultAuthorizationPolicy`.
    pub authorization_policy: Option<String>,
    /// Whether who may not have it is told 404 in place of 403. Default: a policy's refusal is 403, the store's is 404.
    pub hide_existence: Option<bool>,
    /// `Disable`, `Default`, or a name in `Policies.RateLimiter`. Default: the policy named `Default`, where there is one.
    pub rate_limiter_policy: Option<String>,
    /// `Disable`, or a name in `Policies.Cors`. Default: no cross-origin access.
    pub cors_policy: Option<String>,
    /// `Disable`, or a name in `Policies.Timeout`. Default: `Connect: 2s`, `FirstByte: 5s`, `Idle: 30s` for objects; 15 s, 100 s and 100 s, as in YARP, on a route to a cluster.
    pub timeout_policy: Option<String>,
    /// One limit for first byte and idle in place of `TimeoutPolicy`. It does not cut a stream that flows.
    pub timeout: Option<TimeSpan>,
    /// `Disable`, `Default`, or a name in `Policies.OutputCache`; on routes with `PresignedUrl`. Default: `Disable`.
    pub output_cache_policy: Option<String>,
    /// Largest request body in bytes; -1 is unlimited. Default: `30000000`, as in YARP's host.
    pub max_request_body_size: Option<ByteSize>,
    /// What is changed on the way, in order. `PresignedUrl` makes it an object route.
    #[serde(default)]
    pub transforms: Vec<Transform>,
    /// Free texts; Tidegate does not read them.
    #[serde(default, rename = "Metadata")]
    pub _metadata: NamedEntries<String>,
}

/// Which requests a route takes: all of what is given must match.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Match {
    /// Path with captures: `/stream/{**rest}`, `/tracks/{id}/stream`; `/x/**` is short for `/x/{**rest}`.
    pub path: Option<String>,
    /// Host names, one of which must match: `media.example`, `*.example`, `media.example:8443`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Methods, one of which must match; GET takes HEAD too. Default: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Request headers; all must match.
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters; all must match.
    #[serde(default)]
    pub query_parameters: Vec<QueryMatch>,
}

/// A condition on a request header.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct HeaderMatch {
    /// The header's name.
    pub name: String,
    /// Values, one of which must match; none with `Exists` and `NotExists`.
    #[serde(default)]
    pub values: Vec<String>,
    /// How. Default: `ExactHeader`.
    #[serde(default)]
    pub mode: HeaderMode,
    /// Whether case counts. Default: `false`.
    #[serde(default)]
    pub is_case_sensitive: bool,
}

/// How a header is compared.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum HeaderMode {
    /// The whole value.
    #[default]
    ExactHeader,
    /// The value's beginning.
    HeaderPrefix,
    /// A part of the value.
    Contains,
    /// Not a part of the value; also where the header is absent.
    NotContains,
    /// The header is there.
    Exists,
    /// The header is absent.
    NotExists,
}

/// A condition on a query parameter.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: String,
    /// Values, one of which must match; none with `Exists`.
    #[serde(default)]
    pub values: Vec<String>,
    /// How. Default: `Exact`.
    #[serde(default)]
    pub mode: QueryMode,
    /// Whether case counts. Default: `false`.
    #[serde(default)]
    pub is_case_sensitive: bool,
}

/// How a query parameter is compared.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum QueryMode {
    /// The whole value.
    #[default]
    Exact,
    /// A part of the value.
    Contains,
    /// Not a part of the value; also where the parameter is absent.
    NotContains,
    /// The value's beginning.
    Prefix,
    /// The parameter is there.
    Exists,
}
