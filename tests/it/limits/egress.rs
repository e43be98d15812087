//! Quotas of egress, and the usage that users see.

use std::sync::Arc;

use primitives::secret::Secret;
use serde_json::{Value, json};
use server_kit::database;
use server_kit::limit::egress_store::{DatabaseEgressStore, RedisEgressStore};

use super::{TRACK, adds_up, bearer, connect, hundred, limited};
use crate::support::origin::pattern;
use crate::support::redis::Redis;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, ScriptedOrigin, token};

#[tokio::test]
async fn egress_adds_up_over_nodes_in_the_database() {
    let folder = TempFolder::new("egress");
    let mut places = vec![database::settings::Settings::Sqlite(folder.path().join("tidegate.db"))];
    if let Some(url) = Postgres::database().await {
        places.push(database::settings::Settings::Postgres { url: Secret::new(url), connections: 4 });
    }
    for place in places {
        let database = database::Database::open(&place).await.expect("it opens");
        database.migrate().await.expect("it has the tables");
        adds_up(|| Arc::new(DatabaseEgressStore(database.clone()))).await;
    }
}

#[tokio::test]
async fn egress_adds_up_over_nodes_in_redis() {
    let Some(redis) = Redis::start() else { return };
    let client = connect(redis.url()).await;
    adds_up(|| Arc::new(RedisEgressStore(client.clone()))).await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_still_so_after_a_restart() {
    let origin = ScriptedOrigin::with_track(pattern(50_000)).await;
    let folder = TempFolder::new("quota");
    let mut config = limited(&origin, json!({ "EgressQuota": { "Bytes": 80_000, "Window": "30d" } }));
    config["Database"]["Url"] = json!(format!("sqlite://{}", folder.path().join("t.db").display()));
    let mut gate = Gate::start(&config).await;
    let alice = bearer("alice");
    gate.client().get(TRACK, &[("authorization", &alice)]).await.is(200);
    gate.client().get(TRACK, &[("authorization", &alice)]).await.is(200);
    let refused = gate.client().get(TRACK, &[("authorization", &alice)]).await;
    assert_eq!(refused.problem(429)["code"], "quota_used_up");
    gate.client().get(TRACK, &[("authorization", &bearer("bob"))]).await.is(200);
    gate.stop().await;
    let gate = Gate::start(&config).await;
    let refused = gate.client().get(TRACK, &[("authorization", &alice)]).await;
    assert_eq!(refused.problem(429)["code"], "quota_used_up");
    let usage = gate.client().get("/api/v1/usage", &[("authorization", &alice)]).await;
    let body: Value = serde_json::from_slice(&usage.is(200).body).expect("JSON");
    assert_eq!(body["policies"][0]["egress"]["used"], 100_000, "{body}");
}

#[tokio::test]
async fn a_user_sees_the_own_usage_and_an_admin_everybodys() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = limited(&origin, hundred());
    config["Policies"]["RateLimiter"]["streaming"]["Concurrency"] = json!({ "PermitLimit": 3 });
    config["Policies"]["RateLimiter"]["standard"] = json!({ "FixedWindow": { "PermitLimit": 3, "Window": "1h" } });
    config["Policies"]["RateLimiter"]["elevated"] = json!({ "FixedWindow": { "PermitLimit": 5, "Window": "1h" } });
    let gate = Gate::start(&config).await;
    let (client, alice) = (gate.client(), bearer("alice"));
    client.get(TRACK, &[("authorization", &alice)]).await.is(200);
    let with_role = |role: &str| {
        let mut claims = token::claims(role);
        claims["role"] = json!(role);
        format!("Bearer {}", token::with(&claims))
    };
    let usage = async |path: &str, bearer: &str| client.get(path, &[("authorization", bearer)]).await;
    let own = usage("/api/v1/usage", &alice).await;
    let body: Value = serde_json::from_slice(&own.is(200).body).expect("JSON");
    assert_eq!(own.header("ratelimit-remaining"), "2");
    let streaming = body["policies"].as_array().expect("a list").iter().find(|it| it["policy"] == "streaming");
    let streaming = streaming.expect("the policy of the route");
    assert_eq!((&streaming["requests"]["used"], &streaming["requests"]["remaining"]), (&json!(1), &json!(99)));
    assert_eq!(streaming["streams"], json!({ "under_way": 0, "limit": 3 }));
    usage("/api/v1/usage?user_id=bob", &alice).await.problem(403);
    let seen = usage("/api/v1/usage?user_id=alice", &with_role("admin")).await;
    let body: Value = serde_json::from_slice(&seen.is(200).body).expect("JSON");
    assert_eq!((&body["user_id"], &body["policies"][2]["requests"]["used"]), (&json!("alice"), &json!(1)), "{body}");
    usage("/api/v1/usage", &alice).await.is(200);
    let refused = usage("/api/v1/usage", &alice).await;
    let problem = refused.problem(429);
    assert!(problem["reset_after"].is_i64() && !refused.header("retry-after").is_empty(), "{problem}");
    assert_eq!(refused.header("ratelimit-limit"), "3");
    assert_eq!(usage("/api/v1/usage", &with_role("vip")).await.header("ratelimit-limit"), "5");
    client.get("/api/v1/usage", &[]).await.problem(401);
}
