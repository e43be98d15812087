//! Service of the bot over SQLite.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use http::StatusCode;
use serde_json::json;

use crate::service::{AccountState, LinkOutcome};
use crate::settings::Settings;
use crate::user_api::{ApiAnswer, ApiRequest, LinkedUser, UserApi};
use crate::{Error, TelegramService, TelegramServiceParts};
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::secret::Secret;
use server_kit::api::user::UserRole;
use server_kit::database::{self, Database};

struct NoApi;

impl UserApi for NoApi {
    fn send<'a>(&'a self, _: &'a LinkedUser, _: ApiRequest) -> BoxFuture<'a, ApiAnswer> {
        let refusal = ApiAnswer { status: StatusCode::NOT_FOUND, body: Bytes::new(), detail: None, retry_after: None };
        Box::pin(ready(refusal))
    }
}

struct Bot {
    telegram: TelegramService,
    clock: Clock,
    _folder: tempfile::TempDir,
}

/// Client that asks nobody.
pub(crate) fn client() -> reqwest::Client {
    // The program does so at its start; another test may have.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().build().unwrap()
}

async fn bot() -> Bot {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&database::settings::Settings::Sqlite(folder.path().join("db"))).await.unwrap();
    database.migrate().await.unwrap();
    let clock = Clock::manual(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000));
    let settings = Settings::new(Secret::new("1:abcdefghijklmnopqrstuvwxyz"), "http://127.0.0.1:9".parse().unwrap());
    let parts = TelegramServiceParts {
        settings,
        database,
        client: client(),
        users: Arc::new(NoApi),
        revocations: None,
        tasks: BackgroundTasks::default(),
        clock: clock.clone(),
    };
    Bot { telegram: TelegramService::idle(parts, &prometheus::Registry::new()).unwrap(), clock, _folder: folder }
}

fn user(name: &str) -> LinkedUser {
    LinkedUser { id: UserId::parse(name).unwrap(), role: UserRole::Vip }
}

#[tokio::test]
async fn a_code_links_once_and_within_its_time() {
    let Bot { telegram, clock, .. } = &bot().await;
    let first = telegram.new_code(user("ada")).await.unwrap().code.show();
    let second = telegram.new_code(user("ada")).await.unwrap().code.show();
    assert_eq!(telegram.link(7, &first).await, Ok(LinkOutcome::BadCode), "the newest is the one that is good");
    assert_eq!(telegram.link(7, &second).await, Ok(LinkOutcome::Linked));
    assert_eq!(telegram.account(7).await, Ok(AccountState::Linked(user("ada"))));
    assert_eq!(telegram.link(8, &second).await, Ok(LinkOutcome::BadCode), "it is used up");
    let late = telegram.new_code(user("bob")).await.unwrap().code.show();
    clock.advance(telegram.0.settings.code_ttl);
    assert_eq!(telegram.link(8, &late).await, Ok(LinkOutcome::BadCode));
    assert_eq!(telegram.account(8).await, Ok(AccountState::NotLinked));
}

#[tokio::test]
async fn a_user_has_one_account_and_an_account_one_user() {
    let Bot { telegram, .. } = &bot().await;
    for (telegram_id, name) in [(7, "ada"), (8, "ada"), (8, "bob")] {
        let code = telegram.new_code(user(name)).await.unwrap().code.show();
        assert_eq!(telegram.link(telegram_id, &code).await, Ok(LinkOutcome::Linked));
    }
    assert_eq!(telegram.account(7).await, Ok(AccountState::NotLinked));
    assert_eq!(telegram.account(8).await, Ok(AccountState::Linked(user("bob"))));
    assert_eq!(telegram.unlink_user(&user("ada").id).await, Err(Error::NotLinked));
    assert_eq!(telegram.unlink_user(&user("bob").id).await, Ok(()));
    assert_eq!(telegram.account(8).await, Ok(AccountState::NotLinked));
}

