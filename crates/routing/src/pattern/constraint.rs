//! Constraints of captured values, by the names of ASP.NET Core's routes: `{id:int}`, `{name:alpha:length(3,20)}`. A value
//! that breaks one makes the path another route's. Values are compared percent-decoded.

use std::hash::{Hash, Hasher};

use percent_encoding::percent_decode_str;
use regex::{Regex, RegexBuilder};

/// Most bytes of a compiled expression.
const MAX_EXPRESSION: usize = 1 << 20;
/// Constraints, as a message lists them.
const KNOWN: &str = "`int`, `long`, `decimal`, `double`, `float`, `bool`, `datetime`, `guid`, `alpha`, `length(n)`, \
                     `length(least,most)`, `minlength(n)`, `maxlength(n)`, `min(n)`, `max(n)`, `range(least,most)`, \
                     `regex(…)`, `required`, `file` or `nonfile`";

/// A constraint on a captured value.
#[derive(Clone, Debug)]
pub(super) struct ValueConstraint {
    /// The constraint as it was written; equal texts are equal constraints.
    text: Box<str>,
    rule: ConstraintRule,
}

#[derive(Clone, Debug)]
enum ConstraintRule {
    Int,
    Long,
    Decimal,
    Float,
    Bool,
    DateTime,
    Guid,
    Alpha,
    /// Number of UTF-16 code units, as .NET counts a string's length.
    Length {
        least: usize,
        most: usize,
    },
    Range {
        least: i64,
        most: i64,
    },
    Expression(Regex),
    Required,
    /// The last segment has a dot that something follows (true), or has not.
    File(bool),
}

/// Reason why a text is not a constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a constraint{reason}; expected {KNOWN}")]
pub struct InvalidConstraint {
    text: String,
    reason: String,
}

impl PartialEq for ValueConstraint {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ValueConstraint {}

impl Hash for ValueConstraint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl ValueConstraint {
    /// Parses a constraint such as `int` or `range(1,5)`. Names are compared without regard to case.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidConstraint> {
        let fail = |reason: String| InvalidConstraint { text: text.to_owned(), reason };
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')').ok_or_else(|| fail(String::new()))?)),
            None => (text, None),
        };
        let rule = ConstraintRule::parse(&name.to_ascii_lowercase(), arguments).map_err(fail)?;
        Ok(Self { text: text.into(), rule })
    }

    /// Returns true where the constraint holds for a value as the client wrote it.
    pub(super) fn accepts(&self, raw: &str) -> bool {
        percent_decode_str(raw).decode_utf8().is_ok_and(|value| self.rule.accepts(&value))
    }

    /// Returns true where no value satisfies both constraints. False where that is not known.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.rule.excludes(&other.rule) || other.rule.excludes(&self.rule)
    }
}

impl ConstraintRule {
    /// Parses the constraint `name`; an error says what is wrong with it, as the rest of a sentence.
    fn parse(name: &str, arguments: Option<&str>) -> Result<Self, String> {
        let Some(arguments) = arguments else {
            return match name {
                "int" => Ok(Self::Int),
                "long" => Ok(Self::Long),
                "decimal" => Ok(Self::Decimal),
                "double" | "float" => Ok(Self::Float),
                "bool" => Ok(Self::Bool),
                "datetime" => Ok(Self::DateTime),
                "guid" => Ok(Self::Guid),
                "alpha" => Ok(Self::Alpha),
                "required" => Ok(Self::Required),
                "file" => Ok(Self::File(true)),
                "nonfile" => Ok(Self::File(false)),
                _ => Err(String::new()),
            };
        };
        let numbers: Vec<Option<i64>> = arguments.split(',').map(|number| number.trim().parse().ok()).collect();
        let count = |number: i64| usize::try_from(number).map_err(|_| ": a length is not negative".to_owned());
        match (name, numbers.as_slice()) {
            ("regex", _) => expression(arguments).map(Self::Expression),
            ("length", [Some(only)]) => Ok(Self::Length { least: count(*only)?, most: count(*only)? }),
            ("length", [Some(least), Some(most)]) if least <= most => {
                Ok(Self::Length { least: count(*least)?, most: count(*most)? })
            }
            ("minlength", [Some(least)]) => Ok(Self::Length { least: count(*least)?, most: usize::MAX }),
            ("maxlength", [Some(most)]) => Ok(Self::Length { least: 0, most: count(*most)? }),
            ("min", [Some(least)]) => Ok(Self::Range { least: *least, most: i64::MAX }),
            ("max", [Some(most)]) => Ok(Self::Range { least: i64::MIN, most: *most }),
            ("range", [Some(least), Some(most)]) if least <= most => Ok(Self::Range { least: *least, most: *most }),
            ("length" | "minlength" | "maxlength" | "min" | "max" | "range", _) => {
                Err(": its numbers cannot be read".to_owned())
            }
            _ => Err(String::new()),
        }
    }

