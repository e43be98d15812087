//! Plan of what is done about a schedule whose instant has come, pure: late instants within the grace are made good, others are
//! missed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::rule::ScheduleTimes;
use primitives::unix_time::UnixMillis;

/// Most missed instants that are counted: a server may have been down for a year.
const MAX_COUNTED: i64 = 1000;

/// Most instants that are made good one by one, the newest ones: what begins on a channel ends what began before it.
const MAX_MADE_GOOD: usize = 20;

/// Instants that become one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// The instant that stands for all.
    pub fire_at: UnixMillis,
    /// Their number.
    pub instants: i64,
}

/// Plan for a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirePlan {
    /// Instants that are too late, by their first one.
    pub missed: Option<PlannedRun>,
    /// What is performed now.
    pub run: Option<PlannedRun>,
    /// Next instant, which may have come too.
    pub next: Option<UnixMillis>,
}

/// Returns the plan at `now` for a schedule whose next instant is `due`.
pub fn plan(times: &ScheduleTimes, due: UnixMillis, now: UnixMillis, grace: Duration, is_coalesced: bool) -> FirePlan {
    let oldest = now - grace;
    let mut at = Some(due).filter(|due| *due >= oldest);
    let mut missed = match at {
        Some(_) => None,
        None => {
            let instants = count_between(times, due, oldest);
            at = times.next_after(oldest - Duration::from_millis(1));
            Some(PlannedRun { fire_at: due, instants })
        }
    };
    let Some(mut first) = at.filter(|at| *at <= now) else { return FirePlan { missed, run: None, next: at } };
    if !is_coalesced {
        let (newest, passed_over) = newest_until(times, first, now);
        if passed_over > 0 {
            let before = missed.map_or(0, |missed| missed.instants);
            missed = Some(PlannedRun { fire_at: due, instants: before + passed_over });
        }
        first = newest;
    }
    let mut run = PlannedRun { fire_at: first, instants: 1 };
    let mut next = times.next_after(first);
    while let Some(another) = next.filter(|next| is_coalesced && *next <= now) {
        run = PlannedRun { fire_at: another, instants: run.instants + 1 };
        next = times.next_after(another);
    }
    FirePlan { missed, run: Some(run), next }
}

/// Returns the first of the newest instants that are made good one by one, of those from `first` to `now`, and the number of those
/// before it.
fn newest_until(times: &ScheduleTimes, first: UnixMillis, now: UnixMillis) -> (UnixMillis, i64) {
    let (mut newest, mut passed_over) = (VecDeque::from([first]), 0);
    let mut at = times.next_after(first);
    while let Some(instant) = at.filter(|at| *at <= now) {
        newest.push_back(instant);
        if newest.len() > MAX_MADE_GOOD {
            newest.pop_front();
            passed_over += 1;
        }
        at = times.next_after(instant);
    }
    (newest.front().copied().unwrap_or(first), passed_over)
}

/// Counts the instants from `first`, which is one, up to `end`.
fn count_between(times: &ScheduleTimes, first: UnixMillis, end: UnixMillis) -> i64 {
    let (mut count, mut at) = (0, Some(first));
    while let Some(instant) = at.filter(|at| *at < end && count < MAX_COUNTED) {
        count += 1;
        at = times.next_after(instant);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::RuleText;

    /// Instants at each full minute.
    fn minutes() -> ScheduleTimes {
        let rule = RuleText { cron: Some("* * * * *".to_owned()), ..RuleText::default() };
        ScheduleTimes::parse("UTC", &rule).expect("a rule")
    }

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::new(seconds * 1000)
    }

    fn run(seconds: i64, instants: i64) -> Option<PlannedRun> {
        Some(PlannedRun { fire_at: at(seconds), instants })
    }

    #[test]
    fn instants_within_the_grace_are_made_good_and_older_ones_are_missed() {
        let grace = Duration::from_secs(300);
        for (due, now, is_coalesced, missed, fired, next) in [
            // In time, and a little late.
            (60, 60, true, None, run(60, 1), 120),
            (60, 119, true, None, run(60, 1), 120),
            // Two are one, or come after each other.
            (60, 130, true, None, run(120, 2), 180),
            (60, 130, false, None, run(60, 1), 120),
            (120, 130, false, None, run(120, 1), 180),
            // At the edge of the grace, and past it.
            (60, 360, true, None, run(360, 6), 420),
            (60, 361, true, run(60, 1), run(360, 5), 420),
            (60, 361, false, run(60, 1), run(120, 1), 180),
            // Hours later.
            (60, 7230, true, run(60, 115), run(7200, 5), 7260),
            (60, 7230, false, run(60, 115), run(6960, 1), 7020),
            // A year later it is not counted to the end.
            (60, 31_536_030, true, run(60, MAX_COUNTED), run(31_536_000, 5), 31_536_060),
        ] {
            let expected = FirePlan { missed, run: fired, next: Some(at(next)) };
            let found = plan(&minutes(), at(due), at(now), grace, is_coalesced);
            assert_eq!(found, expected, "due {due}, now {now}, coalesced: {is_coalesced}");
        }
    }

    #[test]
    fn of_many_instants_only_the_newest_are_made_good_one_by_one() {
        let (day, now) = (Duration::from_secs(86_400), 60 * 100 + 30);
        let found = plan(&minutes(), at(60), at(now), day, false);
        assert_eq!(found, FirePlan { missed: run(60, 80), run: run(60 * 81, 1), next: Some(at(60 * 82)) });
        // The next one has nothing before it.
        let found = plan(&minutes(), at(60 * 82), at(now), day, false);
        assert_eq!(found, FirePlan { missed: None, run: run(60 * 82, 1), next: Some(at(60 * 83)) });
        // What is too late already counts too.
        let found = plan(&minutes(), at(60), at(now), Duration::from_secs(3000), false);
        assert_eq!(found, FirePlan { missed: run(60, 80), run: run(60 * 81, 1), next: Some(at(60 * 82)) });
    }

    #[test]
    fn without_grace_only_the_instant_itself_is_in_time() {
        let plan = |now| plan(&minutes(), at(60), at(now), Duration::ZERO, true);
        assert_eq!(plan(60), FirePlan { missed: None, run: run(60, 1), next: Some(at(120)) });
        assert_eq!(plan(61), FirePlan { missed: run(60, 1), run: None, next: Some(at(120)) });
    }

    #[test]
    fn a_single_instant_is_made_good_or_missed_and_nothing_comes_after_it() {
        let rule = RuleText { run_at: Some("1970-01-01T00:01:00Z".to_owned()), ..RuleText::default() };
        let times = ScheduleTimes::parse("UTC", &rule).expect("a rule");
        let plan = |now| plan(&times, at(60), at(now), Duration::from_secs(300), true);
        assert_eq!(plan(61), FirePlan { missed: None, run: run(60, 1), next: None });
        assert_eq!(plan(361), FirePlan { missed: run(60, 1), run: None, next: None });
    }
}
