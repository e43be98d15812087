//! What can be continued: cards with the catalogue's titles, and places of audiobooks and podcasts.

use http::Method;
use serde_json::{Value, json};

use super::{Room, sound_of, write};
use crate::catalogue::{admin, send};
use crate::support::eventually;
use crate::support::user::ApiUser;

pub(super) async fn add(room: &Room, id: &str, key: &str) {
    let track = json!({ "id": id, "store": "main", "bucket": "audio", "key": key, "contentType": "audio/wav", "ownerId": "ada" });
    send(&room.gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
}

/// Says where ada is in a track.
pub(super) async fn stop_at(room: &Room, id: &str, seconds: u32, kind: &str) {
    let place = json!({ "positionMs": seconds * 1000, "durationMs": 60_000, "kind": kind });
    let path = format!("/api/v1/tracks/{id}/position");
    ApiUser::new(&room.gate, "ada").send(Method::POST, &path, Some(&place)).await.is(204);
}

#[tokio::test]
async fn what_is_continued_has_the_catalogues_title_though_the_list_does_not_show_it() {
    let Some(room) = Room::open(|_| {}).await else { return };
    // The list shows 60 tracks at first, and these come before the others.
    for number in 0..70 {
        add(&room, &format!("first-{number:02}"), &format!("AAA/Many/{number:02} Piece.wav")).await;
    }
    stop_at(&room, "t3", 20, "audio").await;
    room.visit("ada").await;
    let script = r#"
        const card = await until("a card", () => document.querySelector("ul#continue button"));
        const seen = [listed().includes("Вітер"), card.querySelector(".title").textContent];
        card.click();
        await until("sound", () => !audio.paused && audio.currentTime > 20);
        element("show-queue").click();
        const entry = await until("the queue", () => element("queue")?.querySelector(".words"));
        return [...seen, audio.currentTime < 25, element("title").textContent, element("artist").textContent, navigator.mediaSession.metadata.album,
            entry.querySelector(".title").textContent];
    "#;
    assert_eq!(room.run(script).await, json!([false, "Вітер", true, "Вітер", "Мар’яна Гай", "Степ", "Вітер"]));
    room.browser.close().await;
}

async fn place(room: &Room, id: &str, kind: &str) -> Value {
    let path = format!("/api/v1/tracks/{id}/position?kind={kind}");
    let reply = ApiUser::new(&room.gate, "ada").send(Method::GET, &path, None).await;
    serde_json::from_slice::<Value>(&reply.is(200).body).expect("JSON")["positionMs"].clone()
}

#[tokio::test]
async fn audiobooks_and_podcasts_are_continued_and_told_as_what_they_are() {
    let Some(room) = Room::open(|_| {}).await else { return };
    let key = "Podcasts/Tides/01 The Harbour.wav";
    write(&room.folder, key, &sound_of("t1"));
    add(&room, "p1", key).await;
    // Another player has told of these; a film is continued on its own page.
    for (id, seconds, kind) in [("t1", 10, "film"), ("t2", 20, "audiobook"), ("p1", 30, "podcast")] {
        stop_at(&room, id, seconds, kind).await;
    }
    room.visit("ada").await;
    let cards = r#"
        const cards = await until("cards", () => { const all = [...document.querySelectorAll("ul#continue button")]; return all.length === 2 && all; });
        return cards.map(card => [card.querySelector(".title").textContent, card.querySelector(".about").textContent].join(": ")).sort();
    "#;
    let shown = json!(["Night Ferry: Audiobook · 0:40 left", "The Harbour: Podcast · 0:30 left"]);
    assert_eq!(room.run(cards).await, shown);
    // A podcast goes on where it was also when it is chosen in the list, and a piece of music begins anew.
    let played = r#"
        await plays("The Harbour");
        const at = audio.currentTime;
        slide("seek", 40);
        await until("second 40", () => audio.currentTime > 40.2);
        await plays("Night Ferry");
        return [at >= 30 && at < 35, audio.currentTime < 10];
    "#;
    assert_eq!(room.run(played).await, json!([true, true]));
    eventually("the podcast's place", async || place(&room, "p1", "podcast").await.as_i64().filter(|at| *at > 40_000))
        .await;
    assert_eq!(place(&room, "p1", "audio").await, Value::Null);
    // By its card it is the audiobook that goes on.
    let card = r#"
        const card = [...document.querySelectorAll("ul#continue button")].find(one => one.textContent.includes("Night Ferry"));
        card.click();
        await until("second 20", () => !audio.paused && audio.currentTime > 20.2);
        element("play").click();
        await state("paused");
        return audio.currentTime < 25;
    "#;
    assert_eq!(room.run(card).await, json!(true));
    eventually("the book's place", async || place(&room, "t2", "audiobook").await.as_i64().filter(|at| *at > 20_200))
        .await;
    room.browser.close().await;
}
