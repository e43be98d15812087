//! Ordinary players while others attack: slow heads, bodies and readers, HTTP/2 floods, pipelining, and thousands of idle
//! connections. What is compared is Tidegate with itself, quiet and under attack.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::attackers::{self, Attackers, Started, Victim};
use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::play::Habits;
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section, cpu, warm};
use crate::servers::{Server, Target};
use primitives::clock::monotonic_now;

/// Players of 320 kbit/s that fetch 128 KiB at a time and jump about, and players that only seek.
const PLAYING: usize = 40;
const SEEKING: usize = 10;
const CHUNK: u64 = 128 << 10;
const BYTES_PER_SECOND: f64 = 40_000.0;
/// Idle connections of HTTP/1.1 and of HTTP/2.
const IDLE: [f64; 2] = [8000.0, 2000.0];
/// What is measured of each state in a round unless said otherwise.
const TIME: Duration = Duration::from_secs(10);
/// Time for the attackers to be there, all of them.
const RUN_IN: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

/// The fifty.
pub fn load(target: &Target) -> Vec<Group> {
    let chunk = Duration::from_secs_f64(CHUNK as f64 / BYTES_PER_SECOND);
    let group = |connections, pace, order, range| Group {
        address: target.address,
        connections,
        pace,
        order,
        requests: objects::LONG.ranges(target, range),
        sampled: true,
    };
    let playing = Pace::Player(Habits { chunk, seek: Duration::from_secs(10) });
    vec![
        group(PLAYING, playing, Order::InTurn, CHUNK),
        group(SEEKING, Pace::Every(Duration::from_millis(100)), Order::Random, 256 << 10),
    ]
}

/// What the players saw, in milliseconds: p95 of the first byte, on their connections and on new ones.
struct Seen {
    p95: f64,
    new: f64,
    /// Players that were cut, or ran dry.
    harmed: f64,
}

/// What one round brought.
struct Round {
    quiet: Seen,
    attacked: Seen,
    /// KiB of each idle connection, of HTTP/1.1 and HTTP/2.
    idle: [f64; 2],
    connections: [u64; 2],
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let rounds = (0..ROUNDS).map(|_| round(section, bench, tally)).collect::<Result<Vec<Round>>>()?;
    let compared = |figure: &str, value: fn(&Seen) -> f64| {
        let values: Vec<[f64; 2]> = rounds.iter().map(|round| [&round.quiet, &round.attacked].map(value)).collect();
        Row::new(format!("{figure} under attack; left: quiet"), "ms", &values, Budget::Ratio(2.0))
    };
    let count = IDLE.map(|count| scaled(count, bench));
    let most = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
    let idle = |nth: usize, name: &str, budget| {
        let figure = format!("KiB of an idle connection of {name}, {} of them", count[nth]);
        Row::alone(figure, most(&|round| round.idle[nth]), budget)
    };
    Ok(vec![
        compared("first byte p95, 50 players", |seen| seen.p95),
        compared("first byte p95 of new connections", |seen| seen.new),
        Row::alone("players cut or dry under attack", most(&|round| round.attacked.harmed), Budget::Value(0.0)),
        idle(0, "HTTP/1.1", Budget::Value(16.0)),
        // The h2 library keeps buffers of 28 KiB for each connection, whatever it does.
        idle(1, "HTTP/2", Budget::None),
        Row::alone("connections of attackers", most(&|round| round.connections[0] as f64), Budget::None),
        Row::alone("of these ended by the server", most(&|round| round.connections[1] as f64), Budget::None),
    ])
}

fn scaled(count: f64, bench: &Bench) -> usize {
    ((count * bench.scale).ceil() as usize).max(1)
}

fn round(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Round> {
    let server = bench.yard.attacked(&bench.origin)?;
    let victim = Victim {
        address: server.target.address,
        path: format!("/stream/{}", objects::LONG.key(0)).into(),
        token: server.target.token().into(),
    };
    // What every server allocates once is nobody's.
    drop(warm(cpu::ranges(&server.target), tally)?);
    let quiet = play(section, bench, &server, &victim, tally)?;
    let mut kept = Vec::new();
    let mut idle = [0.0; 2];
    for (nth, count) in IDLE.into_iter().enumerate() {
        let (before, count) = (server.process.resident_kib()?, scaled(count, bench));
        kept.extend(attackers::open_idle(&victim, count, nth == 1)?);
        idle[nth] = (server.process.resident_kib()? - before) / count as f64;
    }
    let attackers = Attackers::start(&victim, bench.scale)?;
    thread::sleep(RUN_IN);
    let attacked = play(section, bench, &server, &victim, tally)?;
    let connections = attackers.connections();
    drop(attackers);
    ensure!(connections[0] > 0, "nobody attacked");
    Ok(Round { quiet, attacked, idle, connections })
}

fn play(section: &Section, bench: &Bench, server: &Server, victim: &Victim, tally: &mut Tally) -> Result<Seen> {
    let time = bench.asked_window.unwrap_or(TIME);
    let runtime = attackers::thread("starters")?;
    let mut fleet = warm((section.load)(&server.target), tally)?;
    let starting = runtime.spawn(attackers::start_players(victim.clone(), monotonic_now() + time));
    let mut done = fleet.run(time)?;
    let Started { mut first_bytes, errors } = runtime.block_on(starting)?;
    for error in &errors {
        done.error(format!("a new connection: {error}"));
    }
    tally.add(&done);
    let harmed = (done.errors + done.late) as f64;
    Ok(Seen { p95: percentile(&mut done.first_bytes, 0.95), new: percentile(&mut first_bytes, 0.95), harmed })
}
