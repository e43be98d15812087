//! Values in bodies that may come in two forms: channels and positions.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use utoipa::ToSchema;

/// Id of a channel in a body: a text, or a whole number, as the chats of bots have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInput(pub String);

/// Description of a [`ChannelInput`].
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "stands here for its description")]
pub enum NumberOrText {
    /// As a chat of a bot has it.
    Number(i64),
    /// At most 64 bytes.
    Text(String),
}

/// Position in a body: milliseconds, or a text such as `1:05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeekTarget(pub i64);

/// Parses `MM:SS` or `H:MM:SS` into milliseconds. Seconds have two digits, and minutes behind hours too.
fn clock_text(text: &str) -> Option<i64> {
    let number = |text: &str, digits: RangeInclusive<usize>| {
        let good = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| text.parse::<i64>().ok()).flatten()
    };
    let sixtieth = |text| number(text, 2..=2).filter(|value| *value < 60);
    let parts: Vec<&str> = text.split(':').collect();
    let seconds = match parts[..] {
        [minutes, seconds] => number(minutes, 1..=6)? * 60 + sixtieth(seconds)?,
        [hours, minutes, seconds] => number(hours, 1..=4)? * 3600 + sixtieth(minutes)? * 60 + sixtieth(seconds)?,
        _ => return None,
    };
    Some(seconds * 1000)
}

impl<'de> Deserialize<'de> for SeekTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeekVisitor;
        impl Visitor<'_> for SeekVisitor {
            type Value = SeekTarget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds as a number, or a text of the form MM:SS or H:MM:SS")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<SeekTarget, E> {
                Ok(SeekTarget(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<SeekTarget, E> {
                Ok(SeekTarget(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<SeekTarget, E> {
                // Down, so that what is a little below zero is not zero; the conversion saturates.
                Ok(SeekTarget(value.floor() as i64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SeekTarget, E> {
                let target = clock_text(text).map(SeekTarget);
                target.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(SeekVisitor)
    }
}

impl<'de> Deserialize<'de> for ChannelInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChannelVisitor;
        impl Visitor<'_> for ChannelVisitor {
            type Value = ChannelInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the id of a channel: a text, or a whole number")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ChannelInput, E> {
                Ok(ChannelInput(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ChannelInput, E> {
                Ok(ChannelInput(value.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ChannelInput, E> {
                Ok(ChannelInput(text.to_owned()))
            }
        }
        deserializer.deserialize_any(ChannelVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_text_is_taken_in_two_forms_and_nothing_else() {
        for (text, expected) in [
            ("00:00", Some(0)),
            ("1:05", Some(65_000)),
            ("01:33", Some(93_000)),
            ("75:30", Some(4_530_000)),
            ("1:02:03", Some(3_723_000)),
            ("", None),
            ("90", None),
            ("1:5", None),
            ("1:60", None),
            ("1:60:00", None),
            ("1:2:03", None),
            (":30", None),
            ("-1:30", None),
            ("+1:30", None),
            (" 1:30", None),
            ("1:30.5", None),
            ("1:2:3:4", None),
            ("٣:30", None),
            ("9999999:00", None),
        ] {
            assert_eq!(clock_text(text), expected, "{text:?}");
        }
    }
}
