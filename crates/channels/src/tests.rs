//! The order of queues: VIPs go first, and nobody starves.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use crate::channel::ChannelId;
use crate::queue::estimate::estimate;
use crate::queue::item::{ItemSource, QueueItem};
use crate::queue::store::{
    AddOutcome, ClaimRequest, ClaimToken, MemoryQueueStore, QueueSnapshot, QueueStore, WaitingItem,
};
use crate::settings::{QueueLimits, QueueSettings};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;
use server_kit::api::user::UserRole;

const ROOMY: QueueLimits = QueueLimits { items: 10_000, bytes: 1 << 30 };

fn roomy() -> QueueSettings {
    QueueSettings { channel_limits: ROOMY, user_limits: ROOMY, ..QueueSettings::default() }
}

fn item(number: u32, role: UserRole, at: i64, settings: &QueueSettings) -> QueueItem {
    let queued_at = UnixMillis::new(at);
    QueueItem {
        id: Uuid::from_u128(number.into()),
        track: TrackId::parse(format!("track-{number}")).expect("an id"),
        user: UserId::parse("alice").expect("an id"),
        source: ItemSource::Request,
        queued_at,
        turn_at: queued_at - settings.head_start(role),
        duration: None,
        host: None,
    }
}

fn claim_at(now: i64) -> ClaimRequest {
    let now = UnixMillis::new(now);
    let until = now + Duration::from_secs(3600);
    ClaimRequest { now, until, token: ClaimToken(Uuid::from_u128(1)), playlist_item_id: Uuid::nil() }
}

fn roles() -> impl Strategy<Value = UserRole> {
    prop_oneof![Just(UserRole::User), Just(UserRole::Vip), Just(UserRole::Admin)]
}

proptest! {
    /// Requests come at any times and are played one after another. What goes before an item that came earlier came within its
    /// user's head start after it; and of those that wait, whoever has the head start goes before whoever has none.
    #[test]
    fn vips_go_first_and_nobody_starves(
        arrivals in prop::collection::vec((roles(), 0_i64..400_000), 1..80),
        song in 1_000_i64..600_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (settings, store, channel) = (roomy(), MemoryQueueStore::default(), ChannelId::main());
        let mut at = 10_000_000;
        let mut coming: Vec<(QueueItem, UserRole)> = Vec::new();
        for (number, (role, gap)) in arrivals.into_iter().enumerate() {
            at += gap;
            coming.push((item(number as u32, role, at, &settings), role));
        }
        let role_of: HashMap<Uuid, UserRole> = coming.iter().map(|(item, role)| (item.id, *role)).collect();
        let mut coming = coming.into_iter().map(|(item, _)| item).peekable();
        let (mut now, mut waiting) = (10_000_000, Vec::<QueueItem>::new());
        loop {
            while let Some(next) = coming.next_if(|item| item.queued_at.as_millis() <= now) {
                let added = runtime.block_on(store.add(&channel, &next, &settings)).expect("memory");
                prop_assert_eq!(added, AddOutcome::Added);
                waiting.push(next);
            }
            let Some(played) = runtime.block_on(store.claim(&channel, claim_at(now))).expect("memory").item else {
                prop_assert!(waiting.is_empty(), "what waits is played");
                match coming.peek() {
                    Some(next) => now = next.queued_at.as_millis(),
                    None => break,
                }
                continue;
            };
            waiting.retain(|item| item.id != played.id);
            let head_start = settings.head_start(role_of[&played.id]);
            for passed in &waiting {
                let ahead = passed.queued_at + head_start - settings.head_start(role_of[&passed.id]);
                prop_assert!(played.queued_at <= ahead, "{played:?} starves {passed:?}");
                // Of two that came at the same time the one with the greater head start is first.
                let same_time = played.queued_at == passed.queued_at;
                prop_assert!(!same_time || role_of[&played.id] >= role_of[&passed.id]);
            }
            let token = ClaimToken(Uuid::from_u128(1));
            prop_assert!(runtime.block_on(store.complete(&channel, played.id, token)).expect("memory"));
            now += song;
        }
    }

    /// An item's estimate is the sum of what is before it.
    #[test]
    fn the_estimate_counts_what_is_before_an_item(lengths in prop::collection::vec(prop::option::of(1_u64..600), 1..40), played in 0_u64..700) {
        let (settings, now) = (roomy(), UnixMillis::new(100_000_000));
        let items = lengths.iter().enumerate().map(|(number, length)| {
            let item = item(number as u32, UserRole::User, 1, &settings);
            let claimed_at = (number == 0).then(|| now - Duration::from_secs(played));
            WaitingItem { item: QueueItem { duration: length.map(Duration::from_secs), ..item }, claimed_at }
        });
        let estimated = estimate(QueueSnapshot { items: items.collect(), playlist_tracks: 0 }, &settings, now);
        let mut expected = 0;
        for (number, (found, length)) in estimated.iter().zip(&lengths).enumerate() {
            prop_assert_eq!((found.position as usize, found.eta.as_secs()), (number, expected));
            let length = length.unwrap_or(settings.typical_duration.as_secs());
            expected += if number == 0 { length.saturating_sub(played) } else { length };
        }
    }
}

#[test]
fn a_head_start_is_that_of_the_role() {
    let settings = QueueSettings::default();
    let minutes = |role| settings.head_start(role).as_secs() / 60;
    assert_eq!([UserRole::User, UserRole::Vip, UserRole::Admin].map(minutes), [0, 10, 60]);
}
