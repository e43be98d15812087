//! Commands that users write, as they are parsed: `/speed 1.25`, or `/speed@the_bot 1.25`. Pure.

/// Name of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandName {
    /// Speed of what is played.
    Speed,
    /// Pitch of what is played.
    Pitch,
    /// Position in what is played.
    Seek,
    /// Back in what is played.
    Rewind,
    /// A radio station is played.
    Radio,
    /// A radio station is added.
    AddRadio,
    /// Schedules.
    Schedule,
    /// Lyrics.
    Lyrics,
    /// Queue of a channel.
    Queue,
    /// An account is linked.
    Link,
    /// A link is ended.
    Unlink,
    /// The list of commands.
    Help,
    /// The first message to a bot; with a code it links.
    Start,
}

impl CommandName {
    /// Commands in the order of the list that users are shown.
    pub const LISTED: [Self; 12] = [
        Self::Speed,
        Self::Pitch,
        Self::Seek,
        Self::Rewind,
        Self::Radio,
        Self::AddRadio,
        Self::Schedule,
        Self::Lyrics,
        Self::Queue,
        Self::Link,
        Self::Unlink,
        Self::Help,
    ];

    /// Returns the word after the slash.
    pub fn word(self) -> &'static str {
        self.usage().trim_start_matches('/').split(' ').next().unwrap_or_default()
    }

    /// Returns how it is written.
    pub fn usage(self) -> &'static str {
        match self {
            Self::Speed => "/speed 1.25",
            Self::Pitch => "/pitch -2",
            Self::Seek => "/seek 1:30",
            Self::Rewind => "/rewind 30",
            Self::Radio => "/radio NAME",
            Self::AddRadio => "/addradio URL NAME",
            Self::Schedule => "/schedule 07:30 PLAYLIST",
            Self::Lyrics => "/lyrics ARTIST - SONG",
            Self::Queue => "/queue TRACK",
            Self::Link => "/link CODE",
            Self::Unlink => "/unlink",
            Self::Help => "/help",
            Self::Start => "/start",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let all = Self::LISTED.into_iter().chain([Self::Start]);
        all.into_iter().find(|name| name.word().eq_ignore_ascii_case(word))
    }
}

/// Command with what is written after it, without blanks around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Its name; `None` for one that is not known.
    pub name: Option<CommandName>,
    /// What is written after it.
    pub argument: &'a str,
}

impl<'a> Command<'a> {
    /// Parses a message; `None` where it begins with no slash.
    pub fn parse(text: &'a str) -> Option<Self> {
        let rest = text.trim().strip_prefix('/')?;
        let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let word = word.split('@').next().unwrap_or_default();
        Some(Self { name: CommandName::parse(word), argument: argument.trim() })
    }
}

/// Parses a position: `90`, `1:30` or `1:02:03`, in milliseconds.
pub fn parse_position(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_number = |part: &&str| (1..=6).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.len() > 3 || !parts.iter().all(is_number) || parts.iter().skip(1).any(|part| part.len() != 2) {
        return None;
    }
    let numbers: Vec<i64> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    if numbers.iter().skip(1).any(|number| *number > 59) {
        return None;
    }
    Some(numbers.iter().fold(0, |seconds, number| seconds * 60 + number) * 1000)
}

/// Returns a position as users write it.
pub fn show_position(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// Parses a number with a decimal point or comma, and `−` or `-` before it.
pub fn parse_number(text: &str) -> Option<f64> {
    let text = text.replace(',', ".").replace('−', "-");
    let is_plain = !text.is_empty()
        && text.len() <= 12
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.".contains(&byte));
    text.parse::<f64>().ok().filter(|number| is_plain && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_is_parsed_with_what_is_after_it() {
        let command = |name, argument| Some(Command { name, argument });
        for (text, expected) in [
            ("/speed 1.5", command(Some(CommandName::Speed), "1.5")),
            (" /Speed@the_bot   1.5 ", command(Some(CommandName::Speed), "1.5")),
            ("/addradio http://a b c", command(Some(CommandName::AddRadio), "http://a b c")),
            ("/lyrics\nA - B", command(Some(CommandName::Lyrics), "A - B")),
            ("/start", command(Some(CommandName::Start), "")),
            ("/speeds 2", command(None, "2")),
            ("/", command(None, "")),
            ("speed 2", None),
            ("", None),
        ] {
            assert_eq!(Command::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn positions_are_parsed_and_shown() {
        for (text, expected) in [
            ("90", Some(90_000)),
            ("1:30", Some(90_000)),
            ("1:02:03", Some(3_723_000)),
            ("0:60", None),
            ("1:5", None),
            ("-1:30", None),
            ("1:02:03:04", None),
            ("1.5", None),
            ("", None),
            ("99999999999", None),
        ] {
            assert_eq!(parse_position(text), expected, "{text}");
        }
        assert_eq!(show_position(90_999), "1:30");
        assert_eq!(show_position(3_723_000), "1:02:03");
    }

    #[test]
    fn numbers_are_parsed() {
        for (text, expected) in
            [("1,25", Some(1.25)), ("−3", Some(-3.0)), ("+2", Some(2.0)), ("1e3", None), ("inf", None), ("", None)]
        {
            assert_eq!(parse_number(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (Command::parse(&text), parse_position(&text), parse_number(&text));
        }

        #[test]
        fn a_shown_position_is_parsed_again(seconds in 0_i64..100_000) {
            prop_assert_eq!(parse_position(&show_position(seconds * 1000)), Some(seconds * 1000));
        }
    }
}
