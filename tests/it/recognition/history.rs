//! What users had recognised.

use super::songs::wave;
use super::*;
use crate::support::Postgres;
use crate::support::described::Described;

/// Recognition with an index without tracks: what is silent is in none anyway.
async fn start(config: &Value, folder: &TempFolder) -> Gate {
    let gate = Gate::start(config).await;
    run_index(config, folder, &[]).await;
    gate
}

#[tokio::test]
async fn a_history_in_a_file() {
    let folder = TempFolder::new("recognition");
    holds(&without_store(&sqlite(&folder), &folder), &folder).await;
}

#[tokio::test]
async fn a_history_in_postgresql() {
    let folder = TempFolder::new("recognition");
    let Some(database) = Postgres::database().await else { return };
    holds(&without_store(&database, &folder), &folder).await;
}

async fn history(gate: &Gate, query: &str, who: &str) -> Reply {
    send(gate, Method::GET, &format!("/api/v1/recognition/history{query}"), who, None).await
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("a list").iter();
    items.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

async fn holds(config: &Value, folder: &TempFolder) {
    let mut config = config.clone();
    config["Recognition"]["MaxHistory"] = json!(5);
    let gate = start(&config, folder).await;
    let silence = wave(&[0; 48_000]);
    let mut made = Vec::new();
    for _ in 0..7 {
        let id = recognised(&gate, "alice", &silence).await["id"].as_str().expect("an id").to_owned();
        made.insert(0, id);
    }
    recognised(&gate, "bob", &silence).await;
    // The newest come first, and the oldest are gone.
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let page = json_of(history(&gate, "", &alice).await.is(200));
    assert_eq!(ids(&page), made[..5]);
    assert!(page["items"][0]["matched"] == json!(false) && page["items"][0]["user_id"] == json!("alice"));
    let first = json_of(history(&gate, "?limit=3", &alice).await.is(200));
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    let second = json_of(history(&gate, &format!("?limit=3&cursor={cursor}"), &alice).await.is(200));
    assert_eq!([ids(&first), ids(&second)].concat(), made[..5]);
    // An entry of somebody else does not exist.
    let entry = format!("/api/v1/recognition/history/{}", made[0]);
    send(&gate, Method::DELETE, &entry, &bob, None).await.problem(404);
    history(&gate, "?user_id=alice", &bob).await.problem(403);
    send(&gate, Method::DELETE, &entry, &alice, None).await.is(204);
    send(&gate, Method::DELETE, &entry, &alice, None).await.problem(404);
    assert_eq!(ids(&json_of(history(&gate, "", &alice).await.is(200))), made[1..5]);
    // Administrators have all.
    assert_eq!(ids(&json_of(history(&gate, "", &admin()).await.is(200))).len(), 5);
    let of_alice = history(&gate, "?user_id=alice", &admin()).await;
    assert_eq!(ids(&json_of(of_alice.is(200))), made[1..5]);
    send(&gate, Method::DELETE, &format!("/api/v1/recognition/history/{}", made[1]), &admin(), None).await.is(204);
    let described = Described::by(&gate.client()).await;
    described.checks("GET", "/api/v1/recognition/history", &history(&gate, "", &alice).await);
    described.checks("GET", "/api/v1/recognition/history", &history(&gate, "?limit=0", &alice).await);
    described.checks("POST", "/api/v1/recognition/identify", &identify(&gate, "alice", &silence).await);
    described.checks("POST", "/api/v1/recognition/identify", &identify(&gate, "alice", b"text").await);
    drop(gate);
    let gate = Gate::start(&config).await;
    assert_eq!(ids(&json_of(history(&gate, "", &alice).await.is(200))).len(), 4, "it outlives the process");
}
