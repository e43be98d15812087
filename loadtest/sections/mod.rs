//! The sections: what is measured. Each file measures one kind of figure; a new one is a file and a line in [`ALL`].

use std::time::Duration;

use anyhow::Result;

use crate::generator::{Fleet, Group, Tally};
use crate::report::Row;
use crate::servers::{Server, Target, Yard};

mod cpu;
mod first_byte;
mod paused;
mod positions;
mod soak;

/// One section.
pub struct Section {
    pub name: &'static str,
    /// Its load on one server; also what `--profile` runs.
    pub load: fn(&Target) -> Vec<Group>,
    /// Measures both servers.
    pub measure: fn(&Section, &Bench, &mut Tally) -> Result<Vec<Row>>,
}

/// All of them, in the order of the report.
pub const ALL: [Section; 8] = [
    Section { name: "cpu-1k", load: cpu::small, measure: cpu::measure_small },
    Section { name: "ranges", load: cpu::ranges, measure: cpu::measure_ranges },
    Section { name: "whole", load: cpu::whole, measure: cpu::measure_whole },
    Section { name: "first-byte", load: first_byte::alone, measure: first_byte::measure },
    Section { name: "first-byte-busy", load: first_byte::busy, measure: first_byte::measure },
    Section { name: "paused", load: paused::load, measure: paused::measure },
    Section { name: "positions", load: positions::load, measure: positions::measure },
    Section { name: "soak", load: cpu::ranges, measure: soak::measure },
];

/// What a section works with.
pub struct Bench {
    pub yard: Yard,
    pub origin: Server,
    pub rounds: usize,
    /// The measured time of one server in one round.
    pub window: Duration,
    /// The same where it was asked for.
    pub asked_window: Option<Duration>,
}

impl Bench {
    /// Fresh servers, so that nothing inherits another's memory or warmth: nginx, and the compared one.
    pub fn pair(&self) -> Result<[Server; 2]> {
        Ok([self.yard.proxy(&self.origin)?, self.yard.subject(&self.origin)?])
    }

    /// Measures in alternating rounds, each beginning with the other one of the pair, so that a machine that gets
    /// slower or faster meanwhile favours nobody. Each round has fresh servers: two starts of one server differ by
    /// more than two rounds of one start, and that must show in the spread. Gives (nginx, subject) of each round.
    pub fn rounds<T>(&self, mut measure: impl FnMut(&Server) -> Result<T>) -> Result<Vec<(T, T)>> {
        let mut results = Vec::new();
        for round in 0..self.rounds {
            let [nginx, subject] = self.pair()?;
            results.push(if round % 2 == 0 {
                (measure(&nginx)?, measure(&subject)?)
            } else {
                let first = measure(&subject)?;
                (measure(&nginx)?, first)
            });
        }
        Ok(results)
    }
}

/// Connects a load and lets it run in before anything is measured.
pub fn warm(groups: Vec<Group>, tally: &mut Tally) -> Result<Fleet> {
    let mut fleet = Fleet::connect(groups)?;
    tally.add(&fleet.run(Duration::from_millis(500))?);
    Ok(fleet)
}
