//! Report of the problems of a configuration: every problem with file, line, column, the line itself, the expected
//! value and advice. Nothing that may be a secret is shown.

use std::fmt;

use serde_json::{Value as Json, json};

use super::path::ConfigPath;
use super::source::SourceSpan;

/// One problem.
#[derive(Clone)]
pub struct ConfigProblem {
    message: String,
    path: ConfigPath,
    span: Option<SourceSpan>,
    expected: Option<String>,
    suggestion: Option<String>,
    help: Option<String>,
    syntax: bool,
}

impl ConfigProblem {
    /// Creates a problem with the message `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            path: ConfigPath::default(),
            span: None,
            expected: None,
            suggestion: None,
            help: None,
            syntax: false,
        }
    }

    /// Adds the expected value.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds the nearest of `names` to `given` as a suggestion, if one is near enough to be meant.
    pub fn suggest<'n>(mut self, given: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        self.suggestion = nearest(given, names).map(str::to_owned);
        self
    }

    /// Adds advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the path and position in the YAML.
    pub fn at(mut self, path: ConfigPath, span: SourceSpan) -> Self {
        self.path = path;
        self.span = Some(span);
        self
    }

    /// Adds the position in the text, if there is no path.
    pub fn at_span(mut self, span: SourceSpan) -> Self {
        self.span = Some(span);
        self
    }

    /// Marks a syntax error: the report then masks the values of the line, any of which may be a secret.
    pub fn marked_as_syntax_error(mut self) -> Self {
        self.syntax = true;
        self
    }

    /// Returns the path in the YAML.
    pub fn path(&self) -> &ConfigPath {
        &self.path
    }

    /// Returns the line in the text, from 1.
    pub fn line(&self) -> Option<usize> {
        self.span.map(|span| span.start.0)
    }

    /// Returns message, expected value and advice in one line.
    pub fn reason(&self) -> String {
        let expected = self.expected.as_ref().map(|expected| format!("; expected {expected}")).unwrap_or_default();
        let help = self.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{}{expected}{help}", self.message)
    }

    /// Returns true if a near name was found.
    pub fn has_suggestion(&self) -> bool {
        self.suggestion.is_some()
    }
}

