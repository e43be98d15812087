//! Titles: out of the stream, in whatever character set, to everybody who follows.

use tokio::task::JoinSet;

use super::station::Station;
use super::*;

/// Events as they come.
pub struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    pub async fn open(gate: &Gate, url: &str) -> Self {
        let response = gate.client().request(Method::GET, url).send().await.expect("the gate answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event's name and data.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    return (name, serde_json::from_str(&data).expect("JSON"));
                }
                continue;
            }
            let piece = self.response.chunk().await.expect("it goes on").expect("it does not end");
            self.text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    }

    /// The data of the next event of this name.
    pub async fn event(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.next().await;
            if found == name {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn titles_are_told_as_they_change_and_kept() {
    let folder = TempFolder::new("radio");
    let (mut gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/shoutcast")).await;
    station.set_title(b"Beyonc\xe9 - D\xe9j\xe0 Vu");
    // Somebody who hears all of it: titles take two seconds each.
    let mut listening = JoinSet::new();
    listening.spawn(admin.hear(id_of(&added)).await.end());
    let played = admin.play(id_of(&added)).await;
    let now_url = played["now_url"].as_str().expect("an address").to_owned();
    let mut events = Events::open(&gate, &now_url).await;
    assert_eq!(events.event("station").await["stream_id"], added["id"]);
    let mut history = events.event("history").await["items"].clone();
    if history == json!([]) {
        history = json!([events.event("title").await]);
    }
    assert_eq!((&history[0]["artist"], &history[0]["title"]), (&json!("Beyoncé"), &json!("Déjà Vu")));
    for (sent, artist, title) in [
        (&b"\xca\xe8\xed\xee - \xc3\xf0\xf3\xef\xef\xe0 \xea\xf0\xee\xe2\xe8"[..], json!("Кино"), "Группа крови"),
        ("Океан Ельзи - Без бою".as_bytes(), json!("Океан Ельзи"), "Без бою"),
        (&b"<script>alert(1)</script>It's <b>on</b>"[..], Value::Null, "alert(1)It's on"),
    ] {
        station.set_title(sent);
        let told = events.event("title").await;
        assert_eq!((&told["artist"], &told["title"]), (&artist, &json!(title)));
        assert!(told["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    }
    let shown = admin.get(&format!("streams/{}", id_of(&added))).await;
    assert_eq!(shown["now_playing"], "alert(1)It's on");
    let mut later = Events::open(&gate, &now_url).await;
    assert_eq!(later.event("history").await["items"].as_array().map(Vec::len), Some(4));
    station.cut(true);
    while events.event("station").await["state"] != "reconnecting" {}
    assert_eq!(listening.len(), 1);
    gate.signal("TERM").await;
    assert_eq!(events.event("end").await["reason"], "shutdown");
    assert!(gate.ended().await.success());
}

#[tokio::test]
async fn following_titles_opens_no_connection_to_the_station() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("One", &station.url("/live.mp3")).await;
    let before = station.plays();
    let url = format!("{}?access_token={}", path(&format!("{}/now", id_of(&added))), token::of("alice"));
    let mut events = Events::open(&gate, &url).await;
    assert_eq!(events.event("station").await["state"], "idle");
    assert_eq!(events.event("history").await["items"], json!([]));
    assert_eq!((station.plays(), gate.metric("tidegate_radio_title_listeners", "").await), (before, 1.0));
    admin.send(Method::DELETE, &format!("streams/{}", id_of(&added)), None).await.is(204);
    assert_eq!(events.event("end").await["reason"], "deleted");
}
