//! Watch over the runs of other nodes, pure: one whose beat has stood still for a lease is stale. Only this node's own clock
//! counts, and none that runs back or is set, so that nodes with wrong clocks take nothing from each other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// Unfinished run of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignRun {
    /// The run.
    pub id: Uuid,
    /// Number of the node that has it.
    pub attempt: i64,
    /// Signs of life that it has given.
    pub beat: i64,
    /// True where its action takes effect.
    pub is_running: bool,
    /// True where its node has given it back.
    pub is_released: bool,
}

/// Runs that were seen.
#[derive(Debug, Default)]
pub struct LeaseWatch {
    seen: HashMap<Uuid, (i64, i64, Instant)>,
}

impl LeaseWatch {
    /// Takes what there is now; returns what was given back, or has not changed for `lease`. What is not there any more is
    /// forgotten.
    pub fn observe(&mut self, runs: Vec<ForeignRun>, now: Instant, lease: Duration) -> Vec<ForeignRun> {
        let mut before = std::mem::take(&mut self.seen);
        let mut stale = Vec::new();
        for run in runs {
            let known =
                before.remove(&run.id).filter(|(attempt, beat, _)| (*attempt, *beat) == (run.attempt, run.beat));
            let since = known.map_or(now, |(.., since)| since);
            self.seen.insert(run.id, (run.attempt, run.beat, since));
            if run.is_released || now.saturating_duration_since(since) >= lease {
                stale.push(run);
            }
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_stale_when_its_beat_stands_still_for_a_lease() {
        let (mut watch, begin, lease) =
            (LeaseWatch::default(), primitives::clock::monotonic_now(), Duration::from_secs(30));
        let id = Uuid::from_u128(1);
        let run = |attempt, beat| ForeignRun { id, attempt, beat, is_running: false, is_released: false };
        let mut stale = |seconds, runs| watch.observe(runs, begin + Duration::from_secs(seconds), lease);
        for (seconds, attempt, beat, is_stale) in [
            (0, 1, 0, false),
            (29, 1, 0, false),
            (30, 1, 1, false),
            (59, 1, 1, false),
            (60, 1, 1, true),
            (61, 2, 0, false),
            (90, 2, 0, false),
            (91, 2, 0, true),
        ] {
            let expected = if is_stale { vec![run(attempt, beat)] } else { Vec::new() };
            assert_eq!(stale(seconds, vec![run(attempt, beat)]), expected, "{seconds}");
        }
        assert!(stale(100, Vec::new()).is_empty());
        assert!(stale(200, vec![run(2, 0)]).is_empty(), "it is seen anew");
        let released = ForeignRun { is_released: true, ..run(3, 0) };
        assert_eq!(stale(201, vec![released.clone()]), [released]);
    }
}
