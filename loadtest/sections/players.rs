//! Ten thousand players of music that jump about, each on its own connection: CPU, memory, waiting, and whether any of
//! them runs dry.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::play::Habits;
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section, alternately, cpu, fill, warm};
use crate::servers::{Server, Target};

const PLAYERS: usize = 10_000;
const CHUNK: u64 = 128 << 10;
/// 128 kbit/s.
const BYTES_PER_SECOND: f64 = 16_000.0;
const SEEK: Duration = Duration::from_secs(30);
/// What is measured of each server in a round unless said otherwise, after every player has had a chunk.
const TIME: Duration = Duration::from_secs(16);
/// Among waiting players two runs of one server differ by a tenth.
const ROUNDS: usize = 3;

/// All players.
pub fn load(target: &Target) -> Vec<Group> {
    vec![Group {
        address: target.address,
        connections: PLAYERS,
        pace: Pace::Player(Habits { chunk: chunk(), seek: SEEK }),
        order: Order::InTurn,
        requests: objects::LONG.ranges(target, CHUNK),
        sampled: true,
    }]
}

fn chunk() -> Duration {
    Duration::from_secs_f64(CHUNK as f64 / BYTES_PER_SECOND)
}

/// What players saw, and what they cost.
struct Seen {
    cpu_per_gigabyte: f64,
    dry: f64,
    /// p50 and p95.
    first_bytes: [f64; 2],
    kib_per_player: f64,
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let direct = play(section, bench, &bench.origin, tally)?;
    let seen = alternately(
        ROUNDS,
        || bench.pair(section),
        |server| {
            if section.cached {
                fill(&server.target, tally)?;
            }
            let before = bench.origin.asked()?;
            let seen = play(section, bench, server, tally)?;
            if section.cached {
                bench.check_kept([bench.origin.asked()? - before])?;
            }
            Ok(seen)
        },
    )?;
    let kept = if section.cached { ", cached" } else { "" };
    let row = |figure: &str, unit, value: &dyn Fn(&Seen) -> f64, budget| {
        let rounds: Vec<[f64; 2]> = seen.iter().map(|both| both.each_ref().map(value)).collect();
        Row::new(format!("{figure}, {PLAYERS} players{kept}"), unit, &rounds, budget)
    };
    let [p50, p95] = direct.first_bytes;
    Ok(vec![
        row("CPU per GB", "CPU-s/GB", &|seen| seen.cpu_per_gigabyte, Budget::Ratio(1.2)),
        row("ran dry", "", &|seen| seen.dry, Budget::Value(0.0)),
        row("added first byte p50", "ms", &|seen| seen.first_bytes[0] - p50, Budget::None),
        row("added first byte p95", "ms", &|seen| seen.first_bytes[1] - p95, Budget::Value(1.0)),
        row("memory of each", "KiB", &|seen| seen.kib_per_player, Budget::Value(32.0)),
    ])
}

fn play(section: &Section, bench: &Bench, server: &Server, tally: &mut Tally) -> Result<Seen> {
    // What every server allocates once is not the players'.
    drop(warm(cpu::ranges(&server.target), tally)?);
    let memory = server.process.resident_kib()?;
    let mut fleet = Fleet::connect((section.load)(&server.target))?;
    let begun = fleet.run(chunk() + Duration::from_secs(1))?;
    let before = server.process.cpu_seconds()?;
    let mut done = fleet.run(bench.asked_window.unwrap_or(TIME))?;
    let cpu = server.process.cpu_seconds()? - before;
    let grown = server.process.resident_kib()? - memory;
    tally.add(&begun);
    tally.add(&done);
    ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
    Ok(Seen {
        cpu_per_gigabyte: cpu::per_gigabyte(cpu, &done),
        dry: (begun.late + done.late) as f64,
        first_bytes: [0.50, 0.95].map(|share| percentile(&mut done.first_bytes, share)),
        kib_per_player: grown / PLAYERS as f64,
    })
}
