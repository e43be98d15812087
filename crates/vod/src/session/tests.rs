//! Sessions in memory, with a clock that is moved by hand. What Redis adds is tested through the shipped binary.

use std::time::{Duration, SystemTime};

use super::*;
use crate::settings::{GrantSettings, ManifestNames, SubscriptionSettings, SubscriptionUrlTemplate};

const MINUTE: Duration = Duration::from_secs(60);

fn sessions(most: u32) -> (FilmSessions, Clock) {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let settings = Settings {
        store: "main".into(),
        bucket: "vod".into(),
        prefix: "movies/".into(),
        manifests: ManifestNames::default(),
        grant: GrantSettings::default(),
        max_streams_per_user: Some(most),
        report_interval: Duration::from_secs(10),
        subscription: SubscriptionUrlTemplate::parse("http://users/{user_id}").map(SubscriptionSettings::new),
        allowed_hosts: Vec::new(),
        page: true,
    };
    (FilmSessions::new(Arc::new(settings), None, None, clock.clone()), clock)
}

fn alice() -> UserId {
    UserId::parse("alice").expect("an id")
}

fn live() -> SessionVerdict {
    SessionVerdict::Live(alice())
}

fn film(name: &str) -> TrackId {
    TrackId::parse(name).expect("an id")
}

async fn open(sessions: &FilmSessions, clock: &Clock, movie: &str) -> OpenedSession {
    let opened =
        sessions.open(&alice(), &film(movie), ManifestType::Hls, &ViewerDevice::default(), clock.unix_millis()).await;
    opened.expect("memory takes it")
}

/// A report of now.
fn at(clock: &Clock, position: i64) -> ReportedPosition {
    ReportedPosition { position, at: Some(clock.unix_millis()) }
}

/// Alice's player reports from another device than that of the start.
async fn report(
    sessions: &FilmSessions,
    movie: &str,
    named: Option<SessionId>,
    reported: ReportedPosition,
) -> ReportOutcome {
    let device = ViewerDevice::new(Some("television"), None);
    sessions.report(&alice(), &film(movie), named, reported, &device).await.expect("memory takes it")
}

async fn judge(sessions: &FilmSessions, id: SessionId) -> SessionVerdict {
    sessions.judge(id).await.expect("memory answers")
}

#[tokio::test]
async fn a_look_at_a_session_does_not_extend_it_and_is_for_its_user_only() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    let look = async |user: &UserId, movie: &str| sessions.state(id, user, &film(movie)).await.expect("memory answers");
    for _ in 0..59 {
        clock.advance(MINUTE);
        assert_eq!(look(&alice(), "dune").await, Some(live()));
    }
    assert_eq!(look(&UserId::parse("bob").expect("an id"), "dune").await, None);
    assert_eq!(look(&alice(), "heat").await, None);
    clock.advance(2 * MINUTE);
    assert_eq!(look(&alice(), "dune").await, Some(SessionVerdict::Ended(SessionEnd::Expired)));
}

#[tokio::test]
async fn a_session_slides_while_something_is_fetched_and_ends_at_the_ceiling() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    for _ in 0..13 {
        clock.advance(55 * MINUTE);
        assert_eq!(judge(&sessions, id).await, live());
    }
    clock.advance(6 * MINUTE);
    assert_eq!(judge(&sessions, id).await, SessionVerdict::Ended(SessionEnd::Expired), "after 12 hours and a minute");
}

#[tokio::test]
async fn a_session_without_a_sign_of_life_ends_after_an_hour_and_an_unknown_one_has_ended() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(60 * MINUTE);
    assert_eq!(judge(&sessions, id).await, SessionVerdict::Ended(SessionEnd::Expired));
    assert_eq!(judge(&sessions, SessionId([7; 16])).await, SessionVerdict::Ended(SessionEnd::Expired));
}

#[tokio::test]
async fn reports_extend_a_session_as_segments_do() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(59 * MINUTE);
    report(&sessions, "dune", None, at(&clock, 5000)).await;
    clock.advance(59 * MINUTE);
    assert_eq!(judge(&sessions, id).await, live());
}

#[tokio::test]
async fn a_closed_session_says_why_and_keeps_its_first_reason() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    assert!(sessions.close(id, SessionEnd::Revoked).await.expect("memory takes it").is_some());
    assert!(sessions.close(id, SessionEnd::Stopped).await.expect("memory takes it").is_none());
    assert_eq!(judge(&sessions, id).await, SessionVerdict::Ended(SessionEnd::Revoked));
}

