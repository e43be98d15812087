//! Reports of players as playback events (document 000, 5.5.3), where the settings say so: Start, Pause, Resume, Seek and
//! Complete. Pure but for the one call that publishes.

use super::channel::PlayerKey;
use super::record::{PlayState, PlayerRecord, ReportEffect};
use crate::reports::{PlaybackAction, PlaybackReport, PlaybackReporter};
use primitives::ids::TrackId;
use primitives::unix_time::UnixMillis;

/// Action on a track at a position in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackAction {
    track: String,
    action: PlaybackAction,
    position: i64,
}

impl TrackAction {
    fn new(record: &PlayerRecord, action: PlaybackAction, now: UnixMillis) -> Self {
        Self { track: record.track.clone(), action, position: record.position_at(now) }
    }

    /// Returns the action of a player that was told to go to another position.
    pub fn seek(record: &PlayerRecord, now: UnixMillis) -> Self {
        Self::new(record, PlaybackAction::Seek, now)
    }

    /// Returns the action of a player that has ended: its track was heard to its end, or is paused for whoever knows no
    /// other word for it. `None` if it had stopped already.
    pub fn end(record: &PlayerRecord, now: UnixMillis) -> Option<Self> {
        let action = match record.state {
            PlayState::Stopped => return None,
            PlayState::Starting | PlayState::Playing | PlayState::Paused if record.is_complete(now) => {
                PlaybackAction::Complete
            }
            PlayState::Starting | PlayState::Playing | PlayState::Paused => PlaybackAction::Pause,
        };
        Some(Self::new(record, action, now))
    }

    /// Returns the actions of a report that made `next` of `before`.
    pub fn of_report(
        before: Option<&PlayerRecord>,
        next: &PlayerRecord,
        effect: ReportEffect,
        now: UnixMillis,
    ) -> Vec<Self> {
        let current = match (effect, before) {
            (ReportEffect::Ignored, _) => None,
            (ReportEffect::NewItem, _) | (ReportEffect::Update, None) => Some(PlaybackAction::Start),
            (ReportEffect::Update, Some(before)) => match (before.state, next.state) {
                (_, PlayState::Stopped) => {
                    return Self::end(&next.in_state(before.state), now).into_iter().collect();
                }
                (PlayState::Starting | PlayState::Playing, PlayState::Paused) => Some(PlaybackAction::Pause),
                (PlayState::Paused, PlayState::Playing) => Some(PlaybackAction::Resume),
                _ if before.jumps_to(next) => Some(PlaybackAction::Seek),
                _ => None,
            },
        };
        let former = before.filter(|_| effect == ReportEffect::NewItem).and_then(|before| Self::end(before, now));
        former.into_iter().chain(current.map(|action| Self::new(next, action, now))).collect()
    }
}

/// Publishes `actions` of the player of `key`. A failure is the outbox's to log: the report itself was taken.
pub async fn publish(reporter: &PlaybackReporter, key: &PlayerKey, actions: Vec<TrackAction>) {
    for TrackAction { track, action, position } in actions {
        let Some(track) = TrackId::parse(track) else { continue };
        let position_ms = u64::try_from(position).unwrap_or_default();
        let report = PlaybackReport { action, position_ms, timestamp: None, id: None };
        let _ = reporter.report(&key.user, &track, &[report]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::record::PlayerReport;
    use crate::player::sound::PlaybackSpeed;

    fn report(track: &str, state: PlayState, position: i64) -> PlayerReport {
        PlayerReport {
            session: None,
            track: track.to_owned(),
            title: None,
            state,
            position,
            duration: Some(100_000),
            speed: None,
            seq: None,
            at: None,
        }
    }

    #[test]
    fn each_change_of_a_player_is_one_action_and_a_track_that_gives_way_is_ended() {
        let now = UnixMillis::new(1_000);
        let reports = [
            (report("a", PlayState::Starting, 0), vec![("a", PlaybackAction::Start)]),
            (report("a", PlayState::Playing, 0), vec![]),
            (report("a", PlayState::Playing, 500), vec![]),
            (report("a", PlayState::Playing, 50_000), vec![("a", PlaybackAction::Seek)]),
            (report("a", PlayState::Paused, 50_000), vec![("a", PlaybackAction::Pause)]),
            (report("a", PlayState::Playing, 50_000), vec![("a", PlaybackAction::Resume)]),
            (report("b", PlayState::Playing, 0), vec![("a", PlaybackAction::Pause), ("b", PlaybackAction::Start)]),
            (report("b", PlayState::Stopped, 95_000), vec![("b", PlaybackAction::Complete)]),
            (report("c", PlayState::Playing, 0), vec![("c", PlaybackAction::Start)]),
            (report("c", PlayState::Stopped, 10), vec![("c", PlaybackAction::Pause)]),
        ];
        let mut current: Option<PlayerRecord> = None;
        for (report, expected) in reports {
            let effect = PlayerRecord::effect(current.as_ref(), &report);
            let next = match (effect, &current) {
                (ReportEffect::Update, Some(current)) => current.update(report.clone(), now),
                _ => PlayerRecord::begin(current.as_ref(), report.clone(), PlaybackSpeed::NORMAL, now),
            };
            let actions = TrackAction::of_report(current.as_ref(), &next, effect, now);
            let found: Vec<_> = actions.iter().map(|action| (action.track.as_str(), action.action)).collect();
            assert_eq!(found, expected, "{report:?}");
            current = Some(next);
        }
    }
}
