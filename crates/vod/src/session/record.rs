//! Record of a session as it is stored, and what happens to it: pure, times are arguments.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{FilmView, ManifestType, ReportOutcome, ReportedPosition, SessionEnd, SessionId, ViewerDevice};
use primitives::ids::{TrackId, UserId};
use primitives::unix_time::UnixMillis;

/// Lifetime without a sign of life, and the ceiling.
type GrantTimes = (Duration, Duration);

/// Views of a session at most that have ended and are not recorded, so that a record stays small: sixteen pauses.
const MAX_ENDED_VIEWS: usize = 16;
/// Time after its opening for which a session counts as used, so that one that is just being opened does not give way to
/// those that play, whose use is noted by other nodes' clocks too.
const OPENING_TIME: Duration = Duration::from_secs(10);

/// Times by which a session is looked at.
#[derive(Clone, Copy, Debug)]
pub struct LookTimes {
    /// Time without a report after which a view has ended.
    pub silence: Duration,
    /// The same for a view without any report, by what is fetched.
    pub unreported_silence: Duration,
    /// Interval at which the subscription is checked, if it is.
    pub recheck: Option<Duration>,
}

/// Record of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    #[serde(skip)]
    id: SessionId,
    user: Box<str>,
    movie: Box<str>,
    /// The user's token generation when it was opened.
    pub generation: u32,
    manifest: ManifestType,
    opened_at: UnixMillis,
    /// Time of the last report or segment.
    seen_at: UnixMillis,
    expires_at: UnixMillis,
    /// Time of the last check of the subscription.
    checked_at: UnixMillis,
    /// True if it is not extended any more.
    is_ending: bool,
    ended: Option<SessionEnd>,
    /// The view that has not ended.
    view: Option<ViewRecord>,
    /// Position of the last view, and its time: a report that is older leads the next one not back.
    #[serde(default)]
    left_at: Option<(i64, UnixMillis)>,
    /// Views that have ended and are not recorded yet, the newest last.
    #[serde(default)]
    ended_views: Vec<ViewRecord>,
}

/// View that has not ended, or is not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRecord {
    id: Uuid,
    started_at: UnixMillis,
    reported_at: Option<UnixMillis>,
    position: i64,
    /// Time of the position by the player's clock; `None` where there was no report yet.
    #[serde(default)]
    position_at: Option<UnixMillis>,
    #[serde(default)]
    device: ViewerDevice,
    /// Time of its last sign of life, once it has ended.
    #[serde(default)]
    ended_at: Option<UnixMillis>,
    /// True if its end is published.
    #[serde(default)]
    is_published: bool,
}

impl ViewRecord {
    /// Creates a view that stands where the one before was `left_at`.
    fn new(id: Uuid, now: UnixMillis, device: &ViewerDevice, left_at: Option<(i64, UnixMillis)>) -> Self {
        Self {
            id,
            started_at: now,
            reported_at: None,
            position: left_at.map_or(0, |(position, _)| position),
            position_at: left_at.map(|(_, at)| at),
            device: device.clone(),
            ended_at: None,
            is_published: false,
        }
    }

    /// Notes a sign of life; returns false if its position is older than the one that is known, which stays.
    fn note(&mut self, reported: ReportedPosition, now: UnixMillis) -> bool {
        self.reported_at = Some(now);
        let at = match (reported.at, self.position_at) {
            (Some(at), Some(known)) if at < known => return false,
            (Some(at), _) => at,
            (None, known) => known.unwrap_or(now).max(now),
        };
        (self.position, self.position_at) = (reported.position, Some(at));
        true
    }
}

