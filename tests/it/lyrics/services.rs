//! Services outside: asked when the store has nothing, once, within their time, and left alone when they ask for it.

use futures::future::join_all;

use super::stand_ins::{Mood, StandIn, TOKEN};
use super::*;

/// Lyrics from LRCLIB and Genius, over a store with `Ada - *.mp3`.
struct Stage {
    gate: Gate,
    origin: ScriptedOrigin,
    lrclib: StandIn,
    genius: StandIn,
    _folder: TempFolder,
}

impl Stage {
    async fn start(more: Value) -> Self {
        let folder = TempFolder::new("lyrics");
        let database = sqlite(&folder);
        Self::start_with(more, &database, TOKEN, folder).await
    }

    /// As [`Self::start`], over this database, and with this token for Genius.
    async fn start_with(more: Value, database: &str, token: &str, folder: TempFolder) -> Self {
        let origin = ScriptedOrigin::start().await;
        let (lrclib, genius) = (StandIn::lrclib().await, StandIn::genius().await);
        let mut config = lyrics(&origin.url(), database);
        config["Lyrics"] = more;
        config["Lyrics"]["Lrclib"]["Url"] = json!(lrclib.url());
        config["Lyrics"]["Genius"]["Url"] = json!(genius.url());
        config["Lyrics"]["Genius"]["Token"] = json!("env:GENIUS_TOKEN");
        let gate = Gate::start_with(&config, &[("GENIUS_TOKEN", token)]).await;
        Self { gate, origin, lrclib, genius, _folder: folder }
    }

    /// A track that is known by its file's name alone.
    async fn add(&self, title: &str) {
        let key = format!("Ada - {title}.mp3");
        self.origin.put(&format!("/audio/{key}"), crate::support::Object::new("music"));
        add(&self.gate, title, "audio", &key).await;
    }
}

#[tokio::test]
async fn services_are_asked_in_their_order_and_the_answers_are_kept() {
    let stage = Stage::start(json!({})).await;
    for title in ["Prelude", "Fugue", "Silence", "Sonata", "Trap", "Unknown"] {
        stage.add(title).await;
    }
    let gate = &stage.gate;
    let prelude = get(gate, "Prelude", "bob").await;
    assert_eq!(lines(&prelude["synced"]), ["1000 First", "2500 Second"]);
    assert_eq!(
        (&prelude["source"], &prelude["artist"], &prelude["duration_ms"]),
        (&json!("lrclib"), &json!("Ada"), &json!(5000))
    );
    let fugue = get(gate, "Fugue", "bob").await;
    assert_eq!((&fugue["plain"], &fugue["synced"]), (&json!("Only words"), &json!([])), "plain text, without markup");
    let silence = get(gate, "Silence", "bob").await;
    assert_eq!(
        (&silence["instrumental"], &silence["plain"], &silence["texts"]),
        (&json!(true), &json!(null), &json!([]))
    );
    let sonata = get(gate, "Sonata", "bob").await;
    assert_eq!(
        (&sonata["source"], &sonata["link"]),
        (&json!("genius"), &json!("https://genius.com/Ada-sonata-lyrics"))
    );
    assert_eq!((&sonata["plain"], &sonata["texts"]), (&json!(null), &json!([])), "no lyrics: its API has none");
    ask(gate, "Trap", "bob").await.problem(404);
    ask(gate, "Unknown", "bob").await.problem(404);
    let asked = (stage.lrclib.asked(), stage.genius.asked());
    for title in ["Prelude", "Fugue", "Silence", "Sonata"] {
        get(gate, title, "carol").await;
    }
    ask(gate, "Unknown", "carol").await.problem(404);
    assert_eq!((stage.lrclib.asked(), stage.genius.asked()), asked, "nothing is asked for twice");
    assert!(stage.lrclib.agents().iter().all(|agent| agent.starts_with("Tidegate/")), "{:?}", stage.lrclib.agents());
    assert!(!stage.gate.log().contains(TOKEN));
}

#[tokio::test]
async fn sources_are_asked_in_the_order_that_the_settings_give() {
    for (sources, wanted) in [(["Sidecar", "Lrclib"], "sidecar"), (["Lrclib", "Sidecar"], "lrclib")] {
        let stage = Stage::start(json!({ "Sources": sources })).await;
        stage.add("Prelude").await;
        stage.origin.put("/audio/Ada - Prelude.lrc", crate::support::Object::new("[00:01.00]Beside it"));
        let found = get(&stage.gate, "Prelude", "bob").await;
        assert_eq!(found["source"], json!(wanted), "{sources:?}");
        assert_eq!(
            stage.lrclib.asked(),
            usize::from(wanted == "lrclib"),
            "{sources:?}: the first that has some is enough"
        );
        // The second one has what the first one lacks.
        stage.add("Fugue").await;
        assert_eq!(get(&stage.gate, "Fugue", "bob").await["source"], json!("lrclib"), "{sources:?}");
    }
}

