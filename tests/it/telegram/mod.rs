//! The Telegram bot, through the shipped binary, before a stand-in for the Bot API: links of accounts, updates that come twice, late
//! and over a restart, what users ask for, clips, the webhook, and a Bot API that asks to wait and is cut off.

mod clips;
mod commands;
mod links;
mod stand_in;
mod updates;
mod webhook;

use http::Method;
use serde_json::{Value, json};

use self::stand_in::{BotApiStandIn, TOKEN};
use crate::catalogue::{bearer, send, sqlite, tracks};
use crate::support::tools::TempFolder;
use crate::support::{Gate, token};

/// Users of Telegram.
const ADA: i64 = 7001;
const BOB: i64 = 7002;

/// A bot of `api` with links in `database`, and players.
pub fn telegram(api: &str, folder: &TempFolder, database: &str) -> Value {
    let mut config = tracks("http://127.0.0.1:1", database);
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    config["ObjectStores"]["main"] = json!({ "Embedded": folder.path().join("objects") });
    config["Playback"] = json!({});
    config["Telegram"] = json!({ "Token": "env:BOT_TOKEN", "ApiUrl": api, "PollTimeout": "1s", "Lease": "1s" });
    config
}

/// Starts Tidegate with the token of the bot.
async fn start(config: &Value) -> Gate {
    Gate::start_with(config, &[("BOT_TOKEN", TOKEN), ("WEBHOOK_SECRET", webhook::SECRET)]).await
}

/// A bot over SQLite.
async fn bot(folder: &TempFolder) -> (BotApiStandIn, Gate) {
    let api = BotApiStandIn::start().await;
    let gate = start(&telegram(&api.url(), folder, &sqlite(folder))).await;
    (api, gate)
}

/// Code for the caller.
async fn code(gate: &Gate, who: &str) -> String {
    let reply = send(gate, Method::POST, "/api/v1/telegram/link", who, None).await;
    let body: Value = serde_json::from_slice(&reply.is(201).body).expect("JSON");
    body["code"].as_str().expect("a code").to_owned()
}

/// Links a user's account.
async fn link(api: &BotApiStandIn, gate: &Gate, who: &str, user: i64) {
    let code = code(gate, who).await;
    assert!(api.ask(user, &format!("/link {code}")).await.contains("linked to your account"));
}

/// `Authorization` of a user with a role.
fn with_role(user: &str, role: &str) -> String {
    let mut claims = token::claims(user);
    claims["role"] = json!(role);
    format!("Bearer {}", token::with(&claims))
}

/// Settings of a user's players.
async fn settings(gate: &Gate, user: &str) -> Value {
    let reply = send(gate, Method::GET, "/api/v1/playback/settings", &bearer(user), None).await;
    serde_json::from_slice(&reply.is(200).body).expect("JSON")
}
