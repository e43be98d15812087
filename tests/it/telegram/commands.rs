//! What linked users ask for, with their rights and limits.

use super::*;
use crate::catalogue::admin;
use crate::players::listener::Listener;
use crate::radio::station::Station;
use crate::support::eventually;

#[tokio::test]
async fn players_do_what_is_written_and_pressed() {
    let folder = TempFolder::new("telegram");
    let (api, gate) = bot(&folder).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    let mut listener = Listener::open(&gate, "ada", "").await;
    for (text, expected) in [
        ("/speed 1,25", "Speed: 1.25×"),
        ("/pitch −2", "Pitch: -2 semitones"),
        ("/pitch 99", "This cannot be done: "),
        ("/speed fast", "Write it like this: /speed 1.25"),
        ("/seek 1:30", "Nothing is played."),
        ("/seek soon", "Write it like this: /seek 1:30"),
        ("/radio x", "This server does not offer this."),
        ("/sing", "I do not know this command."),
        ("hello", "/speed 1.25 — set the speed"),
    ] {
        let answer = api.ask(ADA, text).await;
        assert!(answer.starts_with(expected), "{text}: {answer}");
        // What is done in a chat is heard by players.
        for (of, name, value) in [("/speed 1,25", "speed", json!(1.25)), ("/pitch −2", "semitones", json!(-2))] {
            if let Some(listener) = listener.as_mut().filter(|_| text == of) {
                while listener.event("settings").await[name] != value {}
            }
        }
    }
    let report = json!({ "track_id": "t1", "state": "paused", "position_ms": 60_000, "duration_ms": 200_000,
        "session_id": "s", "seq": 1 });
    send(&gate, Method::POST, "/api/v1/playback/report", &bearer("ada"), Some(report)).await.is(200);
    assert_eq!(api.ask(ADA, "/seek 1:30").await, "Position: 1:30");
    assert_eq!(api.ask(ADA, "/rewind").await, "Position: 1:00");
    assert_eq!(api.ask(ADA, "/rewind 50").await, "Position: 0:10");
    api.ask(ADA, "/speed").await;
    api.press(ADA, "speed:0.75");
    let edited = eventually("the message is changed", async || api.done("editMessageText").first().cloned()).await;
    assert_eq!((&edited["text"], &edited["message_id"]), (&json!("Speed: 0.75×"), &json!(77)));
    assert_eq!(api.done("answerCallbackQuery"), [json!({ "callback_query_id": "qspeed:0.75" })]);
    assert_eq!(settings(&gate, "ada").await["speed"], json!(0.75));
    api.check();
}

#[tokio::test]
async fn users_are_answered_in_their_languages() {
    let folder = TempFolder::new("telegram");
    let (api, gate) = bot(&folder).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    for (number, (language, expected)) in
        [("ru", "Скорость: 2×"), ("uk", "Швидкість: 2×"), ("es-MX", "Velocidad: 2×"), ("de", "Speed: 2×")]
            .into_iter()
            .enumerate()
    {
        api.say_in(ADA, language, "/speed 2");
        assert_eq!(api.message_to(ADA, number + 2).await, expected);
    }
    eventually("the lists of commands are set", async || (api.done("setMyCommands").len() == 5).then_some(())).await;
    let languages: Vec<Value> =
        api.done("setMyCommands").iter().map(|request| request["language_code"].clone()).collect();
    assert_eq!(languages, [json!(null), json!("en"), json!("ru"), json!("uk"), json!("es")]);
    api.check();
}

#[tokio::test]
async fn administrators_add_stations_and_users_play_them() {
    let folder = TempFolder::new("telegram");
    let (api, station) = (BotApiStandIn::start().await, Station::start().await);
    let mut config = telegram(&api.url(), &folder, &sqlite(&folder));
    config["Radio"] = json!({ "AllowedNetworks": ["127.0.0.1/32"] });
    config["Schedules"] = json!({});
    let gate = start(&config).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    link(&api, &gate, &admin(), BOB).await;
    let add = format!("/addradio {} Radio One", station.url("/live.mp3"));
    assert_eq!(api.ask(ADA, &add).await, "Your account may not do this.");
    assert_eq!(api.ask(ADA, "/radio One").await, "There is no such station.");
    assert_eq!(api.ask(BOB, &add).await, "The station Radio One is added.");
    assert!(api.ask(BOB, &add).await.starts_with("This cannot be done: "));
    assert!(api.ask(BOB, "/addradio http://127.0.0.1").await.starts_with("Write it like this"));
    let listener = Listener::open(&gate, "ada", "").await;
    assert_eq!(api.ask(ADA, "/radio one").await, "Radio One begins on your players.");
    if let Some(mut listener) = listener {
        let play = loop {
            let (name, data) = listener.next().await.expect("an event");
            if name == "play" {
                break data;
            }
        };
        assert_eq!(play["radio"]["station"]["name"], json!("Radio One"));
    }
    assert_eq!(api.ask(ADA, "/radio").await, "Which station?");
    let asked = api.done("sendMessage").pop().expect("a message");
    let data = asked["reply_markup"]["inline_keyboard"][0][0]["callback_data"].as_str().expect("a button").to_owned();
    api.press(ADA, &data);
    let edited = eventually("the message is changed", async || api.done("editMessageText").first().cloned()).await;
    assert_eq!(edited["text"], json!("Radio One begins on your players."));
    schedules_are_listed_and_deleted(&api, &gate, data.trim_start_matches("station:")).await;
    api.check();
}

