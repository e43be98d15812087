//! Comments in JSON (`// …` and `/* … */`, as .NET's configuration and editors allow them). YAML does not know them: it
//! would read them as part of the next key. Trailing commas need nothing, YAML allows them.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// Returns `text` with blanks in place of comments if it is JSON: if `{` or `[` comes first behind comments. Everything
/// keeps its line and column. Any other text is YAML, in which `//` is no comment.
pub fn without_comments(text: &str) -> Cow<'_, str> {
    let mut blanked = BlankedText { characters: text.chars().peekable(), out: String::with_capacity(text.len()) };
    if !blanked.is_json() {
        return Cow::Borrowed(text);
    }
    blanked.rest();
    Cow::Owned(blanked.out)
}

struct BlankedText<'a> {
    characters: Peekable<Chars<'a>>,
    out: String,
}

impl BlankedText<'_> {
    /// Takes blanks and comments; returns true if JSON begins behind them.
    fn is_json(&mut self) -> bool {
        loop {
            match self.characters.peek() {
                // A byte order mark, which Windows editors write.
                Some(first) if first.is_whitespace() || *first == '\u{feff}' => self.take(),
                Some('/') => {
                    self.take();
                    if !self.comment() {
                        return false;
                    }
                }
                first => return matches!(first, Some('{' | '[')),
            }
        }
    }

    fn rest(&mut self) {
        // True where a comment may begin: not within a word, or `http://…` without quotes would lose its end.
        let mut is_between = true;
        while let Some(&next) = self.characters.peek() {
            self.take();
            match next {
                '"' | '\'' if is_between => self.quoted(next),
                '/' if is_between && self.comment() => continue,
                _ => {}
            }
            is_between = next.is_whitespace() || matches!(next, '{' | '}' | '[' | ']' | ',' | ':' | '"' | '\'');
            if next == ':' {
                // `{ Url: http://…` is not JSON but YAML, and its colon is within a word.
                is_between = self.characters.peek() != Some(&'/') || self.out.ends_with("\":");
            }
        }
    }

    fn take(&mut self) {
        self.out.extend(self.characters.next());
    }

    /// Takes the rest of a quoted string.
    fn quoted(&mut self, quote: char) {
        while let Some(next) = self.characters.next() {
            self.out.push(next);
            if next == quote {
                return;
            }
            // Only double quotes have escapes; in YAML a single quote is doubled instead.
            if next == '\\' && quote == '"' {
                self.take();
            }
        }
    }

    /// Blanks a comment whose first slash was taken; returns false if it is none.
    fn comment(&mut self) -> bool {
        let is_line = match self.characters.peek() {
            Some('/') => true,
            Some('*') => false,
            _ => return false,
        };
        self.out.pop();
        self.out.push(' ');
        self.characters.next();
        self.out.push(' ');
        let mut before = ' ';
        while let Some(&next) = self.characters.peek() {
            if is_line && next == '\n' {
                break;
            }
            self.characters.next();
            // Line breaks stay, so that problems behind the comment name the right line.
            self.out.push(if next == '\n' { '\n' } else { ' ' });
            if !is_line && before == '*' && next == '/' {
                break;
            }
            before = next;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_json_become_blanks_and_everything_keeps_its_place() {
        for (given, expected) in [
            ("{ // a\n\"b\": 1 }", "{     \n\"b\": 1 }"),
            ("// first\n{ \"a\": 1 }", "        \n{ \"a\": 1 }"),
            ("/* x\n y */{\"a\":1}", "    \n     {\"a\":1}"),
            ("{\"a\":/*x*/1,/**/}", "{\"a\":     1,    }"),
            ("{\"a\": \"http://x\" // y\n}", "{\"a\": \"http://x\"     \n}"),
            ("{\"a\": \"q\\\"// no\"}", "{\"a\": \"q\\\"// no\"}"),
            ("{ Url: http://x/y, B: 'it // is' }", "{ Url: http://x/y, B: 'it // is' }"),
        ] {
            assert_eq!(without_comments(given), expected, "{given}");
        }
    }

    #[test]
    fn yaml_is_left_alone() {
        for yaml in ["A: 1 // 2\n", "# c\nA: { b: /c }\n", "/A: 1\n", ""] {
            assert_eq!(without_comments(yaml), yaml);
        }
    }
}
