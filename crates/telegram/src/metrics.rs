//! Metrics of the Telegram bot.

use prometheus::{IntCounterVec, IntGauge, Registry};

use crate::bot_api::BotApiError;
use server_kit::telemetry::registration;

/// Outcome of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// What it says was done, or refused, and answered.
    Done,
    /// The same, but no answer could be sent.
    Unanswered,
    /// The bot does not listen to such updates.
    Ignored,
    /// It had come before.
    Repeated,
    /// A node has died amid it: it may not have been done.
    Interrupted,
}

/// Outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It was done.
    Ok,
    /// There were too many.
    Limited,
    /// It was refused.
    Refused,
    /// There was no answer, or no whole one.
    Failed,
}

/// Change of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// An account was linked.
    Linked,
    /// A link was ended by its user.
    Unlinked,
    /// A link was ended by a logout.
    SignedOut,
    /// A code linked nothing.
    BadCode,
}

/// Metrics of the bot.
#[derive(Clone, Debug)]
pub struct TelegramMetrics {
    updates: IntCounterVec,
    calls: IntCounterVec,
    links: IntCounterVec,
    /// 1 while this node has the bot.
    pub holds_bot: IntGauge,
}

impl UpdateOutcome {
    const ALL: [Self; 5] = [Self::Done, Self::Unanswered, Self::Ignored, Self::Repeated, Self::Interrupted];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unanswered => "unanswered",
            Self::Ignored => "ignored",
            Self::Repeated => "repeated",
            Self::Interrupted => "interrupted",
        }
    }
}

impl CallOutcome {
    const ALL: [Self; 4] = [Self::Ok, Self::Limited, Self::Refused, Self::Failed];

    /// Returns the outcome of a call.
    pub fn of<T>(result: &Result<T, BotApiError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(BotApiError::Limited(_)) => Self::Limited,
            Err(BotApiError::Refused(..) | BotApiError::Conflict(_) | BotApiError::FileTooLarge) => Self::Refused,
            Err(
                BotApiError::Unanswered(_)
                | BotApiError::Broken(..)
                | BotApiError::BadAnswer(_)
                | BotApiError::Stopping,
            ) => Self::Failed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl LinkChange {
    const ALL: [Self; 4] = [Self::Linked, Self::Unlinked, Self::SignedOut, Self::BadCode];

    fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Unlinked => "unlinked",
            Self::SignedOut => "signed_out",
            Self::BadCode => "bad_code",
        }
    }
}

impl TelegramMetrics {
    /// Registers the metrics, each with all its labels; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| registration::counters(registry, name, help, label);
        let updates =
            counters("tidegate_telegram_updates_total", "Updates of the Telegram bot, by outcome", "outcome")?;
        let calls = counters("tidegate_telegram_calls_total", "Calls of the Bot API, by outcome", "outcome")?;
        let links = counters("tidegate_telegram_links_total", "Changes of links of Telegram accounts", "change")?;
        UpdateOutcome::ALL.into_iter().for_each(|outcome| drop(updates.with_label_values(&[outcome.name()])));
        CallOutcome::ALL.into_iter().for_each(|outcome| drop(calls.with_label_values(&[outcome.name()])));
        LinkChange::ALL.into_iter().for_each(|change| drop(links.with_label_values(&[change.name()])));
        let help = "1 on the node that asks for updates and does what they say";
        let holds_bot = registration::gauge(registry, "tidegate_telegram_holds_bot", help)?;
        Ok(Self { updates, calls, links, holds_bot })
    }

    /// Counts an update.
    pub fn count_update(&self, outcome: UpdateOutcome) {
        self.updates.with_label_values(&[outcome.name()]).inc();
    }

    /// Counts a call.
    pub fn count_call(&self, outcome: CallOutcome) {
        self.calls.with_label_values(&[outcome.name()]).inc();
    }

    /// Counts a change of a link.
    pub fn count_link(&self, change: LinkChange) {
        self.links.with_label_values(&[change.name()]).inc();
    }
}
