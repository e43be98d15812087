//! Secrets taken out of the configuration file, pure. The file should have none (they are `env:` and `file:` references); this is
//! for those that got into it all the same, into a comment for example.

/// What stands in place of a secret.
const MASK: &str = "***";
/// Endings of the names of keys that have secrets, in small letters.
const SECRET_ENDINGS: [&str; 9] =
    ["secret", "secretkey", "accesskey", "sessiontoken", "password", "token", "apikey", "key", "passphrase"];

/// Returns `text` without comments, with passwords in URLs masked, and with the values of keys named like secrets masked unless
/// they are `env:` or `file:` references.
pub fn redact(text: &str) -> String {
    text.lines().filter_map(redact_line).map(|line| line + "\n").collect()
}

/// Returns a line without its secrets; `None` for one that has nothing but a comment.
fn redact_line(line: &str) -> Option<String> {
    let line = without_comment(line);
    if line.trim().is_empty() {
        return None;
    }
    Some(mask_url_passwords(&mask_value(line)))
}

/// Returns the line up to its comment: a `#` at its beginning or after a blank (YAML 1.2.2 §6.6). One within quotes is taken for a
/// comment too: of a text too little is kept rather than too much.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, character) in line.char_indices() {
        if character == '#' && before.is_whitespace() {
            return line[..at].trim_end();
        }
        before = character;
    }
    line.trim_end()
}

/// Masks the values of keys named like secrets, in block and in flow style.
fn mask_value(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(colon) = rest.find(':') {
        let (key, after) = rest.split_at(colon + 1);
        masked.push_str(key);
        let name = key[..colon].rsplit(['{', ',', ' ', '-']).next().unwrap_or_default();
        let name = name.trim_matches(['"', '\'']).to_ascii_lowercase();
        let is_pair = after.is_empty() || after.starts_with([' ', '\t']) || key.trim_end_matches(':').ends_with('"');
        rest = after;
        if !is_pair || !SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        let value = after.trim_start();
        let plain = value.trim_start_matches(['"', '\'']);
        // A section, or a reference.
        if value.is_empty() || value.starts_with(['{', '[']) || plain.starts_with("env:") || plain.starts_with("file:")
        {
            continue;
        }
        masked.push_str(&after[..after.len() - value.len()]);
        masked.push_str(MASK);
        let end = value.find([',', '}']).unwrap_or(value.len());
        rest = &value[end..];
    }
    masked.push_str(rest);
    masked
}

/// Masks what is between `://` and `@`.
fn mask_url_passwords(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '}')).unwrap_or(after.len());
        let authority = &after[..end];
        rest = match authority.rfind('@') {
            Some(sign) if authority[..sign].contains(':') => {
                masked.push_str(MASK);
                &after[sign..]
            }
            _ => after,
        };
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_comments_are_taken_out_and_references_stay() {
        for (line, kept) in [
            ("Server:", Some("Server:")),
            ("  SecretKey: env:SECRET", Some("  SecretKey: env:SECRET")),
            ("  SecretKey: \"file:/run/secret\"", Some("  SecretKey: \"file:/run/secret\"")),
            ("  SecretKey: hunter2", Some("  SecretKey: ***")),
            ("  AccessKey: \"hunter2\"  # old", Some("  AccessKey: ***")),
            ("S: { AccessKey: hunter2, SecretKey: env:S }", Some("S: { AccessKey: ***, SecretKey: env:S }")),
            ("  \"Token\": hunter2", Some("  \"Token\": ***")),
            ("{\"Token\":\"hunter2\",\"Port\":1}", Some("{\"Token\":***,\"Port\":1}")),
            ("# password: hunter2", None),
            ("", None),
            ("  Url: postgres://user:hunter2@host/name", Some("  Url: postgres://***@host/name")),
            ("  Url: \"redis://:hunter2@host:6379\", Other: 1", Some("  Url: \"redis://***@host:6379\", Other: 1")),
            ("  Url: postgres://user@host/name", Some("  Url: postgres://user@host/name")),
            ("  Listen: 0.0.0.0:8080", Some("  Listen: 0.0.0.0:8080")),
            ("  PathToken:", Some("  PathToken:")),
            ("  - Token: hunter2", Some("  - Token: ***")),
        ] {
            let expected = kept.map(|kept| format!("{kept}\n")).unwrap_or_default();
            assert_eq!(redact(line), expected, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = redact(&text);
        }
    }
}
