//! What holds wherever schedules are kept.

use super::*;
use crate::support::described::Described;

#[tokio::test]
async fn schedules_in_a_file() {
    let folder = TempFolder::new("schedules");
    holds(&schedules(&folder, &sqlite(&folder))).await;
}

#[tokio::test]
async fn schedules_in_postgresql() {
    let folder = TempFolder::new("schedules");
    let Some(database) = Postgres::database().await else { return };
    holds(&schedules(&folder, &database)).await;
}

async fn holds(config: &Value) {
    let (gate, radio) = (Gate::start(config).await, Station::start().await);
    let station = add(&gate, &radio).await;
    let kept = they_are_made_changed_and_deleted(&gate, &station).await;
    sentences_are_in_the_users_language(&gate, &station).await;
    each_user_has_their_own(&gate, &station).await;
    a_paused_one_does_not_come(&gate, &station).await;
    lists_and_histories_come_in_pages(&gate, &station).await;
    answers_are_as_described(&gate, &station).await;
    if let Some(listener) = Listener::open(&gate, "listener", "").await {
        radio_begins_at_its_time_and_by_hand(&gate, &station, listener).await;
    }
    drop(gate);
    let gate = Gate::start(config).await;
    assert_eq!(Client::new(&gate, "ada").get(id_of(&kept)).await, kept, "they outlive the process");
}

async fn they_are_made_changed_and_deleted(gate: &Gate, station: &str) -> Value {
    let client = Client::new(gate, "ada");
    let body = json!({ "name": " Weekend ", "stream_id": station, "channel_id": "kitchen", "timezone": "europe/kyiv",
        "recurrence": "weekly", "time": "09:30", "days": ["sat", "sun"], "misfire_grace_seconds": 60, "coalesce": false });
    let reply = client.send(Method::POST, "", Some(&body)).await;
    let made = json_of(reply.is(201));
    assert_eq!(reply.header("etag"), "\"1\"");
    for (member, expected) in [
        ("name", json!("Weekend")),
        ("user_id", json!("ada")),
        ("stream_id", json!(station)),
        ("playlist_id", json!(null)),
        ("channel_id", json!("kitchen")),
        ("timezone", json!("Europe/Kyiv")),
        ("recurrence", json!("weekly")),
        ("time", json!("09:30")),
        ("days", json!(["sat", "sun"])),
        ("cron", json!(null)),
        ("enabled", json!(true)),
        ("misfire_grace_seconds", json!(60)),
        ("coalesce", json!(false)),
        ("triggered_count", json!(0)),
        ("last_run", json!(null)),
        ("sentence", json!("At 09:30, on Sunday and Saturday. (Europe/Kyiv)")),
    ] {
        assert_eq!(made[member], expected, "{member}");
    }
    let ahead = made["next_runs"].as_array().expect("instants");
    assert_eq!(ahead.len(), 5);
    assert!(ahead.iter().all(|at| at.as_str().is_some_and(|at| at.contains("T09:30:00+0"))), "{ahead:?}");
    let id = id_of(&made);
    assert_eq!(client.get(id).await, made);
    let mut body = yearly(station);
    let put = async |body: &Value, tag: &str| {
        client.send_with(Method::PUT, &path(id), Some(body), &[("if-match", tag)]).await
    };
    put(&body, "\"7\"").await.problem(412);
    assert_eq!(client.get(id).await, made, "what is refused changes nothing");
    let replaced = json_of(put(&body, "\"1\"").await.is(200));
    assert_eq!(
        (&replaced["cron"], &replaced["time"], &replaced["revision"]),
        (&json!("0 0 1 1 *"), &json!(null), &json!(2))
    );
    let next = replaced["next_run_at"].as_str().expect("an instant");
    assert!(next.ends_with("-12-31T22:00:00Z"), "midnight in Kyiv: {next}");
    body["channel_id"] = json!(-100_123);
    let kept = json_of(client.send(Method::PUT, id, Some(&body)).await.is(200));
    assert_eq!((&kept["channel_id"], &kept["revision"]), (&json!("-100123"), &json!(3)));
    let gone = client.create(&yearly(station)).await;
    client.send_with(Method::DELETE, &path(id_of(&gone)), None, &[("if-match", "\"2\"")]).await.problem(412);
    client.send(Method::DELETE, id_of(&gone), None).await.is(204);
    client.send(Method::DELETE, id_of(&gone), None).await.problem(404);
    client.send(Method::GET, &format!("{}/history", id_of(&gone)), None).await.problem(404);
    kept
}

