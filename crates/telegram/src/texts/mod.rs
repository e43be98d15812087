//! What the bot says, in four languages: one table each, so that none can lack a text. `{0}` and `{1}` stand for what is filled in.

mod english;
mod russian;
mod spanish;
mod ukrainian;

use serde::{Deserialize, Serialize};

use crate::bot_api::types::BotCommand;
use crate::command::CommandName;

/// Language that a user is answered in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BotLanguage {
    /// English.
    #[default]
    En,
    /// Russian.
    Ru,
    /// Ukrainian.
    Uk,
    /// Spanish.
    Es,
}

impl BotLanguage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::En, Self::Ru, Self::Uk, Self::Es];

    /// Returns the language of a tag (`uk`, `es-MX`); English for one that is not spoken.
    pub fn from_tag(tag: &str) -> Self {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.code().eq_ignore_ascii_case(primary)).unwrap_or_default()
    }

    /// Returns the code (ISO 639-1).
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ru => "ru",
            Self::Uk => "uk",
            Self::Es => "es",
        }
    }

    /// Returns the texts.
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::En => &english::TEXTS,
            Self::Ru => &russian::TEXTS,
            Self::Uk => &ukrainian::TEXTS,
            Self::Es => &spanish::TEXTS,
        }
    }

    /// Returns the list of commands.
    pub fn commands(self) -> Vec<BotCommand> {
        let command = |name: CommandName| BotCommand { command: name.word(), description: self.texts().describe(name) };
        CommandName::LISTED.into_iter().map(command).collect()
    }
}

/// Texts of one language.
#[derive(Debug)]
pub struct Texts {
    /// To who is not linked.
    pub not_linked: &'static str,
    /// An account was linked.
    pub linked: &'static str,
    /// A code that links nothing.
    pub bad_code: &'static str,
    /// Too many of them.
    pub too_many_codes: &'static str,
    /// A link was ended.
    pub unlinked: &'static str,
    /// The user has logged out since the account was linked.
    pub signed_out: &'static str,
    /// Something does not answer.
    pub unavailable: &'static str,
    /// A process ended amid an update.
    pub interrupted: &'static str,
    /// A command that is none; after it comes the list.
    pub unknown: &'static str,
    /// Before the list of commands.
    pub help: &'static str,
    /// How a command is written.
    pub usage: &'static str,
    /// The user may not do it.
    pub forbidden: &'static str,
    /// There is no such thing.
    pub not_found: &'static str,
    /// It cannot be done: `{0}` says why.
    pub refused: &'static str,
    /// Too many requests; `{0}` seconds.
    pub limited: &'static str,
    /// This server has no such feature.
    pub not_offered: &'static str,
    /// Speed now.
    pub speed: &'static str,
    /// Pitch now, in semitones.
    pub pitch: &'static str,
    /// Position now.
    pub position: &'static str,
    /// Nothing is played.
    pub nothing_plays: &'static str,
    /// A station was added.
    pub station_added: &'static str,
    /// Which station is meant.
    pub choose_station: &'static str,
    /// No station has that name.
    pub no_station: &'static str,
    /// A station is played on the user's players.
    pub station_plays: &'static str,
    /// No schedules.
    pub no_schedules: &'static str,
    /// A schedule was made: its sentence.
    pub scheduled: &'static str,
    /// A schedule was deleted.
    pub schedule_deleted: &'static str,
    /// Button that deletes a schedule.
    pub delete: &'static str,
    /// No playlist has that name.
    pub no_playlist: &'static str,
    /// No lyrics.
    pub no_lyrics: &'static str,
    /// A song without words.
    pub instrumental: &'static str,
    /// The queue is empty.
    pub queue_empty: &'static str,
    /// A track was queued.
    pub queued: &'static str,
    /// Item that is played.
    pub now: &'static str,
    /// A clip is of no known track.
    pub no_match: &'static str,
    /// A clip of an unnamed track.
    pub unnamed_track: &'static str,
    /// A clip that is too large.
    pub clip_too_large: &'static str,
    /// A clip that cannot be fetched.
    pub clip_away: &'static str,
    /// What each command does, in the order of [`CommandName::LISTED`].
    pub commands: [&'static str; CommandName::LISTED.len()],
}

impl Texts {
    /// Returns what a command does; nothing for one that is not listed.
    fn describe(&self, name: CommandName) -> &'static str {
        let listed = CommandName::LISTED.into_iter().position(|listed| listed == name);
        listed.map_or("", |index| self.commands[index])
    }

    /// Returns the list of commands and how they are written.
    pub fn list(&self) -> String {
        let line = |name: CommandName| format!("{} — {}", name.usage(), self.describe(name));
        CommandName::LISTED.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Returns how a command is written.
    pub fn usage_of(&self, name: CommandName) -> String {
        fill(self.usage, &[name.usage()])
    }
}

/// Returns `text` with `{0}`, `{1}` replaced by `values`; nothing in a value is replaced.
pub fn fill(text: &str, values: &[&str]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((number, after)) = after.split_once('}') else { break };
        filled.push_str(before);
        let value = number.parse().ok().and_then(|number: usize| values.get(number));
        filled.push_str(value.copied().unwrap_or_default());
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All texts of a language, by its debug form.
    fn texts(language: BotLanguage) -> Vec<String> {
        format!("{:#?}", language.texts()).lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_language_has_each_text_with_the_same_places_to_fill_in() {
        let english = texts(BotLanguage::En);
        for language in BotLanguage::ALL {
            let other = texts(language);
            assert_eq!(other.len(), english.len());
            for (ours, theirs) in english.iter().zip(&other) {
                for place in ["{0}", "{1}"] {
                    assert_eq!(ours.contains(place), theirs.contains(place), "{language:?}: {theirs}");
                }
                assert!(!theirs.contains("\"\""), "{language:?}: {ours} has no text");
            }
        }
    }

    #[test]
    fn lists_of_commands_are_within_the_bounds_of_the_bot_api() {
        for language in BotLanguage::ALL {
            for BotCommand { command, description } in language.commands() {
                assert!((1..=256).contains(&description.chars().count()), "{description}");
                assert!((1..=32).contains(&command.len()) && command.bytes().all(|byte| byte.is_ascii_lowercase()));
            }
        }
    }

    #[test]
    fn a_language_is_found_by_its_tag() {
        for (tag, expected) in [
            ("ru", BotLanguage::Ru),
            ("uk-UA", BotLanguage::Uk),
            ("ES_mx", BotLanguage::Es),
            ("de", BotLanguage::En),
            ("", BotLanguage::En),
        ] {
            assert_eq!(BotLanguage::from_tag(tag), expected, "{tag}");
        }
    }

    #[test]
    fn values_are_filled_in_and_not_read_again() {
        assert_eq!(fill("{0} of {1}", &["{1}", "b"]), "{1} of b");
        assert_eq!(fill("a {", &[]), "a {");
        assert_eq!(fill("{7}!", &["a"]), "!");
    }
}