    fn accepts(&self, value: &str) -> bool {
        match self {
            // .NET's parsers of whole numbers take blanks around them and a sign.
            Self::Int => value.trim().parse::<i32>().is_ok(),
            Self::Long => value.trim().parse::<i64>().is_ok(),
            Self::Decimal => is_decimal(value.trim()),
            Self::Float => is_float(value.trim()),
            Self::Bool => value.trim().eq_ignore_ascii_case("true") || value.trim().eq_ignore_ascii_case("false"),
            Self::DateTime => is_date_time(value.trim()),
            Self::Guid => is_guid(value.trim()),
            Self::Alpha => value.bytes().all(|byte| byte.is_ascii_alphabetic()),
            Self::Length { least, most } => (*least..=*most).contains(&value.encode_utf16().count()),
            Self::Range { least, most } => {
                value.trim().parse::<i64>().is_ok_and(|number| (*least..=*most).contains(&number))
            }
            Self::Expression(expression) => expression.is_match(value),
            Self::Required => !value.is_empty(),
            Self::File(wanted) => is_file_name(value) == *wanted,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => one != two,
            (Self::Length { least, most }, Self::Length { least: other_least, most: other_most }) => {
                most < other_least || other_most < least
            }
            (Self::Range { least, most }, Self::Range { least: other_least, most: other_most }) => {
                most < other_least || other_most < least
            }
            (Self::Int | Self::Long | Self::Range { .. }, other) => {
                matches!(other, Self::Bool | Self::DateTime | Self::Guid | Self::Alpha | Self::File(true))
            }
            (Self::Bool, Self::DateTime | Self::Guid | Self::Decimal | Self::Float | Self::File(true)) => true,
            (Self::Alpha, Self::DateTime | Self::File(true)) => true,
            _ => false,
        }
    }
}

/// Compiles an expression as ASP.NET Core does: without regard to case, and without the features whose time is not
/// linear in the text (look-around, back-references).
fn expression(text: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(text).case_insensitive(true).size_limit(MAX_EXPRESSION).build();
    compiled.map_err(|_| {
        ": the expression cannot be read; look-around and back-references are not available, because their time has no \
         bound"
            .to_owned()
    })
}

/// Digits with one point at most, a sign, and commas between thousands, as .NET reads a decimal number.
fn is_decimal(value: &str) -> bool {
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_whole = whole.bytes().all(|byte| byte.is_ascii_digit() || byte == b',') && !whole.starts_with(',');
    is_whole && fraction.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte.is_ascii_digit())
}

fn is_float(value: &str) -> bool {
    let (number, exponent) = value.split_once(['e', 'E']).unwrap_or((value, "0"));
    let named = value.strip_prefix(['+', '-']).unwrap_or(value);
    let is_named = ["nan", "infinity"].iter().any(|name| named.eq_ignore_ascii_case(name));
    is_named || is_decimal(number) && exponent.parse::<i32>().is_ok()
}

/// A date of ISO 8601, or one with a time and an offset: .NET reads more, by the culture of its machine.
fn is_date_time(value: &str) -> bool {
    use jiff::Timestamp;
    use jiff::civil::{Date, DateTime};
    value.contains('-')
        && (value.parse::<Date>().is_ok() || value.parse::<DateTime>().is_ok() || value.parse::<Timestamp>().is_ok())
}

