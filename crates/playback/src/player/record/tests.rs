use super::*;

const BEGIN: UnixMillis = UnixMillis::new(1_000_000);

fn after(seconds: f64) -> UnixMillis {
    BEGIN + Duration::from_secs_f64(seconds)
}

fn report(state: PlayState, position: i64) -> PlayerReport {
    PlayerReport {
        session: Some("one".to_owned()),
        track: "song".to_owned(),
        title: None,
        state,
        position,
        duration: Some(240_000),
        speed: None,
        seq: None,
        at: None,
    }
}

fn of_session(session: &str, report: PlayerReport) -> PlayerReport {
    PlayerReport { session: Some(session.to_owned()), ..report }
}

fn with_seq(seq: u64, report: PlayerReport) -> PlayerReport {
    PlayerReport { seq: Some(seq), ..report }
}

fn playing(position: i64) -> PlayerRecord {
    PlayerRecord::begin(None, report(PlayState::Playing, position), PlaybackSpeed::NORMAL, BEGIN)
}

/// Takes the reports one after another, as the service does.
fn take(reports: impl IntoIterator<Item = PlayerReport>) -> Option<PlayerRecord> {
    reports.into_iter().fold(None, |current, report| match PlayerRecord::effect(current.as_ref(), &report) {
        ReportEffect::Ignored => current,
        ReportEffect::Update => current.map(|current| current.update(report, BEGIN)),
        ReportEffect::NewItem => Some(PlayerRecord::begin(current.as_ref(), report, PlaybackSpeed::NORMAL, BEGIN)),
    })
}

#[test]
fn the_clock_moves_only_while_it_plays_and_by_the_speed() {
    let record = playing(10_000);
    assert_eq!(record.position_at(after(2.0)), 12_000);
    let fast = record.with_speed(PlaybackSpeed::from_factor(1.5).expect("a speed"), after(2.0));
    assert_eq!(fast.position_at(after(4.0)), 15_000, "two seconds at 1 and two at 1.5");
    assert_eq!(fast.position_at(after(1e9)), 240_000, "it ends where the item ends");
    let paused = fast.update(report(PlayState::Paused, 15_000), after(4.0));
    assert_eq!(paused.position_at(after(100.0)), 15_000);
    let sought = fast.seek(60_000, after(4.0));
    assert_eq!(sought.position_at(after(6.0)), 63_000);
    assert_eq!(record.seek(-5, BEGIN).position_at(BEGIN), 0);
    assert_eq!(record.position_at(UnixMillis::EPOCH), 10_000, "a clock that was set back");
}

#[test]
fn a_late_starting_does_not_stop_the_clock() {
    let late = report(PlayState::Starting, 0);
    for state in [PlayState::Playing, PlayState::Paused] {
        let record = take([report(PlayState::Starting, 0), report(state, 5_000), late.clone()]).expect("a player");
        assert_eq!((record.state, record.position), (state, 5_000));
    }
    // One that is newer by its number is no late one.
    let again = [with_seq(1, report(PlayState::Playing, 5_000)), with_seq(2, late)];
    assert_eq!(take(again).expect("a player").state, PlayState::Starting);
}

#[test]
fn a_late_stopped_of_the_item_before_does_not_end_the_current_one() {
    let next = PlayerReport { track: "next".to_owned(), ..of_session("two", report(PlayState::Playing, 1_000)) };
    let late = report(PlayState::Stopped, 240_000);
    let record = take([report(PlayState::Playing, 200_000), next.clone(), late.clone()]).expect("a player");
    assert_eq!((record.track.as_str(), record.state), ("next", PlayState::Playing));
    let without = |report: PlayerReport| PlayerReport { session: None, ..report };
    let record = take([report(PlayState::Playing, 200_000), next, late].map(without)).expect("a player");
    assert_eq!((record.track.as_str(), record.state), ("next", PlayState::Playing));
    // And what comes late of a session that was replaced brings it not back.
    let (one, two) = (report(PlayState::Playing, 1), of_session("two", report(PlayState::Playing, 2)));
    let record = take([one.clone(), two, one]).expect("a player");
    assert_eq!(record.session.as_deref(), Some("two"));
}

