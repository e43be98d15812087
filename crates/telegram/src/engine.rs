//! One node at a time has the bot: it gets the updates, and does what they say, one after another in each chat. An update is kept
//! before it is confirmed, and begun in the database before anything of it is done, so that none is lost or done twice; what a node
//! has died amid is said to its user, since nobody knows how far it came.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::bot_api::BotApiError;
use crate::bot_api::client::CALL_TIMEOUT;
use crate::bot_api::types::{BotAccount, DeleteWebhook, GetUpdates, SetMyCommands, SetWebhook};
use crate::conversation;
use crate::lease::LeaseWatch;
use crate::metrics::CallOutcome;
use crate::service::{ATTEMPTS_TIME, MAX_WAITING, TelegramService};
use crate::texts::BotLanguage;
use crate::update_store::DueUpdate;
use primitives::clock::monotonic_now;
use primitives::failure_log::FailureLog;
use primitives::unix_time::{UnixMillis, whole_millis};

/// Kinds of updates that the bot listens to.
const UPDATE_KINDS: &[&str] = &["message", "callback_query"];
/// Updates of one answer.
const BATCH: u32 = 100;
/// Updates that are done at once, each of another chat.
const MAX_BUSY: usize = 16;
/// Chats whose first update is looked at together; more than may be busy.
const LOOK_AHEAD: u32 = 64;
/// Time after which updates are looked for that another node has kept.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// First and longest wait before the Bot API is asked again that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Time for which ids of updates are known: the Bot API sends none again after a day.
const KEEP_FOR: Duration = Duration::from_secs(48 * 3600);
/// After a week without updates ids begin anew anywhere, so that an offset of before would skip some.
const OFFSET_FOR: Duration = Duration::from_secs(6 * 86_400);
/// Time between two rounds of forgetting.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// Waits for the bot, and has it as long as it can, until the tasks stop.
pub async fn run(telegram: TelegramService) {
    let state = &telegram.0;
    let (mut watch, busy) = (LeaseWatch::default(), BusyChats::default());
    let pause = state.settings.lease / 3;
    loop {
        if try_to_take(&telegram, &mut watch).await {
            tracing::info!("this node has the Telegram bot");
            state.metrics.holds_bot.set(1);
            tokio::select! {
                () = hold(&telegram) => tracing::warn!("another node has the Telegram bot now"),
                () = get_updates(&telegram) => {}
                () = do_updates(&telegram, &busy) => {}
                () = prune(&telegram) => {}
                () = state.tasks.closing() => {}
            }
            state.metrics.holds_bot.set(0);
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = state.tasks.closing() => break,
        }
    }
    // The next node takes what is begun by then for interrupted.
    busy.idle().await;
    let _ = state.updates.release(state.node).await;
}

async fn try_to_take(telegram: &TelegramService, watch: &mut LeaseWatch) -> bool {
    let state = &telegram.0;
    let Ok(holder) = state.updates.holder().await else { return false };
    if !watch.is_free(&holder, state.node, monotonic_now(), state.settings.lease) {
        return false;
    }
    let taken = state.updates.take(&holder, state.node).await == Ok(true);
    taken
        && state.updates.adopt(state.settings.bot_id()).await.is_ok()
        && state.updates.interrupt(state.node).await.is_ok()
}

/// Gives signs of life; resolves when another node has the bot, or may have it.
async fn hold(telegram: &TelegramService) {
    let state = &telegram.0;
    let (lease, mut last) = (state.settings.lease, monotonic_now());
    loop {
        sleep(lease / 4).await;
        match state.updates.beat(state.node).await {
            Ok(true) => last = monotonic_now(),
            Ok(false) => return,
            Err(_) if monotonic_now().saturating_duration_since(last) >= lease * 3 / 4 => return,
            Err(_) => {}
        }
    }
}

/// Has the updates come, by whichever way the settings say; never resolves.
async fn get_updates(telegram: &TelegramService) {
    let state = &telegram.0;
    let mut calls = PatientCalls::new(telegram);
    match &state.settings.webhook {
        Some(webhook) => {
            let (url, secret_token) = (webhook.url.as_str(), webhook.secret.expose());
            let request = SetWebhook { url, secret_token, allowed_updates: UPDATE_KINDS };
            calls.until_done::<bool>("setWebhook", &request, CALL_TIMEOUT).await;
        }
        None => {
            let request = DeleteWebhook { drop_pending_updates: false };
            calls.until_done::<bool>("deleteWebhook", &request, CALL_TIMEOUT).await;
        }
    }
    tokio::join!(introduce(telegram), async {
        match state.settings.webhook {
            Some(_) => std::future::pending().await,
            None => poll(telegram, calls).await,
        }
    });
}

