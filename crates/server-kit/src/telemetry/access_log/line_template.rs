//! Access lines as a text with the request's values at their places.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::ops::Range;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;

use crate::telemetry::log::ACCESS;

/// Values of a request, by the names that they have in an access line.
const VALUES: [&str; 25] = [
    "request_id",
    "trace_id",
    "route",
    "module",
    "method",
    "path",
    "host",
    "protocol",
    "status",
    "sent",
    "first_byte_ms",
    "duration_ms",
    "user_agent",
    "client",
    "user",
    "cluster",
    "destination",
    "attempts",
    "resumes",
    "cache",
    "store",
    "bucket",
    "key",
    "failure",
    "cause",
];
/// The last failure of a server, which stands beside them.
const ERROR: &str = "error";
/// When the request ended: by RFC 3339, and as in the Common Log Format.
const TIME: &str = "time";
const LOCAL_TIME: &str = "time_local";
/// Form of the time in the Common Log Format.
const COMMON_TIME: &str = "%d/%b/%Y:%H:%M:%S +0000";
/// The Combined Log Format. The page that a link was on is never told: its address may hold a token.
const COMBINED: &str =
    r#"{client} - {user} [{time_local}] "{method} {path} {protocol}" {status} {sent} "-" "{user_agent}""#;

/// A text with places for values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Place of a value, by its name.
    Value(&'static str),
    Time,
    LocalTime,
}

/// Reason why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineTemplateError {
    /// There is no value of that name.
    #[error("there is no value `{{{0}}}`")]
    UnknownValue(String),
    /// A brace stands alone.
    #[error("a `{{` or `}}` stands alone")]
    LoneBrace,
    /// It has no place for a value, or a line break.
    #[error("a line needs at least one value, and no line break")]
    NotALine,
}

impl LineTemplate {
    /// Returns the Combined Log Format of Apache and nginx.
    pub fn combined() -> Self {
        Self::parse(COMBINED).expect("it is a template")
    }

    /// Returns the names that a template may have.
    pub fn names() -> impl Iterator<Item = &'static str> {
        [TIME, LOCAL_TIME].into_iter().chain(VALUES).chain([ERROR])
    }

    /// Reads a text with values in braces; `{{` and `}}` are the braces themselves.
    pub fn parse(text: &str) -> Result<Self, LineTemplateError> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').filter(|_| brace == "{").ok_or(LineTemplateError::LoneBrace)?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::named(name)?);
            rest = after;
        }
        literal.push_str(rest);
        if parts.is_empty() || text.contains(['\n', '\r']) {
            return Err(LineTemplateError::NotALine);
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// Writes the line of `values` at `time`, with its end.
    fn render(&self, values: &LineValues, time: Timestamp) -> String {
        let mut line = String::with_capacity(256);
        for part in &self.0 {
            // Writing into a text does not fail.
            let _ = match part {
                Part::Text(text) => write!(line, "{text}"),
                Part::Time => write!(line, "{time:.6}"),
                Part::LocalTime => write!(line, "{}", time.strftime(COMMON_TIME)),
                Part::Value(name) => {
                    push_escaped(&mut line, values.get(name).unwrap_or("-"));
                    Ok(())
                }
            };
        }
        line.push('\n');
        line
    }
}

impl Part {
    fn named(name: &str) -> Result<Self, LineTemplateError> {
        match name {
            TIME => return Ok(Self::Time),
            LOCAL_TIME => return Ok(Self::LocalTime),
            ERROR => return Ok(Self::Value(ERROR)),
            _ => {}
        }
        let known = VALUES.into_iter().find(|known| *known == name);
        known.map(Self::Value).ok_or_else(|| LineTemplateError::UnknownValue(name.to_owned()))
    }
}

/// Adds a value that clients may have chosen, as nginx does: it ends no quotes and no line.
fn push_escaped(line: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '"' | '\\' => line.extend(["\\x", if character == '"' { "22" } else { "5C" }]),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(line, "\\x{byte:02X}");
                }
            }
            other => line.push(other),
        }
    }
}

