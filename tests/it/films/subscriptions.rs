//! Subscriptions: asked once, believed for a while, and honoured while the service is away.

use std::sync::atomic::Ordering;

use http::Method;
use serde_json::{Value, json};

use super::{UserAnswer, UserService, Viewer, embedded};
use crate::support::tools::TempFolder;
use crate::support::{Gate, Redis, eventually};

async fn start(folder: &TempFolder, users: &UserService, subscription: Value, redis: Option<&Redis>) -> Gate {
    let mut config = embedded(folder);
    config["Vod"]["Subscription"] = subscription;
    config["Vod"]["Subscription"]["Url"] = json!(users.template());
    if let Some(redis) = redis {
        config["State"]["Url"] = json!(redis.url());
    }
    Gate::start(&config).await
}

async fn purge(gate: &Gate, user: &str) {
    let path = format!("/api/v1/admin/subscriptions?user_id={user}");
    Viewer::admin(gate).send(Method::DELETE, &path, None).await.is(204);
}

/// What holds with Redis and without.
async fn holds(redis: Option<&Redis>) {
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    let gate = start(&folder, &users, json!({ "Timeout": "1s" }), redis).await;
    users.says("ada", 200, json!({ "is_active": true }));
    users.says("bob", 200, json!({ "status": "expired" }));
    for _ in 0..3 {
        Viewer::new(&gate, "ada").start("dune").await.is(200);
        let refused = Viewer::new(&gate, "bob").start("dune").await;
        assert_eq!(refused.problem(403)["detail"], "No active subscription");
        // Somebody of whom the service knows nothing.
        Viewer::new(&gate, "eve").start("dune").await.problem(403);
    }
    assert_eq!(users.asked(), 3, "each was asked about once");
    // An operator has the service asked again.
    users.says("bob", 200, json!({ "active": true }));
    purge(&gate, "bob").await;
    Viewer::new(&gate, "bob").start("dune").await.is(200);
    // A yes is honoured while the service fails, a no and nothing are not.
    users.says("ada", 500, json!({}));
    users.says("new", 500, json!({}));
    let refused = Viewer::new(&gate, "new").start("dune").await;
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "1");
    Viewer::new(&gate, "ada").start("dune").await.is(200);
    purge(&gate, "ada").await;
    Viewer::new(&gate, "ada").start("dune").await.problem(503);
    // Positions need no subscription: a film that was begun is gone on with later.
    Viewer::new(&gate, "eve").report("dune", 5).await.is(200);
    for (outcome, count) in [("started", 5.0), ("no_subscription", 6.0), ("unavailable", 2.0)] {
        let labels = format!("manifest=\"hls\",outcome=\"{outcome}\"");
        assert_eq!(gate.metric("tidegate_vod_starts_total", &labels).await, count, "{outcome}");
    }
    for (outcome, count) in [("active", 2.0), ("inactive", 2.0), ("cached", 7.0), ("unavailable", 2.0)] {
        let labels = format!("outcome=\"{outcome}\"");
        assert_eq!(gate.metric("tidegate_vod_subscription_checks_total", &labels).await, count, "{outcome}");
    }
    assert_eq!(gate.metric("tidegate_vod_reports_total", "").await, 1.0);
}

#[tokio::test]
async fn subscriptions_with_memory() {
    holds(None).await;
}

#[tokio::test]
async fn subscriptions_with_redis() {
    let Some(redis) = Redis::start() else { return };
    holds(Some(&redis)).await;
    assert!(redis.ask("EXISTS vod.subscription:bob").starts_with(":1"));
}

#[tokio::test]
async fn the_last_yes_counts_while_the_service_is_away_and_is_counted() {
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    let settings = json!({ "CacheFor": "0s", "DenyCacheFor": "0s", "Timeout": "500ms" });
    let gate = start(&folder, &users, settings, None).await;
    users.says("ada", 200, json!({ "active": true }));
    users.says("bob", 200, json!({ "active": false }));
    Viewer::new(&gate, "ada").start("dune").await.is(200);
    Viewer::new(&gate, "bob").start("dune").await.problem(403);
    for away in [UserAnswer::Says(503, json!({})), UserAnswer::Hangs, UserAnswer::Says(200, json!("yes"))] {
        users.set("ada", away.clone());
        users.set("bob", away);
        Viewer::new(&gate, "ada").start("dune").await.is(200);
        Viewer::new(&gate, "bob").start("dune").await.problem(503);
    }
    assert!(gate.metric("tidegate_vod_subscription_checks_total", "outcome=\"grace\"").await >= 3.0);
    assert!(gate.metric("tidegate_vod_subscription_checks_total", "outcome=\"unavailable\"").await >= 3.0);
    assert!(!gate.log().contains("/users/ada"), "the address holds the user's id");
}

