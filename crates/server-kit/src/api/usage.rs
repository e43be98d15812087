//! `GET /api/v1/usage`: how a user stands with the limits.

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
use super::user::{User, UserRole};
use crate::auth::claims_policy::claim_text;
use crate::limit::settings::LimitPartition;
use crate::limit::subject::{self, ClaimValue, RequesterInfo};
use crate::limit::{RateLimitStatus, RateLimiters};
use http_semantics::rate_limit::whole_seconds;
use primitives::ids::UserId;

/// Whose usage.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    /// Another user's, for the role `admin`. Default: the caller's own.
    user_id: Option<String>,
}

/// How a user stands with the limits that count users.
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

/// How a user stands with one policy.
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

/// An amount and what is left of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuotaUsage {
    /// What is allowed.
    limit: u64,
    /// What is left of it.
    remaining: u64,
    /// What is used of it.
    used: u64,
    /// Seconds until more is left; 0 where nothing is used.
    resets_in: u64,
}

/// Streams at once.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamUsage {
    /// How many are under way.
    under_way: u64,
    /// How many may be.
    limit: u32,
}

/// The paths.
pub fn routes(limits: Arc<RateLimiters>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(usage)).with_state(limits)
}

/// Returns true if `user`, an administrator, asks for the usage of somebody else.
pub fn is_admin_request(uri: &Uri, user: &User) -> bool {
    let asked = axum::extract::Query::<UsageQuery>::try_from_uri(uri);
    user.role() == UserRole::Admin
        && asked.is_ok_and(|asked| asked.0.user_id.is_some_and(|id| id != user.id().as_str()))
}

/// How the caller stands with the limits: requests left, streams under way, bytes sent. Asking changes nothing, but is
/// itself a request of the class `standard`, and of the class `strict` where an administrator asks for another user's.
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
    if other.is_some() && user.role() != UserRole::Admin {
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

/// Whose count it is: `None` where the policy counts neither users nor what their tokens say.
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