/// 32 hexadecimal digits, in groups of 8-4-4-4-12 or not, in braces or parentheses or not.
fn is_guid(value: &str) -> bool {
    let within = |open: char, close: char| value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let enclosed = within('{', '}').or_else(|| within('(', ')'));
    let groups: Vec<&str> = enclosed.unwrap_or(value).split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_grouped = lengths == [8, 4, 4, 4, 12] || lengths == [32] && enclosed.is_none();
    is_grouped && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_file_name(value: &str) -> bool {
    let name = value.rsplit('/').next().unwrap_or_default();
    name.split_once('.').is_some_and(|(_, rest)| rest.bytes().any(|byte| byte != b'.'))
}

#[cfg(test)]
mod tests {
    use super::ValueConstraint;

    fn constraint(text: &str) -> ValueConstraint {
        ValueConstraint::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn each_constraint_takes_what_it_takes_in_aspnet() {
        let cases: [(&str, &[&str], &[&str]); 23] = [
            ("int", &["0", "-12", "+7", "2147483647", "%20123"], &["", "2147483648", "1.0", "0x1", "a", "1,000"]),
            ("INT", &["1"], &["x"]),
            ("long", &["-9223372036854775808"], &["9223372036854775808", "1e3"]),
            ("decimal", &["1", "-1.50", ".5", "1,000.5"], &["", ".", "1e3", "NaN", "1.2.3"]),
            ("double", &["1", "1.234", "-1,001.01e8", "NaN", "-Infinity"], &["", "one", "1e", "e5"]),
            ("float", &["1.5"], &["x"]),
            ("bool", &["true", "FALSE"], &["1", "yes", ""]),
            (
                "datetime",
                &["2016-12-31", "2016-12-31T07:32:00", "2026-11-30T10:20:00Z"],
                &["2016-13-01", "today", "20161231"],
            ),
            (
                "guid",
                &[
                    "CD2C1638-1638-72D5-1638-DEADBEEF1638",
                    "cd2c1638163872d51638deadbeef1638",
                    "%7Bcd2c1638-1638-72d5-1638-deadbeef1638%7D",
                ],
                &["cd2c1638-163872d5-1638-deadbeef1638-", "g", ""],
            ),
            ("alpha", &["Rick", ""], &["a1", "é", "a-b"]),
            ("length(12)", &["somefile.txt"], &["a", "somefile.txtx"]),
            ("length(8,16)", &["somefile.txt"], &["short", "12345678901234567"]),
            ("length(2)", &["%F0%9F%8E%B5"], &["a"]),
            ("minlength(4)", &["Rick"], &["Ric"]),
            ("maxlength(8)", &["MyFile", ""], &["123456789"]),
            ("min(18)", &["19", "18"], &["17", "x"]),
            ("max(120)", &["91", "-1"], &["121"]),
            ("range(18, 120)", &["18", "120"], &["17", "121"]),
            (r"regex(^\d{3}-\d{2}-\d{4}$)", &["123-45-6789"], &["12-345-6789", "123-45-67890"]),
            ("regex(^(list|get)$)", &["LIST"], &["lists"]),
            ("required", &["Rick"], &[""]),
            ("file", &["a/b.txt", "x.y.z"], &["b", "b.", "a.b/c", "..."]),
            ("nonfile", &["b", "a.b/c"], &["b.txt"]),
        ];
        for (text, good, bad) in cases {
            for value in good {
                assert!(constraint(text).accepts(value), "{text} takes {value:?}");
            }
            for value in bad {
                assert!(!constraint(text).accepts(value), "{text} does not take {value:?}");
            }
        }
        assert!(!constraint("maxlength(9)").accepts("%FF"), "no value that is not UTF-8");
    }

    #[test]
    fn what_is_no_constraint_is_refused_with_the_list_of_those_that_are() {
        let cases = [
            ("digits", "expected `int`"),
            ("", "not a constraint"),
            ("int(3)", "not a constraint"),
            ("length", "not a constraint"),
            ("length(x)", "numbers cannot be read"),
            ("range(5,1)", "numbers cannot be read"),
            ("minlength(-1)", "not negative"),
            ("range(1,2", "not a constraint"),
            ("regex(()", "cannot be read"),
            ("regex((?=a)b)", "look-around"),
            (r"regex((a)\1)", "back-references"),
            ("regex(a{1000}{1000}{1000})", "cannot be read"),
        ];
        for (text, part) in cases {
            let error = ValueConstraint::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn constraints_that_no_value_satisfies_both_exclude_each_other() {
        for (one, two, expected) in [
            ("int", "alpha", true),
            ("int", "guid", true),
            ("range(1,5)", "min(6)", true),
            ("length(3)", "minlength(4)", true),
            ("file", "nonfile", true),
            ("bool", "datetime", true),
            ("alpha", "file", true),
            ("int", "long", false),
            ("int", "range(1,5)", false),
            ("alpha", "guid", false),
            ("alpha", "bool", false),
            ("regex(a)", "regex(b)", false),
        ] {
            assert_eq!(constraint(one).excludes(&constraint(two)), expected, "{one} {two}");
            assert_eq!(constraint(two).excludes(&constraint(one)), expected, "{two} {one}");
        }
    }
}
