//! Events: the same promises of a file and of a real Kafka; the API and the streams that they come from; a broker that
//! goes away, a process that is killed, a disk that is full.

mod api;
mod file;
mod outbox;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use events::settings::{FileSinkSettings, KafkaCompression, KafkaSettings, OutboxSettings, Settings, SinkSettings};
use events::{Event, EventPublisher};
use http::Method;
use primitives::lifecycle::BackgroundTasks;
use prometheus::Registry;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::client::{Client, Reply};
use crate::support::kafka::{self, OwnKafka, Topic};
use crate::support::origin::pattern;
use crate::support::tools::{TempFolder, json_lines};
use crate::support::{Gate, ScriptedOrigin, config, eventually, token};

/// For everything to arrive, on a busy machine.
const PATH: &str = "/api/v1/tracks/song/events";

/// An event where it arrived: its id, its key and its body.
type Arrived = (String, String, String);

/// Where events go in the contract.
enum Place {
    File(TempFolder),
    Kafka(Topic),
}

impl Place {
    fn sink(&self) -> SinkSettings {
        match self {
            Self::File(folder) => SinkSettings::File(FileSinkSettings {
                path: folder.path().join("events.jsonl"),
                size: 64 << 20,
                keep: 8,
            }),
            Self::Kafka(topic) => SinkSettings::Kafka(KafkaSettings {
                brokers: vec![topic.broker.clone()],
                topic: topic.name.as_str().into(),
                compression: KafkaCompression::Lz4,
                tls: None,
                sasl: None,
            }),
        }
    }

    fn topic(&self) -> &str {
        match self {
            Self::File(_) => "playback.events",
            Self::Kafka(topic) => &topic.name,
        }
    }

    async fn read(&self) -> Vec<Arrived> {
        match self {
            Self::File(folder) => lines(&folder.path().join("events.jsonl")),
            Self::Kafka(topic) => {
                let received = topic.read().await.into_iter();
                received.map(|one| (one.header("event-id").to_owned(), one.key, one.body)).collect()
            }
        }
    }
}

/// The events in a file of JSON Lines.
fn lines(path: &Path) -> Vec<Arrived> {
    let arrived = |event: Event| (event.id, event.key, event.body.get().to_owned());
    json_lines(path).into_iter().map(arrived).collect()
}

fn id(number: u64) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(1_800_000_000_000 + number, &[7; 10]).into_uuid()
}

/// What both sinks promise: everything that was acknowledged arrives, to the byte, each key's events in their order; and
/// what had arrived before a clean stop does not come again.
async fn delivers_what_was_acknowledged(place: Place) {
    let outbox = TempFolder::new("outbox");
    let settings =
        Settings { sink: place.sink(), outbox: OutboxSettings { path: outbox.path().join("box"), size: 16 << 20 } };
    let mut expected: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for round in 0..2 {
        let tasks = BackgroundTasks::default();
        let events = EventPublisher::open(&settings, &tasks, &Registry::new()).await.expect("the outbox opens");
        let publishing = (0..5).map(|user| {
            let (events, topic) = (events.clone(), Arc::<str>::from(place.topic()));
            async move {
                let mut published = Vec::new();
                for number in 0..100 {
                    let id = id(round * 1000 + user * 100 + number);
                    let body = json!({ "user": user, "number": number, "text": "a\tb\n\u{1F3B5}" });
                    let event = Event::new(id, Arc::clone(&topic), &format!("user-{user}"), &body).expect("JSON");
                    published.push((event.id.clone(), event.body.get().to_owned()));
                    events.publish(&[event]).await.expect("it is acknowledged");
                }
                (format!("user-{user}"), published)
            }
        });
        for (user, published) in futures::future::join_all(publishing).await {
            expected.entry(user).or_default().extend(published);
        }
        let count = expected.values().map(Vec::len).sum::<usize>();
        let arrived = eventually("everything arrives", async || {
            let arrived = place.read().await;
            (arrived.len() >= count).then_some(arrived)
        })
        .await;
        let mut by_key: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (id, key, body) in arrived {
            by_key.entry(key).or_default().push((id, body));
        }
        assert!(by_key == expected, "round {round}: something else arrived, or in another order");
        assert!(tasks.shutdown(Duration::from_secs(10)).await, "the tasks end");
    }
}

#[tokio::test]
async fn a_file_is_delivered_what_was_acknowledged() {
    delivers_what_was_acknowledged(Place::File(TempFolder::new("events"))).await;
}

#[tokio::test]
async fn kafka_is_delivered_what_was_acknowledged() {
    let Some(topic) = kafka::topic().await else { return };
    delivers_what_was_acknowledged(Place::Kafka(topic)).await;
}

/// A gate with the events `events` and their outbox in `folder`.
fn with_events(mut events: Value, folder: &TempFolder) -> Value {
    let mut config = config::private_objects("http://127.0.0.1:1", "audio");
    if events["Outbox"].is_null() {
        events["Outbox"] = json!({});
    }
    events["Outbox"]["Path"] = json!(folder.path().join("outbox"));
    config["Events"] = events;
    config
}

fn to_kafka(topic: &Topic) -> Value {
    json!({ "Kafka": { "Brokers": [topic.broker] }, "Topic": topic.name })
}

