//! The contract of the two stores: claims, leases, playlists, and players that vanish.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::limits::connect;
use ::channels::channel::ChannelId;
use ::channels::queue::item::{ItemSource, QueueItem};
use ::channels::queue::store::{
    AddOutcome, ClaimOutcome, ClaimRequest, ClaimToken, MAX_LAPSED_CLAIMS, MemoryQueueStore, QueueStore,
    RedisQueueStore, RemoveOutcome, Renewal,
};
use ::channels::settings::{QueueLimits, QueueSettings};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

const LEASE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn claims_of_a_queue_in_memory() {
    claims_hold(Arc::new(MemoryQueueStore::default())).await;
}

#[tokio::test]
async fn claims_of_a_queue_in_redis() {
    let Some(redis) = Redis::start() else { return };
    let store = Arc::new(RedisQueueStore::new(connect(redis.url()).await));
    claims_hold(Arc::clone(&store) as _).await;
    let renewed = store.renew(&channel("emptied"), Uuid::from_u128(1), player(1), UnixMillis::MAX).await;
    assert_eq!(renewed.expect("an answer"), Renewal::Unknown, "what was lost was not taken out");
    // A script that names keys of two nodes would be refused.
    let Some(cluster) = Redis::cluster().await else { return };
    claims_hold(Arc::new(RedisQueueStore::new(connect(cluster[0].cluster_url()).await))).await;
}

async fn claims_hold(store: Arc<dyn QueueStore>) {
    an_item_is_played_by_one_player_alone(Arc::clone(&store)).await;
    a_claim_is_extended_and_ended_by_its_player_alone(&*store).await;
    an_item_whose_player_vanishes_waits_again_in_its_place(&*store).await;
    an_item_whose_players_vanish_again_and_again_is_given_up(&*store).await;
    a_playlist_is_played_while_nothing_waits(&*store).await;
    a_played_item_that_is_taken_out_is_no_more(&*store).await;
    what_a_token_has_claimed_is_given_back_at_once(&*store).await;
    room_is_given_back(&*store).await;
    ids_of_any_form_stay_apart(&*store).await;
}

fn channel(name: &str) -> ChannelId {
    ChannelId::parse(name).expect("an id")
}

fn item(number: u128, turn: i64) -> QueueItem {
    QueueItem {
        id: Uuid::from_u128(number),
        track: TrackId::parse(format!("t{number}")).expect("an id"),
        user: UserId::parse("alice").expect("an id"),
        source: ItemSource::Request,
        queued_at: UnixMillis::new(turn),
        turn_at: UnixMillis::new(turn),
        duration: None,
        host: None,
    }
}

async fn add(store: &dyn QueueStore, channel: &ChannelId, item: &QueueItem) -> AddOutcome {
    let roomy = QueueLimits { items: 1000, bytes: 1 << 20 };
    let settings = QueueSettings { channel_limits: roomy, user_limits: roomy, ..QueueSettings::default() };
    store.add(channel, item, &settings).await.expect("the store answers")
}

fn player(number: u128) -> ClaimToken {
    ClaimToken(Uuid::from_u128(number))
}

async fn claim(store: &dyn QueueStore, channel: &ChannelId, token: ClaimToken, now: i64) -> ClaimOutcome {
    let now = UnixMillis::new(now);
    let request = ClaimRequest { now, until: now + LEASE, token, playlist_item_id: Uuid::new_v4() };
    store.claim(channel, request).await.expect("the store answers")
}

async fn claimed(store: &dyn QueueStore, channel: &ChannelId, token: ClaimToken, now: i64) -> Option<QueueItem> {
    claim(store, channel, token, now).await.item
}

async fn an_item_is_played_by_one_player_alone(store: Arc<dyn QueueStore>) {
    let main = channel("alone");
    for number in 1..=40 {
        assert_eq!(add(&*store, &main, &item(number, 1000)).await, AddOutcome::Added);
    }
    let players = (1..=8).map(|number| {
        let (store, main) = (Arc::clone(&store), main.clone());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            while let Some(item) = claimed(&*store, &main, player(number), 2000).await {
                mine.push(item.id.as_u128());
            }
            mine
        })
    });
    let mut all = Vec::new();
    for player in players.collect::<Vec<_>>() {
        let mine = player.await.expect("the player ends");
        assert!(mine.is_sorted(), "each sees the order: {mine:?}");
        all.extend(mine);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=40).collect::<Vec<_>>(), "each item once");
}

