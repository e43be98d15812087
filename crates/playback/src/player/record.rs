//! Live player of a channel: which report changes it and how, and where it is by now. Pure: times are arguments.
//!
//! Reports arrive late and out of order: a late `starting` must not stop the clock of a player that plays, and a late
//! `stopped` of the item before must not end the current one.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::settings::Settings;
use super::sound::PlaybackSpeed;
use primitives::unix_time::{UnixMillis, whole_millis};

/// Reports that a player may miss before it is closed.
const MISSED_REPORTS: u32 = 3;
/// Time for which a player that has stopped is still shown.
pub const STOPPED_RETENTION: Duration = Duration::from_secs(600);
/// Sessions before the current one of which late reports are recognized.
const MAX_FORMER_SESSIONS: usize = 4;
/// Difference to the expected position from which a report is a jump: more than players' clocks drift in a report's
/// interval.
const JUMP_MILLIS: u64 = 1500;
/// Percentage of an item after which it was heard to its end, as in the list of what can be continued.
const COMPLETE_PERCENT: i128 = 90;

/// State of a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlayState {
    /// An item is being loaded.
    Starting,
    /// The clock moves.
    Playing,
    /// The clock stands.
    Paused,
    /// Nothing is loaded.
    Stopped,
}

/// Report of a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayerReport {
    /// Id that the player gave to this run of its item or queue.
    pub session: Option<String>,
    /// The item.
    pub track: String,
    /// Its title.
    pub title: Option<String>,
    /// State of the player.
    pub state: PlayState,
    /// Milliseconds from the beginning.
    pub position: i64,
    /// Length in milliseconds, where it is known.
    pub duration: Option<i64>,
    /// Speed of the player, where it says so.
    pub speed: Option<PlaybackSpeed>,
    /// Number of the report in its session.
    pub seq: Option<u64>,
    /// Time by the player's clock.
    pub at: Option<UnixMillis>,
}

/// Effect of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportEffect {
    /// It is late, or says nothing new.
    Ignored,
    /// It is about the current item.
    Update,
    /// It begins an item.
    NewItem,
}

/// Live player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerRecord {
    /// Number of this version; later ones are larger, also after a record was dropped.
    pub revision: u64,
    /// The player's id for this run.
    pub session: Option<String>,
    /// The item.
    pub track: String,
    /// Its title.
    pub title: Option<String>,
    /// State.
    pub state: PlayState,
    /// Position at `positioned_at`.
    position: i64,
    /// Length, where it is known.
    pub duration: Option<i64>,
    /// Speed of the clock.
    pub speed: PlaybackSpeed,
    /// Time of `position`, by the server's clock.
    positioned_at: UnixMillis,
    /// Time of the last report, by the server's clock.
    pub reported_at: UnixMillis,
    /// Number of the newest report.
    seq: Option<u64>,
    /// Time of the newest report by the player's clock.
    at: Option<UnixMillis>,
    /// Sessions that this one has replaced, the latest last.
    former_sessions: VecDeque<String>,
}

impl PlayerRecord {
    /// Returns the effect that `report` has on the `current` player.
    pub fn effect(current: Option<&Self>, report: &PlayerReport) -> ReportEffect {
        let begins = if report.state == PlayState::Stopped { ReportEffect::Ignored } else { ReportEffect::NewItem };
        let Some(current) = current else { return begins };
        if report.session.as_ref().is_some_and(|session| current.former_sessions.contains(session)) {
            return ReportEffect::Ignored;
        }
        if report.session != current.session {
            return begins;
        }
        let order = current.order(report);
        if order == ReportOrder::Late {
            return ReportEffect::Ignored;
        }
        if report.track != current.track {
            return begins;
        }
        match (current.state, report.state) {
            (PlayState::Playing | PlayState::Paused, PlayState::Starting) if order == ReportOrder::Unknown => {
                ReportEffect::Ignored
            }
            (PlayState::Stopped, PlayState::Stopped) => ReportEffect::Ignored,
            // A session ends once; without ids nothing tells the same item from the next run of it.
            (PlayState::Stopped, _) if order == ReportOrder::Unknown && report.session.is_some() => {
                ReportEffect::Ignored
            }
            (PlayState::Stopped, _) => ReportEffect::NewItem,
            _ => ReportEffect::Update,
        }
    }

    /// Returns the order of `report`, which is of the same session, after the newest one.
    fn order(&self, report: &PlayerReport) -> ReportOrder {
        let order = match (self.seq, report.seq, self.at, report.at) {
            // The same number is the same report, sent again.
            (Some(newest), Some(seq), ..) => (seq > newest, seq <= newest),
            (_, _, Some(newest), Some(at)) => (at > newest, at < newest),
            _ => (false, false),
        };
        match order {
            (true, _) => ReportOrder::Newer,
            (_, true) => ReportOrder::Late,
            (false, false) => ReportOrder::Unknown,
        }
    }