#[tokio::test]
async fn of_too_many_sessions_the_one_that_was_idle_for_longest_ends() {
    let (sessions, clock) = sessions(2);
    let first = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(MINUTE);
    let second = open(&sessions, &clock, "alien").await.session.id;
    clock.advance(MINUTE);
    // The first is watched on, the second was only tried.
    assert_eq!(judge(&sessions, first).await, live());
    let third = open(&sessions, &clock, "brazil").await;
    assert_eq!(third.displaced.iter().map(|view| view.movie.as_str()).collect::<Vec<_>>(), ["alien"]);
    assert_eq!(judge(&sessions, second).await, SessionVerdict::Ended(SessionEnd::Displaced));
    assert_eq!(judge(&sessions, first).await, live());
    assert_eq!(judge(&sessions, third.session.id).await, live());
}

#[tokio::test]
async fn a_view_ends_after_three_missed_reports_at_the_last_one_and_the_next_report_begins_another() {
    let (sessions, clock) = sessions(5);
    let opened = open(&sessions, &clock, "dune").await;
    clock.advance(Duration::from_secs(10));
    let noted = report(&sessions, "dune", None, at(&clock, 10_000)).await;
    assert_eq!(noted, ReportOutcome::default());
    let reported = clock.unix_millis();
    clock.advance(Duration::from_secs(29));
    assert!(take(&sessions).await.is_empty(), "two were missed");
    clock.advance(Duration::from_secs(1));
    let ended = take(&sessions).await;
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].id, ended[0].last_seen_at, ended[0].position), (opened.view.id, reported, 10_000));
    // The film was paused: it plays on with the same grant.
    assert_eq!(judge(&sessions, opened.session.id).await, live());
    let again = report(&sessions, "dune", None, at(&clock, 12_000)).await;
    let again = again.begun.expect("another view begins");
    assert_ne!(again.id, opened.view.id);
    clock.advance(Duration::from_secs(31));
    assert_eq!(take(&sessions).await, [again]);
}

#[tokio::test]
async fn a_report_that_was_overtaken_is_a_sign_of_life_and_no_position() {
    let (sessions, clock) = sessions(5);
    open(&sessions, &clock, "dune").await;
    clock.advance(Duration::from_secs(10));
    let is_outdated =
        async |position, at| report(&sessions, "dune", None, ReportedPosition { position, at }).await.is_outdated;
    let now = clock.unix_millis();
    let before = |seconds: i64| Some(UnixMillis::new(now.as_millis() - seconds * 1000));
    assert!(!is_outdated(500_000, before(5)).await);
    clock.advance(Duration::from_secs(10));
    assert!(is_outdated(100_000, before(9)).await, "it is older");
    // Of the same time the one that comes later counts, as where no player says its time.
    assert!(!is_outdated(510_000, before(5)).await);
    assert!(is_outdated(100_000, before(6)).await);
    let last = clock.unix_millis();
    clock.advance(Duration::from_secs(29));
    assert!(take(&sessions).await.is_empty(), "the late ones were signs of life");
    clock.advance(Duration::from_secs(1));
    let ended = take(&sessions).await;
    assert_eq!((ended[0].position, ended[0].last_seen_at), (510_000, last));
    // Nor does a stop that was overtaken by a report lead back.
    open(&sessions, &clock, "heat").await;
    let late = at(&clock, 1000);
    clock.advance(Duration::from_secs(1));
    report(&sessions, "heat", None, at(&clock, 2000)).await;
    let stopped = sessions.stop(&alice(), &film("heat"), None, late).await;
    assert!(matches!(stopped, Ok(StopOutcome::Ended(FilmView { position: 2000, .. }))), "{stopped:?}");
}

#[tokio::test]
async fn reports_without_a_time_are_in_the_order_of_their_arrival_whatever_the_clocks_say() {
    let (sessions, clock) = sessions(5);
    open(&sessions, &clock, "dune").await;
    let arrived = |position| ReportedPosition { position, at: None };
    report(&sessions, "dune", None, at(&clock, 9000)).await;
    // Another node's clock is a minute behind.
    let (ahead, behind) =
        (clock.unix_millis(), Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_799_999_940)));
    assert!(behind.unix_millis() < ahead);
    let other = FilmSessions { clock: behind, ..sessions.clone() };
    let noted = report(&other, "dune", None, arrived(12_000)).await;
    assert!(!noted.is_outdated);
    let stopped = sessions.stop(&alice(), &film("dune"), None, arrived(13_000)).await;
    assert!(matches!(stopped, Ok(StopOutcome::Ended(FilmView { position: 13_000, .. }))), "{stopped:?}");
}

