//! Values as players send them, parsed the same way on every path.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use utoipa::ToSchema;

use super::error::Error;
use primitives::ids::is_id;
use primitives::unix_time::UnixMillis;

/// Milliseconds in a body: a whole number, or one with a fraction, which is dropped, since media elements count in
/// floating seconds. Not limited to any range; a number that is too large becomes the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milliseconds(pub i64);

/// Id of a channel in a body: a text, or the number of a chat.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ChannelName {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// Longest id of a channel, in bytes.
const MAX_CHANNEL_BYTES: usize = 64;

impl ChannelName {
    /// Returns the id of the channel; `main` where none is named.
    pub fn id_or_main(named: Option<Self>) -> Result<String, Error> {
        match named {
            None => Ok("main".to_owned()),
            Some(Self::Number(number)) => Ok(number.to_string()),
            Some(Self::Text(text)) if text.len() <= MAX_CHANNEL_BYTES && is_id(&text) => Ok(text),
            Some(Self::Text(_)) => Err(Error::bad_request(format!(
                "`channel_id` must have 1 to {MAX_CHANNEL_BYTES} bytes and no control characters"
            ))),
        }
    }
}

/// A time in a body: RFC 3339 with an offset, or milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampInput(pub Timestamp);

impl TimestampInput {
    /// Returns the time as a report of a position has it; 422 before 1970.
    pub fn since_1970(self) -> Result<UnixMillis, Error> {
        let at = UnixMillis::new(self.0.as_millisecond());
        if at < UnixMillis::EPOCH { Err(Error::unprocessable("timestamp is before 1970")) } else { Ok(at) }
    }
}

/// The description of a [`TimestampInput`].
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum MillisecondsOrText {
    /// Since 1970.
    Milliseconds(f64),
    /// RFC 3339, with an offset.
    Text(String),
}

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MillisecondsVisitor)
    }
}

struct MillisecondsVisitor;

impl Visitor<'_> for MillisecondsVisitor {
    type Value = Milliseconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("milliseconds as a number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Milliseconds, E> {
        Ok(Milliseconds(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Milliseconds, E> {
        // The largest number is then refused as out of range, by a message that names the field.
        Ok(Milliseconds(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Milliseconds, E> {
        // Down, so that what is a little below zero is not zero; the conversion saturates.
        Ok(Milliseconds(value.floor() as i64))
    }
}

impl<'de> Deserialize<'de> for TimestampInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimestampVisitor)
    }
}

struct TimestampVisitor;

impl Visitor<'_> for TimestampVisitor {
    type Value = TimestampInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as 2026-01-31T18:00:00Z (RFC 3339), or milliseconds since 1970")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TimestampInput, E> {
        text.parse().map(TimestampInput).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<TimestampInput, E> {
        let time = Timestamp::from_millisecond(value);
        time.map(TimestampInput).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<TimestampInput, E> {
        self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<TimestampInput, E> {
        // The cast saturates, and what is out of range is refused as a time.
        self.visit_i64(value.floor() as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(json: &str) -> Option<i64> {
        serde_json::from_str::<Milliseconds>(json).ok().map(|Milliseconds(millis)| millis)
    }

    #[test]
    fn milliseconds_may_have_a_fraction() {
        let table = [
            ("93500", Some(93_500)),
            ("93500.0", Some(93_500)),
            ("93500.9", Some(93_500)),
            ("9.35e4", Some(93_500)),
            ("-0.5", Some(-1)),
            ("1e300", Some(i64::MAX)),
            ("18446744073709551615", Some(i64::MAX)),
            ("\"93500\"", None),
            ("null", None),
            ("true", None),
        ];
        for (json, expected) in table {
            assert_eq!(millis(json), expected, "{json}");
        }
    }

    #[test]
    fn a_time_is_text_or_milliseconds_and_the_same_either_way() {
        let time = |json: &str| {
            serde_json::from_str::<TimestampInput>(json).ok().map(|TimestampInput(time)| time.as_millisecond())
        };
        let table = [
            ("\"2026-01-31T18:00:00.250Z\"", Some(1_769_882_400_250)),
            ("\"2026-01-31T19:00:00.250+01:00\"", Some(1_769_882_400_250)),
            ("1769882400250", Some(1_769_882_400_250)),
            ("1769882400250.7", Some(1_769_882_400_250)),
            ("\"2026-01-31T18:00:00\"", None),
            ("\"yesterday\"", None),
            ("1e300", None),
            ("null", None),
        ];
        for (json, expected) in table {
            assert_eq!(time(json), expected, "{json}");
        }
    }
}