#[tokio::test]
async fn many_askers_cost_one_question() {
    let stage = Stage::start(json!({})).await;
    stage.add("Prelude").await;
    let all = join_all((0..20).map(|number| {
        let gate = &stage.gate;
        async move { get(gate, "Prelude", &format!("user-{number}")).await }
    }));
    assert!(all.await.iter().all(|found| found["plain"] == "First\nSecond"));
    assert_eq!(stage.lrclib.asked(), 1);
}

#[tokio::test]
async fn a_search_has_the_song_and_no_other() {
    searches_songs(&Stage::start(json!({})).await).await;
}

#[tokio::test]
async fn a_search_has_the_song_and_no_other_over_postgresql() {
    let Some(url) = Postgres::database().await else { return };
    searches_songs(&Stage::start_with(json!({}), &url, TOKEN, TempFolder::new("lyrics")).await).await;
}

async fn searches_songs(stage: &Stage) {
    let search = "search?artist=ada&song=prelude";
    let found = get(&stage.gate, search, "bob").await;
    assert_eq!((&found["artist"], &found["song"]), (&json!("ada"), &json!("prelude")));
    let results = found["results"].as_array().expect("results");
    assert_eq!(results.len(), 1, "{found}");
    assert_eq!(
        (&results[0]["track_id"], &results[0]["title"], &results[0]["source"]),
        (&json!(null), &json!("Prelude"), &json!("lrclib"))
    );
    let asked = stage.lrclib.asked();
    get(&stage.gate, "search?artist=ADA&song=Prelude", "carol").await;
    assert_eq!(stage.lrclib.asked(), asked, "it is kept, whoever has asked");
    let sonata = get(&stage.gate, "search?artist=Ada&song=Sonata", "bob").await;
    assert_eq!(sonata["results"][0]["link"], "https://genius.com/Ada-sonata-lyrics");
    assert_eq!(get(&stage.gate, "search?artist=x&song=y", "bob").await["results"], json!([]));
    // What a search has found is no track's.
    stage.add("Fugue").await;
    assert_eq!(get(&stage.gate, "Fugue", "bob").await["title"], "Fugue");
}

#[tokio::test]
async fn a_service_that_fails_is_no_miss_and_what_is_kept_is_served_on() {
    let stage = Stage::start(json!({ "CacheFor": "1s", "Lrclib": { "Timeout": "300ms" } })).await;
    // What has failed is not asked again at once.
    let moods = [Mood::Hangs, Mood::Status(500), Mood::Nonsense, Mood::Endless];
    let others = ["Fugue", "Sonata", "Silence", "Trap"];
    for title in ["Prelude"].into_iter().chain(others) {
        stage.add(title).await;
    }
    let (gate, search) = (&stage.gate, "search?artist=Ada&song=Prelude");
    assert_eq!(get(gate, "Prelude", "bob").await["is_stale"], json!(false));
    get(gate, search, "bob").await;
    stage.genius.is(Mood::Status(500));
    for (mood, title) in moods.into_iter().zip(others) {
        stage.lrclib.is(mood);
        let refused = ask(gate, title, "bob").await;
        assert_ne!(
            (refused.problem(503)["code"].clone(), refused.header("retry-after")),
            (json!(null), ""),
            "{mood:?}"
        );
    }
    let stale = async || (get(gate, "Prelude", "bob").await["is_stale"] == json!(true)).then_some(());
    eventually("it is older than its time and served", stale).await;
    let stale = async || (get(gate, search, "bob").await["is_stale"] == json!(true)).then_some(());
    eventually("so are the results of a search", stale).await;
}

#[tokio::test]
async fn a_service_that_wants_to_be_left_alone_is() {
    let stage = Stage::start(json!({ "Sources": ["Lrclib"] })).await;
    for title in ["Prelude", "Fugue", "Sonata", "Silence"] {
        stage.add(title).await;
    }
    stage.lrclib.is(Mood::Throttles(3600));
    ask(&stage.gate, "Prelude", "bob").await.problem(503);
    stage.lrclib.is(Mood::Good);
    let asked = stage.lrclib.asked();
    for title in ["Prelude", "Fugue", "Sonata", "Silence"] {
        ask(&stage.gate, title, "bob").await.problem(503);
    }
    assert_eq!(stage.lrclib.asked(), asked, "it asked for an hour");
    let metric =
        stage.gate.metric("tidegate_lyrics_source_requests_total", "outcome=\"failed\",source=\"lrclib\"").await;
    assert_eq!(metric, 4.0, "once for each track");
}

