//! The table: one row per figure, with its budget and a verdict.

use std::fmt::Write as _;
use std::time::Duration;

use crate::load::Tally;

/// One figure of both.
pub struct Row {
    figure: String,
    unit: &'static str,
    nginx: f64,
    subject: f64,
    /// How the subject stands to nginx in each round, ascending: ratios, or differences where the budget is no ratio.
    compared: Vec<f64>,
    budget: Budget,
}

/// What a figure may be at most.
#[derive(Clone, Copy)]
pub enum Budget {
    /// Of the ratio to nginx.
    Ratio(f64),
    /// Of the subject's own value.
    Value(f64),
    /// There is none: shown for comparison.
    None,
}

impl Row {
    /// From the values of nginx and the subject in each round. What is compared is the median of the rounds'
    /// comparisons, because both of a round ran under the same weather.
    pub fn new(figure: impl Into<String>, unit: &'static str, rounds: &[[f64; 2]], budget: Budget) -> Self {
        let compare = |[nginx, subject]: &[f64; 2]| match budget {
            Budget::Ratio(_) => subject / nginx,
            Budget::Value(_) | Budget::None => subject - nginx,
        };
        let mut compared: Vec<f64> = rounds.iter().map(compare).collect();
        compared.sort_by(f64::total_cmp);
        Self {
            figure: figure.into(),
            unit,
            nginx: median(rounds.iter().map(|[nginx, _]| *nginx)),
            subject: median(rounds.iter().map(|[_, subject]| *subject)),
            compared,
            budget,
        }
    }

    /// From a count of the subject, which nginx is not compared with.
    pub fn alone(figure: impl Into<String>, count: f64, budget: Budget) -> Self {
        let (figure, unit) = (figure.into(), "");
        Self { figure, unit, nginx: f64::NAN, subject: count, compared: Vec::new(), budget }
    }

    fn verdict(&self) -> &'static str {
        let held = match self.budget {
            Budget::Ratio(most) => median(self.compared.iter().copied()) <= most,
            Budget::Value(most) => self.subject <= most,
            Budget::None => return "",
        };
        if held { "PASS" } else { "OVER" }
    }

    fn cells(&self) -> [String; 7] {
        let unit = self.unit;
        let write = |value: f64| match self.budget {
            _ if value.is_nan() => String::new(),
            Budget::Ratio(_) => format!("{value:.2}×"),
            Budget::Value(_) | Budget::None => format!("{value:+.2} {unit}"),
        };
        let spread = match self.compared.as_slice() {
            [lowest, .., highest] => format!("{} … {}", write(*lowest), write(*highest)),
            _ => String::new(),
        };
        let budget = match self.budget {
            Budget::Ratio(most) => format!("≤ {most:.1}×"),
            Budget::Value(most) => format!("≤ {most} {unit}"),
            Budget::None => String::new(),
        };
        [
            self.figure.clone(),
            if self.nginx.is_nan() { String::new() } else { format!("{:.2} {unit}", self.nginx) },
            format!("{:.2} {unit}", self.subject),
            write(median(self.compared.iter().copied())),
            spread,
            budget,
            self.verdict().to_owned(),
        ]
    }
}

/// All rows as a Markdown table, aligned for reading as plain text too.
pub fn table(subject: &str, rows: &[Row]) -> String {
    let head = ["figure", "nginx", subject, "to nginx", "rounds", "budget", "verdict"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    lines.insert(1, std::array::from_fn(|column| "-".repeat(widths[column])));
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            let _infallible = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
    }
    text
}

/// The line on errors, which must be none.
pub fn errors(tally: &Tally) -> String {
    let first = tally.first_error.as_deref().map(|text| format!(" (the first: {text})")).unwrap_or_default();
    let Tally { requests, errors, late, .. } = tally;
    format!("{requests} requests, {errors} errors{first}, {late} players ran dry")
}

/// The middle value; the mean of the two middle ones of an even count.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => f64::NAN,
        (middle, 0) => f64::midpoint(values[middle - 1], values[middle]),
        (middle, _) => values[middle],
    }
}

/// The time within which `share` of the samples lie, in milliseconds.
pub fn percentile(samples: &mut [Duration], share: f64) -> f64 {
    samples.sort_unstable();
    let rank = (samples.len() as f64 * share).ceil() as usize;
    samples.get(rank.saturating_sub(1)).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1000.0)
}
