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
    let sound = there.hear(id_of(&heard)).await;
    // Nobody hears this one.
    let url = format!("{}?access_token={}", path(&format!("{}/now", id_of(&followed))), token::of("alice"));
    let mut titles = Events::open(&two, &url).await;
    for station in [&heard, &followed] {
        here.send(Method::DELETE, &format!("streams/{}", id_of(station)), None).await.is(204);
        there.send(Method::GET, &format!("streams/{}", id_of(station)), None).await.problem(404);
        there.send(Method::GET, &format!("{}/live", id_of(station)), None).await.problem(404);
    }
    // At once: one who takes nothing meanwhile is dropped for that.
    let (told, ()) = tokio::join!(titles.event("end"), sound.end());
    assert_eq!(told["reason"], "deleted");
    let counted = async || (two.metric("tidegate_radio_streams_ended_total", "deleted").await == 1.0).then_some(());
    eventually("the end is counted", counted).await;
}