#[tokio::test]
async fn a_view_that_begins_with_a_late_report_stands_where_the_one_before_has_stopped() {
    let (sessions, clock) = sessions(5);
    open(&sessions, &clock, "dune").await;
    let late = at(&clock, 1000);
    clock.advance(Duration::from_secs(10));
    report(&sessions, "dune", None, at(&clock, 11_000)).await;
    clock.advance(Duration::from_secs(31));
    assert_eq!(take(&sessions).await.len(), 1);
    let noted = report(&sessions, "dune", None, late).await;
    assert!(noted.begun.is_some() && noted.is_outdated, "{noted:?}");
    clock.advance(Duration::from_secs(31));
    let ended = take(&sessions).await;
    assert_eq!(ended.iter().map(|view| view.position).collect::<Vec<_>>(), [11_000]);
}

async fn take(sessions: &FilmSessions) -> Vec<FilmView> {
    let due = sessions.take_due().await.expect("memory answers");
    let ended: Vec<FilmView> = due.into_iter().flat_map(|due| due.ended).collect();
    for view in &ended {
        sessions.finish_view(view.session, view.id).await.expect("memory takes it");
    }
    ended
}

#[tokio::test]
async fn a_view_that_has_ended_comes_again_until_it_is_finished_whatever_ended_it() {
    let (sessions, clock) = sessions(5);
    for stops in [true, false] {
        let opened = open(&sessions, &clock, "dune").await;
        if stops {
            let stopped = sessions.stop(&alice(), &film("dune"), None, at(&clock, 7000)).await;
            assert!(matches!(stopped, Ok(StopOutcome::Ended(_))));
        } else {
            clock.advance(Duration::from_secs(30));
            let due = sessions.take_due().await.expect("memory answers");
            assert_eq!(due.len(), 1, "and the node that has it ends");
            assert!(sessions.take_due().await.expect("memory answers").is_empty(), "another has it for a while");
        }
        clock.advance(DUE_LEASE);
        let ended = take(&sessions).await;
        assert_eq!(ended.iter().map(|view| view.id).collect::<Vec<_>>(), [opened.view.id]);
        clock.advance(MINUTE);
        assert!(take(&sessions).await.is_empty());
    }
}

#[tokio::test]
async fn a_view_that_waits_to_be_recorded_holds_up_no_other_and_comes_again_with_all_that_is_recorded() {
    let (sessions, clock) = sessions(5);
    let device = ViewerDevice::new(Some("browser"), Some([10, 0, 0, 1].into()));
    let opened =
        sessions.open(&alice(), &film("dune"), ManifestType::Hls, &device, clock.unix_millis()).await.expect("memory");
    report(&sessions, "dune", None, at(&clock, 5000)).await;
    let last = clock.unix_millis();
    clock.advance(Duration::from_secs(30));
    let due = async || sessions.take_due().await.expect("memory answers");
    let first = due().await.remove(0).ended.remove(0);
    let expected = FilmView { last_seen_at: last, position: 5000, ..opened.view };
    assert_eq!((&first, &first.device), (&expected, &device));
    sessions.note_published(first.session, first.id).await.expect("memory takes it");
    // The film plays on, by another device, and that view ends in its time too.
    let second = report(&sessions, "dune", None, at(&clock, 6000)).await.begun.expect("another view begins");
    assert_eq!(second.device, ViewerDevice::new(Some("television"), None));
    clock.advance(Duration::from_secs(30));
    let ended = due().await.remove(0).ended;
    assert_eq!(ended, [FilmView { is_published: true, ..first.clone() }, second.clone()]);
    sessions.note_published(second.session, second.id).await.expect("memory takes it");
    sessions.finish_view(first.session, first.id).await.expect("memory takes it");
    // Its node has ended meanwhile: another one records it.
    assert!(due().await.is_empty());
    clock.advance(RECORD_LEASE);
    for _ in 0..40 {
        // The database is away: it is looked at at the interval of what only waits, and is not forgotten with the session.
        let again = due().await.remove(0).ended;
        assert_eq!(again, [FilmView { is_published: true, ..second.clone() }]);
        assert!(due().await.is_empty());
        clock.advance(DUE_LEASE);
        assert!(due().await.is_empty());
        clock.advance(RECORD_LEASE);
    }
    due().await;
    sessions.finish_view(second.session, second.id).await.expect("memory takes it");
    clock.advance(RECORD_LEASE);
    assert!(take(&sessions).await.is_empty());
}

