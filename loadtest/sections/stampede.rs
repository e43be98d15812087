//! Many clients that ask at once for one range that nobody has asked for before: how often the store is asked for one
//! slice, and how long it takes until all have all bytes. The store is slow, so that all come while the first slice is on
//! its way, and it says what it was asked for.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section};
use crate::servers::{Server, Target};
use primitives::clock::monotonic_now;

const CLIENTS: usize = 500;
/// Parts of five slices of 256 KiB.
const BEFORE_END: u64 = 5_000_000;
const LENGTH: u64 = 1 << 20;
const LOOK: Duration = Duration::from_millis(5);
/// For the store to write down what it has sent.
const SETTLING: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(30);

pub fn load(target: &Target) -> Vec<Group> {
    vec![Group {
        address: target.address,
        connections: CLIENTS,
        pace: Pace::Once,
        order: Order::InTurn,
        requests: Rc::new([objects::HUGE.near_end_of(0, target, BEFORE_END, LENGTH)]),
        sampled: false,
    }]
}

/// What the stampede on one server came to.
struct Seen {
    /// Requests for the slice that was asked for most often.
    most: f64,
    requests: f64,
    millis: f64,
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let store = bench.yard.slow_origin()?;
    let rounds = bench.rounds(|| bench.pair_before(section, &store), |server| run(section, &store, server, tally))?;
    let rounds =
        |figure: fn(&Seen) -> f64| rounds.iter().map(|both| both.each_ref().map(figure)).collect::<Vec<[f64; 2]>>();
    let row = |figure: &str, unit, rounds: &[[f64; 2]], budget| {
        Row::new(format!("stampede of {CLIENTS}: {figure}"), unit, rounds, budget)
    };
    Ok(vec![
        row("store requests for one slice, at most", "", &rounds(|seen| seen.most), Budget::Value(1.0)),
        row("store requests, for 5 slices", "", &rounds(|seen| seen.requests), Budget::None),
        row("until all have all bytes", "ms", &rounds(|seen| seen.millis), Budget::None),
    ])
}

fn run(section: &Section, store: &Server, server: &Server, tally: &mut Tally) -> Result<Seen> {
    let before = store.ranges()?.len();
    let mut fleet = Fleet::connect((section.load)(&server.target))?;
    let (start, mut done) = (monotonic_now(), Tally::default());
    while done.requests < CLIENTS as u64 {
        done.add(&fleet.run(LOOK)?);
        ensure!(
            done.errors == 0 && start.elapsed() < DEADLINE,
            "{} of {CLIENTS} have their bytes: {:?}",
            done.requests,
            done.first_error
        );
    }
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    fleet.run(SETTLING)?;
    tally.add(&done);
    let ranges = store.ranges()?.split_off(before);
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for range in &ranges {
        *counts.entry(range).or_default() += 1;
    }
    let most = counts.into_values().max().unwrap_or_default();
    Ok(Seen { most: most.into(), requests: ranges.len() as f64, millis })
}
