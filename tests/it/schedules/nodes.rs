//! Several nodes, nodes that die, and the time after a downtime.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn two_nodes_on_one_postgresql_begin_each_instant_once() {
    let Some(database) = Postgres::database().await else { return };
    let folder = TempFolder::new("schedules");
    let config = schedules(&folder, &database);
    let (one, two, radio) = (Gate::start(&config).await, Gate::start(&config).await, Station::start().await);
    let station = add(&one, &radio).await;
    let client = Client::new(&one, "alice");
    let body = json!({ "name": "Each second", "stream_id": station, "cron": "* * * * * *" });
    let made = client.create(&body).await;
    let id = id_of(&made);
    let done = |runs: &[Value]| runs.iter().filter(|run| run["state"] == "done").count();
    let many = async || (done(&client.history(id).await) >= 5).then_some(());
    eventually("five instants have come", many).await;
    client.send(Method::POST, &format!("{id}/pause"), None).await.is(200);
    let all_done = async || {
        let runs = client.history(id).await;
        (done(&runs) == runs.len()).then_some(runs)
    };
    let runs = eventually("all runs have ended", all_done).await;
    let instants: BTreeSet<_> = runs.iter().map(|run| run["fire_at"].to_string()).collect();
    assert_eq!(instants.len(), runs.len(), "no instant is there twice");
    // Each run was told to players once: the nodes' own events are counted, and there are no others.
    let mut told = 0.0;
    for gate in [&one, &two] {
        told += gate.metric("tidegate_players_events_total", "local").await;
    }
    assert_eq!(told as usize, runs.len());
    let mut counted = 0.0;
    for gate in [&one, &two] {
        counted += gate.metric("tidegate_schedules_runs_total", "outcome=\"done\"").await;
    }
    assert_eq!(counted as usize, runs.len());
    assert_eq!(client.get(id).await["triggered_count"], runs.len());
}

#[tokio::test]
async fn what_a_node_had_claimed_when_it_was_killed_is_begun_by_another_one_on_postgresql() {
    let Some(database) = Postgres::database().await else { return };
    a_killed_node_is_taken_over(&database).await;
}

#[tokio::test]
async fn what_a_node_had_claimed_when_it_was_killed_is_begun_by_another_one_on_sqlite() {
    let folder = TempFolder::new("schedules");
    a_killed_node_is_taken_over(&sqlite(&folder)).await;
}

async fn a_killed_node_is_taken_over(database: &str) {
    let folder = TempFolder::new("schedules");
    let config = schedules(&folder, database);
    let (mut one, two, radio) = (Gate::start(&config).await, Gate::start(&config).await, Station::start().await);
    let station = add(&one, &radio).await;
    let Some(mut listener) = Listener::open(&two, "alice", "").await else { return };
    let client = Client::new(&two, "alice");
    let made = client.create(&yearly(&station)).await;
    let id = id_of(&made);
    // The station says nothing: the node has claimed the run, and waits for sound.
    radio.hold();
    let run = json_of(Client::new(&one, "alice").send(Method::POST, &format!("{id}/run"), None).await.is(202));
    assert_eq!(client.history(id).await[0]["state"], "claimed");
    one.signal("KILL").await;
    one.ended().await;
    radio.come_back();
    assert_eq!(listener.event("play").await["schedule_id"], made["id"]);
    let ended = client.ends_as(id, "done").await;
    assert_eq!((&ended["id"], &ended["attempt"]), (&run["id"], &json!(2)));
    assert_eq!(client.history(id).await.len(), 1);
    assert_eq!(two.metric("tidegate_schedules_takeovers_total", "").await, 1.0);
}

#[tokio::test]
async fn after_a_downtime_late_instants_become_one_run_and_older_ones_are_told_as_missed() {
    let (folder, radio) = (TempFolder::new("schedules"), Station::start().await);
    let config = schedules(&folder, &sqlite(&folder));
    let mut gate = Gate::start(&config).await;
    let station = add(&gate, &radio).await;
    let client = Client::new(&gate, "alice");
    let every_minute = json!({ "name": "Each minute", "stream_id": station, "cron": "* * * * *" });
    let mut strict = every_minute.clone();
    strict["misfire_grace_seconds"] = json!(0);
    let (one, strict) = (client.create(&every_minute).await, client.create(&strict).await);
    assert!(gate.stop().await.success());
    // As if it had been down for two hours.
    let pool = sqlx::SqlitePool::connect(&sqlite(&folder)).await.expect("the file is there");
    let moved = sqlx::query("UPDATE schedules SET next_run_at = next_run_at - 7200000").execute(&pool).await;
    assert_eq!(moved.expect("it is changed").rows_affected(), 2);
    pool.close().await;
    let gate = Gate::start(&config).await;
    let client = Client::new(&gate, "alice");
    let runs = async || {
        let runs = client.history(id_of(&one)).await;
        runs.iter().any(|run| run["state"] == "done" && run["instants"] != 1).then_some(runs)
    };
    let runs = eventually("what is late is made good", runs).await;
    let of = |state: &str| -> Vec<i64> {
        runs.iter().filter(|run| run["state"] == state).filter_map(|run| run["instants"].as_i64()).collect()
    };
    // Five minutes of grace are five instants, or six at its edge.
    let made_good: Vec<_> = of("done").into_iter().filter(|instants| *instants > 1).collect();
    assert!(matches!(made_good[..], [5 | 6]), "{runs:?}");
    assert!(matches!(of("missed")[..], [114..=116]), "{runs:?}");
    let missed = async || client.history(id_of(&strict)).await.into_iter().find(|run| run["state"] == "missed");
    let missed = eventually("without grace all are missed", missed).await;
    assert!(missed["instants"].as_i64().is_some_and(|instants| instants >= 120), "{missed}");
    assert!(gate.metric("tidegate_schedules_missed_instants_total", "").await >= 234.0);
}