async fn a_claim_is_extended_and_ended_by_its_player_alone(store: &dyn QueueStore) {
    let main = channel("owned");
    add(store, &main, &item(1, 1000)).await;
    let id = claimed(store, &main, player(1), 2000).await.expect("an item").id;
    let until = UnixMillis::new(60_000);
    assert_eq!(store.renew(&main, id, player(2), until).await.expect("an answer"), Renewal::Lost, "another's");
    assert!(!store.complete(&main, id, player(2)).await.expect("an answer"));
    assert!(!store.release(&main, id, player(2)).await.expect("an answer"));
    let elsewhere = store.renew(&channel("other"), id, player(1), until).await.expect("an answer");
    assert_ne!(elsewhere, Renewal::Renewed, "in another channel");
    assert_eq!(store.renew(&main, id, player(1), until).await.expect("an answer"), Renewal::Renewed);
    assert_eq!(claim(store, &main, player(2), 59_000).await, ClaimOutcome::default(), "it is still the first one's");
    assert!(store.release(&main, id, player(1)).await.expect("an answer"));
    assert_eq!(claimed(store, &main, player(2), 59_000).await.map(|item| item.id), Some(id), "it waits again");
    assert!(store.complete(&main, id, player(2)).await.expect("an answer"));
    assert!(!store.complete(&main, id, player(2)).await.expect("an answer"), "once");
    assert_eq!(store.snapshot(&main).await.expect("an answer").items, []);
}

async fn an_item_whose_player_vanishes_waits_again_in_its_place(store: &dyn QueueStore) {
    let main = channel("lapsed");
    add(store, &main, &item(1, 1000)).await;
    add(store, &main, &item(2, 1001)).await;
    let first = claimed(store, &main, player(1), 2000).await.expect("an item");
    // Within the lease the second is next; after it the first again.
    let outcome = claim(store, &main, player(2), 2000 + 15_000).await;
    assert_eq!((outcome.item.as_ref(), outcome.returned, outcome.dropped), (Some(&first), 1, 0));
    let until = UnixMillis::new(100_000);
    let renewed = store.renew(&main, first.id, player(1), until).await.expect("an answer");
    assert_eq!(renewed, Renewal::Lost, "the first player learns so");
    assert!(!store.complete(&main, first.id, player(1)).await.expect("an answer"));
    assert!(store.complete(&main, first.id, player(2)).await.expect("an answer"));
    assert_eq!(claimed(store, &main, player(2), 20_000).await.map(|item| item.id.as_u128()), Some(2));
    assert_eq!(add(store, &main, &item(1, 1000)).await, AddOutcome::Added, "what was played can be queued again");
}

async fn an_item_whose_players_vanish_again_and_again_is_given_up(store: &dyn QueueStore) {
    let (main, mut now) = (channel("poison"), 2000);
    add(store, &main, &item(1, 1000)).await;
    for _ in 0..MAX_LAPSED_CLAIMS {
        assert!(claimed(store, &main, player(1), now).await.is_some());
        now += 15_000;
    }
    let outcome = claim(store, &main, player(1), now).await;
    assert_eq!((outcome.item, outcome.returned, outcome.dropped), (None, 0, 1));
    assert_eq!(add(store, &main, &item(1, 1000)).await, AddOutcome::Added, "its room is given back");
}

async fn a_playlist_is_played_while_nothing_waits(store: &dyn QueueStore) {
    let main = channel("playlist");
    let listed = |numbers: &[u128]| -> Vec<QueueItem> {
        numbers.iter().map(|number| QueueItem { source: ItemSource::Playlist, ..item(*number, 0) }).collect()
    };
    store.set_playlist(&main, &listed(&[7, 8, 9])).await.expect("an answer");
    store.set_playlist(&main, &listed(&[1, 2, 3])).await.expect("an answer");
    assert_eq!(store.snapshot(&main).await.expect("an answer").playlist_tracks, 3, "the second in place of the first");
    let track = |item: Option<QueueItem>| item.expect("an item").track.as_str().to_owned();
    let one = claimed(store, &main, player(1), 2000).await.expect("an item");
    assert_eq!((one.track.as_str(), one.source), ("t1", ItemSource::Playlist));
    add(store, &main, &item(5, 1000)).await;
    assert_eq!(track(claimed(store, &main, player(1), 2000).await), "t5", "a request goes before the rest");
    assert!(store.complete(&main, one.id, player(1)).await.expect("an answer"));
    let two = claimed(store, &main, player(1), 2000).await.expect("an item");
    assert!(store.release(&main, two.id, player(1)).await.expect("an answer"));
    assert_eq!(track(claimed(store, &main, player(1), 2001).await), "t2", "what was given back is next");
    // A node that vanishes takes its track along; the playlist goes on.
    let outcome = claim(store, &main, player(2), 2001 + 15_000).await;
    assert_eq!((outcome.returned, outcome.dropped), (1, 1), "the request waits again");
    assert_eq!(track(outcome.item), "t5");
    assert_eq!(track(claimed(store, &main, player(2), 20_000).await), "t3");
    assert_eq!(claim(store, &main, player(2), 20_000).await.item, None);
    store.set_playlist(&main, &[]).await.expect("an answer");
}