/// Asks for the bot's name, and has its commands listed in each language. Nothing waits for it.
async fn introduce(telegram: &TelegramService) {
    let mut calls = PatientCalls::new(telegram);
    let account = calls.until_done::<BotAccount>("getMe", &(), CALL_TIMEOUT).await;
    let is_name = |name: &String| {
        (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if let Some(name) = account.username.filter(is_name) {
        let _ = telegram.0.updates.set_username(&name).await;
    }
    // English is for everybody else too.
    let lists = [None].into_iter().chain(BotLanguage::ALL.map(Some));
    for language in lists {
        let commands = language.unwrap_or_default().commands();
        let request = SetMyCommands { commands, language_code: language.map(BotLanguage::code) };
        calls.until_done::<bool>("setMyCommands", &request, CALL_TIMEOUT).await;
    }
    tracing::info!("the Telegram bot has introduced itself");
}

/// Asks for updates, again and again.
async fn poll(telegram: &TelegramService, mut calls: PatientCalls<'_>) {
    let state = &telegram.0;
    let wait = state.settings.poll_timeout;
    loop {
        let (Ok(waiting), Ok((offset, known_at))) = (state.updates.waiting().await, state.updates.offset().await)
        else {
            sleep(LOOK_INTERVAL).await;
            continue;
        };
        if waiting >= MAX_WAITING {
            sleep(LOOK_INTERVAL).await;
            continue;
        }
        let is_recent = known_at.abs_diff(telegram.now()) < OFFSET_FOR;
        let request = GetUpdates {
            offset: Some(offset).filter(|offset| *offset > 0 && is_recent),
            limit: BATCH,
            timeout: wait.as_secs(),
            allowed_updates: UPDATE_KINDS,
        };
        let limit = wait + CALL_TIMEOUT;
        let asked = monotonic_now();
        let updates = calls.until_done::<Vec<Value>>("getUpdates", &request, limit).await;
        if updates.is_empty() {
            if asked.elapsed() < LOOK_INTERVAL {
                // A server that does not wait as it is asked to.
                sleep(LOOK_INTERVAL).await;
            }
            continue;
        }
        let last = updates.iter().filter_map(|update| update.get("update_id")?.as_i64()).max();
        let next = last.map_or(offset, |last| last.saturating_add(1));
        let next = if is_recent { next.max(offset) } else { next };
        // Not kept: they come again, since nobody has confirmed them. A server that sends the same ones for ever is not asked for ever.
        if telegram.receive(updates, Some(next)).await.is_err() || next <= offset {
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Calls that are made until they are done, however long the Bot API is away.
struct PatientCalls<'a> {
    telegram: &'a TelegramService,
    failures: FailureLog,
}

impl<'a> PatientCalls<'a> {
    fn new(telegram: &'a TelegramService) -> Self {
        Self { telegram, failures: FailureLog::default() }
    }

    async fn until_done<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        request: &(impl Serialize + Sync),
        limit: Duration,
    ) -> T {
        let mut retry = RETRY.0;
        loop {
            let result = self.telegram.0.sender.api().call(method, request, limit).await;
            self.telegram.0.metrics.count_call(CallOutcome::of(&result));
            let wait = match result {
                Ok(result) => {
                    if self.failures.is_over(monotonic_now()) {
                        tracing::info!("the Bot API answers again");
                    }
                    return result;
                }
                Err(BotApiError::Limited(wait)) => wait,
                Err(error) => {
                    if self.failures.is_news(&error.to_string(), monotonic_now()) {
                        tracing::warn!(%error, "a call of the Bot API is not done");
                    }
                    retry
                }
            };
            sleep(wait).await;
            retry = (retry * 2).min(RETRY.1);
        }
    }
}

/// Does what updates say; never resolves.
async fn do_updates(telegram: &TelegramService, busy: &BusyChats) {
    let state = &telegram.0;
    loop {
        for due in state.updates.due(LOOK_AHEAD).await.unwrap_or_default() {
            let Some(chat) = busy.enter(due.chat) else { continue };
            let telegram = telegram.clone();
            // A task of its own: it goes on where another node takes the bot over, which begins nothing that is begun.
            state.tasks.spawn(async move {
                do_update(&telegram, due).await;
                drop(chat);
                telegram.0.changed.notify_one();
            });
        }
        let _ = timeout(LOOK_INTERVAL, state.changed.notified()).await;
    }
}

async fn do_update(telegram: &TelegramService, due: DueUpdate) {
    let state = &telegram.0;
    match state.updates.begin(due.id, state.node).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(_) => {
            // It may have been kept all the same, and nobody would do it then.
            while state.updates.take_back(due.id, state.node).await.is_err() && !state.tasks.is_stopping() {
                sleep(LOOK_INTERVAL).await;
            }
            return;
        }
    }
    // What is left begun is said to be interrupted by the next process.
    let Some(outcome) = conversation::hold(telegram, &due).await else { return };
    state.metrics.count_update(outcome);
    // One that stays begun is said to be interrupted though it is done, which is better than done twice.
    for _ in 0..5 {
        if state.updates.finish(due.id, state.node).await.is_ok() {
            return;
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Forgets what is not needed any more; never resolves.
async fn prune(telegram: &TelegramService) {
    let state = &telegram.0;
    loop {
        let now = telegram.now();
        let before = |span: Duration| UnixMillis::new(now.as_millis().saturating_sub(whole_millis(span)));
        let _ = state.updates.prune(before(KEEP_FOR)).await;
        let _ = state.links.prune(before(ATTEMPTS_TIME), now).await;
        sleep(PRUNE_INTERVAL).await;
    }
}

/// Chats of which an update is done now.
#[derive(Clone, Default)]
struct BusyChats(Arc<Mutex<HashSet<i64>>>);

/// A chat that is busy until this is dropped.
struct BusyChat {
    chats: BusyChats,
    chat: i64,
}

impl BusyChats {
    /// Makes a chat busy; `None` where it is, or where too many are.
    fn enter(&self, chat: i64) -> Option<BusyChat> {
        let mut chats = self.0.lock();
        (chats.len() < MAX_BUSY && chats.insert(chat)).then(|| BusyChat { chats: self.clone(), chat })
    }

    /// Resolves when none is busy.
    async fn idle(&self) {
        while !self.0.lock().is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for BusyChat {
    fn drop(&mut self) {
        self.chats.0.lock().remove(&self.chat);
    }
}
