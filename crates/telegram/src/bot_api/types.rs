//! Requests and answers of the Bot API, with the members that the bot uses.

use serde::{Deserialize, Serialize};

/// Longest text of a message, in UTF-16 code units.
const MAX_TEXT_UNITS: usize = 4096;

/// Answer to any call.
#[derive(Deserialize)]
pub struct Answer<T> {
    /// True where the call was done.
    pub ok: bool,
    /// What it gave.
    pub result: Option<T>,
    /// Reason for a refusal.
    pub description: Option<String>,
    /// What helps with a refusal.
    pub parameters: Option<ResponseParameters>,
}

/// What helps with a refusal.
#[derive(Clone, Copy, Deserialize)]
pub struct ResponseParameters {
    /// Seconds until the call may be made again.
    pub retry_after: Option<u64>,
}

/// News for the bot: one of its members beside the id.
#[derive(Debug, Deserialize)]
pub struct Update {
    /// A message.
    pub message: Option<Message>,
    /// A pressed button.
    pub callback_query: Option<CallbackQuery>,
}

/// Message of a user.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// Sender; there is none in a channel.
    pub from: Option<Sender>,
    /// Chat in which it was sent.
    pub chat: Chat,
    /// Text.
    pub text: Option<String>,
    /// Voice message.
    pub voice: Option<SentFile>,
    /// Audio file that is shown as music.
    pub audio: Option<SentFile>,
}

/// Account that something comes from.
#[derive(Debug, Deserialize)]
pub struct Sender {
    /// Its id.
    pub id: i64,
    /// True for a bot.
    pub is_bot: bool,
    /// Language of its program (IETF).
    pub language_code: Option<String>,
}

/// Chat.
#[derive(Debug, Deserialize)]
pub struct Chat {
    /// Its id: in a private chat that of the user.
    pub id: i64,
    /// `private`, `group`, `supergroup` or `channel`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// File in a message.
#[derive(Debug, Deserialize)]
pub struct SentFile {
    /// Id by which it is fetched.
    pub file_id: String,
    /// Bytes.
    pub file_size: Option<u64>,
}

/// Pressed button.
#[derive(Debug, Deserialize)]
pub struct CallbackQuery {
    /// Its id, by which it is answered.
    pub id: String,
    /// Who has pressed it.
    pub from: Sender,
    /// Message with the button.
    pub message: Option<CallbackMessage>,
    /// Data of the button.
    pub data: Option<String>,
}

/// Message with a button; the Bot API may leave out what it holds.
#[derive(Debug, Deserialize)]
pub struct CallbackMessage {
    /// Its id in the chat.
    pub message_id: i64,
    /// The chat.
    pub chat: Chat,
}

/// The bot itself.
#[derive(Deserialize)]
pub struct BotAccount {
    /// Name without `@`.
    pub username: Option<String>,
}

/// File that may be fetched for an hour.
#[derive(Deserialize)]
pub struct StoredFile {
    /// Bytes.
    pub file_size: Option<u64>,
    /// Path below `/file/bot<token>/`.
    pub file_path: Option<String>,
}

/// Request for updates.
#[derive(Serialize)]
pub struct GetUpdates {
    /// First update that is wanted; those before it are confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Most updates of an answer.
    pub limit: u32,
    /// Seconds for which the answer may wait.
    pub timeout: u64,
    /// Kinds of updates.
    pub allowed_updates: &'static [&'static str],
}

/// Request to send updates to a webhook.
#[derive(Serialize)]
pub struct SetWebhook<'a> {
    /// Address.
    pub url: &'a str,
    /// Secret that each request carries.
    pub secret_token: &'a str,
    /// Kinds of updates.
    pub allowed_updates: &'static [&'static str],
}

/// Request to send updates to no webhook.
#[derive(Serialize)]
pub struct DeleteWebhook {
    /// True: updates that wait are lost.
    pub drop_pending_updates: bool,
}

/// Request for a file.
#[derive(Serialize)]
pub struct GetFile<'a> {
    /// Its id.
    pub file_id: &'a str,
}

/// Request to show a list of commands to users of a language.
#[derive(Serialize)]
pub struct SetMyCommands {
    /// The commands.
    pub commands: Vec<BotCommand>,
    /// Language; `None`: all that have no list of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language_code: Option<&'static str>,
}

/// Command in the list.
#[derive(Serialize)]
pub struct BotCommand {
    /// Its name.
    pub command: &'static str,
    /// What it does.
    pub description: &'static str,
}

/// Request to send a message, or to change one.
#[derive(Serialize)]
pub struct MessageText {
    /// Chat.
    pub chat_id: i64,
    /// Message that is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<i64>,
    /// Plain text.
    pub text: String,
    /// Buttons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_markup: Option<InlineKeyboard>,
    /// How links in it are shown.
    pub link_preview_options: LinkPreview,
}

/// How links in a message are shown.
#[derive(Serialize)]
pub struct LinkPreview {
    /// True: as text alone, so that nobody fetches them.
    pub is_disabled: bool,
}

/// Request to end the waiting of a pressed button.
#[derive(Serialize)]
pub struct AnswerCallbackQuery<'a> {
    /// Id of the query.
    pub callback_query_id: &'a str,
}

/// Buttons below a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InlineKeyboard {
    /// Rows.
    pub inline_keyboard: Vec<Vec<InlineButton>>,
}

/// Button.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InlineButton {
    /// What is on it.
    pub text: String,
    /// What it sends, 1 to 64 bytes.
    pub callback_data: String,
}

impl MessageText {
    /// A message of plain text; a longer text than one may have is cut.
    pub fn new(chat_id: i64, text: &str, reply_markup: Option<InlineKeyboard>) -> Self {
        let link_preview_options = LinkPreview { is_disabled: true };
        Self { chat_id, message_id: None, text: cut(text, MAX_TEXT_UNITS), reply_markup, link_preview_options }
    }
}

/// Returns the beginning of `text` that has at most so many UTF-16 code units, with a mark where it was cut.
fn cut(text: &str, units: usize) -> String {
    if text.encode_utf16().count() <= units {
        return text.to_owned();
    }
    let mut left = units - 1;
    let fits = |character: &char| {
        let is_room = character.len_utf16() <= left;
        left = left.saturating_sub(character.len_utf16());
        is_room
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("four", 4), "four");
        assert_eq!(cut("fives", 4), "fiv…");
        assert_eq!(cut("a🎵🎵", 4), "a🎵…");
        assert_eq!(cut(&"🎵".repeat(3000), MAX_TEXT_UNITS).encode_utf16().count(), 4095);
    }
}
