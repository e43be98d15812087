//! When a schedule runs, pure: a cron expression, a single instant, or a time of day each day or on days of the week, in a zone
//! of the IANA database.
//!
//! Where clocks are set forward, a fixed time of day that does not exist runs at the first instant after the gap, and steps of
//! an interval within it are left out. Where they are set back, a fixed time runs once, at its first pass, and an interval at
//! both (croner's rules, "Daylight Saving Time").

use std::time::Duration;

use croner::Cron;
use croner::parser::CronParser;
use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use primitives::unix_time::UnixMillis;

/// Longest cron expression, in bytes.
const MAX_CRON_BYTES: usize = 128;
/// Longest name of a zone, in bytes.
const MAX_ZONE_BYTES: usize = 64;
/// Instants that are looked at for the least time between two of them. All seconds of a minute are among them.
const JUDGED_INSTANTS: usize = 64;
/// Days of the week as requests have them, from Monday on.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Rule as requests and the database have it: one of `cron`, `run_at` and `recurrence`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    /// Cron expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// A single time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
    /// `daily` or `weekly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<String>,
    /// Time of day of a recurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Days of a weekly recurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<String>>,
}

/// Reason for which there is no such rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The zone.
    #[error("`timezone` is no zone of the IANA database; expected one such as Europe/Kyiv or UTC")]
    NoZone,
    /// None or several of the three.
    #[error("expected one of `cron`, `run_at` and `recurrence`")]
    NotOne,
    /// The cron expression.
    #[error("`cron` cannot be read: {0}")]
    BadCron(String),
    /// It has no instant.
    #[error("`cron` has no instant that ever comes")]
    NeverComes,
    /// The single time.
    #[error("`run_at` must be a time such as 2026-01-31T18:00:00+02:00, or one without an offset, in `timezone`")]
    BadTime,
    /// The recurrence.
    #[error("`recurrence` must be `daily` or `weekly`")]
    BadRecurrence,
    /// The time of day.
    #[error("`time` must be a time of day such as 18:30 or 18:30:15, and goes with `recurrence`")]
    BadTimeOfDay,
    /// The days.
    #[error(
        "`days` must be some of mon, tue, wed, thu, fri, sat and sun, each once, and goes with the recurrence `weekly`"
    )]
    BadDays,
}

/// Instants of a schedule.
#[derive(Clone, Debug)]
pub struct ScheduleTimes {
    zone: TimeZone,
    zone_name: String,
    text: RuleText,
    rule: ScheduleRule,
}

/// Rule of a schedule.
#[derive(Clone, Debug)]
pub enum ScheduleRule {
    /// One instant.
    Once(Timestamp),
    /// Those of a pattern; `true` where it is a recurrence each day at the same time.
    Pattern(Box<Cron>, bool),
}

impl ScheduleTimes {
    /// Parses a zone and a rule in it.
    pub fn parse(zone: &str, text: &RuleText) -> Result<Self, RuleError> {
        let (zone, zone_name) = parse_zone(zone)?;
        let mut text = text.clone();
        let rule = match (&text.cron, &text.run_at, &text.recurrence) {
            (Some(cron), None, None) => {
                no_recurrence(&text)?;
                ScheduleRule::Pattern(Box::new(parse_cron(cron)?), false)
            }
            (None, Some(run_at), None) => {
                no_recurrence(&text)?;
                let at = parse_time(run_at, &zone)?;
                // Rules of zones change; what was an instant stays it.
                text.run_at = Some(at.to_string());
                ScheduleRule::Once(at)
            }
            (None, None, Some(recurrence)) => {
                let cron = recurrence_cron(recurrence, &text)?;
                ScheduleRule::Pattern(Box::new(parse_cron(&cron)?), recurrence == "daily")
            }
            _ => return Err(RuleError::NotOne),
        };
        Ok(Self { zone, zone_name, text, rule })
    }

    /// Returns the first instant after `after`.
    pub fn next_after(&self, after: UnixMillis) -> Option<UnixMillis> {
        let after = after.as_millis();
        match &self.rule {
            ScheduleRule::Once(at) => Some(at.as_millisecond()).filter(|at| *at > after).map(UnixMillis::new),
            ScheduleRule::Pattern(cron, _) => {
                // A pattern knows whole seconds.
                let from = Timestamp::from_second(after.div_euclid(1000)).ok()?.to_zoned(self.zone.clone());
                let next = cron.find_next_occurrence(&from, false).ok()?;
                Some(UnixMillis::new(next.timestamp().as_millisecond())).filter(|next| next.as_millis() > after)
            }
        }
    }

