//! The list of stations on the page: pages, search, and titles whose ticket is over; before a scripted station.

use http::Method;
use serde_json::{Value, json};

use super::Room;
use super::looks::assert_accessible;
use crate::catalogue::{admin, send};
use crate::radio::station::Station;

async fn with_radio() -> Option<Room> {
    Room::open(|config| config["Radio"] = json!({ "AllowedNetworks": ["127.0.0.1/32"] })).await
}

async fn list(room: &Room, name: &str, url: &str) -> Value {
    let station = json!({ "name": name, "url": url });
    let reply = send(&room.gate, Method::POST, "/api/v1/radio/streams", &admin(), Some(station)).await;
    serde_json::from_slice(&reply.is(201).body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_stations_are_reached_by_pages_and_found_by_their_names() {
    let Some(room) = with_radio().await else { return };
    let station = Station::start().await;
    for number in 0..63 {
        list(&room, &format!("Station {number:02}"), &station.url(&format!("/live.mp3?{number}"))).await;
    }
    room.visit("ada").await;
    let pages = r#"
        (await until("the place", () => element("go-radio"))).click();
        const names = () => [...document.querySelectorAll("ul#stations .title")].map(node => node.textContent);
        await until("a page", () => names().length === 60);
        const label = document.querySelector("label[for=search]").textContent;
        element("more-stations").click();
        await until("the rest", () => names().length === 63);
        return [label, names().at(-1), new Set(names()).size, element("more-stations")];
    "#;
    assert_eq!(room.run(pages).await, json!(["Search the stations", "Station 62", 63, null]));
    assert_accessible(&room, "stations").await;
    let searched = r#"
        const names = () => [...document.querySelectorAll("ul#stations .title")].map(node => node.textContent);
        slide("search", "ion 4");
        await until("ten", () => names().length === 10);
        const found = [names()[0], element("radio-title").textContent];
        slide("search", "nobody");
        const none = await until("none", () => element("view").querySelector(".empty h2")?.textContent);
        // The library has a search of its own.
        element("go-library").click();
        await until("the library", () => listed().length === 3 && element("search").value === "");
        element("go-radio").click();
        await until("the search of before", () => element("search").value === "nobody");
        slide("search", "");
        await until("all", () => names().length === 60);
        return [...found, none];
    "#;
    assert_eq!(room.run(searched).await, json!(["Station 40", "Results for “ion 4”", "Nothing found"]));
    room.browser.close().await;
}

/// The first stream of titles has a ticket that the server does not take any more, as after an hour.
const LATE: &str = r#"
    const Source = window.EventSource;
    window.refused = 0;
    window.EventSource = class extends Source {
        constructor(path) {
            super(window.refused === 0 && path.includes("/now") ? path.replace("ticket=", "ticket=A") : path);
            this.addEventListener("error", () => { if (this.readyState === Source.CLOSED) window.refused += 1; });
        }
    };
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn titles_are_followed_on_when_their_ticket_is_over() {
    let Some(room) = with_radio().await else { return };
    let station = Station::start().await;
    station.set_title(b"Nina - Sinnerman");
    list(&room, "One", &station.url("/live.mp3")).await;
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": LATE })).await;
    room.visit("ada").await;
    let followed = r#"
        (await until("the place", () => element("go-radio"))).click();
        (await until("the station", () => element("stations")?.querySelector("button"))).click();
        await until("the title", () => element("artist").textContent === "Nina - Sinnerman");
        return window.refused;
    "#;
    assert_eq!(room.run(followed).await, json!(1));
    station.set_title(b"Okean - Bez boyu");
    let next = r#"return await until("the next title", () => element("artist").textContent === "Okean - Bez boyu");"#;
    assert_eq!(room.run(next).await, json!(true));
    room.browser.close().await;
}