#[tokio::test]
async fn a_player_that_cannot_report_is_seen_by_what_it_fetches() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    for _ in 0..9 {
        clock.advance(Duration::from_secs(10));
        judge(&sessions, id).await;
        assert!(take(&sessions).await.is_empty());
    }
    let seen = clock.unix_millis();
    clock.advance(Duration::from_secs(31));
    assert_eq!(take(&sessions).await.first().map(|view| view.last_seen_at), Some(seen));
}

#[tokio::test]
async fn a_stop_ends_the_session_and_another_has_nothing_to_end() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(MINUTE);
    let stop = async |movie: &str| {
        sessions.stop(&alice(), &film(movie), None, at(&clock, 60_000)).await.expect("memory takes it")
    };
    let StopOutcome::Ended(view) = stop("dune").await else { panic!("the view had not ended") };
    assert_eq!((view.position, view.last_seen_at), (60_000, clock.unix_millis()));
    sessions.finish_view(view.session, view.id).await.expect("memory takes it");
    assert_eq!(stop("dune").await, StopOutcome::HadEnded);
    assert_eq!(stop("alien").await, StopOutcome::Unknown);
    assert_eq!(judge(&sessions, id).await, SessionVerdict::Ended(SessionEnd::Stopped));
    clock.advance(MINUTE);
    assert!(take(&sessions).await.is_empty());
}

#[tokio::test]
async fn without_a_subscription_a_session_has_the_time_that_it_has_and_no_more() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(5 * MINUTE);
    assert!(sessions.take_due().await.expect("memory answers").iter().any(|due| due.is_recheck_due));
    sessions.set_ending(id, true).await.expect("memory takes it");
    clock.advance(54 * MINUTE);
    assert_eq!(judge(&sessions, id).await, live());
    clock.advance(MINUTE);
    assert_eq!(judge(&sessions, id).await, SessionVerdict::Ended(SessionEnd::Unsubscribed));
}

#[tokio::test]
async fn a_subscription_that_is_renewed_in_time_has_the_session_extended_again() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    sessions.set_ending(id, true).await.expect("memory takes it");
    clock.advance(5 * MINUTE);
    let due = sessions.take_due().await.expect("memory answers");
    assert!(due.iter().any(|due| due.is_recheck_due && due.is_ending), "it is asked about though it ends");
    sessions.set_ending(id, false).await.expect("memory takes it");
    for _ in 0..3 {
        clock.advance(40 * MINUTE);
        assert_eq!(judge(&sessions, id).await, live());
    }
}

#[tokio::test]
async fn of_sessions_that_are_opened_at_once_exactly_the_newest_stay() {
    let (sessions, clock) = sessions(1);
    let unbounded = Settings { max_streams_per_user: None, ..(*sessions.settings).clone() };
    let unbounded = FilmSessions { settings: Arc::new(unbounded), ..sessions.clone() };
    // Both are there before either looks whether there are too many.
    let first = open(&unbounded, &clock, "dune").await.session.id;
    clock.advance(Duration::from_millis(1));
    let second = open(&unbounded, &clock, "dune").await.session.id;
    let mut displaced = Vec::new();
    for _ in 0..2 {
        displaced.extend(sessions.displace(&alice(), clock.unix_millis()).await.expect("memory answers"));
    }
    assert_eq!(displaced.iter().map(|view| view.session).collect::<Vec<_>>(), [first]);
    assert_eq!(judge(&sessions, first).await, SessionVerdict::Ended(SessionEnd::Displaced));
    assert_eq!(judge(&sessions, second).await, live());
}

