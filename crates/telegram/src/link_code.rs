//! Codes by which users link their Telegram accounts: ten characters of 32 (fifty bits), of which only the hash is kept.

use sha2::{Digest, Sha256};

use primitives::hexadecimal::hexadecimal;

/// Crockford's digits: none is taken for another one.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code.
const LENGTH: usize = 10;

/// Code, as its user has it. Its `Debug` form does not show it.
pub struct LinkCode(String);

impl LinkCode {
    /// Makes a code of random bytes.
    pub fn new(random: [u8; LENGTH]) -> Self {
        Self(random.iter().map(|byte| char::from(DIGITS[usize::from(byte & 31)])).collect())
    }

    /// Reads a code as users write it: in any case, with dashes and blanks, and with letters for the digits that they look like.
    pub fn parse(text: &str) -> Option<Self> {
        let written = text.chars().filter(|character| !matches!(character, '-' | ' '));
        let digit = |character: char| match character.to_ascii_uppercase() {
            'I' | 'L' => Some('1'),
            'O' => Some('0'),
            character => DIGITS.contains(&u8::try_from(character).ok()?).then_some(character),
        };
        let code = written.take(LENGTH + 1).map(digit).collect::<Option<String>>()?;
        (code.len() == LENGTH).then_some(Self(code))
    }

    /// Returns the code, in two halves.
    pub fn show(&self) -> String {
        let (first, second) = self.0.split_at(LENGTH / 2);
        format!("{first}-{second}")
    }

    /// Returns its hash. No salt: fifty random bits are found in no table, and are good for minutes.
    pub fn hash(&self) -> String {
        hexadecimal(&Sha256::digest(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_users_write_it() {
        let code = LinkCode::new([0, 1, 10, 31, 32, 255, 64, 20, 21, 22]);
        assert_eq!(code.show(), "01AZ0-Z0MNP");
        for text in ["01AZ0-Z0MNP", "01az0z0mnp", " o1az0 zOmnp", "0IAZ0-Z0MNP", "0lAZ0Z0MNP"] {
            assert_eq!(LinkCode::parse(text).map(|parsed| parsed.hash()), Some(code.hash()), "{text}");
        }
        for text in ["", "01AZ0-Z0MN", "01AZ0-Z0MNP1", "01AZ0-Z0MNU", "01AZ0-Z0MNЖ", "01AZ0_Z0MNP"] {
            assert!(LinkCode::parse(text).is_none(), "{text}");
        }
    }
}
