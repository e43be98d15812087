//! CPU of the proxy per request and per gigabyte, in a closed loop over keep-alive connections.

use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::load::{Group, Order, Pace, Request, Tally};
use crate::objects;
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section, warm};
use crate::servers::{Server, Target};

/// Bytes of a range.
pub const RANGE: u64 = 256 << 10;

pub fn small(target: &Target) -> Vec<Group> {
    closed(target, 64, objects::SMALL.whole(target))
}

pub fn ranges(target: &Target) -> Vec<Group> {
    closed(target, 32, objects::LONG.ranges(target, RANGE))
}

pub fn whole(target: &Target) -> Vec<Group> {
    closed(target, 16, objects::TRACKS.whole(target))
}

pub fn closed(target: &Target, connections: usize, requests: Rc<[Request]>) -> Vec<Group> {
    let address = target.address;
    vec![Group { address, connections, pace: Pace::Closed, order: Order::Random, requests, sampled: false }]
}

pub fn measure_small(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let rounds = rounds(section, bench, tally, |cpu, done| cpu * 1e6 / done.requests as f64)?;
    Ok(vec![Row::new("CPU per request, 1 KiB", "µs", &rounds, Budget::Ratio(2.0))])
}

pub fn measure_ranges(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let rounds = rounds(section, bench, tally, per_gigabyte)?;
    Ok(vec![Row::new("CPU per GB, random 256 KiB ranges", "CPU-s/GB", &rounds, Budget::Ratio(1.5))])
}

pub fn measure_whole(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let rounds = rounds(section, bench, tally, per_gigabyte)?;
    Ok(vec![Row::new("CPU per GB, whole 8 MiB", "CPU-s/GB", &rounds, Budget::Ratio(1.5))])
}

/// CPU seconds per gigabyte of bodies.
pub fn per_gigabyte(cpu: f64, done: &Tally) -> f64 {
    cpu * 1e9 / done.bytes as f64
}

/// `figure` of the CPU seconds and of what was done for them.
pub fn rounds(
    section: &Section,
    bench: &Bench,
    tally: &mut Tally,
    figure: impl Fn(f64, &Tally) -> f64,
) -> Result<Vec<[f64; 2]>> {
    bench.rounds(
        || bench.pair(section),
        |server| {
            let (cpu, done) = run(section, bench, server, tally)?;
            Ok(figure(cpu, &done))
        },
    )
}

/// The section's load on `server`: CPU seconds, and what was done for them.
pub fn run(section: &Section, bench: &Bench, server: &Server, tally: &mut Tally) -> Result<(f64, Tally)> {
    let mut fleet = warm((section.load)(&server.target), tally)?;
    let before = server.process.cpu_seconds()?;
    let done = fleet.run(bench.window)?;
    let cpu = server.process.cpu_seconds()? - before;
    tally.add(&done);
    ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
    Ok((cpu, done))
}
