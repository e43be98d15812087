//! Comments in JSON (`// …` and `/* … */`, as .NET's configuration and editors take them), which YAML does not know: to it
//! they would be part of the next key. Trailing commas need nothing, YAML takes them.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// `text` with blanks in place of the comments, so that everything keeps its line and column, where it is JSON: where `{`
/// or `[` is the first thing behind comments. Any other text is YAML, in which `//` is no comment.
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
    /// Takes blanks and comments; whether what follows begins JSON.
    fn is_json(&mut self) -> bool {
        loop {
            match self.characters.peek() {
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
        // Where a comment may begin: not within a word, or `http://…` without quotes would lose its end.
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

    /// Takes the rest of a quoted text.
    fn quoted(&mut self, quote: char) {
        while let Some(next) = self.characters.next() {
            self.out.push(next);
            if next == quote {
                return;
            }
            if next == '\\' && quote == '"' {
                self.take();
            }
        }
    }

    /// Blanks a comment whose first slash was taken; false where it is none.
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
