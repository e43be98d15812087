//! The load test: Tidegate against a well-tuned nginx before the same origin, on this machine, in one run.
//!
//! Only ratios are of use elsewhere. How it measures and why stands in docs/performance.md; `loadtest/run --help` says
//! how to run parts of it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command whose output is its result")]

use std::path::{self, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::generator::Fleet;
use crate::load::Tally;
use crate::sections::{ALL, Bench, Section};
use crate::servers::{Subject, Yard};

mod attackers;
mod faulty;
mod generator;
mod load;
mod more_servers;
mod objects;
mod play;
mod player;
mod process;
mod report;
mod sections;
mod servers;
mod share;
mod web_sockets;

/// How long one server is measured in a round unless said otherwise.
const WINDOW: Duration = Duration::from_millis(2500);

/// Measures Tidegate against nginx; prints a table and writes it to `report.md` in the folder.
#[derive(Parser)]
#[command(name = "loadtest/run")]
struct Arguments {
    /// What to measure; everything if nothing is named.
    #[arg(value_parser = PossibleValuesParser::new(ALL.iter().map(|section| section.name)))]
    sections: Vec<String>,
    /// Rounds per section; each measures both servers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds that one server is measured in a round (2.5), and of the soak (60).
    #[arg(long)]
    seconds: Option<f64>,
    /// Attackers and idle connections of `abuse`, and viewers of `films`, as a share of all.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The Tidegate binary; `loadtest/run` names the one that it has built.
    #[arg(long, value_name = "PATH")]
    tidegate: PathBuf,
    /// Where servers keep what they need, and the report is written.
    #[arg(long, value_name = "PATH", default_value = "target/loadtest")]
    folder: PathBuf,
    /// Instead of Tidegate, a second nginx with these buffer directives; if empty, equal to the first: the noise.
    #[arg(long, value_name = "DIRECTIVES")]
    rival: Option<String>,
    /// Only keep the load of the named section on Tidegate for so many seconds, so that perf or strace can be attached.
    #[arg(long, value_name = "SECONDS")]
    profile: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every section was measured and there were no errors; a budget that was not held is no failure of the run.
fn run(arguments: &Arguments) -> Result<bool> {
    let subject = match &arguments.rival {
        Some(buffers) => Subject::Rival(buffers.clone()),
        None => Subject::Tidegate(path::absolute(&arguments.tidegate)?),
    };
    let folder = path::absolute(&arguments.folder)?;
    let yard = Yard::new(folder.clone(), subject)?;
    let origin = yard.origin()?;
    let asked_window = arguments.seconds.map(Duration::try_from_secs_f64).transpose()?;
    let window = asked_window.unwrap_or(WINDOW);
    let bench = Bench { yard, origin, rounds: arguments.rounds.into(), window, asked_window, scale: arguments.scale };
    let wanted = |section: &&Section| {
        arguments.sections.is_empty() || arguments.sections.iter().any(|name| name == section.name)
    };
    if let Some(seconds) = arguments.profile {
        let section = ALL.iter().find(wanted).context("there is no section")?;
        return profile(section, &bench, Duration::from_secs(seconds));
    }
    let (mut rows, mut total, mut complete) = (Vec::new(), Tally::default(), true);
    for section in ALL.iter().filter(wanted) {
        eprintln!("loadtest: {} …", section.name);
        let mut tally = Tally::default();
        match (section.measure)(section, &bench, &mut tally) {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                complete = false;
                eprintln!("loadtest: {} failed: {error:#}", section.name);
            }
        }
        eprintln!("loadtest: {}: {}", section.name, report::errors(&tally));
        total.add(&tally);
    }
    let text = format!("{}\n{}\n", report::table(bench.yard.subject_name(), &rows), report::errors(&total));
    print!("{text}");
    std::fs::write(folder.join("report.md"), text)?;
    Ok(complete && total.errors == 0)
}

/// The load alone, on the subject alone.
fn profile(section: &Section, bench: &Bench, time: Duration) -> Result<bool> {
    let [_, subject] = bench.pair(section)?;
    if section.cached {
        sections::fill(&subject.target, &mut Tally::default())?;
    }
    let mut fleet = Fleet::connect((section.load)(&subject.target))?;
    println!(
        "{} under {} for {} s: process {:?}",
        bench.yard.subject_name(),
        section.name,
        time.as_secs(),
        subject.process.pids()?
    );
    let before = subject.process.cpu_seconds()?;
    let tally = fleet.run(time)?;
    let cpu = subject.process.cpu_seconds()? - before;
    println!(
        "{}; {} bytes; {cpu:.2} CPU seconds; {:.0} KiB resident",
        report::errors(&tally),
        tally.bytes,
        subject.process.resident_kib()?
    );
    Ok(tally.errors == 0)
}
