//! Path `GET /api/v1/usage`: a user's usage of the limits.

use std::sync::Arc;

use axum::extract::State;
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::Error;
use super::extractors::{Json, Query};
use super::id;
use super::user::User;
use crate::auth::claims_policy::claim_text;
use crate::limit::settings::LimitPartition;
use crate::limit::subject::{self, ClaimValue, RequesterInfo};
use crate::limit::{RateLimitStatus, RateLimiters};
use http_semantics::rate_limit::whole_seconds;
use primitives::ids::UserId;

/// User whose usage is returned.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    /// User id of another user, for the role `admin`. Default: the caller.
    user_id: Option<String>,
}

/// Usage of the limits that count users.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "user_id": "alice", "policies": [{ "policy": "streaming",
    "requests": { "limit": 100, "remaining": 97, "used": 3, "resets_in": 42 },
    "streams": { "under_way": 1, "limit": 3 },
    "egress": { "limit": 53687091200_u64, "remaining": 53686042624_u64, "used": 1048576, "resets_in": 86400 },
    "bytes_per_second": 2097152 }] }))]
pub struct UserUsage {
    /// The user.
    user_id: String,
    /// The policies that count this user by name, or by a claim.
    policies: Vec<PolicyUsage>,
}

/// Usage of one policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyUsage {
    /// The policy.
    policy: String,
    /// Requests in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<QuotaUsage>,
    /// Streams at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<StreamUsage>,
    /// Bytes in the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<QuotaUsage>,
    /// Bytes a second that all streams share.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<u64>,
}

/// Limit, and its use.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuotaUsage {
    /// Allowed amount.
    limit: u64,
    /// Remaining amount.
    remaining: u64,
    /// Used amount.
    used: u64,
    /// Seconds until more remains; 0 if nothing is used.
    resets_in: u64,
}

/// Streams at once.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamUsage {
    /// Streams under way.
    under_way: u64,
    /// Most streams.
    limit: u32,
}

/// Returns the paths.
pub fn routes(limits: Arc<RateLimiters>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(usage)).with_state(limits)
}

/// Returns true if `user`, an administrator, asks for the usage of somebody else.
pub fn is_admin_request(uri: &Uri, user: &User) -> bool {
    let asked = axum::extract::Query::<UsageQuery>::try_from_uri(uri);
    user.is_admin() && asked.is_ok_and(|asked| asked.0.user_id.is_some_and(|id| id != user.id().as_str()))
}

/// Returns the caller's usage of the limits: requests left, streams under way, bytes sent. The request changes nothing,
/// but is itself counted by the class `standard`, and by the class `strict` if an administrator asks for another user.
#[utoipa::path(get, path = "/api/v1/usage", tag = "limits", security(("bearer" = [])), params(UsageQuery), responses(
    (status = 200, description = "How the user stands with every policy that counts users", body = UserUsage),
    (status = 400, description = "The id cannot be one, or another parameter was given"),
    (status = 401, description = "No valid token"), (status = 403, description = "Another user's, without the role `admin`"),
    (status = 429, description = "Too many requests; see Retry-After")))]
async fn usage(
    State(limits): State<Arc<RateLimiters>>,
    user: User,
    Query(asked): Query<UsageQuery>,
) -> Result<Json<UserUsage>, Error> {
    let other = asked.user_id.filter(|id| id != user.id().as_str());
    let other = other.map(|other| id::parse_user("user_id", &other)).transpose()?;
    if other.is_some() && !user.is_admin() {
        return Err(Error::forbidden("the usage of others needs a token whose claim `role` is `admin`"));
    }
    let mut policies = Vec::new();
    for policy in limits.limiters() {
        let Some(subject) = subject(&policy.settings().partition, &user, other.as_ref()) else { continue };
        let found = policy.usage(&subject).await;
        policies.push(PolicyUsage {
            policy: policy.settings().name.to_string(),
            requests: found.requests.map(QuotaUsage::from),
            streams: found.streams.map(|(under_way, limit)| StreamUsage { under_way, limit }),
            egress: found.egress.map(|(standing, used)| QuotaUsage { used, ..QuotaUsage::from(standing) }),
            bytes_per_second: found.bytes_per_second,
        });
    }
    Ok(Json(UserUsage { user_id: other.as_ref().unwrap_or(user.id()).as_str().to_owned(), policies }))
}

/// Returns the subject; `None` if the policy counts neither users nor claims.
fn subject(partition: &LimitPartition, user: &User, other: Option<&UserId>) -> Option<String> {
    match (partition, other) {
        (LimitPartition::User, other) => Some(subject::user(other.unwrap_or(user.id()).as_str())),
        (LimitPartition::Claim(name), None) => {
            claim_text(&user.claims.map, name)?;
            let claim = |name: &str| claim_text(&user.claims.map, name).map(|text| ClaimValue::new(&text));
            Some(subject::subject_for(
                partition,
                &RequesterInfo { user: Some(user.id().as_str()), claim: &claim, address: None, route: "" },
            ))
        }
        (LimitPartition::Claim(_), Some(_)) | (LimitPartition::Address | LimitPartition::Route, _) => None,
    }
}

impl From<RateLimitStatus> for QuotaUsage {
    fn from(standing: RateLimitStatus) -> Self {
        let RateLimitStatus { limit, remaining, reset } = standing;
        Self { limit, remaining, used: limit.saturating_sub(remaining), resets_in: whole_seconds(reset) }
    }
}