async fn sentences_are_in_the_users_language(gate: &Gate, station: &str) {
    let client = Client::new(gate, "polyglot");
    let made = client.create(&yearly(station)).await;
    let id = id_of(&made);
    for (lang, sentence) in [
        ("en", "At 00:00, on day 1, in January. (Europe/Kyiv)"),
        ("ru", "В 00:00, по числам 1, в январе. (Europe/Kyiv)"),
        ("uk", "О 00:00, по числах 1, у січні. (Europe/Kyiv)"),
        ("es", "A las 00:00, el día 1, en enero. (Europe/Kyiv)"),
    ] {
        assert_eq!(client.get(&format!("{id}?lang={lang}")).await["sentence"], sentence);
        let accepts = format!("de, {lang}-XX;q=0.9");
        let reply = client.send_with(Method::GET, &path(id), None, &[("accept-language", &accepts)]).await;
        assert_eq!(json_of(reply.is(200))["sentence"], sentence);
        let listed = client.get(&format!("?lang={lang}")).await;
        assert_eq!(listed["items"][0]["sentence"], sentence);
    }
    client.send(Method::GET, &format!("{id}?lang=de"), None).await.problem(422);
    let tried = json!({ "timezone": "Pacific/Chatham", "recurrence": "daily", "time": "07:00" });
    let reply = client.send_with(Method::POST, "/api/v1/scheduler/preview?lang=es", Some(&tried), &[]).await;
    let tried = json_of(reply.is(200));
    assert_eq!(tried["sentence"], "A las 07:00, cada día. (Pacific/Chatham)");
    assert_eq!(tried["next_runs"].as_array().map(Vec::len), Some(5));
}

async fn each_user_has_their_own(gate: &Gate, station: &str) {
    let (mine, other, admin) = (Client::new(gate, "mine"), Client::new(gate, "other"), Client::admin(gate));
    let made = mine.create(&yearly(station)).await;
    let id = id_of(&made);
    for (method, what, body) in [
        (Method::GET, id.to_owned(), None),
        (Method::GET, format!("{id}/history"), None),
        (Method::PUT, id.to_owned(), Some(yearly(station))),
        (Method::POST, format!("{id}/run"), None),
        (Method::POST, format!("{id}/pause"), None),
        (Method::POST, format!("{id}/resume"), None),
        (Method::DELETE, id.to_owned(), None),
    ] {
        other.send(method, &what, body.as_ref()).await.problem(404);
    }
    assert_eq!(other.get("").await["items"], json!([]));
    other.send(Method::GET, "?user_id=mine", None).await.problem(403);
    assert_eq!(admin.get(id).await, made, "administrators have all");
    assert_eq!(admin.get("?user_id=mine").await["items"], json!([made]));
    let kept = json_of(admin.send(Method::PUT, id, Some(&yearly(station))).await.is(200));
    assert_eq!(kept["user_id"], "mine", "the owner stays");
    assert!(mine.history(id).await.is_empty(), "nobody has begun it");
}

async fn a_paused_one_does_not_come(gate: &Gate, station: &str) {
    let client = Client::new(gate, "paused");
    let mut body = json!({ "name": "Each second", "stream_id": station, "cron": "* * * * * *", "enabled": false });
    let made = client.create(&body).await;
    let id = id_of(&made);
    assert_eq!((&made["next_run_at"], &made["next_runs"]), (&json!(null), &json!([])));
    body["enabled"] = json!(true);
    let other = client.create(&body).await;
    client.ends_as(id_of(&other), "done").await;
    let paused = json_of(client.send(Method::POST, &format!("{}/pause", id_of(&other)), None).await.is(200));
    assert_eq!((&paused["enabled"], &paused["next_run_at"]), (&json!(false), &json!(null)));
    let settled = async || client.history(id_of(&other)).await.len();
    crate::support::eventually::settled("nothing comes any more", settled).await;
    assert!(client.history(id).await.is_empty(), "it was never on");
    let resumed = json_of(client.send(Method::POST, &format!("{id}/resume"), None).await.is(200));
    assert_ne!(resumed["next_run_at"], json!(null));
    client.ends_as(id, "done").await;
    for id in [id, id_of(&other)] {
        client.send(Method::DELETE, id, None).await.is(204);
    }
}

