//! Scalars that the YAML has beyond YAML's own: time spans, sizes, references to secrets, strings that may come from
//! the environment. Each is parsed here once, for the check of the shape and for the typed value alike.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A text that may be written as `env:NAME`.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct ConfigText(pub String);

/// `env:NAME` or `file:PATH`.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// The environment variable of that name.
    Env(String),
    /// The content of that file, without a final line break.
    File(PathBuf),
}

/// A time span: `30s`, `1h30m`, or YARP's `00:00:30`.
#[derive(Clone, Copy)]
pub struct TimeSpan(pub Duration);

/// A number of bytes: `1048576`, `64KiB`; `-1` is unlimited.
#[derive(Clone, Copy)]
pub struct ByteSize(pub Option<u64>);

/// `true`, or `"true"` as .NET writes it.
#[derive(Clone, Copy)]
pub struct ConfigFlag(pub bool);

/// A text, number or boolean, compared by its JSON text.
#[derive(Clone)]
pub struct ScalarText(pub String);

/// One text or a list of them.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// A single text.
    One(ConfigText),
    /// Several.
    Many(Vec<ConfigText>),
}

/// Checks `text` by a format of the schema, named `name`; the error says what is expected.
pub fn format(name: &str, text: &str) -> Result<(), &'static str> {
    let (good, expected) = match name {
        "time-span" => (time_span(text).is_some(), "a time span such as 30s, 15m, 1h30m or 00:00:30"),
        "byte-size" => {
            (byte_size(text).is_some(), "a number of bytes such as 1048576, 64KiB, 10MiB or -1 for unlimited")
        }
        "secret-ref" => (secret_ref(text).is_some(), "env:NAME or file:PATH"),
        "flag" => (flag(text).is_some(), "true or false"),
        _ => (true, ""),
    };
    if good { Ok(()) } else { Err(expected) }
}

/// Returns `text` in the one spelling of its format, named as in [`format()`]; `None` where it has one only.
pub fn canonical(name: &str, text: &str) -> Option<String> {
    match name {
        "time-span" => time_span(text).map(|span| humantime::format_duration(span).to_string()),
        "byte-size" => byte_size(text).map(|size| size.map_or("-1".to_owned(), |bytes| bytes.to_string())),
        "flag" => flag(text).map(|value| value.to_string()),
        _ => None,
    }
}

fn time_span(text: &str) -> Option<Duration> {
    if !text.contains(':') {
        return humantime::parse_duration(text).ok();
    }
    // TimeSpan of .NET: [days.]hh:mm:ss
    let mut parts = text.split(':');
    let (first, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (days, hours) = first.split_once('.').unwrap_or(("0", first));
    // Bounds on every part keep the sum far from overflow.
    let below = |text: &str, limit: u64| text.parse::<u64>().ok().filter(|value| *value < limit);
    let whole = below(days, 10_000)? * 86_400 + below(hours, 24)? * 3_600 + below(minutes, 60)? * 60;
    let seconds = seconds.parse::<f64>().ok().filter(|value| (0.0..60.0).contains(value))?;
    parts.next().is_none().then(|| Duration::from_secs(whole) + Duration::from_secs_f64(seconds))
}

fn byte_size(text: &str) -> Option<Option<u64>> {
    if text == "-1" {
        return Some(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    // Checked: a size that overflows is no size.
    number.parse::<u64>().ok()?.checked_mul(1 << shift).map(Some)
}

/// Reads `env:NAME` or `file:PATH`.
pub fn secret_ref(text: &str) -> Option<SecretRef> {
    match text.split_once(':')? {
        ("env", name) if is_variable(name) => Some(SecretRef::Env(name.to_owned())),
        ("file", path) if !path.is_empty() => Some(SecretRef::File(path.into())),
        _ => None,
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

/// Returns true if a text may carry a password or a signature: a URL with a user or a query.
pub fn is_telling(text: &str) -> bool {
    // Signatures of presigned URLs are in the query, passwords before the `@`.
    text.contains("://") && text.contains(['@', '?'])
}

/// Returns true if `name` can be the name of an environment variable (POSIX).
pub fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// A YAML scalar as its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum YamlScalar {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl YamlScalar {
    fn text(self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(value) => value,
        }
    }
}

/// Implements reading and schema of a scalar: the type, its YAML types, its format, its parser.
macro_rules! scalar {
    ($type:ident, $types:tt, $format:literal, $parse:expr, {$($more:tt)*}) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = YamlScalar::deserialize(deserializer)?.text();
                $parse(&text).ok_or_else(|| D::Error::custom(concat!("expected a ", $format)))
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "format": $format, $($more)* })
            }
        }
    };
}

scalar!(TimeSpan, "string", "time-span", |text| time_span(text).map(TimeSpan), {"examples": ["30s", "15m", "00:00:30"]});
scalar!(ByteSize, ["integer", "string"], "byte-size", |text| byte_size(text).map(ByteSize), {"examples": [1048576, "64KiB", -1]});
scalar!(SecretRef, "string", "secret-ref", secret_ref, {"pattern": "^(env|file):.+", "writeOnly": true});
scalar!(ConfigFlag, ["boolean", "string"], "flag", |text| flag(text).map(ConfigFlag), {"default": true});
scalar!(ScalarText, ["string", "number", "boolean"], "literal", |text: &str| Some(ScalarText(text.to_owned())), {});

impl JsonSchema for ConfigText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
    }
}

impl OneOrMany {
    /// Returns the strings.
    pub fn texts(&self) -> &[ConfigText] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_in_both_spellings() {
        for (text, seconds) in [
            ("30s", Some(30.0)),
            ("1h30m", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("00:00:30", Some(30.0)),
            ("00:01:40", Some(100.0)),
            ("1.02:00:00.5", Some(93_600.5)),
            ("", None),
            ("30", None),
            ("thirty", None),
            ("00:60:00", None),
            ("24:00:00", None),
            ("00:00", None),
            ("00:00:00:00", None),
            ("00:00:NaN", None),
            ("-1s", None),
        ] {
            assert_eq!(time_span(text).map(|span| span.as_secs_f64()), seconds, "{text}");
        }
    }

    #[test]
    fn byte_sizes_are_read_with_binary_units_only() {
        for (text, bytes) in [
            ("0", Some(Some(0))),
            ("30000000", Some(Some(30_000_000))),
            ("64KiB", Some(Some(65_536))),
            ("2 GiB", Some(Some(2_147_483_648))),
            ("-1", Some(None)),
            ("64KB", None),
            ("KiB", None),
            ("-2", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(byte_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_secret_is_a_reference_and_nothing_else() {
        assert!(secret_ref("env:S3_SECRET_KEY") == Some(SecretRef::Env("S3_SECRET_KEY".to_owned())));
        assert!(secret_ref("file:/run/secrets/key") == Some(SecretRef::File("/run/secrets/key".into())));
        for text in ["hunter2", "env:", "file:", "env:9A", "env:A-B", "ENV:A", "vault:a"] {
            assert!(secret_ref(text).is_none(), "{text}");
        }
    }
}