#[tokio::test]
async fn one_failure_is_tried_again_within_the_same_time() {
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    let gate = start(&folder, &users, json!({}), None).await;
    let (fails, says) = (UserAnswer::Says(502, json!({})), UserAnswer::Says(200, json!({ "active": true })));
    users.set("ada", UserAnswer::Once(Box::new(fails), Box::new(says)));
    Viewer::new(&gate, "ada").start("dune").await.is(200);
    assert_eq!(users.asked(), 2);
}

#[tokio::test]
async fn however_many_wait_the_service_is_asked_once() {
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    // The first try ends after 3 of the 5 seconds; all that wait share it, and the second.
    let gate = start(&folder, &users, json!({ "Timeout": "2s" }), None).await;
    let says = UserAnswer::Says(200, json!({ "active": true }));
    users.set("ada", UserAnswer::Once(Box::new(UserAnswer::Hangs), Box::new(says)));
    let viewer = Viewer::new(&gate, "ada");
    let starts = (0..40).map(|_| viewer.start("dune"));
    for reply in futures::future::join_all(starts).await {
        reply.is(200);
    }
    assert_eq!(users.asked(), 2, "40 starts at once");
}

#[tokio::test]
async fn a_service_that_fails_again_and_again_is_left_alone() {
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    let gate = start(&folder, &users, json!({ "Timeout": "1s" }), None).await;
    for number in 0..30 {
        let user = format!("user-{number}");
        users.says(&user, 500, json!({}));
        Viewer::new(&gate, &user).start("dune").await.problem(503);
    }
    let asked = users.asked();
    assert!(asked < 30, "asked {asked} times for 30 starts, of which each may ask twice");
    users.says("ada", 200, json!({ "active": true }));
    eventually("it is tried again", async || {
        (Viewer::new(&gate, "ada").start("dune").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_users_answers_shut_nobody_else_out() {
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    let gate = start(&folder, &users, json!({ "Timeout": "1s" }), None).await;
    // A record that is broken: the service fails for this user each time.
    users.says("broken", 500, json!({}));
    for _ in 0..10 {
        Viewer::new(&gate, "broken").start("dune").await.problem(503);
    }
    // Users whom the service refuses: that is an answer about them, and is remembered.
    let before = users.asked();
    for number in 0..10 {
        let user = format!("odd-{number}");
        users.says(&user, [400, 403, 410, 422, 200][number % 5], json!({ "detail": "not a UUID" }));
        for _ in 0..3 {
            Viewer::new(&gate, &user).start("dune").await.problem(503);
        }
    }
    assert_eq!(users.asked() - before, 10, "each was asked about once");
    for number in 0..5 {
        let user = format!("good-{number}");
        users.says(&user, 200, json!({ "active": true }));
        Viewer::new(&gate, &user).start("dune").await.is(200);
    }
}

#[tokio::test]
async fn running_sessions_are_checked_again_and_not_cut() {
    let (users, folder) = (UserService::start().await, TempFolder::new("films"));
    let mut config = embedded(&folder);
    config["Vod"]["ReportInterval"] = json!("1s");
    config["Vod"]["Subscription"] = json!({
        "Url": users.template(), "RecheckInterval": "10s", "CacheFor": "0s", "DenyCacheFor": "0s" });
    let gate = Gate::start(&config).await;
    users.says("ada", 200, json!({ "active": true }));
    let viewer = Viewer::new(&gate, "ada");
    viewer.start("dune").await.is(200);
    users.says("ada", 200, json!({ "active": false }));
    let before = users.state.asked.load(Ordering::Relaxed);
    eventually("it is asked again while the film plays", async || {
        viewer.report("dune", 7).await.is(200);
        (users.asked() > before).then_some(())
    })
    .await;
    eventually("the operator sees it", async || {
        gate.log().contains("a subscription has ended while a film plays").then_some(())
    })
    .await;
    viewer.report("dune", 8).await.is(200);
    viewer.start("dune").await.problem(403);
}
