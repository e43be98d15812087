//! Nothing of one channel is seen, counted or changed in another.

use super::*;

#[tokio::test]
async fn no_key_of_a_channel_is_without_its_name() {
    let folder = TempFolder::new("channels");
    let Some((config, redis)) = in_redis(&folder) else { return };
    let gate = start(&config).await;
    let before = redis.ask("KEYS tide:*");
    for channel in ["main", "lounge"] {
        let item = queue(&gate, channel, &bearer("alice"), "t1").await;
        queue(&gate, channel, &vip("vera"), "t2").await;
        delete(&gate, channel, &bearer("alice"), &item["item_id"]).await.is(204);
        queue(&gate, channel, &bearer("alice"), "t3").await;
    }
    let keys = redis.ask("KEYS tide:*");
    let new: Vec<&str> = keys.lines().filter(|line| line.starts_with("tide:") && !before.contains(line)).collect();
    let of = |channel: &str| {
        let begin = format!("tide:queue:{{{channel}}}");
        let mut parts: Vec<&str> = new.iter().filter_map(|key| key.strip_prefix(begin.as_str())).collect();
        parts.sort_unstable();
        parts
    };
    assert_eq!(of("main"), ["", ":items", ":tracks", ":use"]);
    assert_eq!(of("main"), of("lounge"));
    assert_eq!(of("main").len() + of("lounge").len(), new.len(), "{new:?}");
    // One channel's keys can go, and the other has lost nothing.
    for part in of("main") {
        redis.ask(&format!("DEL tide:queue:{{main}}{part}"));
    }
    assert!(order(&gate, "main").await.is_empty());
    assert_eq!(order(&gate, "lounge").await, ["t2", "t3"]);
}
