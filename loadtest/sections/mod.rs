//! The sections: what is measured. Each file measures one kind of figure; a new one is a file and a line in [`ALL`].

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::report::Row;
use crate::servers::{Server, Target, Yard};
use primitives::clock::monotonic_now;

mod abuse;
mod api;
mod cached;
mod cold;
mod cpu;
mod events;
mod films;
mod first_byte;
mod manifests;
mod paused;
mod players;
mod positions;
mod radio;
mod reload;
mod settings;
mod share;
mod soak;
mod stampede;
mod tls;
mod traces;
mod upgrades;

/// How long filling a cache may take.
const FILL_DEADLINE: Duration = Duration::from_secs(60);
/// How often an origin is asked, at most, while everything is cached: for its status.
const ASKED: u64 = 2;

/// One section.
pub struct Section {
    pub name: &'static str,
    /// Whether both servers keep what they fetched.
    pub cached: bool,
    /// Its load on one server; also what `--profile` runs.
    pub load: fn(&Target) -> Vec<Group>,
    /// Measures both servers.
    pub measure: fn(&Section, &Bench, &mut Tally) -> Result<Vec<Row>>,
}

impl Section {
    const fn new(name: &'static str, load: fn(&Target) -> Vec<Group>, measure: Measure) -> Self {
        Self { name, cached: false, load, measure }
    }

    const fn cached(name: &'static str, load: fn(&Target) -> Vec<Group>, measure: Measure) -> Self {
        Self { name, cached: true, load, measure }
    }
}

type Measure = fn(&Section, &Bench, &mut Tally) -> Result<Vec<Row>>;

/// All of them, in the order of the report.
pub const ALL: [Section; 27] = [
    Section::new("cpu-1k", cpu::small, cpu::measure_small),
    Section::new("api", api::load, api::measure),
    Section::new("ranges", cpu::ranges, cpu::measure_ranges),
    Section::new("whole", cpu::whole, cpu::measure_whole),
    Section::cached("cached", cpu::ranges, cached::measure),
    Section::new("first-byte", first_byte::alone, first_byte::measure),
    Section::new("first-byte-busy", first_byte::busy, first_byte::measure),
    Section::cached("cold-range", cold::load, cold::measure),
    Section::cached("stampede", stampede::load, stampede::measure),
    Section::new("paused", paused::load, paused::measure),
    Section::new("players", players::load, players::measure),
    Section::cached("players-cached", players::load, players::measure),
    Section::new("positions", positions::load, positions::measure),
    Section::new("events", events::load, events::measure),
    Section::new("settings", radio::load, settings::measure),
    Section::new("manifests", cpu::small, manifests::measure),
    Section::new("films", cpu::small, films::measure),
    Section::new("reload", reload::load, reload::measure),
    Section::new("upgrades", upgrades::load, upgrades::measure),
    Section::new("share-polled", share::load, share::measure_polled),
    Section::new("share-pushed", share::load, share::measure_pushed),
    Section::new("share-sessions", share::load, share::measure_sessions),
    Section::new("radio", radio::load, radio::measure),
    Section::new("tls", cpu::small, tls::measure),
    Section::new("traces", cpu::small, traces::measure),
    Section::new("abuse", abuse::load, abuse::measure),
    Section::new("soak", cpu::ranges, soak::measure),
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
    /// Share of the attackers, and of the viewers of films.
    pub scale: f64,
}

impl Bench {
    /// Fresh servers, so that nothing inherits another's memory or warmth: nginx, and the compared one.
    pub fn pair(&self, section: &Section) -> Result<[Server; 2]> {
        self.pair_before(section, &self.origin)
    }

    /// The same before another origin.
    pub fn pair_before(&self, section: &Section, origin: &Server) -> Result<[Server; 2]> {
        Ok(if section.cached {
            [self.yard.caching_proxy(origin)?, self.yard.caching_subject(origin)?]
        } else {
            [self.yard.proxy(origin)?, self.yard.subject(origin)?]
        })
    }

    /// Measures in alternating rounds, each beginning with the other end of the servers, so that a machine that gets
    /// slower or faster meanwhile favours nobody. Each round has fresh servers: two starts of one server differ by
    /// more than two rounds of one start, and that must show in the spread.
    pub fn rounds<T, const N: usize>(
        &self,
        start: impl Fn() -> Result<[Server; N]>,
        measure: impl FnMut(&Server) -> Result<T>,
    ) -> Result<Vec<[T; N]>> {
        alternately(self.rounds, start, measure)
    }

    /// Whether everything came from a cache: the origin was `asked` so often meanwhile.
    pub fn check_kept(&self, asked: impl IntoIterator<Item = u64>) -> Result<()> {
        let most = asked.into_iter().max().unwrap_or_default();
        ensure!(most <= ASKED, "the origin was asked {most} times for what is cached");
        Ok(())
    }
}

/// As [`Bench::rounds`], `count` of them. A server that was measured is gone before the next one is.
pub fn alternately<T, const N: usize>(
    count: usize,
    start: impl Fn() -> Result<[Server; N]>,
    mut measure: impl FnMut(&Server) -> Result<T>,
) -> Result<Vec<[T; N]>> {
    let mut results = Vec::new();
    for round in 0..count {
        let mut servers = start()?;
        let turned = round % 2 == 1;
        if turned {
            servers.reverse();
        }
        let mut measured = servers.into_iter().map(|server| measure(&server)).collect::<Result<Vec<T>>>()?;
        if turned {
            measured.reverse();
        }
        let Ok(measured) = <[T; N]>::try_from(measured) else { bail!("a server was not measured") };
        results.push(measured);
    }
    Ok(results)
}

/// Connects a load and lets it run in before anything is measured.
pub fn warm(groups: Vec<Group>, tally: &mut Tally) -> Result<Fleet> {
    let mut fleet = Fleet::connect(groups)?;
    tally.add(&fleet.run(Duration::from_millis(500))?);
    Ok(fleet)
}

/// Asks a server for all of the long object once, so that it has it if it keeps anything.
pub fn fill(target: &Target, tally: &mut Tally) -> Result<()> {
    let requests = objects::LONG.ranges(target, cpu::RANGE);
    let mut missing = requests.len() as u64;
    let group = Group {
        address: target.address,
        connections: 1,
        pace: Pace::Closed,
        order: Order::InTurn,
        requests,
        sampled: false,
    };
    let mut fleet = Fleet::connect(vec![group])?;
    let deadline = monotonic_now() + FILL_DEADLINE;
    while missing > 0 {
        let part = fleet.run(Duration::from_millis(100))?;
        missing = missing.saturating_sub(part.requests);
        tally.add(&part);
        ensure!(part.errors == 0 && monotonic_now() < deadline, "a cache could not be filled: {:?}", part.first_error);
    }
    Ok(())
}