impl SessionRecord {
    /// Creates the record of a session that is opened now. Its first view has the session's id.
    pub fn new(
        (id, user, movie): (SessionId, &str, &str),
        (generation, manifest): (u32, ManifestType),
        device: &ViewerDevice,
        now: UnixMillis,
        grant: GrantTimes,
    ) -> Self {
        let view = ViewRecord::new(Uuid::from_bytes(id.0), now, device, None);
        Self {
            id,
            user: user.into(),
            movie: movie.into(),
            generation,
            manifest,
            opened_at: now,
            seen_at: now,
            expires_at: now + grant.0.min(grant.1),
            checked_at: now,
            is_ending: false,
            ended: None,
            view: Some(view),
            left_at: None,
            ended_views: Vec::new(),
        }
    }

    /// Parses a stored text; `None` if another version wrote it in a form that is not known.
    pub fn parse(id: SessionId, text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(|record| Self { id, ..record })
    }

    /// Returns the text to be stored.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers have a JSON form")
    }

    /// Returns the viewer's id.
    pub fn user(&self) -> Box<str> {
        self.user.clone()
    }

    /// Returns the film's id.
    pub fn movie(&self) -> Option<TrackId> {
        TrackId::parse(self.movie.clone())
    }

    /// Returns true if it is one of this user for this film.
    pub fn is_of(&self, user: &UserId, movie: &TrackId) -> bool {
        *self.user == *user.as_str() && *self.movie == *movie.as_str()
    }

    /// Returns the time at which it was opened.
    pub fn opened_at(&self) -> UnixMillis {
        self.opened_at
    }

    /// Returns the time of its last use, by which the sessions of a user are ordered.
    pub fn last_use(&self) -> UnixMillis {
        self.seen_at.max(self.opened_at + OPENING_TIME)
    }

    /// Returns the time at which it ends unless it is extended.
    pub fn expires_at(&self) -> UnixMillis {
        self.expires_at
    }

    /// Returns true if it has neither ended nor expired.
    pub fn is_live(&self, now: UnixMillis) -> bool {
        self.ended.is_none() && now < self.expires_at
    }

    /// Judges it when something is fetched: a live one is extended, of another the reason for its end is returned.
    pub fn judge(&mut self, now: UnixMillis, grant: GrantTimes) -> Result<(), SessionEnd> {
        match self.ended {
            Some(reason) => Err(reason),
            None if now >= self.expires_at && self.is_ending => Err(SessionEnd::Unsubscribed),
            None if now >= self.expires_at => Err(SessionEnd::Expired),
            None => {
                self.extend(now, grant);
                Ok(())
            }
        }
    }

    /// Notes a report; a live session is extended. The view that begins with it has the id `new`, if the one before has ended.
    pub fn report(
        &mut self,
        reported: ReportedPosition,
        now: UnixMillis,
        grant: GrantTimes,
        (new, device): (Uuid, &ViewerDevice),
    ) -> ReportOutcome {
        if !self.is_live(now) {
            return ReportOutcome::default();
        }
        self.extend(now, grant);
        let is_new = self.view.is_none();
        let view = self.view.get_or_insert_with(|| ViewRecord::new(new, now, device, self.left_at));
        let is_outdated = !view.note(reported, now);
        ReportOutcome { begun: if is_new { self.view() } else { None }, is_outdated }
    }

    /// Ends the session with a last report; returns the view that ends with it.
    pub fn stop(&mut self, reported: ReportedPosition, now: UnixMillis) -> Option<FilmView> {
        let is_live = self.is_live(now);
        if let Some(view) = self.view.as_mut().filter(|_| is_live) {
            view.note(reported, now);
        }
        self.close(SessionEnd::Stopped)
    }

    /// Ends the session; returns the view that ends with it. A second reason does not replace the first.
    pub fn close(&mut self, reason: SessionEnd) -> Option<FilmView> {
        if self.ended.is_none() {
            self.ended = Some(reason);
        }
        self.end_view()
    }

    /// Ends the view if there was no report for its time of silence, or if the session has ended or expired. Returns those that
    /// have ended and are not recorded yet.
    pub fn end_silent_view(&mut self, now: UnixMillis, times: LookTimes) -> Vec<FilmView> {
        let silence = self.silence(times);
        if self.view().is_some_and(|view| view.last_seen_at + silence <= now || !self.is_live(now)) {
            self.end_view();
        }
        self.ended_views.iter().filter_map(|view| self.shown(view)).collect()
    }

    /// Notes that the end of the view with that id is published.
    pub fn note_published(&mut self, id: Uuid) {
        if let Some(view) = self.ended_views.iter_mut().find(|view| view.id == id) {
            view.is_published = true;
        }
    }

    /// Removes the view with that id, which has ended and is recorded.
    pub fn finish_view(&mut self, id: Uuid) {
        self.ended_views.retain(|view| view.id != id);
    }

    /// Returns true if views have ended that are not recorded yet.
    pub fn has_unfinished_views(&self) -> bool {
        !self.ended_views.is_empty()
    }

    /// Returns true once in the interval while it lives: the subscription is to be checked.
    pub fn take_recheck(&mut self, now: UnixMillis, times: LookTimes) -> bool {
        let is_due = self.next_recheck(now, times).is_some_and(|at| at <= now);
        if is_due {
            self.checked_at = now;
        }
        is_due
    }

    /// Returns the time of the next look at it, for its view or for the subscription of a player that is silent; `None` if
    /// none is needed until the next report.
    pub fn next_look(&self, now: UnixMillis, times: LookTimes) -> Option<UnixMillis> {
        let by_view = self.view().map(|view| view.last_seen_at + self.silence(times));
        let next = by_view.into_iter().chain(self.next_recheck(now, times)).min()?;
        Some(next.max(now + Duration::from_millis(1)))
    }

    fn next_recheck(&self, now: UnixMillis, times: LookTimes) -> Option<UnixMillis> {
        let interval = times.recheck.filter(|_| self.is_live(now))?;
        Some(self.checked_at + interval)
    }

    fn silence(&self, times: LookTimes) -> Duration {
        let has_reported = self.view.as_ref().is_some_and(|view| view.reported_at.is_some());
        if has_reported { times.silence } else { times.unreported_silence }
    }

    /// Returns true if it is not extended any more.
    pub fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Says whether it ends at the time that it has, or is extended.
    pub fn set_ending(&mut self, is_ending: bool) {
        self.is_ending = is_ending;
    }

    /// Returns the view that has not ended.
    pub fn view(&self) -> Option<FilmView> {
        self.shown(self.view.as_ref()?)
    }

    fn shown(&self, view: &ViewRecord) -> Option<FilmView> {
        Some(FilmView {
            id: view.id,
            session: self.id,
            user: UserId::parse(self.user.clone())?,
            movie: TrackId::parse(self.movie.clone())?,
            started_at: view.started_at,
            // A player that cannot report, such as one in a television, is seen by what it fetches.
            last_seen_at: view.ended_at.or(view.reported_at).unwrap_or(self.seen_at.max(view.started_at)),
            position: view.position,
            device: view.device.clone(),
            is_published: view.is_published,
        })
    }

    /// Ends the view; returns it, if there was one.
    fn end_view(&mut self) -> Option<FilmView> {
        let shown = self.view()?;
        let ended = ViewRecord { ended_at: Some(shown.last_seen_at), ..self.view.take()? };
        self.left_at = ended.position_at.map(|at| (ended.position, at));
        // Whoever looks away for so long that they are as many has nothing to record them in: the oldest are given up.
        if self.ended_views.len() == MAX_ENDED_VIEWS {
            self.ended_views.remove(0);
        }
        self.ended_views.push(ended);
        Some(shown)
    }

    fn extend(&mut self, now: UnixMillis, (ttl, max_ttl): GrantTimes) {
        // A clock that was put back must not shorten anything.
        self.seen_at = self.seen_at.max(now);
        if !self.is_ending {
            self.expires_at = self.expires_at.max((now + ttl).min(self.opened_at + max_ttl));
        }
    }
}