/// Returns the name nearest to `given`: the same but for case, or few letters off.
pub fn nearest<'n>(given: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let lower = given.to_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        // A third of the shorter word: with more, short keys would be suggested for one another.
        .filter(|(distance, name)| *distance <= (name.chars().count().min(given.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Most problems that a report for people shows: somebody who has more has sent another kind of file.
const MOST_SHOWN: usize = 100;

/// Report of all problems of one file.
pub struct ProblemReport {
    name: String,
    /// Lines of the file, with everything masked that may be a secret.
    lines: Vec<String>,
    problems: Vec<ConfigProblem>,
}

impl ProblemReport {
    /// Creates a report on the file `name` with the content `text`, of which `masked` is never shown.
    pub fn new(name: &str, text: &str, masked: &[SourceSpan], mut problems: Vec<ConfigProblem>) -> Self {
        // In the order of the file, whichever step found them.
        problems.sort_by_key(|problem| problem.span);
        Self { name: name.to_owned(), lines: mask(text, masked), problems }
    }

    /// Returns the number of problems.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Returns true if there is no problem.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns the report for programs: every problem with its position.
    pub fn to_json(&self) -> Json {
        let problem = |problem: &ConfigProblem| {
            let place = problem.span.map(|span| span.start);
            let path = (!problem.path.steps().is_empty()).then(|| problem.path.to_string());
            json!({
                "path": path,
                "line": place.map(|(line, _)| line),
                // Columns count from 1 for people and editors, from 0 inside.
                "column": place.map(|(_, column)| column + 1),
                "message": problem.message,
                "expected": problem.expected,
                "suggestion": problem.suggestion,
                "help": problem.help,
            })
        };
        self.problems.iter().map(problem).collect()
    }

    fn show(&self, problem: &ConfigProblem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        if let Some(span) = problem.span {
            write!(f, "{}:{}:", span.start.0, span.start.1 + 1)?;
        }
        match problem.path.steps() {
            [] => writeln!(f, " {}", problem.message)?,
            _ => writeln!(f, " {}: {}", problem.path, problem.message)?,
        }
        let mut margin = 0;
        if let Some((span, line)) = problem.span.and_then(|span| Some((span, self.lines.get(span.start.0 - 1)?))) {
            margin = span.start.0.to_string().len();
            let (line, column, width) = excerpt(line, span, problem.syntax);
            writeln!(f, "  {} | {line}", span.start.0)?;
            writeln!(f, "  {:margin$} | {:column$}{}", "", "", "^".repeat(width))?;
        }
        let mut note = |text: String| writeln!(f, "  {:margin$} = {text}", "");
        if let Some(expected) = &problem.expected {
            note(format!("expected {expected}"))?;
        }
        if let Some(suggestion) = &problem.suggestion {
            note(format!("did you mean `{suggestion}`?"))?;
        }
        if let Some(help) = &problem.help {
            note(help.clone())?;
        }
        Ok(())
    }
}

impl fmt::Display for ProblemReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(MOST_SHOWN) {
            self.show(problem, f)?;
            writeln!(f)?;
        }
        if self.problems.len() > MOST_SHOWN {
            writeln!(f, "the first {MOST_SHOWN} of them are shown")?;
        }
        let plural = if self.problems.len() == 1 { "problem" } else { "problems" };
        write!(f, "{}: {} {plural}", self.name, self.problems.len())
    }
}

impl fmt::Debug for ProblemReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for ProblemReport {}

/// Returns the lines of `text` with `*` over every masked character. Characters keep their columns; control characters become
/// blanks.
fn mask(text: &str, masked: &[SourceSpan]) -> Vec<String> {
    let mut spans = masked.to_vec();
    spans.sort_unstable();
    let (mut spans, mut secret_until) = (spans.into_iter().peekable(), (0, 0));
    let mut masked_line = |(number, line): (usize, &str)| {
        let masked = line.chars().enumerate().map(|(column, c)| {
            let here = (number + 1, column);
            while let Some(span) = spans.next_if(|span| span.start <= here) {
                secret_until = secret_until.max(span.end);
            }
            match c {
                _ if here < secret_until && !c.is_whitespace() => '*',
                _ if c.is_control() => ' ',
                _ => c,
            }
        });
        masked.collect()
    };
    text.lines().enumerate().map(&mut masked_line).collect()
}

/// Returns the part of `line` to show, the column of the caret in it, and the number of carets.
fn excerpt(line: &str, span: SourceSpan, syntax: bool) -> (String, usize, usize) {
    /// Characters that fit beside a line number on a common screen.
    const WIDTH: usize = 110;
    let mut shown: Vec<char> = line.chars().collect();
    if syntax {
        // Without a tree any value may be the secret one: only the shape after the first key is shown.
        let value = shown.iter().position(|c| *c == ':').unwrap_or(0);
        shown.iter_mut().skip(value).filter(|c| c.is_alphanumeric()).for_each(|c| *c = '*');
    }
    // A value of several lines is underlined to the end of its first line.
    let end = if span.end.0 > span.start.0 { shown.len() } else { span.end.1 };
    // A long line is cut so that the caret stands in the first third.
    let skip = if end > WIDTH { span.start.1.saturating_sub(WIDTH / 3).min(shown.len()) } else { 0 };
    let column = span.start.1 - skip.min(span.start.1);
    let width = end.saturating_sub(span.start.1).clamp(1, WIDTH.saturating_sub(column).max(1));
    (shown.into_iter().skip(skip).take(WIDTH).collect::<String>().trim_end().to_owned(), column, width)
}
