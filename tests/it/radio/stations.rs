//! The list: stations are added by connecting to them, filtered, and read in pages.

use super::station::Station;
use super::*;
use crate::support::Postgres;
use crate::support::described::Described;

#[tokio::test]
async fn stations_in_a_file() {
    let folder = TempFolder::new("radio");
    holds(&in_a_file(&folder)).await;
}

#[tokio::test]
async fn stations_in_postgresql() {
    let folder = TempFolder::new("radio");
    let Some(url) = Postgres::database().await else { return };
    let mut config = in_a_file(&folder);
    config["Database"]["Url"] = json!(url);
    holds(&config).await;
}

async fn holds(config: &Value) {
    let (gate, station) = (Gate::start(config).await, Station::start().await);
    let (admin, user) = (Client::admin(&gate), Client::new(&gate, "alice"));
    let first = json!({ "name": "One", "url": station.url("/live.mp3"), "genre": "Jazz", "country": "FR" });
    let first = admin.add_with(first).await;
    for (member, expected) in [
        ("name", json!("One")),
        ("genre", json!("Jazz")),
        ("codec", json!("mp3")),
        ("bitrate_kbps", json!(128)),
        ("content_type", json!("audio/mpeg")),
        ("hls", json!(false)),
        ("icy_name", json!("One FM")),
        ("state", json!("idle")),
        ("now_playing", Value::Null),
    ] {
        assert_eq!(first[member], expected, "{member}");
    }
    assert_eq!(first["url"], json!(station.url("/live.mp3")));
    its_address_is_shown_to_administrators_alone(&first, &admin, &user).await;
    let shoutcast = admin.add("Two", &station.url("/shoutcast")).await;
    assert_eq!((&shoutcast["icy_name"], &shoutcast["bitrate_kbps"]), (&json!("Café"), &json!(128)));
    let by_m3u = json!({ "name": "Jazz 100%", "url": station.url("/listen.m3u"), "genre": "JAZZ", "country": "de" });
    let by_m3u = admin.add_with(by_m3u).await;
    let moved = admin.add("Moved", &station.url("/moved")).await;
    the_same_station_is_listed_once(&admin, &station).await;

    let names = async |query: &str| {
        let page = user.get(&format!("streams{query}")).await;
        page["items"].as_array().expect("items").iter().map(|item| item["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["One", "Two", "Jazz 100%", "Moved"]);
    assert_eq!(names("?genre=jazz").await, ["One", "Jazz 100%"]);
    assert_eq!(names("?genre=jazz&country=fr").await, ["One"]);
    assert_eq!(names("?q=0%25").await, ["Jazz 100%"]);
    assert_eq!(names("?q=_").await, Vec::<Value>::new());
    let page = user.get("streams?limit=3").await;
    let rest = user.get(&format!("streams?limit=3&cursor={}", page["nextCursor"].as_str().expect("more"))).await;
    assert_eq!((page["items"].as_array().map(Vec::len), &rest["items"][0]["id"]), (Some(3), &moved["id"]));
    assert_eq!(rest["nextCursor"], Value::Null);

    let described = Described::by(&gate.client()).await;
    for (method, what, body) in [
        (Method::GET, "streams".to_owned(), None),
        (Method::GET, format!("streams/{}", id_of(&first)), None),
        (Method::POST, "play".to_owned(), Some(json!({ "url": station.url("/live.mp3"), "channel_id": 7 }))),
        (Method::DELETE, format!("streams/{}", id_of(&by_m3u)), None),
        (Method::DELETE, format!("streams/{}", id_of(&by_m3u)), None),
        (Method::GET, format!("streams/{}", id_of(&by_m3u)), None),
    ] {
        let reply = admin.send(method.clone(), &what, body.as_ref()).await;
        described.checks(method.as_str(), &path(&what), &reply);
    }
    drop(gate);
    let gate = Gate::start(config).await;
    let left = Client::new(&gate, "alice").get("streams").await;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(3), "the list outlives the process");
}

/// The address of a station may hold a key.
async fn its_address_is_shown_to_administrators_alone(station: &Value, admin: &Client, user: &Client) {
    let mut without = station.clone();
    without["url"] = Value::Null;
    assert_eq!(user.get(&format!("streams/{}", id_of(station))).await, without);
    assert_eq!(user.play(id_of(station)).await["station"]["url"], Value::Null);
    assert_eq!(admin.get("streams").await["items"][0]["url"], station["url"]);
    assert_eq!(user.get("streams").await["items"][0]["url"], Value::Null);
}

/// By its own address however that is written, by another that leads to it, and by a playlist.
async fn the_same_station_is_listed_once(admin: &Client, station: &Station) {
    let again = station.url("/live.mp3").replace("http://", "HTTP://") + "#fragment";
    for url in [again, station.url("/listen.pls"), station.url("/second.mp3"), station.url("/other.mp3")] {
        let body = json!({ "name": "Again", "url": url });
        admin.send(Method::POST, "streams", Some(&body)).await.problem(409);
    }
}

#[tokio::test]
async fn the_list_is_bounded() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Radio"]["MaxStations"] = json!(1);
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let admin = Client::admin(&gate);
    admin.add("One", &station.url("/live.mp3")).await;
    let body = json!({ "name": "Two", "url": station.url("/other.mp3") });
    admin.send(Method::POST, "streams", Some(&body)).await.problem(409);
    assert_eq!(station.plays(), 1, "nothing was asked for it");
}

/// The beginning of an answer that has no end.
async fn beginning(client: &Client, what: &str) -> (Reply, reqwest::Response) {
    let request = client.0.client.request(Method::GET, &path(what)).header("authorization", &client.0.authorization);
    let mut response = request.send().await.expect("the gate answers");
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.chunk().await.expect("it goes on").expect("it does not end");
    (Reply { status, headers, body }, response)
}

#[tokio::test]
async fn sound_and_titles_are_answered_as_they_are_described() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Radio"]["MaxListenersPerUser"] = json!(1);
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let (admin, described) = (Client::admin(&gate), Described::by(&gate.client()).await);
    let one = admin.add("One", &station.url("/live.mp3")).await;
    let unknown = "01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a";
    for (user, end) in [("alice", "live"), ("bob", "now")] {
        let (client, what) = (Client::new(&gate, user), format!("{}/{end}", id_of(&one)));
        let refused = async |what: &str, status: u16| {
            let reply = client.send(Method::GET, what, None).await;
            described.checks("GET", &path(what), &reply);
            reply.problem(status);
        };
        refused(&format!("none/{end}"), 400).await;
        refused(&format!("{unknown}/{end}"), 404).await;
        let (reply, response) = beginning(&client, &what).await;
        described.checks("GET", &path(&what), reply.is(200));
        refused(&what, 429).await;
        drop(response);
        let anonymous = gate.client().get(&path(&what), &[]).await;
        described.checks("GET", &path(&what), &anonymous);
        anonymous.problem(401);
    }
}
