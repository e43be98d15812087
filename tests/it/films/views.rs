//! Rows of `stream_sessions`: none is lost where the process ends while the database is away.

use serde_json::json;
use sqlx::PgPool;

use super::{Viewer, embedded};
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, Redis, eventually};

/// Viewers who start and stop a film.
const VIEWERS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_that_wait_for_the_database_outlive_the_process() {
    let (Some(redis), Some(mut postgres)) = (Redis::start(), Postgres::start()) else { return };
    let folder = TempFolder::new("films");
    let mut config = embedded(&folder);
    config["State"]["Url"] = json!(redis.url());
    config["Database"]["Url"] = json!(postgres.url());
    let mut gate = Gate::start(&config).await;
    let mut ended = 0;
    // Killed, and stopped in order, which waits for no database that is away.
    for signal in ["KILL", "TERM"] {
        tokio::task::block_in_place(|| postgres.kill());
        for number in 0..VIEWERS {
            let viewer = Viewer::new(&gate, &format!("{signal}-{number}"));
            eventually("it starts", async || (viewer.start("dune").await.status == 200).then_some(())).await;
            eventually("it stops", async || (viewer.stop("dune", 60).await.status == 200).then_some(())).await;
        }
        ended += VIEWERS;
        gate.signal(signal).await;
        gate.ended().await;
        tokio::task::block_in_place(|| postgres.restart());
        gate = Gate::start(&config).await;
        let pool = PgPool::connect(&postgres.url()).await.expect("PostgreSQL answers");
        // The lease of the node that has ended is over in its time; this is not waited for.
        redis.ask("EVAL \"for _, id in ipairs(redis.call('ZRANGE', 'vod.views', 0, -1)) do redis.call('ZADD', 'vod.views', 0, id) end\" 0");
        eventually("all views are recorded", async || {
            let read = "SELECT count(*) FROM stream_sessions
                WHERE ended_at >= started_at AND ip_address = '127.0.0.1'";
            let (count,): (i64,) = sqlx::query_as(read).fetch_one(&pool).await.expect("the table is there");
            (count == ended as i64).then_some(())
        })
        .await;
        let empty = async || redis.ask("ZCARD vod.views").starts_with(":0").then_some(());
        eventually("nothing is looked at any more", empty).await;
    }
}
