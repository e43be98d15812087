//! Two nodes on one PostgreSQL and one Redis.

use super::listener::Listener;
use super::*;

#[tokio::test]
async fn a_change_on_one_node_is_heard_on_the_other_also_after_redis_was_away() {
    let folder = TempFolder::new("players");
    let Some((config, mut redis)) = in_servers(&folder).await else { return };
    let (one, two) = (Gate::start(&config).await, Gate::start(&config).await);
    let (here, there) = (Client::new(&one, "alice"), Client::new(&two, "alice"));
    let Some(mut listener) = Listener::open(&two, "alice", "").await else { return };
    listener.event("player").await;
    both_are_subscribed(&redis).await;
    let said = here.put("speed", json!({ "speed": 1.5 })).await;
    // What holds may be said once more where the subscription came late.
    let heard = async |listener: &mut Listener, revision: &Value| loop {
        let settings = listener.event("settings").await;
        if settings["revision"] == *revision {
            return settings;
        }
    };
    assert_eq!(heard(&mut listener, &said["revision"]).await, said);
    here.report(report("song", "playing", 5_000)).await;
    // Likewise: a node reads everything anew once it is subscribed, the player before it was changed too.
    while listener.event("player").await["track_id"] != "song" {}
    assert_eq!(there.get("position").await["track_id"], "song");
    there.post("seek", json!({ "position_ms": 60_000 })).await;
    assert_eq!(listener.event("seek").await["position_ms"], 60_000);
    // The other node tells its own listeners first.
    let told = async || (one.metric("tidegate_players_events_total", "remote").await >= 2.0).then_some(());
    eventually("the node is told of both", told).await;
    // Settings go on without Redis; players are answered by 503.
    redis.kill();
    let said = here.put("pitch", json!({ "semitones": 7 })).await;
    here.send(Method::GET, "position", None).await.problem(503);
    here.send(Method::POST, "report", Some(&report("song", "playing", 1))).await.problem(503);
    assert!(one.metric("tidegate_players_publish_failures_total", "").await >= 1.0);
    redis.restart();
    // Said by nobody any more, but read anew once the node is back.
    assert_eq!(heard(&mut listener, &said["revision"]).await["semitones"], 7);
    let back = async || (here.send(Method::GET, "position", None).await.status == 200).then_some(());
    eventually("players are read again", back).await;
    both_are_subscribed(&redis).await;
    let said = here.put("pitch", json!({ "semitones": -7 })).await;
    assert_eq!(heard(&mut listener, &said["revision"]).await["semitones"], -7);
}

#[tokio::test]
async fn a_change_that_could_not_be_published_is_read_by_the_other_node_later() {
    let folder = TempFolder::new("players");
    let Some((config, redis)) = in_servers(&folder).await else { return };
    let (one, two) = (Gate::start(&config).await, Gate::start(&config).await);
    let here = Client::new(&one, "alice");
    let Some(mut listener) = Listener::open(&two, "alice", "").await else { return };
    both_are_subscribed(&redis).await;
    // Connections and subscriptions stay.
    redis.ask("ACL SETUSER default -publish");
    let said = here.put("speed", json!({ "speed": 1.5 })).await;
    assert!(one.metric("tidegate_players_publish_failures_total", "").await >= 1.0);
    redis.ask("ACL SETUSER default +publish");
    while listener.event("settings").await["revision"] != said["revision"] {}
}

async fn both_are_subscribed(redis: &Redis) {
    let subscribed = async || redis.ask("PUBSUB NUMSUB tide:playback.events").contains(":2").then_some(());
    eventually("both nodes are subscribed", subscribed).await;
}

#[tokio::test]
async fn settings_are_refused_while_the_database_is_away_and_reports_are_taken() {
    let (Some(mut server), Some(redis)) = (Postgres::start(), Redis::start()) else { return };
    let folder = TempFolder::new("players");
    let mut config = in_a_file(&folder);
    config["Database"]["Url"] = json!(server.url());
    config["State"]["Url"] = json!(redis.url());
    let gate = Gate::start(&config).await;
    let client = Client::new(&gate, "alice");
    client.report(report("song", "playing", 0)).await;
    server.stop();
    for (method, what, body) in [
        (Method::PUT, "speed", Some(json!({ "speed": 1.5 }))),
        (Method::GET, "settings", None),
        (Method::GET, "events", None),
    ] {
        let reply = client.send(method, what, body.as_ref()).await;
        assert!(!reply.header("retry-after").is_empty(), "{:?}", reply.problem(503));
    }
    client.report(report("song", "playing", 1_000)).await;
    server.restart();
    let back =
        async || (client.send(Method::PUT, "speed", Some(&json!({ "speed": 1.5 }))).await.status == 200).then_some(());
    eventually("settings are kept again", back).await;
    assert_eq!(client.get("position").await["speed"], 1.5);
}
