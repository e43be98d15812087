//! What is refused, and leaves nothing behind.

use super::*;

/// A yearly schedule with these members in place of its own.
fn yearly_with(station: &str, members: &Value) -> Value {
    let mut body = yearly(station);
    for (name, value) in members.as_object().expect("members") {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn what_is_no_schedule_is_refused_and_nothing_is_kept() {
    let (folder, radio) = (TempFolder::new("schedules"), Station::start().await);
    let mut config = schedules(&folder, &sqlite(&folder));
    config["Schedules"] = json!({});
    let gate = Gate::start(&config).await;
    let station = add(&gate, &radio).await;
    let client = Client::new(&gate, "alice");
    let with = |members: Value| yearly_with(&station, &members);
    let rule = |members: Value| {
        let mut body = with(members);
        body.as_object_mut().expect("members").remove("cron");
        body
    };
    let nothing = json!({ "stream_id": null });
    for (body, status, words) in [
        (with(json!({ "timezone": "Mars/Base" })), 422, "timezone"),
        (with(json!({ "timezone": "../../etc/passwd" })), 422, "timezone"),
        (with(json!({ "cron": "* * * * * *" })), 422, "at least 60 s"),
        (with(json!({ "cron": "*/30 * * * * *" })), 422, "30 s apart"),
        (with(json!({ "cron": "61 * * * *" })), 422, "cron"),
        (with(json!({ "cron": "" })), 422, "cron"),
        (with(json!({ "cron": "x".repeat(129) })), 422, "128 bytes"),
        (with(json!({ "cron": "0 0 30 2 *" })), 422, "still to come"),
        (with(json!({ "cron": "0 0 0 1 1 * 2020" })), 422, "still to come"),
        (with(json!({ "run_at": "2030-01-01T00:00:00Z" })), 422, "one of"),
        (rule(json!({})), 422, "one of"),
        (rule(json!({ "run_at": "2020-01-01T00:00:00Z" })), 422, "still to come"),
        (rule(json!({ "run_at": "soon" })), 422, "run_at"),
        (rule(json!({ "recurrence": "hourly", "time": "10:00" })), 422, "recurrence"),
        (rule(json!({ "recurrence": "daily" })), 422, "time"),
        (rule(json!({ "recurrence": "daily", "time": "25:00" })), 422, "time"),
        (rule(json!({ "recurrence": "weekly", "time": "10:00", "days": ["someday"] })), 422, "days"),
        (with(json!({ "misfire_grace_seconds": 86_401 })), 422, "misfire_grace_seconds"),
        (with(json!({ "misfire_grace_seconds": -1 })), 400, "misfire_grace_seconds"),
        (with(json!({ "name": "<b>x</b>" })), 422, "markup"),
        (with(json!({ "name": "" })), 422, "name"),
        (with(json!({ "channel_id": "a\n" })), 400, "channel_id"),
        (with(json!({ "channel_id": "x".repeat(65) })), 400, "channel_id"),
        (with(json!({ "colour": "red" })), 400, "colour"),
        (with(json!({ "stream_id": "0199a3f0-0000-7000-8000-000000000000" })), 422, "no such station"),
        (with(json!({ "stream_id": "one" })), 400, "stream_id"),
        (with(nothing.clone()), 400, "one of"),
        (with(json!({ "playlist_id": station })), 400, "one of"),
        (with(json!({ "stream_id": null, "playlist_id": station })), 422, "cannot begin a playlist"),
        (with(json!({ "stream_id": null, "track_id": "t1" })), 422, "cannot begin a track"),
        (json!([]), 400, ""),
    ] {
        let said = client.send(Method::POST, "", Some(&body)).await.problem(status);
        let detail = said["detail"].as_str().expect("a detail");
        assert!(detail.contains(words), "{body}: {detail}");
    }
    let large = with(json!({ "name": "x".repeat(9000) }));
    client.send(Method::POST, "", Some(&large)).await.problem(413);
    assert_eq!(gate.client().get(&path(""), &[]).await.problem(401)["status"], 401);
    assert_eq!(client.get("").await["items"], json!([]), "nothing is kept");
    let made = client.create(&yearly(&station)).await;
    let body = with(json!({ "timezone": "Mars/Base" }));
    client.send(Method::PUT, id_of(&made), Some(&body)).await.problem(422);
    assert_eq!(client.get(id_of(&made)).await, made);
}

#[tokio::test]
async fn a_user_keeps_so_many_schedules() {
    let (folder, radio) = (TempFolder::new("schedules"), Station::start().await);
    let mut config = schedules(&folder, &sqlite(&folder));
    config["Schedules"]["MaxSchedulesPerUser"] = json!(2);
    let gate = Gate::start(&config).await;
    let station = add(&gate, &radio).await;
    let client = Client::new(&gate, "alice");
    let made = client.create(&yearly(&station)).await;
    client.create(&yearly(&station)).await;
    client.send(Method::POST, "", Some(&yearly(&station))).await.problem(409);
    Client::new(&gate, "bob").create(&yearly(&station)).await;
    client.send(Method::DELETE, id_of(&made), None).await.is(204);
    client.create(&yearly(&station)).await;
}

#[tokio::test]
async fn without_its_section_there_are_no_schedules_and_metrics_are_there_from_the_first_scrape() {
    let folder = TempFolder::new("schedules");
    let mut config = schedules(&folder, &sqlite(&folder));
    let gate = Gate::start(&config).await;
    let page = gate.metrics().await;
    for outcome in ["done", "failed", "missed", "interrupted"] {
        assert!(page.contains(&format!("tidegate_schedules_runs_total{{outcome=\"{outcome}\"}} 0")), "{outcome}");
    }
    for name in ["missed_instants_total", "takeovers_total", "running"] {
        assert!(page.contains(&format!("tidegate_schedules_{name} 0")), "{name}");
    }
    config["Radio"] = json!({ "Enabled": false });
    let without_radio = Gate::start(&config).await;
    let client = Client::new(&without_radio, "alice");
    let body = yearly("0199a3f0-0000-7000-8000-000000000000");
    let said = client.send(Method::POST, "", Some(&body)).await.problem(422);
    assert_eq!(said["detail"], "this server cannot begin a radio station on a channel");
    config["Schedules"] = json!({ "Enabled": false });
    let gate = Gate::start(&config).await;
    Client::new(&gate, "alice").send(Method::GET, "", None).await.problem(404);
}

#[tokio::test]
async fn schedules_go_on_after_the_database_was_away() {
    let Some(mut server) = Postgres::start() else { return };
    let (folder, radio) = (TempFolder::new("schedules"), Station::start().await);
    let gate = Gate::start(&schedules(&folder, &server.url())).await;
    let station = add(&gate, &radio).await;
    let client = Client::new(&gate, "alice");
    let made = client.create(&json!({ "name": "Each second", "stream_id": station, "cron": "* * * * * *" })).await;
    let id = id_of(&made);
    client.ends_as(id, "done").await;
    server.stop();
    for (method, what) in [(Method::GET, ""), (Method::GET, id), (Method::DELETE, id)] {
        let reply = client.send(method, what, None).await;
        assert!(!reply.header("retry-after").is_empty(), "{:?}", reply.problem(503));
    }
    server.restart();
    let back = async || {
        let reply = client.send(Method::GET, &format!("{id}/history?limit=1"), None).await;
        (reply.status == 200).then(|| json_of(&reply)["items"][0]["fire_at"].clone())
    };
    let before = eventually("the history is read again", back).await;
    let later = async || (client.history(id).await[0]["fire_at"] != before).then_some(());
    eventually("instants come again", later).await;
}
