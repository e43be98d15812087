//! The first byte of a range near the end of a large object of which nothing is cached or known, against the store's own.

use std::time::Duration;

use anyhow::Result;

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section, cpu, warm};
use crate::servers::Target;

const PERCENTILES: [(&str, f64); 2] = [("p50", 0.50), ("p95", 0.95)];
/// Where the range begins, from the end: inside a slice, and not in the last one.
const BEFORE_END: u64 = 900_000;
const CONNECTIONS: usize = 8;
/// Of each connection.
const PERIOD: Duration = Duration::from_millis(80);
/// What the first byte may take: so many times the store's own, and a millisecond.
const FACTOR: f64 = 1.2;

/// A range of each object, each once.
pub fn load(target: &Target) -> Vec<Group> {
    vec![Group {
        address: target.address,
        connections: CONNECTIONS,
        pace: Pace::Every(PERIOD),
        order: Order::Dealt,
        requests: objects::HUGE.near_end(target, BEFORE_END, cpu::RANGE),
        sampled: true,
    }]
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    // A little less than all of them take: none must come again.
    let time = PERIOD.mul_f64(objects::HUGE.count() as f64 / CONNECTIONS as f64 - 0.1);
    let mut sample = |target: &Target| -> Result<[f64; 2]> {
        let mut done = Fleet::connect((section.load)(target))?.run(time)?;
        tally.add(&done);
        Ok(PERCENTILES.map(|(_, share)| percentile(&mut done.first_bytes, share)))
    };
    // The first time the origin itself has them from the disk.
    sample(&bench.origin.target)?;
    let mut warming = Tally::default();
    let rounds = bench.rounds(
        || bench.pair(section),
        |server| {
            drop(warm(cpu::ranges(&server.target), &mut warming)?);
            let direct = sample(&bench.origin.target)?;
            let through = sample(&server.target)?;
            Ok([0, 1].map(|nth| (through[nth], through[nth] - FACTOR * direct[nth])))
        },
    )?;
    tally.add(&warming);
    let rows = |nth: usize| {
        let name = PERCENTILES[nth].0;
        let plain: Vec<[f64; 2]> = rounds.iter().map(|both| [both[0][nth].0, both[1][nth].0]).collect();
        let over: Vec<[f64; 2]> = rounds.iter().map(|both| [both[0][nth].1, both[1][nth].1]).collect();
        [
            Row::new(format!("first byte {name} of a cold range in 1 GB"), "ms", &plain, Budget::None),
            Row::new(
                format!("first byte {name} of a cold range in 1 GB, above {FACTOR}× the store's own"),
                "ms",
                &over,
                Budget::Value(1.0),
            ),
        ]
    };
    Ok((0..PERCENTILES.len()).flat_map(rows).collect())
}