    /// Returns the player after a report that begins an item; `speed` is that of the item.
    pub fn begin(current: Option<&Self>, report: PlayerReport, speed: PlaybackSpeed, now: UnixMillis) -> Self {
        let mut former_sessions = current.map(|current| current.former_sessions.clone()).unwrap_or_default();
        if let Some(session) = current.and_then(|current| current.session.clone())
            && report.session.as_ref() != Some(&session)
        {
            former_sessions.push_back(session);
            if former_sessions.len() > MAX_FORMER_SESSIONS {
                former_sessions.pop_front();
            }
        }
        Self {
            revision: next_revision(current.map_or(0, |current| current.revision), now),
            session: report.session,
            track: report.track,
            title: report.title,
            state: report.state,
            position: within(report.position, report.duration),
            duration: report.duration,
            speed: report.speed.unwrap_or(speed),
            positioned_at: now,
            reported_at: now,
            seq: report.seq,
            at: report.at,
            former_sessions,
        }
    }

    /// Returns the player after a report about its item.
    pub fn update(&self, report: PlayerReport, now: UnixMillis) -> Self {
        let duration = report.duration.or(self.duration);
        Self {
            title: report.title.or_else(|| self.title.clone()),
            state: report.state,
            position: within(report.position, duration),
            duration,
            speed: report.speed.unwrap_or(self.speed),
            reported_at: now,
            seq: report.seq.max(self.seq),
            at: report.at.max(self.at),
            ..self.moved(now)
        }
    }

    /// Returns the player at another position.
    pub fn seek(&self, position: i64, now: UnixMillis) -> Self {
        Self { position: within(position, self.duration), ..self.moved(now) }
    }

    /// Returns the player at another speed from now on.
    pub fn with_speed(&self, speed: PlaybackSpeed, now: UnixMillis) -> Self {
        Self { speed, ..self.moved(now) }
    }

    /// Returns the player stopped at its last report, since none came for too long.
    pub fn close(&self, now: UnixMillis) -> Self {
        let position = self.position_at(self.reported_at);
        Self { state: PlayState::Stopped, position, positioned_at: self.reported_at, ..self.moved(now) }
    }

    /// Returns the same player in another state, where it is.
    pub fn in_state(&self, state: PlayState) -> Self {
        Self { state, ..self.clone() }
    }

    /// Returns the same player in the next version, with its position of now.
    fn moved(&self, now: UnixMillis) -> Self {
        Self {
            revision: next_revision(self.revision, now),
            position: self.position_at(now),
            positioned_at: now,
            ..self.clone()
        }
    }

    /// Returns the position at `now`: while it plays the clock moves by the speed, up to the item's end.
    pub fn position_at(&self, now: UnixMillis) -> i64 {
        let moved = match self.state {
            PlayState::Playing => {
                let real = i128::from(whole_millis(now - self.positioned_at));
                i64::try_from(real * i128::from(self.speed.hundredths()) / 100).unwrap_or(i64::MAX)
            }
            PlayState::Starting | PlayState::Paused | PlayState::Stopped => 0,
        };
        within(self.position.saturating_add(moved), self.duration)
    }

    /// Returns true if `next` says more than that the player goes on as expected.
    pub fn is_news(&self, next: &Self) -> bool {
        let expected = self.position_at(next.positioned_at);
        (&self.session, &self.track, &self.title, self.state, self.duration, self.speed)
            != (&next.session, &next.track, &next.title, next.state, next.duration, next.speed)
            || expected.abs_diff(next.position) > JUMP_MILLIS
    }

    /// Returns true if the position of `next` is another than that to which the clock moved.
    pub fn jumps_to(&self, next: &Self) -> bool {
        self.position_at(next.positioned_at).abs_diff(next.position) > JUMP_MILLIS
    }

    /// Returns true if the item was heard to its end at `now`.
    pub fn is_complete(&self, now: UnixMillis) -> bool {
        let heard = i128::from(self.position_at(now)) * 100;
        self.duration.is_some_and(|duration| heard >= i128::from(duration) * COMPLETE_PERCENT)
    }

    /// Returns the time at which the player is closed if it does not report, or dropped if it has stopped.
    pub fn deadline(&self, settings: &Settings) -> UnixMillis {
        self.reported_at
            + match self.state {
                PlayState::Starting | PlayState::Playing => settings.report_interval * MISSED_REPORTS,
                PlayState::Paused => settings.paused_timeout,
                PlayState::Stopped => STOPPED_RETENTION.max(settings.paused_timeout),
            }
    }

    /// Returns the approximate bytes of memory of the record.
    pub fn memory(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let former: usize = self.former_sessions.iter().map(|session| session.len() + size_of::<String>()).sum();
        size_of::<Self>() + self.track.len() + text(&self.title) + text(&self.session) + former
    }
}

/// Order of a report after the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportOrder {
    /// By its number or time.
    Newer,
    /// By its number or time.
    Late,
    /// It has neither.
    Unknown,
}

/// Returns the revision after `previous`: the time in milliseconds, so that one which begins anew is larger too.
pub fn next_revision(previous: u64, now: UnixMillis) -> u64 {
    previous.saturating_add(1).max(u64::try_from(now.as_millis()).unwrap_or_default())
}

fn within(position: i64, duration: Option<i64>) -> i64 {
    position.min(duration.unwrap_or(i64::MAX)).max(0)
}

#[cfg(test)]
mod tests;
