//! Nodes whose clocks differ, over one Redis and one database.

use std::time::Duration;

use playback::positions::settings::Settings;
use playback::positions::{ItemKind, PositionKey, PositionReport, PositionService};
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use prometheus::Registry;
use server_kit::database::{self, Database};

use crate::limits::connect;
use crate::support::Redis;
use crate::support::tools::TempFolder;

/// Time by which the clocks of the nodes are wrong.
const WRONG: Duration = Duration::from_secs(600);

fn film() -> PositionKey {
    let (user, item) = (UserId::parse("ada").expect("an id"), TrackId::parse("dune").expect("an id"));
    PositionKey { user, kind: ItemKind::Film, item }
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_holds_up_no_report_of_a_film() {
    let Some(redis) = Redis::start() else { return };
    let folder = TempFolder::new("clocks");
    let file = database::settings::Settings::Sqlite(folder.path().join("positions.db"));
    let database = Database::open(&file).await.expect("the file can be used");
    database.migrate().await.expect("the tables are made");
    let (tasks, now) = (BackgroundTasks::default(), Clock::system().now());
    let mut nodes = Vec::new();
    for clock in [now + WRONG, now, now - WRONG] {
        let stores = (Some(database.clone()), Some(connect(redis.url()).await));
        let (clock, registry) = (Clock::manual(clock), Registry::new());
        let node = PositionService::start(Settings::default(), stores, &clock, &tasks, &registry);
        nodes.push(node.expect("the names are free").expect("there is a store"));
    }
    let true_time = Clock::system();
    let mut position = 0;
    // Each after each other one, the last of a view too.
    for (round, node) in [0, 1, 0, 2, 1, 2, 0].into_iter().enumerate() {
        position += 1000;
        let report = PositionReport { position, duration: None, at: None, is_last: round % 2 == 1 };
        nodes[node].save(film(), report).await.expect("it is kept");
        for reader in &nodes {
            assert_eq!(reader.get(&film()).await, Ok(Some(position)), "round {round}");
        }
    }
    // A player's own time counts, and never one in the future.
    let at = |time: UnixMillis| PositionReport { position: 5, duration: None, at: Some(time), is_last: false };
    let real = true_time.unix_millis();
    nodes[0].save(film(), at(real - WRONG)).await.expect("it is taken");
    assert_eq!(nodes[1].get(&film()).await, Ok(Some(position)), "it is older");
    nodes[0].save(film(), at(real + WRONG)).await.expect("it is kept");
    let stored = nodes[1].get_record(&film()).await.expect("it is read").expect("it is there");
    assert!(stored.updated_at <= true_time.unix_millis(), "the future is now");
    assert_eq!(stored.position, Some(5));
    tasks.shutdown(Duration::from_secs(5)).await;
}