async fn a_played_item_that_is_taken_out_is_no_more(store: &dyn QueueStore) {
    let main = channel("skipped");
    add(store, &main, &item(1, 1000)).await;
    let id = claimed(store, &main, player(1), 2000).await.expect("an item").id;
    let bob = UserId::parse("bob").expect("an id");
    assert_eq!(store.remove(&main, id, Some(&bob)).await.expect("an answer"), RemoveOutcome::Foreign);
    assert_eq!(store.remove(&main, id, None).await.expect("an answer"), RemoveOutcome::Removed);
    let renewed = store.renew(&main, id, player(1), UnixMillis::MAX).await.expect("an answer");
    assert_eq!(renewed, Renewal::Lost, "its player learns so");
    assert_eq!(store.remove(&main, id, None).await.expect("an answer"), RemoveOutcome::Missing);
    assert_eq!(claimed(store, &main, player(1), 2000).await, None);
}

async fn what_a_token_has_claimed_is_given_back_at_once(store: &dyn QueueStore) {
    let main = channel("unanswered");
    for number in 1..=3 {
        add(store, &main, &item(number, 1000)).await;
    }
    let listed = [QueueItem { source: ItemSource::Playlist, ..item(9, 0) }];
    store.set_playlist(&main, &listed).await.expect("an answer");
    for token in [player(1), player(2), player(1), player(1)] {
        assert!(claimed(store, &main, token, 2000).await.is_some());
    }
    store.release_all(&main, player(1)).await.expect("an answer");
    let mut next = Vec::new();
    while let Some(item) = claimed(store, &main, player(3), 2000).await {
        next.push(item.track.as_str().to_owned());
    }
    assert_eq!(next, ["t1", "t3", "t9"], "the second is another's");
}

async fn room_is_given_back(store: &dyn QueueStore) {
    let main = channel("room");
    let one = item(1, 1000);
    let bytes = one.to_record().expect("JSON").len() as u64;
    let limits = QueueLimits { items: 5, bytes: 2 * bytes };
    let of_user = QueueSettings { user_limits: limits, ..QueueSettings::default() };
    let of_channel = QueueSettings { channel_limits: limits, ..QueueSettings::default() };
    let add = async |number, settings| store.add(&main, &item(number, 1000), settings).await.expect("an answer");
    assert_eq!(add(1, &of_user).await, AddOutcome::Added);
    assert_eq!(add(1, &of_user).await, AddOutcome::Duplicate);
    assert_eq!(add(2, &of_user).await, AddOutcome::Added, "exactly as many bytes as may be");
    assert_eq!(add(3, &of_user).await, AddOutcome::UserFull);
    assert_eq!(add(3, &of_channel).await, AddOutcome::ChannelFull);
    // Claimed items count until they were played.
    let id = claimed(store, &main, player(1), 2000).await.expect("an item").id;
    assert_eq!(add(3, &of_user).await, AddOutcome::UserFull);
    assert_eq!(add(1, &of_user).await, AddOutcome::Duplicate, "what is played is not queued");
    assert!(store.complete(&main, id, player(1)).await.expect("an answer"));
    assert_eq!(add(3, &of_user).await, AddOutcome::Added);
    assert_eq!(add(4, &of_channel).await, AddOutcome::ChannelFull);
}

async fn ids_of_any_form_stay_apart(store: &dyn QueueStore) {
    let main = channel("hostile");
    let one = QueueLimits { items: 1, bytes: 10_000 };
    let settings = QueueSettings { user_limits: one, ..QueueSettings::default() };
    for (number, (user, track)) in
        [("", "n"), ("b:", "n:alice"), (":n", "\"}"), ("ü \\", "{\"a\":1}"), ("n", " ")].into_iter().enumerate()
    {
        let item = QueueItem {
            user: UserId::parse(format!("u{user}")).expect("an id"),
            track: TrackId::parse(track).expect("an id"),
            ..item(number as u128 + 1, 1000)
        };
        assert_eq!(store.add(&main, &item, &settings).await.expect("an answer"), AddOutcome::Added, "{user:?}");
        let again = QueueItem { id: Uuid::from_u128(100), track: TrackId::parse("x").expect("an id"), ..item.clone() };
        assert_eq!(store.add(&main, &again, &settings).await.expect("an answer"), AddOutcome::UserFull, "{user:?}");
        let there = store.snapshot(&main).await.expect("an answer").items;
        assert_eq!(there.last().map(|there| &there.item), Some(&item));
    }
}
