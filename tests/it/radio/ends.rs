//! What ends streams by itself: the token that they were opened by, another format, and a deletion on another node.

use super::station::Station;
use super::titles::Events;
use super::*;
use crate::support::{Postgres, eventually};

#[tokio::test]
async fn streams_end_with_the_token_that_opened_them_or_their_ticket() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Auth"]["Jwt"]["Leeway"] = json!("1s");
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let added = Client::admin(&gate).add("One", &station.url("/live.mp3")).await;
    let until = token::now() + 4;
    let alice = Client::until(&gate, "alice", until);
    let played = alice.play(id_of(&added)).await;
    let url = |name: &str| played[name].as_str().expect("an address").to_owned();
    let by_token = alice.hear(id_of(&added)).await;
    let by_ticket = gate.client().request(Method::GET, &url("play_url")).send().await.expect("the gate answers");
    let mut titles = Events::open(&gate, &url("now_url")).await;
    assert_eq!(titles.event("end").await["reason"], "expired");
    by_token.end().await;
    Sound::of(by_ticket).end().await;
    assert!(token::now() >= until);
    assert_eq!(gate.metric("tidegate_radio_streams_ended_total", "expired").await, 2.0);
    gate.client().get(&url("play_url"), &[]).await.problem(401);
}

#[tokio::test]
async fn listeners_of_a_station_that_comes_back_in_another_format_are_let_go_and_new_ones_are_told_it() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let mut sound = admin.hear(id_of(&added)).await;
    sound.hear(10_000).await;
    station.become_aac();
    station.cut(false);
    sound.end().await;
    assert_eq!(gate.metric("tidegate_radio_streams_ended_total", "format_changed").await, 1.0);
    let mut again = admin.hear(id_of(&added)).await;
    assert_eq!(again.response.headers()["content-type"], "audio/aac");
    let heard = again.hear(2000).await;
    assert!(heard.windows(3).any(|three| three == [0xFF, 0xF1, 0x50]));
    assert!(!heard.windows(3).any(|three| three == [0xFF, 0xFB, 0x90]), "nothing of what was before");
    let live = path(&format!("{}/live", id_of(&added)));
    let head = gate.client().head(&live, &[("authorization", &admin.0.authorization)]).await;
    assert_eq!(head.is(200).header("content-type"), "audio/aac");
}

#[tokio::test]
async fn a_deletion_on_one_node_ends_streams_on_the_other() {
    let folder = TempFolder::new("radio");
    let Some(url) = Postgres::database().await else { return };
    let mut config = in_a_file(&folder);
    config["Database"]["Url"] = json!(url);
    let (one, two, station) = (Gate::start(&config).await, Gate::start(&config).await, Station::start().await);
    let (here, there) = (Client::admin(&one), Client::admin(&two));
    let heard = here.add("One", &station.url("/live.mp3")).await;
    let followed = here.add("Two", &station.url("/other.mp3")).await;
    // Read all the time: one who takes nothing meanwhile is dropped for that.
    let sound = tokio::spawn(there.hear(id_of(&heard)).await.end());
    // Nobody hears this one.
    let url = format!("{}?access_token={}", path(&format!("{}/now", id_of(&followed))), token::of("alice"));
    let mut titles = Events::open(&two, &url).await;
    for station in [&heard, &followed] {
        here.send(Method::DELETE, &format!("streams/{}", id_of(station)), None).await.is(204);
        there.send(Method::GET, &format!("streams/{}", id_of(station)), None).await.problem(404);
        there.send(Method::GET, &format!("{}/live", id_of(station)), None).await.problem(404);
    }
    assert_eq!(titles.event("end").await["reason"], "deleted");
    sound.await.expect("it ends");
    let counted = async || (two.metric("tidegate_radio_streams_ended_total", "deleted").await == 1.0).then_some(());
    eventually("the end is counted", counted).await;
}

#[tokio::test]
async fn listening_is_published_as_events_with_the_reason_of_its_end() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    let file = folder.path().join("events.jsonl");
    config["Events"] = json!({ "File": file, "Outbox": { "Path": folder.path().join("outbox") } });
    config["Radio"]["PublishEvents"] = json!(true);
    let (mut gate, station) = (Gate::start(&config).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let published = async |count: usize| {
        let lines = async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            (lines.len() >= count).then_some(lines)
        };
        eventually("the events are published", lines).await
    };
    let mut sound = Client::new(&gate, "alice").hear(id_of(&added)).await;
    sound.hear(2000).await;
    published(1).await;
    drop(sound);
    published(2).await;
    let other = Client::new(&gate, "bob").hear(id_of(&added)).await;
    published(3).await;
    admin.send(Method::DELETE, &format!("streams/{}", id_of(&added)), None).await.is(204);
    other.end().await;
    let lines = published(4).await;
    gate.stop().await;
    let told = |line: &Value| {
        assert_eq!(line["topic"], "radio.events");
        assert_eq!((&line["key"], &line["body"]["stationId"]), (&line["body"]["userId"], &added["id"]));
        let text = |name: &str| line["body"][name].as_str().unwrap_or_default().to_owned();
        assert!(text("timestamp").ends_with("+00:00"), "{line}");
        (text("userId"), text("action"), text("reason"))
    };
    let expected =
        [("alice", "Start", ""), ("alice", "Stop", "left"), ("bob", "Start", ""), ("bob", "Stop", "deleted")];
    let found: Vec<_> = lines.iter().map(told).collect();
    assert_eq!(found, expected.map(|(user, action, reason)| (user.to_owned(), action.to_owned(), reason.to_owned())));
    for pair in lines.chunks(2) {
        assert_eq!(pair[0]["body"]["listeningId"], pair[1]["body"]["listeningId"]);
        assert_eq!(pair[0]["body"]["listenedMs"], 0);
        assert!(pair[1]["body"]["listenedMs"].as_u64().is_some(), "{}", pair[1]);
    }
    assert_ne!(lines[0]["id"], lines[1]["id"]);
}