fn to_file(folder: &TempFolder) -> Value {
    json!({ "File": folder.path().join("events.jsonl") })
}

async fn post(client: &Client, user: &str, body: &Value) -> Reply {
    let request = client.request(Method::POST, PATH).bearer_auth(token::of(user)).json(body);
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

/// Posts and streams until `stop`, each event with an id of its own, and counts what was answered; gives the acknowledged
/// ids.
async fn player(client: Client, user: String, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while !stop.load(Ordering::Relaxed) {
        let id = Uuid::now_v7().to_string();
        post(&client, &user, &json!({ "action": "Seek", "positionMs": 1, "eventId": id })).await.is(202);
        ids.push(id);
        let bearer = format!("Bearer {}", token::of(&user));
        client.get("/stream/track.mp3", &[("authorization", &bearer)]).await.is(200);
        answered.fetch_add(1, Ordering::Relaxed);
        pace.tick().await;
    }
    ids
}

/// Waits until each of these counts has risen by ten.
async fn everybody_is_answered(answered: &[Arc<AtomicUsize>]) {
    let now = || answered.iter().map(|count| count.load(Ordering::Relaxed));
    let at_first: Vec<usize> = now().collect();
    eventually("everybody is answered over and over", async || {
        now().zip(&at_first).all(|(count, first)| count >= first + 10).then_some(())
    })
    .await;
}

/// All of `ids` are in `topic`.
async fn all_arrive(topic: &Topic, ids: &BTreeSet<String>) {
    eventually("every acknowledged event arrives", async || {
        let received = topic.read().await;
        let arrived: BTreeSet<String> = received.iter().map(|one| one.header("event-id").to_owned()).collect();
        ids.is_subset(&arrived).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_event_is_lost_and_no_request_waits_while_kafka_is_away() {
    let Some(mut kafka) = tokio::task::spawn_blocking(OwnKafka::start).await.expect("it starts") else { return };
    let topic = kafka.topic("playback.events");
    let folder = TempFolder::new("events");
    let origin = ScriptedOrigin::with_track(pattern(10_000)).await;
    let mut config = with_events(to_kafka(&topic), &folder);
    config["ObjectStores"]["main"] = config::store(&origin.url());
    config["Events"]["FromStreams"] = json!(true);
    let gate = Gate::start(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered: [Arc<AtomicUsize>; 8] = Default::default();
    let play = |number: usize| player(gate.client(), format!("user-{number}"), stop.clone(), answered[number].clone());
    let players: Vec<_> = (0..answered.len()).map(|number| tokio::spawn(play(number))).collect();
    let delivered = async |least: f64| {
        eventually("events are delivered", async || {
            let count = gate.metric("tidegate_events_published_total", "").await;
            (count >= least).then_some(count)
        })
        .await
    };
    let kafka_is = async |state: &str| {
        eventually("health says how Kafka is", async || {
            let health: Value =
                serde_json::from_slice(&gate.client().get("/health", &[]).await.is(200).body).expect("JSON");
            (health["kafka"] == state).then_some(())
        })
        .await;
    };
    let before = delivered(50.0).await;
    let mut kafka = tokio::task::spawn_blocking(move || {
        kafka.kill();
        kafka
    })
    .await
    .expect("it is killed");
    kafka_is("unavailable").await;
    // By a node that Kafka does not answer.
    everybody_is_answered(&answered).await;
    eventually("events wait", async || {
        (gate.metric("tidegate_events_backlog_events", "").await >= 100.0).then_some(())
    })
    .await;
    let kafka = tokio::task::spawn_blocking(move || {
        kafka.restart();
        kafka
    })
    .await
    .expect("it starts again");
    kafka_is("enabled").await;
    delivered(before + 200.0).await;
    stop.store(true, Ordering::Relaxed);
    let mut ids = BTreeSet::new();
    for player in players {
        ids.extend(player.await.expect("no request fails"));
    }
    all_arrive(&topic, &ids).await;
    assert_eq!(gate.metric("tidegate_events_dropped_total", "").await, 0.0);
    assert!(!gate.log().contains(&kafka.broker()), "the log names the broker");
}

#[tokio::test]
async fn an_acknowledged_event_survives_kill_9() {
    let Some(topic) = kafka::topic().await else { return };
    let folder = TempFolder::new("events");
    let away = ScriptedOrigin::start().await.url();
    let mut config = with_events(to_kafka(&topic), &folder);
    config["Events"]["Kafka"]["Brokers"] = json!([away.trim_start_matches("http://")]);
    let mut gate = Gate::start(&config).await;
    let mut ids = BTreeSet::new();
    for number in 0..50 {
        let id = id(number).to_string();
        post(&gate.client(), "alice", &json!({ "action": "Seek", "positionMs": 1, "eventId": id })).await.is(202);
        ids.insert(id);
    }
    gate.signal("KILL").await;
    gate.ended().await;

    config["Events"]["Kafka"]["Brokers"] = json!([topic.broker]);
    let gate = Gate::start(&config).await;
    all_arrive(&topic, &ids).await;
    let orders = topic.read().await.into_iter().map(|one| one.header("event-id").to_owned());
    assert_eq!(orders.collect::<Vec<_>>(), ids.into_iter().collect::<Vec<_>>(), "in their order");
    assert_eq!(gate.metric("tidegate_events_dropped_total", "").await, 0.0);
}
