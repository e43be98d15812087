//! Calls that answer users: each at its time, again after a cut, and later where the Bot API asks for it.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::BotApiError;
use super::client::{BotApi, CALL_TIMEOUT};
use super::pacer::MessagePacer;
use super::types::{AnswerCallbackQuery, InlineKeyboard, MessageText};
use crate::metrics::{CallOutcome, TelegramMetrics};
use primitives::clock::monotonic_now;
use primitives::lifecycle::BackgroundTasks;

/// Tries of a call that is not answered, or whose server is broken.
const MAX_ATTEMPTS: u32 = 5;
/// Times that a call waits because the Bot API asks for it.
const MAX_WAITS: u32 = 10;
/// Wait before the second try; it doubles.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Sends what the bot says.
pub struct BotSender {
    api: BotApi,
    pacer: Mutex<MessagePacer>,
    metrics: TelegramMetrics,
    tasks: BackgroundTasks,
}

impl BotSender {
    /// Creates the sender; what waits ends when `tasks` do.
    pub fn new(api: BotApi, metrics: TelegramMetrics, tasks: BackgroundTasks) -> Self {
        Self { api, pacer: Mutex::default(), metrics, tasks }
    }

    /// Returns the client.
    pub fn api(&self) -> &BotApi {
        &self.api
    }

    /// Sends a message.
    pub async fn send(&self, chat: i64, text: &str, keyboard: Option<InlineKeyboard>) -> Result<(), BotApiError> {
        self.call("sendMessage", Some(chat), &MessageText::new(chat, text, keyboard)).await
    }

    /// Changes a message of the bot. One that is so already stays, which is no failure.
    pub async fn edit(
        &self,
        (chat, message): (i64, i64),
        text: &str,
        keyboard: Option<InlineKeyboard>,
    ) -> Result<(), BotApiError> {
        let request = MessageText { message_id: Some(message), ..MessageText::new(chat, text, keyboard) };
        match self.call("editMessageText", Some(chat), &request).await {
            Err(BotApiError::Refused(400, text)) if text.contains("message is not modified") => Ok(()),
            result => result,
        }
    }

    /// Ends the waiting of a pressed button.
    pub async fn answer_button(&self, query: &str) -> Result<(), BotApiError> {
        self.call("answerCallbackQuery", None, &AnswerCallbackQuery { callback_query_id: query }).await
    }

    async fn call(
        &self,
        method: &'static str,
        chat: Option<i64>,
        request: &(impl Serialize + Sync),
    ) -> Result<(), BotApiError> {
        let (mut attempts, mut waits, mut retry) = (0, 0, FIRST_RETRY);
        let mut at = chat.map_or_else(monotonic_now, |chat| self.pacer.lock().reserve(chat, monotonic_now()));
        loop {
            self.wait_until(at).await?;
            let result = self.api.call::<Value>(method, request, CALL_TIMEOUT).await;
            self.metrics.count_call(CallOutcome::of(&result));
            let now = monotonic_now();
            match result {
                Ok(_) => return Ok(()),
                Err(BotApiError::Limited(wait)) if waits < MAX_WAITS => {
                    waits += 1;
                    self.pacer.lock().hold(now + wait);
                    at = now + wait;
                }
                Err(error) if error.is_passing() && attempts + 1 < MAX_ATTEMPTS => {
                    attempts += 1;
                    at = now + retry;
                    retry *= 2;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until `at`, and until the Bot API lets anything be sent.
    async fn wait_until(&self, mut at: std::time::Instant) -> Result<(), BotApiError> {
        loop {
            tokio::select! {
                () = sleep_until(Instant::from_std(at)) => {}
                () = self.tasks.stopping() => return Err(BotApiError::Stopping),
            }
            match self.pacer.lock().held_until(monotonic_now()) {
                Some(held) => at = held,
                None => return Ok(()),
            }
        }
    }
}
