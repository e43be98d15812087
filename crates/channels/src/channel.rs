//! Ids of channels. Pure.

/// Longest id of a channel, in bytes.
pub const MAX_CHANNEL_BYTES: usize = 64;

/// Id of a channel: 1 to [`MAX_CHANNEL_BYTES`] letters, digits, hyphens, underscores and dots, of which the first is a letter or
/// a digit. It stands in paths, keys and metrics as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Box<str>);

impl ChannelId {
    /// Returns the id that a text is; `None` where it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_id = text.len() <= MAX_CHANNEL_BYTES
            && text.bytes().all(is_inner)
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        is_id.then(|| Self(text.into()))
    }

    /// Returns the channel that there is unless others are named.
    pub fn main() -> Self {
        Self("main".into())
    }

    /// Returns the id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_safe_in_paths_keys_and_metrics() {
        for (text, expected) in [
            ("main", true),
            ("7", true),
            ("Lounge-2_a.b", true),
            ("", false),
            (".", false),
            ("..", false),
            (".a", false),
            ("-a", false),
            ("a b", false),
            ("a:b", false),
            ("a{b}", false),
            ("a/b", false),
            ("ü", false),
            ("a\n", false),
        ] {
            assert_eq!(ChannelId::parse(text).is_some(), expected, "{text:?}");
        }
        assert!(ChannelId::parse(&"a".repeat(64)).is_some() && ChannelId::parse(&"a".repeat(65)).is_none());
    }
}
