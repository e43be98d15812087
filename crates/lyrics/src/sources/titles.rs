//! Names of songs and artists, compared: services search loosely, and other words are worse than none.

/// Returns the letters and digits of a name, in lower case, without what stands in brackets behind it: `Song (Live)`.
fn essence(name: &str) -> String {
    let cut = name.char_indices().skip(1).find(|(_, c)| matches!(c, '(' | '[')).map_or(name.len(), |(at, _)| at);
    let letters = |text: &str| text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    Some(letters(&name[..cut])).filter(|essence| !essence.is_empty()).unwrap_or_else(|| letters(name))
}

/// Returns true where two names are of the same song or artist.
pub fn are_same(one: &str, other: &str) -> bool {
    let (one, other) = (essence(one), essence(other));
    !one.is_empty() && one == other
}

#[cfg(test)]
mod tests {
    use super::are_same;

    #[test]
    fn names_are_the_same_whatever_stands_around_them() {
        assert!(are_same("Don't Stop!", "dont stop"));
        assert!(are_same("Prelude (Remastered 2009)", "PRELUDE"));
        assert!(are_same("Ünïcode", "ünïcode"));
        assert!(are_same("(Intro)", "intro"));
        assert!(!are_same("Prelude", "Prelude No. 2"));
        assert!(!are_same("!!!", "???"));
    }
}