/// Values of one event, in one text.
#[derive(Default)]
struct LineValues {
    text: String,
    places: Vec<(&'static str, Range<usize>)>,
}

impl LineValues {
    fn get(&self, name: &str) -> Option<&str> {
        self.places.iter().find(|(known, _)| *known == name).map(|(_, place)| &self.text[place.clone()])
    }

    fn add(&mut self, field: &Field, value: impl fmt::Display) {
        let start = self.text.len();
        let _ = write!(self.text, "{value}");
        self.places.push((field.name(), start..self.text.len()));
    }
}

impl Visit for LineValues {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }
}

/// Writes access lines by a template.
pub struct TemplateLayer<W> {
    template: LineTemplate,
    writer: W,
}

impl<W> TemplateLayer<W> {
    /// Makes the layer, which writes lines of `template` to `writer`.
    pub fn new(template: LineTemplate, writer: W) -> Self {
        Self { template, writer }
    }
}

impl<S: Subscriber, W: for<'w> MakeWriter<'w> + 'static> Layer<S> for TemplateLayer<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != ACCESS {
            return;
        }
        let mut values = LineValues::default();
        event.record(&mut values);
        let line = self.template.render(&values, Timestamp::now());
        // Nobody could be told: these are the lines.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(template: &str, values: &[(&'static str, &str)]) -> String {
        let mut of = LineValues::default();
        for (name, value) in values {
            let start = of.text.len();
            of.text.push_str(value);
            of.places.push((*name, start..of.text.len()));
        }
        let time = Timestamp::from_microsecond(1_796_083_200_123_456).unwrap();
        LineTemplate::parse(template).unwrap().render(&of, time)
    }

    #[test]
    fn values_stand_at_their_places() {
        for (template, expected) in [
            ("{method} {path}", "GET /a\n"),
            ("{{{status}}} {user}", "{206} -\n"),
            ("{time}", "2026-12-01T00:00:00.123456Z\n"),
            ("[{time_local}]", "[01/Dec/2026:00:00:00 +0000]\n"),
            ("a{status}b{status}", "a206b206\n"),
        ] {
            assert_eq!(line(template, &[("method", "GET"), ("path", "/a"), ("status", "206")]), expected, "{template}");
        }
    }

    #[test]
    fn the_combined_log_format_is_that_of_nginx() {
        let values = [
            ("client", "192.0.2.1"),
            ("user", "alice"),
            ("method", "GET"),
            ("path", "/stream/a.mp3"),
            ("protocol", "HTTP/1.1"),
            ("status", "206"),
            ("sent", "1024"),
            ("user_agent", "curl/8.0"),
        ];
        let expected = "192.0.2.1 - alice [01/Dec/2026:00:00:00 +0000] \"GET /stream/a.mp3 HTTP/1.1\" 206 1024 \"-\" \"curl/8.0\"\n";
        assert_eq!(line(COMBINED, &values), expected);
    }

    #[test]
    fn no_value_ends_its_quotes_or_its_line() {
        let hostile = "\" 200 \\ \r\n\u{85}\u{1b}[31mä";
        let escaped = r"\x22 200 \x5C \x0D\x0A\xC2\x85\x1B[31mä";
        assert_eq!(line("\"{user_agent}\"", &[("user_agent", hostile)]), format!("\"{escaped}\"\n"));
    }

    #[test]
    fn a_template_that_is_none_is_refused_by_its_reason() {
        for (text, reason) in [
            ("{statuss}", LineTemplateError::UnknownValue("statuss".to_owned())),
            ("{status", LineTemplateError::LoneBrace),
            ("status}", LineTemplateError::LoneBrace),
            ("status", LineTemplateError::NotALine),
            ("", LineTemplateError::NotALine),
            ("{status}\n{path}", LineTemplateError::NotALine),
        ] {
            assert_eq!(LineTemplate::parse(text), Err(reason), "{text}");
        }
        let all: String = LineTemplate::names().map(|name| format!("{{{name}}}")).collect();
        assert_eq!(LineTemplate::parse(&all).map(|template| template.0.len()), Ok(28));
    }
}
