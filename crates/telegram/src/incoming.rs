//! Updates as the bot keeps them: what a user asks for, without the rest of what the Bot API sends.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bot_api::types::{CallbackQuery, Message, Sender, SentFile, Update};
use crate::texts::BotLanguage;

/// Longest text, data or id of an update that is kept, in bytes; the Bot API has none that are longer.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Update that came in.
#[derive(Debug, PartialEq)]
pub struct IncomingUpdate {
    /// Its id.
    pub id: i64,
    /// What is asked; `None` for what the bot does not listen to.
    pub request: Option<BotRequest>,
}

/// What a user asks the bot, in a private chat.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct BotRequest {
    /// The user, and the chat.
    pub chat: i64,
    /// Language of the user.
    pub language: BotLanguage,
    /// What is asked.
    pub content: RequestContent,
}

/// Content of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestContent {
    /// A text.
    Text(String),
    /// A voice message, or an audio file.
    Clip {
        /// Its file.
        file: String,
        /// Bytes, where they are known.
        size: Option<u64>,
    },
    /// A pressed button.
    Button {
        /// Id of the query.
        query: String,
        /// Message with the button, where it can be changed.
        message: Option<i64>,
        /// Data of the button.
        data: String,
    },
}

impl IncomingUpdate {
    /// Reads an update; `None` for a value that is none. Members that are not as the Bot API describes them are as if they were
    /// not there: an update that cannot be read would else come again for ever.
    pub fn read(update: Value) -> Option<Self> {
        let id = update.get("update_id")?.as_i64()?;
        let update = serde_json::from_value::<Update>(update).ok();
        let request = update.and_then(|update| match update {
            Update { message: Some(message), .. } => of_message(message),
            Update { callback_query: Some(query), .. } => of_button(query),
            Update { .. } => None,
        });
        Some(Self { id, request })
    }
}

/// Only private chats are answered: in a group others would read what is one user's.
fn of_message(message: Message) -> Option<BotRequest> {
    let Message { from, chat, text, voice, audio } = message;
    let (chat, language) = private(&from?, &chat.kind, chat.id)?;
    let content = match (text, voice.or(audio)) {
        (Some(text), _) => RequestContent::Text(Some(text).filter(|text| text.len() <= MAX_TEXT_BYTES)?),
        (None, Some(SentFile { file_id, file_size })) if file_id.len() <= MAX_TEXT_BYTES => {
            RequestContent::Clip { file: file_id, size: file_size }
        }
        (None, _) => return None,
    };
    Some(BotRequest { chat, language, content })
}

fn of_button(query: CallbackQuery) -> Option<BotRequest> {
    let CallbackQuery { id, from, message, data } = query;
    let message = message?;
    let (chat, language) = private(&from, &message.chat.kind, message.chat.id)?;
    let data = data.filter(|data| data.len() <= MAX_TEXT_BYTES && id.len() <= MAX_TEXT_BYTES)?;
    Some(BotRequest {
        chat,
        language,
        content: RequestContent::Button { query: id, message: Some(message.message_id), data },
    })
}

fn private(sender: &Sender, kind: &str, chat: i64) -> Option<(i64, BotLanguage)> {
    let language = BotLanguage::from_tag(sender.language_code.as_deref().unwrap_or_default());
    (kind == "private" && !sender.is_bot && sender.id == chat).then_some((chat, language))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(more: &Value) -> Value {
        let mut message = json!({ "message_id": 1, "date": 0, "from": { "id": 7, "is_bot": false, "first_name": "A",
            "language_code": "uk" }, "chat": { "id": 7, "type": "private" } });
        for (name, value) in more.as_object().unwrap() {
            message[name] = value.clone();
        }
        json!({ "update_id": 5, "message": message })
    }

    #[test]
    fn requests_of_private_chats_are_read_and_nothing_else() {
        let text = RequestContent::Text("/speed".to_owned());
        let clip = RequestContent::Clip { file: "f".to_owned(), size: Some(9) };
        for (more, expected) in [
            (json!({ "text": "/speed" }), Some(text)),
            (json!({ "voice": { "file_id": "f", "file_size": 9, "duration": 2 } }), Some(clip)),
            (json!({ "text": "/speed", "chat": { "id": -7, "type": "group" } }), None),
            (json!({ "text": "/speed", "chat": { "id": 8, "type": "private" } }), None),
            (json!({ "text": "/speed", "from": { "id": 7, "is_bot": true } }), None),
            (json!({ "text": 7 }), None),
            (json!({ "sticker": {} }), None),
            (json!({ "text": "x".repeat(MAX_TEXT_BYTES + 1) }), None),
        ] {
            let read = IncomingUpdate::read(message(&more)).expect("an update");
            assert_eq!(read.id, 5);
            let expected = expected.map(|content| BotRequest { chat: 7, language: BotLanguage::Uk, content });
            assert_eq!(read.request, expected, "{more}");
        }
    }

    #[test]
    fn a_button_is_read_and_what_has_no_id_is_no_update() {
        let query = json!({ "update_id": 6, "callback_query": { "id": "q", "from": { "id": 7, "is_bot": false },
            "chat_instance": "1", "data": "s:1.5", "message": { "message_id": 3, "date": 0, "chat": { "id": 7, "type": "private" } } } });
        let button = RequestContent::Button { query: "q".to_owned(), message: Some(3), data: "s:1.5".to_owned() };
        let read = IncomingUpdate::read(query).unwrap().request.unwrap();
        assert_eq!((read.chat, read.content), (7, button));
        assert_eq!(
            IncomingUpdate::read(json!({ "update_id": 8, "poll": {} })),
            Some(IncomingUpdate { id: 8, request: None })
        );
        for value in [json!({ "message": {} }), json!([]), json!({ "update_id": "7" })] {
            assert_eq!(IncomingUpdate::read(value), None);
        }
    }
}
