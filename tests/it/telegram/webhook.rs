//! Updates that the Bot API sends.

use super::*;
use crate::support::client::Reply;
use crate::support::described::Described;
use crate::support::eventually;

/// Secret of the webhook.
pub const SECRET: &str = "webhook-secret_0123456789";
const PATH: &str = "/api/v1/telegram/webhook";
const HEADER: &str = "x-telegram-bot-api-secret-token";

async fn push(gate: &Gate, secret: &str, body: String) -> Reply {
    let request = gate.client().request(Method::POST, PATH).header(HEADER, secret);
    let response =
        request.header("content-type", "application/json").body(body).send().await.expect("the gate answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.expect("a body") }
}

#[tokio::test]
async fn pushed_updates_are_done_once_and_only_with_the_secret() {
    let folder = TempFolder::new("telegram");
    let api = BotApiStandIn::start().await;
    let mut config = telegram(&api.url(), &folder, &sqlite(&folder));
    config["Telegram"]["Webhook"] =
        json!({ "Url": format!("https://media.example{PATH}"), "Secret": "env:WEBHOOK_SECRET" });
    let gate = start(&config).await;
    let webhook = eventually("the webhook is set", async || api.webhook()).await;
    assert_eq!(webhook["secret_token"], json!(SECRET));
    let described = Described::by(&gate.client()).await;
    let code = code(&gate, &bearer("ada")).await;
    let update = api.message_update(ADA, "en", json!({ "text": format!("/link {code}") })).to_string();
    for secret in ["", "x", &SECRET[1..], &format!("{SECRET}x")] {
        let reply = push(&gate, secret, "no JSON".to_owned()).await;
        reply.problem(401);
        described.checks("POST", PATH, &reply);
    }
    for (body, status) in [("no JSON".to_owned(), 400), ("{}".to_owned(), 400), ("x".repeat((256 << 10) + 1), 413)] {
        let reply = push(&gate, SECRET, body).await;
        reply.problem(status);
        described.checks("POST", PATH, &reply);
    }
    for _ in 0..3 {
        let reply = push(&gate, SECRET, update.clone()).await;
        described.checks("POST", PATH, reply.is(200));
    }
    assert!(api.message_to(ADA, 1).await.contains("linked to your account"));
    let update = api.message_update(ADA, "en", json!({ "text": "/speed 2" })).to_string();
    push(&gate, SECRET, update).await.is(200);
    assert_eq!(api.message_to(ADA, 2).await, "Speed: 2×");
    // One that the bot does not listen to is taken all the same: it would come again for ever.
    push(&gate, SECRET, json!({ "update_id": 1, "something_new": {} }).to_string()).await.is(200);
    assert!(api.calls("getUpdates").is_empty());
    assert!(!gate.log().contains(SECRET));
    api.check();
}

#[tokio::test]
async fn there_is_no_webhook_where_updates_are_asked_for() {
    let folder = TempFolder::new("telegram");
    let (_api, gate) = bot(&folder).await;
    push(&gate, SECRET, json!({ "update_id": 1 }).to_string()).await.problem(404);
}
