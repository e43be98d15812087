//! What the proxy adds to the first body byte, in an open loop: alone, and among paced players.

use std::time::Duration;

use anyhow::Result;

use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section, warm};
use crate::servers::Target;

const PERCENTILES: [(&str, f64, Budget); 3] =
    [("p50", 0.50, Budget::None), ("p95", 0.95, Budget::Value(1.0)), ("p99", 0.99, Budget::None)];
/// Requests per second of the open loop, over so many connections that none is ever waited for.
const RATE: usize = 200;
const CONNECTIONS: usize = 32;
/// Players of 320 kbit/s that fetch 128 KiB at a time.
const PLAYERS: usize = 200;
const CHUNK: u64 = 128 << 10;
const BYTES_PER_SECOND: f64 = 40_000.0;

/// The samples alone.
pub fn alone(target: &Target) -> Vec<Group> {
    let period = Duration::from_secs(1).mul_f64(CONNECTIONS as f64 / RATE as f64);
    vec![Group {
        address: target.address,
        connections: CONNECTIONS,
        pace: Pace::Every(period),
        order: Order::Random,
        requests: objects::LONG.ranges(target, 256 << 10),
        sampled: true,
    }]
}

/// The samples among players.
pub fn busy(target: &Target) -> Vec<Group> {
    let players = Group {
        address: target.address,
        connections: PLAYERS,
        pace: Pace::Every(Duration::from_secs_f64(CHUNK as f64 / BYTES_PER_SECOND)),
        order: Order::InTurn,
        requests: objects::LONG.ranges(target, CHUNK),
        sampled: false,
    };
    alone(target).into_iter().chain([players]).collect()
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let mut sample = |target: &Target| -> Result<[f64; 3]> {
        let mut done = warm((section.load)(target), tally)?.run(bench.window * 2)?;
        tally.add(&done);
        Ok(PERCENTILES.map(|(_, share, _)| percentile(&mut done.first_bytes, share)))
    };
    let rounds = bench.rounds(
        || bench.pair(section),
        |server| {
            let direct = sample(&bench.origin.target)?;
            let through = sample(&server.target)?;
            Ok([0, 1, 2].map(|nth| through[nth] - direct[nth]))
        },
    )?;
    let load = if section.name == "first-byte" { "200/s".to_owned() } else { format!("200/s among {PLAYERS} players") };
    let row = |nth: usize| {
        let (name, _, budget) = PERCENTILES[nth];
        let rounds: Vec<[f64; 2]> = rounds.iter().map(|[nginx, subject]| [nginx[nth], subject[nth]]).collect();
        Row::new(format!("added first byte {name}, {load}"), "ms", &rounds, budget)
    };
    Ok((0..PERCENTILES.len()).map(row).collect())
}
