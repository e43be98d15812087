//! One update: what is done for its user, and the answer.

use crate::Error;
use crate::bot_api::BotApiError;
use crate::bot_api::types::{InlineButton, InlineKeyboard};
use crate::command::{Command, CommandName};
use crate::commands;
use crate::incoming::{BotRequest, RequestContent};
use crate::metrics::UpdateOutcome;
use crate::service::{AccountState, LinkOutcome, TelegramService};
use crate::texts::{BotLanguage, Texts, fill};
use crate::update_store::DueUpdate;
use crate::user_api::{ApiRefusal, LinkedUser};

/// Answer of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Text.
    pub text: String,
    /// Buttons.
    pub keyboard: Option<InlineKeyboard>,
}

/// A user who asks, and the way to what is asked for.
pub(crate) struct Asker<'a> {
    /// The service.
    pub telegram: &'a TelegramService,
    /// The user.
    pub user: LinkedUser,
    /// Language of the answer.
    pub language: BotLanguage,
}

impl Reply {
    /// A text without buttons.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), keyboard: None }
    }

    /// A text with rows of buttons, each with what it says and what it sends.
    pub fn with_buttons(text: impl Into<String>, rows: Vec<Vec<(String, String)>>) -> Self {
        let button = |(text, callback_data): (String, String)| InlineButton { text, callback_data };
        let inline_keyboard: Vec<Vec<InlineButton>> =
            rows.into_iter().map(|row| row.into_iter().map(button).collect()).collect();
        Self { text: text.into(), keyboard: Some(InlineKeyboard { inline_keyboard }) }
    }

    /// The answer where something was refused.
    pub fn refusal(texts: &Texts, refusal: &ApiRefusal) -> Self {
        Self::text(match refusal {
            ApiRefusal::NotOffered => texts.not_offered.to_owned(),
            ApiRefusal::Forbidden => texts.forbidden.to_owned(),
            ApiRefusal::NotFound => texts.not_found.to_owned(),
            ApiRefusal::Limited(seconds) => fill(texts.limited, &[&seconds.to_string()]),
            ApiRefusal::Conflict(reason) | ApiRefusal::Refused(reason) => fill(texts.refused, &[reason]),
            ApiRefusal::Unavailable => texts.unavailable.to_owned(),
        })
    }
}

/// Reason for which nothing is done for a Telegram account.
pub(crate) enum NoAccount {
    /// It is nobody's.
    NotLinked,
    /// Its user has logged out.
    SignedOut,
    /// It is not known whose it is.
    Unknown,
}

impl From<Error> for NoAccount {
    fn from(_: Error) -> Self {
        Self::Unknown
    }
}

impl NoAccount {
    fn text(&self, texts: &Texts) -> &'static str {
        match self {
            Self::NotLinked => texts.not_linked,
            Self::SignedOut => texts.signed_out,
            Self::Unknown => texts.unavailable,
        }
    }
}

impl<'a> Asker<'a> {
    /// Returns the user whose account asks, as it is now; nothing is done for anybody else.
    pub(crate) async fn of(telegram: &'a TelegramService, request: &BotRequest) -> Result<Self, NoAccount> {
        match telegram.account(request.chat).await? {
            AccountState::Linked(user) => Ok(Self { telegram, user, language: request.language }),
            AccountState::NotLinked => Err(NoAccount::NotLinked),
            AccountState::SignedOut => Err(NoAccount::SignedOut),
        }
    }

    /// Returns the texts of the answer.
    pub fn texts(&self) -> &'static Texts {
        self.language.texts()
    }
}

/// Does what an update says, which this node has begun, and answers; `None` where the process stops before the answer is sent.
pub(crate) async fn hold(telegram: &TelegramService, due: &DueUpdate) -> Option<UpdateOutcome> {
    let Some(request) = &due.request else { return Some(UpdateOutcome::Ignored) };
    let (outcome, reply) = match due.is_interrupted {
        true => (UpdateOutcome::Interrupted, Reply::text(request.language.texts().interrupted)),
        false => (UpdateOutcome::Done, reply(telegram, request).await),
    };
    match answer(telegram, request, reply).await {
        Ok(()) => Some(outcome),
        Err(BotApiError::Stopping) => None,
        Err(error) => {
            // Who has blocked the bot hears nothing, which is no failure of ours.
            tracing::info!(%error, "an answer of the Telegram bot was not sent");
            Some(if outcome == UpdateOutcome::Done { UpdateOutcome::Unanswered } else { outcome })
        }
    }
}

/// Sends an answer; that to a button takes the place of the message with the button.
async fn answer(telegram: &TelegramService, request: &BotRequest, reply: Reply) -> Result<(), BotApiError> {
    let (sender, chat) = (&telegram.0.sender, request.chat);
    let message = match &request.content {
        RequestContent::Button { query, message, .. } => {
            // The query of an old button is answered by nobody, and its message still is.
            let _ = sender.answer_button(query).await;
            *message
        }
        RequestContent::Text(_) | RequestContent::Clip { .. } => None,
    };
    let Reply { text, keyboard } = reply;
    match message {
        Some(message) => sender.edit((chat, message), &text, keyboard).await,
        None => sender.send(chat, &text, keyboard).await,
    }
}

/// Returns the answer to a request, after it was done.
async fn reply(telegram: &TelegramService, request: &BotRequest) -> Reply {
    let replied = match &request.content {
        RequestContent::Text(text) => of_text(telegram, request, text).await,
        RequestContent::Clip { file, size } => commands::clip::recognise(telegram, request, (file, *size)).await,
        RequestContent::Button { data, .. } => match Asker::of(telegram, request).await {
            Ok(asker) => Ok(commands::press(&asker, data).await),
            Err(refused) => Err(refused),
        },
    };
    replied.unwrap_or_else(|refused| Reply::text(refused.text(request.language.texts())))
}

async fn of_text(telegram: &TelegramService, request: &BotRequest, text: &str) -> Result<Reply, NoAccount> {
    let (texts, chat) = (request.language.texts(), request.chat);
    let Some(command) = Command::parse(text) else {
        return Asker::of(telegram, request).await.map(|_| Reply::text(texts.list()));
    };
    match (command.name, command.argument) {
        (Some(CommandName::Link), "") => Ok(Reply::text(texts.usage_of(CommandName::Link))),
        (Some(CommandName::Link | CommandName::Start), code) if !code.is_empty() => {
            Ok(Reply::text(match telegram.link(chat, code).await? {
                LinkOutcome::Linked => texts.linked,
                LinkOutcome::BadCode => texts.bad_code,
                LinkOutcome::TooMany => texts.too_many_codes,
            }))
        }
        (Some(CommandName::Unlink), _) => {
            Ok(Reply::text(if telegram.unlink(chat).await? { texts.unlinked } else { texts.not_linked }))
        }
        (Some(name), argument) => Ok(commands::run(&Asker::of(telegram, request).await?, name, argument).await),
        (None, _) => {
            let answer = Reply::text(format!("{}\n\n{}", texts.unknown, texts.list()));
            Asker::of(telegram, request).await.map(|_| answer)
        }
    }
}
