//! Events of queues, as curl hears them.

use super::*;
use crate::players::listener::Listener;
use crate::streaming_urls::log_out;

/// The next event whose queue has these tracks; gives its items.
async fn shows(listener: &mut Listener, tracks: &[&str]) -> Vec<Value> {
    loop {
        let queue = listener.event("queue").await;
        let items = queue["items"].as_array().expect("a list").clone();
        let found: Vec<&str> = items.iter().filter_map(|item| item["track_id"].as_str()).collect();
        if found == tracks {
            assert_eq!((&queue["channel"], &queue["total"]), (&json!("main"), &json!(tracks.len())));
            return items;
        }
    }
}

async fn follow(gate: &Gate, user: &str, channel: &str) -> Option<Listener> {
    Listener::open_at(gate, &token::of(user), &format!("/api/v1/queue/{channel}/events")).await
}

#[tokio::test]
async fn a_queue_in_memory_is_told_after_each_change() {
    let folder = TempFolder::new("channels");
    let mut gate = start(&in_memory(&folder)).await;
    let Some(mut bobs) = follow(&gate, "bob", "main").await else { return };
    shows(&mut bobs, &[]).await;
    let mut lounge = follow(&gate, "bob", "lounge").await.expect("curl is there");
    assert_eq!(lounge.event("queue").await["items"], json!([]));
    let first = queue(&gate, "main", &bearer("alice"), "t1").await;
    let items = shows(&mut bobs, &["t1"]).await;
    assert_eq!(
        (&items[0]["mine"], &items[0]["user_id"], &items[0]["position"]),
        (&json!(false), &Value::Null, &json!(1))
    );
    queue(&gate, "main", &vip("vera"), "t2").await;
    shows(&mut bobs, &["t2", "t1"]).await;
    delete(&gate, "main", &bearer("alice"), &first["item_id"]).await.is(204);
    shows(&mut bobs, &["t2"]).await;
    // Several at once: the last state is told, whatever was between.
    for track in ["t3", "t4", "t5"] {
        queue(&gate, "main", &bearer("bob"), track).await;
    }
    let items = shows(&mut bobs, &["t2", "t3", "t4", "t5"]).await;
    assert_eq!(items[3]["mine"], json!(true));
    // Nothing of it is told in the other channel.
    queue(&gate, "lounge", &bearer("alice"), "t9").await;
    let heard = lounge.event("queue").await;
    assert_eq!((&heard["channel"], &heard["items"][0]["track_id"]), (&json!("lounge"), &json!("t9")));
    assert_eq!(gate.metric("tidegate_queue_event_streams", "").await, 2.0);
    let mut carols = follow(&gate, "carol", "main").await.expect("curl is there");
    shows(&mut carols, &["t2", "t3", "t4", "t5"]).await;
    log_out(&gate, "carol").await;
    assert_eq!(carols.end().await, "logged_out");
    gate.signal("TERM").await;
    assert_eq!(bobs.end().await, "shutdown");
    assert!(gate.ended().await.success());
}

#[tokio::test]
async fn a_queue_is_told_after_each_change_on_whatever_node() {
    let folder = TempFolder::new("channels");
    let Some((config, redis)) = in_redis(&folder) else { return };
    let one = start(&config).await;
    let other = Gate::start(&config).await;
    let (Some(mut here), Some(mut there)) = (follow(&one, "bob", "main").await, follow(&other, "bob", "main").await)
    else {
        return;
    };
    let first = queue(&one, "main", &bearer("alice"), "t1").await;
    shows(&mut there, &["t1"]).await;
    shows(&mut here, &["t1"]).await;
    queue(&other, "main", &bearer("alice"), "t2").await;
    shows(&mut here, &["t1", "t2"]).await;
    delete(&other, "main", &bearer("alice"), &first["item_id"]).await.is(204);
    shows(&mut here, &["t2"]).await;
    shows(&mut there, &["t2"]).await;
    drop(redis);
}

#[tokio::test]
async fn a_stream_of_a_queue_is_refused_where_there_is_none_and_ends_with_its_token() {
    let folder = TempFolder::new("channels");
    let mut config = in_memory(&folder);
    config["Auth"]["Jwt"]["Leeway"] = json!("1s");
    let gate = start(&config).await;
    let path = |channel: &str| format!("/api/v1/queue/{channel}/events");
    send(&gate, Method::GET, &path("kitchen"), &bearer("bob"), None).await.problem(404);
    gate.client().get(&path("main"), &[]).await.problem(401);
    let mut claims = token::claims("bob");
    claims["exp"] = json!(token::now() + 2);
    let Some(mut listener) = Listener::open_at(&gate, &token::with(&claims), &path("main")).await else { return };
    assert_eq!(listener.end().await, "token_expired");
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(Listener::open_at(&gate, &token::of("alice"), &path("main")).await);
    }
    send(&gate, Method::GET, &path("main"), &bearer("alice"), None).await.problem(429);
}
