//! What traces cost a small request: one in a hundred is traced, every one that would fail is remembered, and a collector takes
//! them.

use anyhow::{Result, ensure};

use crate::load::Tally;
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section, cpu};

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let collector = bench.yard.collector()?;
    let rounds = bench.rounds(
        || bench.yard.plain_and_traced(&bench.origin, &collector),
        |server| {
            let before = collector.process.cpu_seconds()?;
            let (cpu, done) = cpu::run(section, bench, server, tally)?;
            Ok((cpu * 1e6 / done.requests as f64, collector.process.cpu_seconds()? - before))
        },
    )?;
    let asked: f64 = rounds.iter().map(|[_, (_, cpu)]| cpu).sum();
    ensure!(asked > 0.0, "the collector was sent nothing");
    let rounds: Vec<[f64; 2]> = rounds.iter().map(|round| round.map(|(cpu, _)| cpu)).collect();
    let figure = "CPU per request, 1 KiB, 1 % of the requests traced; left: none";
    Ok(vec![Row::new(figure, "µs", &rounds, Budget::Ratio(1.02))])
}
