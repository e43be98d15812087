//! Changes of listed stations: what is taken, what is refused, and what listeners notice of it.

use super::station::Station;
use super::titles::Events;
use super::*;
use crate::support::described::Described;
use crate::support::{Postgres, eventually};

#[tokio::test]
async fn stations_are_changed_in_a_file() {
    let folder = TempFolder::new("radio");
    changes(&in_a_file(&folder)).await;
}

#[tokio::test]
async fn stations_are_changed_in_postgresql() {
    let folder = TempFolder::new("radio");
    let Some(url) = Postgres::database().await else { return };
    let mut config = in_a_file(&folder);
    config["Database"]["Url"] = json!(url);
    changes(&config).await;
}

async fn changes(config: &Value) {
    let (gate, station) = (Gate::start(config).await, Station::start().await);
    let (admin, user) = (Client::admin(&gate), Client::new(&gate, "alice"));
    let described = Described::by(&gate.client()).await;
    let one = admin.add_with(json!({ "name": "One", "url": station.url("/live.mp3"), "genre": "Jazz" })).await;
    let two = admin.add("Two", &station.url("/other.mp3")).await;
    let what = format!("streams/{}", id_of(&one));
    let put = async |body: Value| {
        let reply = admin.send(Method::PUT, &what, Some(&body)).await;
        described.checks("PUT", &path(&what), &reply);
        reply
    };
    // Under its address it is not connected to: it may be away.
    station.cut(true);
    let renamed = json!({ "name": "Uno", "url": station.url("/live.mp3"), "country": "ES", "fallback_id": two["id"] });
    let renamed = json_of(put(renamed).await.is(200));
    station.come_back();
    let mut wanted = one.clone();
    for (member, value) in
        [("name", json!("Uno")), ("genre", Value::Null), ("country", json!("ES")), ("fallback_id", two["id"].clone())]
    {
        wanted[member] = value;
    }
    assert_eq!(renamed, wanted);
    assert_eq!(user.get("streams?q=uno").await["items"][0]["id"], one["id"]);
    let moved = json_of(put(json!({ "name": "Uno", "url": station.url("/shoutcast") })).await.is(200));
    assert_eq!((&moved["icy_name"], &moved["url"]), (&json!("Café"), &json!(station.url("/shoutcast"))));
    assert_eq!(admin.get(&what).await, moved);
    // What cannot be taken changes nothing.
    for (body, status) in [
        (json!({ "name": "Uno", "url": station.url("/other.mp3") }), 409),
        (json!({ "name": "Uno", "url": station.url("/listen.m3u") }), 409),
        (json!({ "name": "Uno", "url": station.url("/page") }), 422),
        (json!({ "name": "Uno", "url": "http://169.254.169.254/" }), 422),
        (json!({ "name": "<b>", "url": station.url("/shoutcast") }), 422),
        (json!({ "name": "Uno", "url": station.url("/shoutcast"), "fallback_id": one["id"] }), 422),
        (json!({ "name": "Uno" }), 400),
    ] {
        put(body).await.problem(status);
    }
    assert_eq!(admin.get(&what).await, moved);
    let body = json!({ "name": "Uno", "url": station.url("/shoutcast") });
    user.send(Method::PUT, &what, Some(&body)).await.problem(403);
    admin.send(Method::DELETE, &what, None).await.is(204);
    put(body).await.problem(404);
    admin.add("Again", &station.url("/live.mp3")).await;
}

#[tokio::test]
async fn listeners_of_a_station_that_is_given_another_address_are_let_go_on_each_node() {
    let folder = TempFolder::new("radio");
    let Some(url) = Postgres::database().await else { return };
    let mut config = in_a_file(&folder);
    config["Database"]["Url"] = json!(url);
    let (one, two, station) = (Gate::start(&config).await, Gate::start(&config).await, Station::start().await);
    let (here, there) = (Client::admin(&one), Client::admin(&two));
    let listed = here.add("One", &station.url("/live.mp3")).await;
    let id = id_of(&listed);
    let (near, far) = (tokio::spawn(here.hear(id).await.end()), tokio::spawn(there.hear(id).await.end()));
    // Titles go on: the station is the same one.
    let titles = format!("{}?access_token={}", path(&format!("{id}/now")), token::of("alice"));
    let mut titles = Events::open(&one, &titles).await;
    let body = json!({ "name": "One", "url": station.url("/second.mp3") });
    here.send(Method::PUT, &format!("streams/{id}"), Some(&body)).await.is(200);
    near.await.expect("it ends");
    station.set_title(b"Nina - Sinnerman");
    here.hear(id).await.hear(1000).await;
    assert_eq!(titles.event("title").await["text"], "Nina - Sinnerman");
    far.await.expect("it ends");
    for gate in [&one, &two] {
        let counted = async || (gate.metric("tidegate_radio_streams_ended_total", "moved").await == 1.0).then_some(());
        eventually("the end is counted", counted).await;
    }
}