#[test]
fn in_whatever_order_numbered_reports_arrive_the_last_one_stays() {
    let states = [PlayState::Starting, PlayState::Playing, PlayState::Paused, PlayState::Playing, PlayState::Stopped];
    let reports: Vec<PlayerReport> =
        states.iter().zip(1..).map(|(state, seq)| with_seq(seq, report(*state, seq as i64 * 1_000))).collect();
    let orders = [[0, 1, 2, 3, 4], [0, 2, 1, 4, 3], [1, 0, 4, 2, 3], [3, 4, 0, 1, 2], [0, 4, 3, 2, 1]];
    for order in orders {
        let record = take(order.map(|index| reports[index].clone())).expect("a player");
        assert_eq!((record.state, record.position, record.seq), (PlayState::Stopped, 5_000, Some(5)), "{order:?}");
    }
    let at = |millis, report| PlayerReport { at: Some(UnixMillis::new(millis)), ..report };
    let record = take([at(20, report(PlayState::Paused, 2_000)), at(10, report(PlayState::Playing, 1_000))]);
    assert_eq!(record.expect("a player").state, PlayState::Paused, "the same by times");
}

#[test]
fn what_has_stopped_is_begun_by_a_new_session_or_by_a_newer_report() {
    let stopped = [report(PlayState::Playing, 0), report(PlayState::Stopped, 9_000)];
    let state = |last: PlayerReport| take(stopped.clone().into_iter().chain([last])).expect("a player").state;
    assert_eq!(state(report(PlayState::Playing, 8_000)), PlayState::Stopped, "late");
    assert_eq!(state(of_session("two", report(PlayState::Playing, 0))), PlayState::Playing);
    let anonymous = |report: PlayerReport| PlayerReport { session: None, ..report };
    let again = stopped.clone().map(anonymous).into_iter().chain([anonymous(report(PlayState::Playing, 0))]);
    assert_eq!(take(again).expect("a player").state, PlayState::Playing);
    assert_eq!(take([report(PlayState::Stopped, 1)]), None, "nothing to stop");
}

#[test]
fn former_sessions_are_few_and_memory_is_bounded() {
    let sessions = (0..100).map(|number| of_session(&number.to_string(), report(PlayState::Playing, 0)));
    let record = take(sessions).expect("a player");
    assert_eq!(record.former_sessions, ["95", "96", "97", "98"]);
    assert!(record.memory() < 1_000);
}

#[test]
fn a_player_that_goes_on_as_expected_is_no_news() {
    let record = playing(10_000);
    let next = |position, seconds| record.update(report(PlayState::Playing, position), after(seconds));
    assert!(!record.is_news(&next(20_000, 10.0)) && !record.is_news(&next(18_600, 10.0)));
    assert!(record.is_news(&next(18_400, 10.0)) && record.jumps_to(&next(18_400, 10.0)));
    assert!(record.is_news(&record.update(report(PlayState::Paused, 20_000), after(10.0))));
    assert!(record.is_news(&record.with_speed(PlaybackSpeed::from_hundredths(125).expect("a speed"), after(1.0))));
}

#[test]
fn a_player_without_reports_is_closed_where_it_reported_last() {
    let settings = Settings::default();
    let record = playing(10_000).update(report(PlayState::Playing, 20_000), after(10.0));
    assert_eq!(record.deadline(&settings), after(40.0));
    let closed = record.close(after(41.0));
    assert_eq!((closed.state, closed.position_at(after(99.0))), (PlayState::Stopped, 20_000));
    let paused = record.update(report(PlayState::Paused, 20_000), after(10.0));
    assert_eq!(paused.deadline(&settings), after(10.0) + settings.paused_timeout);
    assert!(closed.deadline(&settings) >= after(10.0) + STOPPED_RETENTION);
}

#[test]
fn revisions_grow_also_where_the_clock_was_set_back_or_the_record_was_dropped() {
    let record = playing(0);
    let next = record.seek(1, UnixMillis::EPOCH);
    assert!(next.revision > record.revision);
    assert!(playing(0).seek(1, after(5.0)).revision > next.revision);
    assert!(!record.is_complete(after(200.0)) && record.is_complete(after(216.0)));
}
