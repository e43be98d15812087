//! CPU of the proxy per request and per gigabyte, in a closed loop over keep-alive connections.

use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::generator::{Group, Order, Pace, Request, Tally};
use crate::objects;
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section, warm};
use crate::servers::Target;

/// How a CPU figure is written.
pub struct Figure {
    text: &'static str,
    unit: &'static str,
    /// From CPU seconds and what was done to the figure.
    value: fn(f64, &Tally) -> f64,
    budget: f64,
}

pub const SMALL: Figure = Figure {
    text: "CPU per request, 1 KiB",
    unit: "µs",
    value: |cpu, tally| cpu * 1e6 / tally.requests as f64,
    budget: 2.0,
};
pub const RANGES: Figure =
    Figure { text: "CPU per GB, random 256 KiB ranges", unit: "CPU-s/GB", value: per_gigabyte, budget: 1.5 };
pub const WHOLE: Figure =
    Figure { text: "CPU per GB, whole 8 MiB", unit: "CPU-s/GB", value: per_gigabyte, budget: 1.5 };

fn per_gigabyte(cpu: f64, tally: &Tally) -> f64 {
    cpu * 1e9 / tally.bytes as f64
}

pub fn small(target: &Target) -> Vec<Group> {
    closed(target, 64, objects::SMALL.whole(target))
}

pub fn ranges(target: &Target) -> Vec<Group> {
    closed(target, 32, objects::LONG.ranges(target, 256 << 10))
}

pub fn whole(target: &Target) -> Vec<Group> {
    closed(target, 16, objects::TRACKS.whole(target))
}

fn closed(target: &Target, connections: usize, requests: Rc<[Request]>) -> Vec<Group> {
    let address = target.address;
    vec![Group { address, connections, pace: Pace::Closed, order: Order::Random, requests, sampled: false }]
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally, figure: &Figure) -> Result<Vec<Row>> {
    let pair = bench.pair()?;
    let rounds = bench.rounds(|which| {
        let server = &pair[which];
        let mut fleet = warm((section.load)(&server.target), tally)?;
        let before = server.process.cpu_seconds()?;
        let done = fleet.run(bench.window)?;
        let cpu = server.process.cpu_seconds()? - before;
        tally.add(&done);
        ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
        Ok((figure.value)(cpu, &done))
    })?;
    Ok(vec![Row::new(figure.text, figure.unit, &rounds, Budget::Ratio(figure.budget))])
}