async fn schedules_are_listed_and_deleted(api: &BotApiStandIn, gate: &Gate, station: &str) {
    assert_eq!(api.ask(ADA, "/schedule").await, "You have no schedules.");
    let body = json!({ "name": "News", "stream_id": station, "recurrence": "daily", "time": "07:30" });
    for who in [bearer("ada"), admin()] {
        send(gate, Method::POST, "/api/v1/scheduler/schedules", &who, Some(body.clone())).await.is(201);
    }
    for user in [ADA, BOB] {
        assert_eq!(api.ask(user, "/schedule").await, "News: At 07:30, every day. (UTC)", "one's own alone");
    }
    let asked = api.done("sendMessage").into_iter().rfind(|request| request["chat_id"] == ADA).expect("a message");
    let button = &asked["reply_markup"]["inline_keyboard"][0][0];
    assert_eq!(button["text"], json!("Delete News"));
    let data = button["callback_data"].as_str().expect("a button").to_owned();
    // Somebody else's is not there.
    for (user, number, expected) in [(BOB, 2, "There is no such thing."), (ADA, 3, "The schedule is deleted.")] {
        if user == BOB {
            let other = with_role("eve", "user");
            link(api, gate, &other, BOB).await;
        }
        api.press(user, &data);
        let edited =
            eventually("the message is changed", async || api.done("editMessageText").get(number - 1).cloned()).await;
        assert_eq!(edited["text"], json!(expected));
    }
    assert_eq!(api.ask(ADA, "/schedule").await, "You have no schedules.");
}

#[tokio::test]
async fn queues_schedules_and_lyrics_are_those_of_the_user() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    let mut config = telegram(&api.url(), &folder, &sqlite(&folder));
    config["Channels"] = json!({});
    config["Playlists"] = json!({});
    config["Lyrics"] = json!({});
    config["Schedules"] = json!({});
    config["Telegram"]["TimeZone"] = json!("Europe/Kyiv");
    let gate = start(&config).await;
    let track = json!({ "id": "t1", "store": "main", "bucket": "audio", "key": "t1.mp3", "ownerId": "ada" });
    send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    link(&api, &gate, &bearer("ada"), ADA).await;
    assert_eq!(api.ask(ADA, "/queue").await, "The queue is empty.");
    assert!(api.ask(ADA, "/queue t1").await.starts_with("Queued. Place: "));
    assert!(api.ask(ADA, "/queue t1").await.starts_with("This cannot be done: "), "it is there already");
    assert_eq!(api.ask(ADA, "/queue").await, "1. t1");
    assert_eq!(api.ask(ADA, "/queue nothing").await, "There is no such thing.");
    assert_eq!(api.ask(ADA, "/schedule").await, "You have no schedules.");
    assert_eq!(api.ask(ADA, "/schedule 07:30 Morning").await, "You have no playlist Morning.");
    let playlist = json!({ "name": "Morning", "items": [{ "track_id": "t1" }] });
    send(&gate, Method::POST, "/api/v1/playlists", &bearer("ada"), Some(playlist)).await.is(201);
    // No channel is played here, so that nothing can begin: the refusal is that of the API.
    assert!(api.ask(ADA, "/schedule 07:30 morning").await.starts_with("This cannot be done: "));
    assert!(api.ask(ADA, "/lyrics Ada").await.starts_with("Write it like this"));
    let answer = api.ask(ADA, "/lyrics Ada - Sea").await;
    assert!(
        ["No lyrics were found.", "This does not work at the moment. Try again later."].contains(&answer.as_str()),
        "{answer}"
    );
    api.check();
}

#[tokio::test]
async fn limits_of_the_api_hold_in_chats() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    let mut config = telegram(&api.url(), &folder, &sqlite(&folder));
    let policy = |limit: u32| json!({ "FixedWindow": { "PermitLimit": limit, "Window": "1d" } });
    config["Policies"]["RateLimiter"] = json!({ "standard": policy(3), "elevated": policy(100) });
    let gate = start(&config).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    link(&api, &gate, &with_role("vera", "vip"), BOB).await;
    for expected in ["Speed: 1×", "Speed: 1×", "Too many requests. Try again in "] {
        let answer = api.ask(ADA, "/speed 1").await;
        assert!(answer.starts_with(expected), "{answer}");
    }
    send(&gate, Method::GET, "/api/v1/playback/settings", &bearer("ada"), None).await.problem(429);
    for _ in 0..5 {
        assert_eq!(api.ask(BOB, "/speed 1").await, "Speed: 1×");
    }
}
