//! What holds wherever queues are kept.

use super::*;
use crate::support::described::Described;

#[tokio::test]
async fn queues_in_memory() {
    let folder = TempFolder::new("channels");
    holds(&in_memory(&folder)).await;
}

#[tokio::test]
async fn queues_in_redis() {
    let folder = TempFolder::new("channels");
    let Some((config, redis)) = in_redis(&folder) else { return };
    holds(&config).await;
    assert!(redis.ask("ZCARD tide:queue:{main}").starts_with(":3"));
    // They outlive the process, and nodes share them.
    let gate = Gate::start(&config).await;
    assert_eq!(order(&gate, "main").await, ["t3", "t2", "t1"]);
}

async fn holds(config: &Value) {
    let gate = start(config).await;
    who_goes_first_is_decided_by_role_and_time(&gate).await;
    an_item_is_taken_out_by_its_user_or_an_admin(&gate).await;
    a_track_is_queued_once_in_each_channel(&gate).await;
    nobody_takes_all_room(&gate).await;
    the_list_comes_in_pages(&gate).await;
    answers_are_as_described(&gate).await;
}

async fn who_goes_first_is_decided_by_role_and_time(gate: &Gate) {
    let (alice, root) = (bearer("alice"), admin());
    let first = queue(gate, "main", &alice, "t1").await;
    assert_eq!((&first["position"], &first["eta_seconds"]), (&json!(1), &json!(0)));
    let second = queue(gate, "main", &vip("vera"), "t2").await;
    assert_eq!(second["position"], 1, "a VIP goes before whoever came less than ten minutes earlier");
    let body = json!({ "track_id": "t3", "duration_ms": 60_000 });
    let third = send(gate, Method::POST, &items_of("main"), &root, Some(body)).await;
    let third: Value = serde_json::from_slice(&third.is(201).body).expect("JSON");
    assert_eq!(third["position"], 1, "and an admin before both");
    assert_eq!(order(gate, "main").await, ["t3", "t2", "t1"]);
    let seen = page(gate, "main", &alice, "").await;
    let told = |member: &str| -> Vec<Value> {
        seen["items"].as_array().expect("a list").iter().map(|item| item[member].clone()).collect()
    };
    assert_eq!(told("position"), [1, 2, 3]);
    assert_eq!(told("eta_seconds"), [0, 60, 300], "a length that was said, and the typical one");
    assert_eq!(told("mine"), [false, false, true]);
    assert_eq!(told("user_id"), vec![Value::Null; 3], "who has queued what is nobody else's business");
    assert_eq!(told("state"), vec![json!("waiting"); 3]);
    let seen = page(gate, "main", &root, "").await;
    assert_eq!((&seen["items"][1]["user_id"], &seen["nextCursor"]), (&json!("vera"), &Value::Null));
}

async fn an_item_is_taken_out_by_its_user_or_an_admin(gate: &Gate) {
    let own = queue(gate, "lounge", &bearer("bob"), "t1").await;
    let refused = delete(gate, "lounge", &bearer("alice"), &own["item_id"]).await;
    assert_eq!(refused.problem(403)["code"], "forbidden");
    delete(gate, "main", &bearer("bob"), &own["item_id"]).await.problem(404);
    delete(gate, "lounge", &bearer("bob"), &own["item_id"]).await.is(204);
    delete(gate, "lounge", &bearer("bob"), &own["item_id"]).await.problem(404);
    let other = queue(gate, "lounge", &bearer("bob"), "t1").await;
    delete(gate, "lounge", &admin(), &other["item_id"]).await.is(204);
    assert!(order(gate, "lounge").await.is_empty());
}

async fn a_track_is_queued_once_in_each_channel(gate: &Gate) {
    let item = queue(gate, "lounge", &bearer("bob"), "t4").await;
    let refused = ask(gate, "lounge", &vip("vera"), "t4").await;
    assert_eq!(refused.problem(409)["detail"], "the track is in this channel's queue already");
    delete(gate, "lounge", &bearer("bob"), &item["item_id"]).await.is(204);
    let item = queue(gate, "lounge", &bearer("bob"), "t4").await;
    delete(gate, "lounge", &bearer("bob"), &item["item_id"]).await.is(204);
}

/// The gates of these tests let a user have three items in a channel of eight,.
async fn nobody_takes_all_room(gate: &Gate) {
    for number in 1..=3 {
        queue(gate, "lounge", &bearer("bob"), &format!("t{number}")).await;
    }
    let refused = ask(gate, "lounge", &bearer("bob"), "t4").await;
    assert_eq!(refused.problem(429)["code"], "too_many_requests");
    assert_ne!(refused.header("retry-after"), "");
    for (user, tracks) in [("carl", ["t4", "t5", "t6"].as_slice()), ("dora", &["t7", "t8"])] {
        for track in tracks {
            queue(gate, "lounge", &bearer(user), track).await;
        }
    }
    let refused = ask(gate, "lounge", &bearer("dora"), "t9").await;
    assert_eq!(refused.problem(409)["detail"], "the queue of this channel is full");
    assert_eq!(order(gate, "lounge").await.len(), 8, "what is refused is not queued");
    assert_eq!(order(gate, "main").await.len(), 3, "and takes nothing of another channel");
}

async fn the_list_comes_in_pages(gate: &Gate) {
    let all = order(gate, "lounge").await;
    let (mut seen, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let page = page(gate, "lounge", &bearer("bob"), &query).await;
        let items = page["items"].as_array().expect("a list").iter();
        seen.extend(items.map(|item| item["track_id"].as_str().expect("a text").to_owned()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        query = format!("?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, all);
}

async fn answers_are_as_described(gate: &Gate) {
    let described = Described::by(&gate.client()).await;
    let (path, alice) = (items_of("main"), bearer("alice"));
    for (method, path, body) in [
        (Method::GET, path.clone(), None),
        (Method::POST, path.clone(), Some(json!({ "track_id": "t1" }))),
        (Method::POST, path.clone(), Some(json!({ "track_id": 5 }))),
        (Method::POST, items_of("none"), Some(json!({ "track_id": "t1" }))),
        (Method::DELETE, format!("{path}/0"), None),
    ] {
        let reply = send(gate, method.clone(), &path, &alice, body).await;
        described.checks(method.as_str(), &path, &reply);
    }
}
