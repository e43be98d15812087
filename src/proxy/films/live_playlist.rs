//! Age of live playlists in the slice cache: one that changes is never served at an age of more than half its target duration
//! (RFC 8216 §6.2.1 has it change within one and a half of them), whatever the policy of the cache says.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};

use crate::proxy::failure::ProxyFailure;
use object_engine::ObjectOrigin;
use object_engine::cache::RefreshOutcome;

/// Asks the store whether a playlist of these headers has changed, if it is from the cache and may be older than `most`.
/// Returns true if it is to be read again. While the store fails, one that the policy has served then passes.
pub async fn renew(
    origin: &Arc<ObjectOrigin>,
    key: &str,
    headers: &mut HeaderMap,
    most: Duration,
) -> Result<bool, ProxyFailure> {
    let Some(cached) = &origin.cache else { return Ok(false) };
    // None has it that the store has sent or confirmed just now.
    let age: Option<u64> = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse().ok());
    let Some(age) = age.filter(|age| is_too_old(*age, most)) else { return Ok(false) };
    match cached.cache.refresh(origin, key).await {
        Ok(RefreshOutcome::Same) => {
            headers.remove(header::AGE);
            Ok(false)
        }
        Ok(RefreshOutcome::Changed | RefreshOutcome::Gone | RefreshOutcome::Unknown) => Ok(true),
        Err(_) if Duration::from_secs(age) <= most + cached.policy.stale_if_error => Ok(false),
        Err(failure) => Err(ProxyFailure::Object(failure)),
    }
}

/// Returns true if an age, of which the fraction of a second is cut off, may be more than `most`.
fn is_too_old(age: u64, most: Duration) -> bool {
    Duration::from_secs(age.saturating_add(1)) > most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_in_whole_seconds_is_taken_for_the_longest_that_it_can_be() {
        let most = Duration::from_secs(3);
        assert_eq!([0, 1, 2, 3, 9].map(|age| is_too_old(age, most)), [false, false, false, true, true]);
        let most = Duration::from_millis(2500);
        assert_eq!([0, 1, 2].map(|age| is_too_old(age, most)), [false, false, true]);
        assert!(is_too_old(0, Duration::from_millis(500)));
    }
}