async fn lists_and_histories_come_in_pages(gate: &Gate, station: &str) {
    let client = Client::new(gate, "pages");
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(client.create(&yearly(station)).await["id"].clone());
    }
    let first = client.get("?limit=2").await;
    let second = client.get(&format!("?limit=2&cursor={}", first["nextCursor"].as_str().expect("more"))).await;
    let ids = |page: &Value| page["items"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    let found: [Vec<Value>; 2] = [ids(&first), ids(&second)];
    assert_eq!((found.concat(), &second["nextCursor"]), (made.clone(), &json!(null)));
    let id = made[0].as_str().expect("an id");
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = json_of(client.send(Method::POST, &format!("{id}/run"), None).await.is(202));
        assert_eq!(run["cause"], "manual");
        runs.insert(0, run["id"].clone());
        client.ends_as(id, "done").await;
    }
    let first = client.get(&format!("{id}/history?limit=2")).await;
    let cursor = first["nextCursor"].as_str().expect("more");
    let second = client.get(&format!("{id}/history?limit=2&cursor={cursor}")).await;
    let found: [Vec<Value>; 2] = [ids(&first), ids(&second)];
    assert_eq!(found.concat(), runs, "the newest first");
    let schedule = client.get(id).await;
    assert_eq!((&schedule["triggered_count"], &schedule["last_run"]["id"]), (&json!(3), &runs[0]));
}

async fn answers_are_as_described(gate: &Gate, station: &str) {
    let described = Described::by(&gate.client()).await;
    let client = Client::new(gate, "described");
    let reply = client.send(Method::POST, "", Some(&yearly(station))).await;
    described.checks("POST", "/api/v1/scheduler/schedules", &reply);
    let id = id_of(&json_of(&reply)).to_owned();
    for (method, what, body) in [
        (Method::GET, id.clone(), None),
        (Method::POST, format!("{id}/run"), None),
        (Method::GET, format!("{id}/history"), None),
        (Method::GET, String::new(), None),
        (Method::POST, format!("{id}/pause"), None),
        (Method::POST, format!("{id}/resume"), None),
        (Method::PUT, id.clone(), Some(yearly(station))),
        (Method::PUT, id.clone(), Some(json!({ "name": "x" }))),
        (Method::GET, "nothing".to_owned(), None),
        (Method::DELETE, id.clone(), None),
    ] {
        let reply = client.send(method.clone(), &what, body.as_ref()).await;
        described.checks(method.as_str(), &path(&what), &reply);
    }
    let preview = "/api/v1/scheduler/preview";
    for body in [json!({ "cron": "@daily" }), json!({ "cron": "never" })] {
        let reply = client.send_with(Method::POST, preview, Some(&body), &[]).await;
        described.checks("POST", preview, &reply);
    }
}

async fn radio_begins_at_its_time_and_by_hand(gate: &Gate, station: &str, mut listener: Listener) {
    let client = Client::new(gate, "listener");
    let soon = crate::support::token::now() + 2;
    let body = json!({ "name": "Soon", "stream_id": station, "run_at": rfc3339(soon) });
    let made = client.create(&body).await;
    let id = id_of(&made);
    let heard = listener.event("play").await;
    assert_eq!(
        (&heard["channel_id"], &heard["schedule_id"], &heard["schedule_name"]),
        (&json!("main"), &made["id"], &json!("Soon"))
    );
    let url = heard["radio"]["play_url"].as_str().expect("an address");
    // The ticket is for `<audio>`, which sends no token.
    let sound = gate.client().request(Method::GET, url).send().await.expect("the gate answers");
    assert_eq!(sound.status(), 200);
    drop(sound);
    let run = client.ends_as(id, "done").await;
    assert_eq!(
        (&run["fire_at"], &run["cause"], &run["instants"]),
        (&made["next_run_at"], &json!("schedule"), &json!(1))
    );
    let after = client.get(id).await;
    assert_eq!((&after["next_run_at"], &after["next_runs"]), (&json!(null), &json!([])), "nothing comes any more");
    client.send(Method::POST, &format!("{id}/run"), None).await.is(202);
    assert_eq!(listener.event("play").await["schedule_id"], made["id"]);
    client.ends_as(id, "done").await;
    client.send(Method::POST, &format!("{id}/pause"), None).await.is(200);
    client.send(Method::POST, &format!("{id}/resume"), None).await.problem(422);
    // A station that is gone by then fails, and says so.
    let gone = client.create(&yearly(station)).await;
    let path = format!("/api/v1/radio/streams/{station}");
    Client::admin(gate).send_with(Method::DELETE, &path, None, &[]).await.is(204);
    client.send(Method::POST, &format!("{}/run", id_of(&gone)), None).await.is(202);
    let run = client.ends_as(id_of(&gone), "failed").await;
    assert_eq!(run["detail"], "there is no such station");
}

/// A Unix second as RFC 3339.
fn rfc3339(second: i64) -> String {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second.unsigned_abs()))
        .to_string()
}
