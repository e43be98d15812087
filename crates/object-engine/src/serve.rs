//! The way to an answer: through the cache or from the store, and for how long a store that is away is waited for.

use std::sync::Arc;
use std::time::Duration;

use super::fetch::{MAX_BACK_OFF, back_off};
use super::plan::{RequestPlan, serve_from_store};
use super::{AttemptStats, ObjectError, ObjectOrigin, ObjectResponse, cache};
use primitives::clock::monotonic_now;

/// Longest wait before a store that answers, but not with the object, is asked again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers `plan` for the object `key`, through the cache where the route has one. While the store is away it is tried again for
/// the route's time (`Unavailable`). Adds the effort to `tally`, also on failure. No byte of the body has been sent to the
/// client yet, so every failure can still become a status.
pub async fn serve_object(
    origin: &Arc<ObjectOrigin>,
    plan: &RequestPlan,
    key: &str,
    tally: &mut AttemptStats,
) -> Result<ObjectResponse, ObjectError> {
    let (mut until, mut waits) = (None, 0);
    loop {
        let failure = match serve_object_at_once(origin, plan, key, tally).await {
            Err(failure) if failure.is_outage() && !origin.timeouts.unavailable.is_zero() => failure,
            outcome => return outcome,
        };
        let now = monotonic_now();
        waits += 1;
        let wait = match failure {
            // Something is there that answers, so that no breaker keeps requests away. MinIO asks for a minute while it starts.
            ObjectError::Throttled { retry_after } => retry_after.unwrap_or(MAX_BACK_OFF).clamp(MAX_BACK_OFF, PATIENCE),
            ObjectError::BadGateway => PATIENCE,
            _ => Duration::ZERO,
        };
        let wait = wait.max(back_off(waits));
        if now + wait > *until.get_or_insert(now + origin.timeouts.unavailable) {
            return Err(failure);
        }
        tally.retries += 1;
        tokio::time::sleep(wait).await;
    }
}

/// As [`serve_object`], without a wait for a store that is away.
pub async fn serve_object_at_once(
    origin: &Arc<ObjectOrigin>,
    plan: &RequestPlan,
    key: &str,
    tally: &mut AttemptStats,
) -> Result<ObjectResponse, ObjectError> {
    match &origin.cache {
        Some(cached) => cache::serve_from_cache(cached, origin, plan, key, tally).await,
        None => serve_from_store(origin, plan, key, tally).await,
    }
}
