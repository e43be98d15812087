//! Ids of sessions: exactly six digits, as the document has it.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::refusal::Refusal;

/// Number of ids.
pub const ID_COUNT: u32 = 1_000_000;

/// Id of a session: six digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u32);

impl SessionId {
    /// Returns the id of this number below [`ID_COUNT`]; higher ones wrap around.
    pub fn from_number(number: u32) -> Self {
        Self(number % ID_COUNT)
    }
}

impl FromStr for SessionId {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(Refusal::InvalidSessionId);
        }
        text.parse().map(Self).map_err(|_| Refusal::InvalidSessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_exactly_six_digits() {
        for text in ["123456", "000000", "000007", "999999"] {
            assert_eq!(text.parse::<SessionId>().expect(text).to_string(), text);
        }
        for text in ["", "12345", "1234567", "12345a", "+12345", "-12345", " 12345", "１２３４５６", "123 56"] {
            assert_eq!(text.parse::<SessionId>(), Err(Refusal::InvalidSessionId), "{text}");
        }
    }
}