    /// Returns the next instants after `after`, at most `count`.
    pub fn preview(&self, after: UnixMillis, count: usize) -> Vec<UnixMillis> {
        std::iter::successors(self.next_after(after), |at| self.next_after(*at)).take(count).collect()
    }

    /// Returns the least time between two instants, as far as the next ones tell; `None` for a single one.
    pub fn least_interval(&self, after: UnixMillis) -> Option<Duration> {
        let instants = self.preview(after, JUDGED_INSTANTS);
        instants.windows(2).map(|pair| pair[1] - pair[0]).min()
    }

    /// Returns an instant as the zone's clocks show it, with the offset.
    pub fn local(&self, at: UnixMillis) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(at.as_millis()).ok()?.to_zoned(self.zone.clone()))
    }

    /// Returns the name of the zone.
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// Returns the rule as it is kept and shown.
    pub fn text(&self) -> &RuleText {
        &self.text
    }

    /// Returns the rule.
    pub(crate) fn rule(&self) -> &ScheduleRule {
        &self.rule
    }
}

/// Returns true for the name of a zone that rules may be in.
pub fn is_zone(name: &str) -> bool {
    parse_zone(name).is_ok()
}

fn parse_zone(name: &str) -> Result<(TimeZone, String), RuleError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    if name.is_empty() || name.len() > MAX_ZONE_BYTES || !name.chars().all(is_name) {
        return Err(RuleError::NoZone);
    }
    let zone = TimeZone::get(name).map_err(|_| RuleError::NoZone)?;
    // As the database spells it, whatever the case of the request.
    let name = zone.iana_name().ok_or(RuleError::NoZone)?.to_owned();
    Ok((zone, name))
}

fn parse_cron(text: &str) -> Result<Cron, RuleError> {
    if text.len() > MAX_CRON_BYTES {
        return Err(RuleError::BadCron(format!("it has more than {MAX_CRON_BYTES} bytes")));
    }
    if text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(RuleError::BadCron("it has signs that no expression has".to_owned()));
    }
    CronParser::new().parse(text).map_err(|error| RuleError::BadCron(error.to_string()))
}

/// Refuses the members of a recurrence where there is none.
fn no_recurrence(text: &RuleText) -> Result<(), RuleError> {
    if text.time.is_some() {
        return Err(RuleError::BadTimeOfDay);
    }
    if text.days.is_some() { Err(RuleError::BadDays) } else { Ok(()) }
}

/// Parses a time with an offset, or one of the zone's clocks: in a gap the first instant after it, of two passes the first.
fn parse_time(text: &str, zone: &TimeZone) -> Result<Timestamp, RuleError> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let local: DateTime = text.parse().map_err(|_| RuleError::BadTime)?;
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let at = match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => {
            let before = ambiguous.earlier().map_err(|_| RuleError::BadTime)?;
            zone.following(before).next().ok_or(RuleError::BadTime)?.timestamp()
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
            ambiguous.earlier().map_err(|_| RuleError::BadTime)?
        }
    };
    Ok(at)
}

/// Returns the cron expression of a recurrence.
fn recurrence_cron(recurrence: &str, text: &RuleText) -> Result<String, RuleError> {
    let time = text.time.as_deref().filter(|time| time.contains(':') && time.len() <= 8);
    let time: Time = time.and_then(|time| time.parse().ok()).ok_or(RuleError::BadTimeOfDay)?;
    let at = format!("{} {} {} * *", time.second(), time.minute(), time.hour());
    match (recurrence, &text.days) {
        ("daily", None) => Ok(format!("{at} *")),
        ("daily", Some(_)) | ("weekly", None) => Err(RuleError::BadDays),
        ("weekly", Some(days)) => Ok(format!("{at} {}", weekdays(days)?)),
        _ => Err(RuleError::BadRecurrence),
    }
}

/// Returns the days as cron has them.
fn weekdays(days: &[String]) -> Result<String, RuleError> {
    let is_twice = days.iter().enumerate().any(|(number, day)| days[..number].contains(day));
    let all_known = days.iter().all(|day| DAYS.contains(&day.as_str()));
    if days.is_empty() || days.len() > DAYS.len() || is_twice || !all_known {
        return Err(RuleError::BadDays);
    }
    Ok(days.join(","))
}

#[cfg(test)]
mod tests;