#[tokio::test]
async fn a_service_that_fails_again_and_again_is_not_asked_each_time() {
    let stage = Stage::start(json!({ "Sources": ["Lrclib"] })).await;
    stage.lrclib.is(Mood::Status(500));
    for number in 0..10 {
        let title = number.to_string();
        stage.add(&title).await;
        for _ in 0..2 {
            ask(&stage.gate, &title, "bob").await.problem(503);
        }
        assert_eq!(stage.lrclib.asked(), 5.min(number + 1), "once for each track, and then not at all");
    }
}

#[tokio::test]
async fn a_track_without_lyrics_is_asked_about_again_after_its_time() {
    let stage = Stage::start(json!({ "MissCacheFor": "1s" })).await;
    stage.add("Unknown").await;
    ask(&stage.gate, "Unknown", "bob").await.problem(404);
    stage.origin.put("/audio/Ada - Unknown.lrc", crate::support::Object::new("[00:01.00]Now there"));
    let found = async || (ask(&stage.gate, "Unknown", "bob").await.status == 200).then_some(());
    eventually("what is kept ends", found).await;
}

/// Counts of rows.
async fn kept(gate: &Gate) -> Value {
    let status = send(gate, Method::GET, "/api/v1/lyrics/cache/status", &admin(), None).await;
    serde_json::from_slice::<Value>(&status.is(200).body).expect("JSON")["total"].clone()
}

/// Has one service alone fail in each way, and answer again.
async fn fails_and_answers_again(name: &str, title: &str, service: impl Fn(&Stage) -> &StandIn) {
    let stage = Stage::start(json!({ "Sources": [name], name: { "Timeout": "300ms" } })).await;
    let (gate, stand_in) = (&stage.gate, service(&stage));
    // Five failures in a row would have it left alone; an answer that cannot be read is none of the service.
    let moods = [
        Mood::Hangs,
        Mood::Status(500),
        Mood::Cut,
        Mood::Nonsense,
        Mood::OtherTypes,
        Mood::Endless,
        Mood::Status(401),
        Mood::Throttles(3600),
    ];
    for (number, mood) in moods.into_iter().enumerate() {
        stage.add(&number.to_string()).await;
        if mood == Mood::Throttles(3600) {
            stage.add(title).await;
            stand_in.is(Mood::Good);
            assert_eq!(get(gate, title, "bob").await["title"], title, "{name} answers again");
        }
        stand_in.is(mood);
        let before = (kept(gate).await, stand_in.asked());
        let refused = ask(gate, &number.to_string(), "bob").await;
        assert!(!refused.header("retry-after").is_empty(), "{name}: {mood:?}");
        refused.problem(503);
        assert_eq!((kept(gate).await, stand_in.asked()), (before.0, before.1 + 1), "{name}: {mood:?}: nothing is kept");
    }
    stand_in.is(Mood::Good);
    let asked = stand_in.asked();
    stage.add("later").await;
    ask(gate, "later", "bob").await.problem(503);
    assert_eq!(stand_in.asked(), asked, "{name} asked for an hour");
}

#[tokio::test]
async fn lrclib_may_fail_in_any_way_and_nothing_of_it_is_kept() {
    fails_and_answers_again("Lrclib", "Prelude", |stage| &stage.lrclib).await;
}

#[tokio::test]
async fn genius_may_fail_in_any_way_and_nothing_of_it_is_kept() {
    fails_and_answers_again("Genius", "Sonata", |stage| &stage.genius).await;
}

#[tokio::test]
async fn a_token_that_genius_does_not_know_is_no_miss_and_not_logged() {
    let folder = TempFolder::new("lyrics");
    let database = sqlite(&folder);
    let stage = Stage::start_with(json!({ "Sources": ["Genius"] }), &database, "of-somebody-else", folder).await;
    stage.add("Sonata").await;
    ask(&stage.gate, "Sonata", "bob").await.problem(503);
    assert_eq!((kept(&stage.gate).await, stage.genius.asked()), (json!(0), 1));
    let log = stage.gate.log();
    assert!(log.contains("status 401") && !log.contains("of-somebody-else"), "{log}");
}
