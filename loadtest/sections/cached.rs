//! CPU per gigabyte of ranges that are all in the cache, against nginx that keeps nothing and nginx that keeps slices.

use anyhow::Result;

use crate::load::Tally;
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section, cpu, fill};

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let start = || {
        let [nginx, subject] = bench.pair(section)?;
        Ok([bench.yard.proxy(&bench.origin)?, nginx, subject])
    };
    let rounds = bench.rounds(start, |server| {
        fill(&server.target, tally)?;
        let before = bench.origin.asked()?;
        let (cpu, done) = cpu::run(section, bench, server, tally)?;
        Ok((cpu::per_gigabyte(cpu, &done), bench.origin.asked()? - before))
    })?;
    bench.check_kept(rounds.iter().flat_map(|[_, nginx, subject]| [nginx.1, subject.1]))?;
    let against = |nth: usize| rounds.iter().map(|figures| [figures[nth].0, figures[2].0]).collect::<Vec<[f64; 2]>>();
    let row = |against: &str, rounds: &[[f64; 2]], most| {
        let figure = format!("CPU per GB, 256 KiB ranges from the cache, {against}");
        Row::new(figure, "CPU-s/GB", rounds, Budget::Ratio(most))
    };
    Ok(vec![row("nginx without one", &against(0), 0.8), row("nginx with one", &against(1), 1.0)])
}