#[tokio::test]
async fn wrong_codes_are_bounded_and_forgotten_after_an_hour() {
    let Bot { telegram, clock, .. } = &bot().await;
    let code = telegram.new_code(user("ada")).await.unwrap().code.show();
    for _ in 0..5 {
        assert_eq!(telegram.link(7, "00000-00000").await, Ok(LinkOutcome::BadCode));
    }
    assert_eq!(telegram.link(7, &code).await, Ok(LinkOutcome::TooMany), "be it right");
    assert_eq!(telegram.link(8, &code).await, Ok(LinkOutcome::Linked), "others are not held back");
    clock.advance(std::time::Duration::from_secs(3601));
    let code = telegram.new_code(user("bob")).await.unwrap().code.show();
    assert_eq!(telegram.link(7, &code).await, Ok(LinkOutcome::Linked));
}

/// Update with a message of a private chat.
fn message(id: i64, chat: i64) -> serde_json::Value {
    json!({ "update_id": id, "message": { "text": "/help", "from": { "id": chat, "is_bot": false },
        "chat": { "id": chat, "type": "private" } } })
}

#[tokio::test]
async fn an_update_is_begun_once_and_each_chat_has_its_order() {
    let Bot { telegram, .. } = &bot().await;
    let (updates, node) = (&telegram.0.updates, telegram.0.node);
    telegram.receive(vec![message(12, 7), message(10, 7), message(11, 8), message(10, 7)], None).await.unwrap();
    telegram.receive(vec![message(11, 8), json!({ "update_id": 13, "poll": {} })], None).await.unwrap();
    assert_eq!(updates.waiting().await, Ok(3));
    let due = |found: Vec<crate::update_store::DueUpdate>| found.iter().map(|due| due.id).collect::<Vec<_>>();
    assert_eq!(due(updates.due(10).await.unwrap()), [10, 11], "the first of each chat");
    assert_eq!(updates.begin(10, node).await, Ok(true));
    assert_eq!(updates.begin(10, node).await, Ok(false));
    updates.finish(10, node).await.unwrap();
    telegram.receive(vec![message(10, 7)], None).await.unwrap();
    assert_eq!(due(updates.due(10).await.unwrap()), [11, 12], "one that is done is not done again");
    // Another node takes over.
    assert_eq!(updates.begin(11, node).await, Ok(true));
    let next = uuid::Uuid::new_v4();
    assert_eq!(updates.interrupt(node).await, Ok(0), "its own are under way");
    assert_eq!(updates.interrupt(next).await, Ok(1));
    let found = updates.due(10).await.unwrap();
    assert!(found.iter().any(|due| due.id == 11 && due.is_interrupted), "{found:?}");
}

#[tokio::test]
async fn of_one_chat_twenty_updates_wait_and_of_others_theirs() {
    let Bot { telegram, .. } = &bot().await;
    telegram.receive((1..=40).map(|id| message(id, 7)).collect(), None).await.unwrap();
    assert_eq!(telegram.0.updates.waiting().await.unwrap(), 20);
    telegram.receive(vec![message(41, 7), message(42, 8)], None).await.unwrap();
    let due = telegram.0.updates.due(100).await.unwrap();
    assert_eq!(due.iter().map(|due| (due.id, due.chat)).collect::<Vec<_>>(), [(1, 7), (42, 8)]);
    assert_eq!(telegram.0.updates.waiting().await.unwrap(), 21);
}

#[tokio::test]
async fn one_node_has_the_bot_and_another_bot_begins_anew() {
    let Bot { telegram, .. } = &bot().await;
    let updates = &telegram.0.updates;
    let [one, two] = [(); 2].map(|()| uuid::Uuid::new_v4());
    let free = updates.holder().await.unwrap();
    assert_eq!((updates.take(&free, one).await, updates.take(&free, two).await), (Ok(true), Ok(false)));
    assert_eq!((updates.beat(one).await, updates.beat(two).await), (Ok(true), Ok(false)));
    updates.adopt("1").await.unwrap();
    let now = telegram.now();
    updates.receive(&[], Some((40, two)), now).await.unwrap();
    assert_eq!(updates.offset().await.unwrap().0, 0, "who does not have it moves nothing on");
    updates.receive(&[], Some((41, one)), now).await.unwrap();
    updates.adopt("1").await.unwrap();
    assert_eq!(updates.offset().await, Ok((41, now)));
    updates.adopt("2").await.unwrap();
    assert_eq!(updates.offset().await.unwrap().0, 0);
}
