//! Memory that a reader costs who asked for 20 MB, read a kilobyte, and stopped.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section, cpu, warm};
use crate::servers::{Server, Target};
use primitives::clock::monotonic_now;

const READERS: usize = 1000;
/// Memory that changes less than this in one look has settled.
const SETTLED_KIB: f64 = 256.0;
const LOOK: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(20);

pub fn load(target: &Target) -> Vec<Group> {
    vec![Group {
        address: target.address,
        connections: READERS,
        pace: Pace::Pause,
        order: Order::InTurn,
        requests: objects::PAUSED.whole(target),
        sampled: false,
    }]
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let [nginx, subject] = bench.pair(section)?;
    let rounds = [[per_reader(section, &nginx, tally)?, per_reader(section, &subject, tally)?]];
    Ok(vec![Row::new("memory per paused reader of 20 MB, 1,000 readers", "KiB", &rounds, Budget::Value(128.0))])
}

/// From a server that has served a little, so that what every server allocates once is not counted.
fn per_reader(section: &Section, server: &Server, tally: &mut Tally) -> Result<f64> {
    drop(warm(cpu::small(&server.target), tally)?);
    let before = server.process.resident_kib()?;
    let mut fleet = Fleet::connect((section.load)(&server.target))?;
    let deadline = monotonic_now() + DEADLINE;
    let mut last = before;
    loop {
        tally.add(&fleet.run(LOOK)?);
        let now = server.process.resident_kib()?;
        if fleet.paused() == READERS && (now - last).abs() < SETTLED_KIB {
            return Ok((now - before) / READERS as f64);
        }
        ensure!(
            monotonic_now() < deadline,
            "only {} of {READERS} readers got their first bytes, or memory never settled",
            fleet.paused()
        );
        last = now;
    }
}
