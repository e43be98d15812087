//! Answers about subscriptions that are forgotten when a message of Kafka says that something has changed.

use serde_json::{Value, json};

use super::{UserService, Viewer, embedded};
use crate::support::kafka::{self, OwnKafka, Topic};
use crate::support::tools::TempFolder;
use crate::support::{Gate, eventually};

/// Films whose answers are believed for longer than any test lasts.
fn purged(folder: &TempFolder, users: &UserService, topic: &Topic) -> Value {
    let mut config = embedded(folder);
    config["Events"] = json!({
        "Kafka": { "Brokers": [topic.broker] }, "Outbox": { "Path": folder.path().join("outbox") } });
    config["Vod"]["Subscription"] = json!({
        "Url": users.template(), "CacheFor": "1h", "DenyCacheFor": "5m", "PurgeTopic": topic.name });
    config
}

async fn gets_in(gate: &Gate, user: &str) {
    eventually("the service is asked again", async || {
        (Viewer::new(gate, user).start("dune").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_message_of_kafka_has_every_node_ask_the_service_again() {
    let Some(topic) = kafka::topic().await else { return };
    let users = UserService::start().await;
    let folders = [TempFolder::new("films"), TempFolder::new("films")];
    // Before the topic is there.
    let one = Gate::start(&purged(&folders[0], &users, &topic)).await;
    let two = Gate::start(&purged(&folders[1], &users, &topic)).await;
    for gate in [&one, &two] {
        Viewer::new(gate, "ada").start("dune").await.problem(403);
        Viewer::new(gate, "bob").start("dune").await.problem(403);
    }
    for user in ["ada", "bob"] {
        users.says(user, 200, json!({ "active": true }));
    }
    topic.publish("no JSON").await;
    topic.publish(r#"{"user":"bob"}"#).await;
    topic.publish(r#"{"user_id":"ada","event":"renewed"}"#).await;
    for gate in [&one, &two] {
        gets_in(gate, "ada").await;
        Viewer::new(gate, "bob").start("dune").await.problem(403);
        let count = async |outcome: &str| {
            gate.metric("tidegate_vod_subscription_purges_total", &format!("outcome=\"{outcome}\"")).await
        };
        eventually("each message is counted", async || {
            (count("purged").await >= 1.0 && count("malformed").await >= 2.0).then_some(())
        })
        .await;
    }
    // A node that was down meanwhile reads what it has missed.
    drop(two);
    topic.publish(r#"{"user_id":"bob"}"#).await;
    gets_in(&one, "bob").await;
    let two = Gate::start(&purged(&folders[1], &users, &topic)).await;
    eventually("it reads what was published lately", async || {
        (two.metric("tidegate_vod_subscription_purges_total", "outcome=\"purged\"").await >= 2.0).then_some(())
    })
    .await;
}

/// Runs what blocks.
async fn blocking(mut kafka: OwnKafka, act: fn(&mut OwnKafka)) -> OwnKafka {
    let acted = tokio::task::spawn_blocking(move || {
        act(&mut kafka);
        kafka
    });
    acted.await.expect("it is done")
}

#[tokio::test]
async fn a_kafka_that_was_never_there_fails_nothing_and_is_read_when_it_comes_and_comes_back() {
    let Some(kafka) = tokio::task::spawn_blocking(OwnKafka::start).await.expect("it starts") else { return };
    let topic = kafka.topic("subscriptions");
    let mut kafka = blocking(kafka, OwnKafka::kill).await;
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    let gate = Gate::start(&purged(&folder, &users, &topic)).await;
    for user in ["ada", "bob"] {
        users.says(user, 200, json!({ "active": false }));
        Viewer::new(&gate, user).start("dune").await.problem(403);
    }
    users.says("eve", 200, json!({ "active": true }));
    Viewer::new(&gate, "eve").start("dune").await.is(200);
    eventually("the operator is told", async || gate.log().contains("a topic of Kafka cannot be read").then_some(()))
        .await;
    for user in ["ada", "bob"] {
        kafka = blocking(kafka, OwnKafka::restart).await;
        users.says(user, 200, json!({ "active": true }));
        topic.publish(&json!({ "user_id": user }).to_string()).await;
        gets_in(&gate, user).await;
        kafka = blocking(kafka, OwnKafka::kill).await;
    }
}
