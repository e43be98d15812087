//! Sentences that describe schedules, in the user's language. Croner composes them of the phrases of a language; those of single
//! times and of each day are ours.

mod russian;
mod spanish;
#[cfg(test)]
mod tests;
mod ukrainian;

use croner::describe::English;

use crate::rule::{ScheduleRule, ScheduleTimes};
use primitives::unix_time::UnixMillis;

/// Language of sentences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SentenceLanguage {
    /// English.
    #[default]
    English,
    /// Russian.
    Russian,
    /// Ukrainian.
    Ukrainian,
    /// Spanish.
    Spanish,
}

impl SentenceLanguage {
    /// Returns the language of a tag (`uk`, `es-MX`); `None` for one that is not spoken.
    pub fn from_tag(tag: &str) -> Option<Self> {
        match tag.split('-').next()?.to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "ru" => Some(Self::Russian),
            "uk" => Some(Self::Ukrainian),
            "es" => Some(Self::Spanish),
            _ => None,
        }
    }

    /// Returns the language that an `Accept-Language` prefers (RFC 9110 §12.5.4); English where it has none of them.
    pub fn from_accept_language(header: &str) -> Self {
        let mut best = (Self::English, 0.0);
        for part in header.split(',') {
            let (tag, parameters) = part.split_once(';').unwrap_or((part, ""));
            let quality =
                parameters.trim().strip_prefix("q=").map_or(Some(1.0), |text| text.trim().parse::<f32>().ok());
            if let (Some(language), Some(quality)) = (Self::from_tag(tag.trim()), quality)
                && quality > best.1
            {
                best = (language, quality);
            }
        }
        best.0
    }
}

/// Returns the sentence of a schedule.
pub fn describe(times: &ScheduleTimes, language: SentenceLanguage) -> String {
    let sentence = match times.rule() {
        ScheduleRule::Once(at) => {
            let local = times.local(UnixMillis::new(at.as_millisecond()));
            let at = local.map(|local| local.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default();
            match language {
                SentenceLanguage::English => format!("Once, at {at}."),
                SentenceLanguage::Russian => format!("Один раз, {at}."),
                SentenceLanguage::Ukrainian => format!("Один раз, {at}."),
                SentenceLanguage::Spanish => format!("Una vez, {at}."),
            }
        }
        ScheduleRule::Pattern(cron, is_daily) => {
            let sentence = match language {
                SentenceLanguage::English => cron.describe_lang(English),
                SentenceLanguage::Russian => cron.describe_lang(russian::Russian),
                SentenceLanguage::Ukrainian => cron.describe_lang(ukrainian::Ukrainian),
                SentenceLanguage::Spanish => cron.describe_lang(spanish::Spanish),
            };
            let each_day = match language {
                SentenceLanguage::English => "every day",
                SentenceLanguage::Russian => "каждый день",
                SentenceLanguage::Ukrainian => "щодня",
                SentenceLanguage::Spanish => "cada día",
            };
            // Croner's lists have a comma before the last word, as English has.
            let sentence = match language {
                SentenceLanguage::English => sentence,
                SentenceLanguage::Russian => sentence.replace(", и ", " и "),
                SentenceLanguage::Ukrainian => sentence.replace(", і ", " і "),
                SentenceLanguage::Spanish => sentence.replace(", y ", " y "),
            };
            if *is_daily { format!("{}, {each_day}.", sentence.trim_end_matches('.')) } else { sentence }
        }
    };
    format!("{} ({})", sentence, times.zone_name())
}

/// Returns the form of a Slavic noun for a number: one, few (2 to 4), many.
fn slavic<'a>(number: u16, one: &'a str, few: &'a str, many: &'a str) -> &'a str {
    match (number % 10, number % 100) {
        (_, 11..=14) => many,
        (1, _) => one,
        (2..=4, _) => few,
        _ => many,
    }
}