#[tokio::test]
async fn a_new_session_does_not_give_way_to_one_that_plays_at_that_moment() {
    let (sessions, clock) = sessions(1);
    let unbounded = Settings { max_streams_per_user: None, ..(*sessions.settings).clone() };
    let unbounded = FilmSessions { settings: Arc::new(unbounded), ..sessions.clone() };
    let old = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(MINUTE);
    let new = open(&unbounded, &clock, "dune").await.session.id;
    clock.advance(Duration::from_millis(5));
    assert_eq!(judge(&sessions, old).await, live());
    let displaced = sessions.displace(&alice(), clock.unix_millis()).await.expect("memory answers");
    assert_eq!(displaced.iter().map(|view| view.session).collect::<Vec<_>>(), [old]);
    assert_eq!(judge(&sessions, new).await, live());
}

#[tokio::test]
async fn a_stop_ends_the_session_that_it_names_else_the_newest_that_lives() {
    let (sessions, clock) = sessions(5);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(open(&sessions, &clock, "dune").await.session.id);
        clock.advance(Duration::from_secs(1));
    }
    let stop = async |movie: &str, named| {
        sessions.stop(&alice(), &film(movie), named, at(&clock, 5000)).await.expect("memory")
    };
    assert_eq!(stop("alien", Some(ids[0])).await, StopOutcome::Unknown, "it is one of another film");
    assert!(matches!(stop("dune", Some(ids[0])).await, StopOutcome::Ended(_)));
    assert_eq!(judge(&sessions, ids[0]).await, SessionVerdict::Ended(SessionEnd::Stopped));
    for id in [ids[2], ids[1]] {
        assert_eq!(judge(&sessions, id).await, live());
        assert!(matches!(stop("dune", None).await, StopOutcome::Ended(_)));
        assert_eq!(judge(&sessions, id).await, SessionVerdict::Ended(SessionEnd::Stopped));
    }
    assert_eq!(stop("dune", None).await, StopOutcome::HadEnded);
}

#[tokio::test]
async fn a_report_is_noted_in_the_session_that_it_names() {
    let (sessions, clock) = sessions(5);
    let first = open(&sessions, &clock, "dune").await.session.id;
    let second = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(59 * MINUTE);
    report(&sessions, "dune", Some(first), at(&clock, 5000)).await;
    clock.advance(59 * MINUTE);
    assert_eq!(judge(&sessions, first).await, live());
    assert_eq!(judge(&sessions, second).await, SessionVerdict::Ended(SessionEnd::Expired));
}

#[tokio::test]
async fn the_subscription_of_a_player_that_has_fallen_silent_is_checked_too() {
    let (sessions, clock) = sessions(5);
    let id = open(&sessions, &clock, "dune").await.session.id;
    clock.advance(Duration::from_secs(10));
    report(&sessions, "dune", None, at(&clock, 5000)).await;
    let mut checks = 0;
    // From now on nothing but segments.
    for _ in 0..16 * 6 {
        clock.advance(Duration::from_secs(10));
        assert_eq!(judge(&sessions, id).await, live());
        for due in sessions.take_due().await.expect("memory answers") {
            checks += u32::from(due.is_recheck_due);
            for view in due.ended {
                sessions.finish_view(view.session, view.id).await.expect("memory takes it");
            }
        }
    }
    assert_eq!(checks, 3, "one in five minutes");
    sessions.set_ending(id, true).await.expect("memory takes it");
    clock.advance(59 * MINUTE);
    assert_eq!(judge(&sessions, id).await, live());
    clock.advance(MINUTE);
    assert_eq!(judge(&sessions, id).await, SessionVerdict::Ended(SessionEnd::Unsubscribed));
    sessions.take_due().await.expect("memory answers");
    clock.advance(60 * MINUTE);
    assert!(sessions.take_due().await.expect("memory answers").is_empty(), "one that has ended is not looked at");
}

#[tokio::test]
async fn a_view_without_reports_lasts_while_segments_are_noticed_however_short_the_interval() {
    let (sessions, clock) = sessions(5);
    let settings = Settings { report_interval: Duration::from_secs(1), ..(*sessions.settings).clone() };
    let sessions = FilmSessions { settings: Arc::new(settings), ..sessions };
    let id = open(&sessions, &clock, "dune").await.session.id;
    for _ in 0..20 {
        // The verdict is kept for four seconds, so that segments in between are not seen here.
        for _ in 0..4 {
            clock.advance(Duration::from_secs(1));
            assert!(take(&sessions).await.is_empty());
        }
        judge(&sessions, id).await;
    }
    clock.advance(Duration::from_secs(8));
    assert_eq!(take(&sessions).await.len(), 1);
}
