//! Links of accounts, and who can do nothing.

use super::*;
use crate::support::described::Described;
use crate::support::{Postgres, eventually};

#[tokio::test]
async fn links_in_a_file() {
    let folder = TempFolder::new("telegram");
    holds(&folder, &sqlite(&folder)).await;
}

#[tokio::test]
async fn links_in_postgresql() {
    let folder = TempFolder::new("telegram");
    let Some(database) = Postgres::database().await else { return };
    holds(&folder, &database).await;
}

async fn holds(folder: &TempFolder, database: &str) {
    let api = BotApiStandIn::start().await;
    let gate = start(&telegram(&api.url(), folder, database)).await;
    nothing_happens_for_who_is_not_linked(&api, &gate).await;
    a_code_links_once(&api, &gate).await;
    a_link_ends_from_either_side(&api, &gate).await;
    answers_are_as_described(&gate).await;
    api.check();
}

async fn nothing_happens_for_who_is_not_linked(api: &BotApiStandIn, gate: &Gate) {
    let before = settings(gate, "ada").await;
    for text in ["/speed 2", "/help", "hello", "/addradio http://a b", "/unlink", "/start"] {
        assert!(api.ask(ADA, text).await.contains("not linked to an account"), "{text}");
    }
    assert!(api.ask(ADA, "/link").await.contains("/link CODE"));
    assert_eq!(settings(gate, "ada").await, before);
}

async fn a_code_links_once(api: &BotApiStandIn, gate: &Gate) {
    let first = code(gate, &bearer("ada")).await;
    let second = code(gate, &bearer("ada")).await;
    assert!(api.ask(ADA, &format!("/link {first}")).await.contains("links no account"), "a newer one replaces it");
    assert!(api.ask(ADA, &format!("/start {}", second.to_lowercase())).await.contains("linked to your account"));
    assert!(api.ask(BOB, &format!("/link {second}")).await.contains("links no account"), "it is used up");
    assert_eq!(api.ask(ADA, "/speed 1.5").await, "Speed: 1.5×");
    assert_eq!(settings(gate, "ada").await["speed"], json!(1.5));
    assert!(api.ask(BOB, "/speed 2").await.contains("not linked"));
}

async fn a_link_ends_from_either_side(api: &BotApiStandIn, gate: &Gate) {
    let path = "/api/v1/telegram/link";
    send(gate, Method::DELETE, path, &bearer("ada"), None).await.is(204);
    send(gate, Method::DELETE, path, &bearer("ada"), None).await.problem(404);
    assert!(api.ask(ADA, "/speed 2").await.contains("not linked"));
    assert_eq!(settings(gate, "ada").await["speed"], json!(1.5));
    link(api, gate, &bearer("bob"), BOB).await;
    assert!(api.ask(BOB, "/unlink").await.contains("no longer linked"));
    assert!(api.ask(BOB, "/speed 2").await.contains("not linked"));
    send(gate, Method::DELETE, path, &bearer("bob"), None).await.problem(404);
    send(gate, Method::POST, path, "Bearer x", None).await.problem(401);
}

async fn answers_are_as_described(gate: &Gate) {
    let (described, path) = (Described::by(&gate.client()).await, "/api/v1/telegram/link");
    let url = eventually("the name of the bot is known", async || {
        let reply = send(gate, Method::POST, path, &bearer("ada"), None).await;
        described.checks("POST", path, &reply);
        let body: Value = serde_json::from_slice(&reply.body).expect("JSON");
        body["url"].as_str().map(|url| (url.to_owned(), body["code"].clone()))
    })
    .await;
    assert_eq!(json!(url.0), json!(format!("https://t.me/tidegate_bot?start={}", url.1.as_str().expect("a code"))));
    described.checks("DELETE", path, &send(gate, Method::DELETE, path, &bearer("eve"), None).await);
    described.checks("DELETE", path, &send(gate, Method::DELETE, path, "Bearer x", None).await);
}

#[tokio::test]
async fn wrong_codes_are_bounded_for_each_account() {
    let folder = TempFolder::new("telegram");
    let (api, gate) = bot(&folder).await;
    let code = code(&gate, &bearer("ada")).await;
    for _ in 0..5 {
        assert!(api.ask(ADA, "/link 00000-00000").await.contains("links no account"));
    }
    assert!(api.ask(ADA, &format!("/link {code}")).await.contains("Too many wrong codes"));
    assert!(api.ask(BOB, &format!("/link {code}")).await.contains("linked to your account"));
}

#[tokio::test]
async fn a_logout_everywhere_ends_a_link() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    let mut config = telegram(&api.url(), &folder, &sqlite(&folder));
    config["Auth"]["PathToken"] = json!({ "Ttl": "1h" });
    let gate = start(&config).await;
    link(&api, &gate, &bearer("ada"), ADA).await;
    assert_eq!(api.ask(ADA, "/speed 1.5").await, "Speed: 1.5×");
    send(&gate, Method::POST, "/api/v1/logout", &bearer("ada"), None).await.is(204);
    assert!(api.ask(ADA, "/speed 2").await.contains("signed out everywhere"));
    assert!(api.ask(ADA, "/speed 2").await.contains("not linked"));
    assert_eq!(settings(&gate, "ada").await["speed"], json!(1.5));
    link(&api, &gate, &bearer("ada"), ADA).await;
    assert_eq!(api.ask(ADA, "/speed 2").await, "Speed: 2×", "a new link is good");
}
