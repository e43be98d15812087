//! Reloads of a thousand routes, and of an address that comes and goes, among a thousand players and two hundred WebSockets:
//! how long one takes, what the clients see of it, and whether it leaves memory behind.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Tally};
use crate::objects;
use crate::play::Habits;
use crate::process;
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section};
use crate::servers::{LISTENER, Target};
use crate::web_sockets::WebSockets;
use primitives::clock::monotonic_now;

const PLAYERS: usize = 1000;
const WEB_SOCKETS: usize = 200;
const ROUTES: usize = 1000;
const CHUNK: u64 = 128 << 10;
/// Time in which a player plays a chunk: 128 kbit/s, sixteen times as fast.
const CHUNK_TIME: Duration = Duration::from_millis(500);
/// Reloads while the players play, and the time between two.
const RELOADS: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// Reloads until memory is looked at again.
const MANY: usize = 1000;

/// All players.
pub fn load(target: &Target) -> Vec<Group> {
    vec![Group {
        address: target.address,
        connections: PLAYERS,
        pace: Pace::Player(Habits { chunk: CHUNK_TIME, seek: Duration::from_secs(10) }),
        order: Order::InTurn,
        requests: objects::LONG.ranges(target, CHUNK),
        sampled: true,
    }]
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let (admin, second) = (process::free_address()?, process::free_address()?);
    let mut sockets = WebSockets::new()?;
    let server = bench.yard.reloading(&bench.origin, [admin, sockets.upstream], ROUTES)?;
    let file = server.configuration();
    let text = fs::read_to_string(&file)?;
    let more = format!("{LISTENER}, {{ Address: \"{second}\" }}");
    let texts = [text.clone(), text.replace("r999/", "r1000/").replace(LISTENER, &more)];
    let reload = move |number: usize| -> Result<Duration> {
        // As a file that was written before and is moved into place: one that was just written to is waited for.
        fs::write(&file, &texts[number % 2])?;
        let written = fs::File::options().write(true).open(&file)?;
        written.set_modified(written.metadata()?.modified()? - Duration::from_secs(1))?;
        let began = monotonic_now();
        post(admin, "/reload")?;
        Ok(began.elapsed())
    };
    let mut fleet = Fleet::connect((section.load)(&server.target))?;
    sockets.open(WEB_SOCKETS, server.target.address, "/echo")?;
    tally.add(&fleet.run(Duration::from_secs(2))?);
    let time = RELOADS as u32 * PAUSE * 2;
    let mut quiet = fleet.run(time)?;
    let (mut busy, reloads) = thread::scope(|scope| -> Result<(Tally, Result<Vec<Duration>>)> {
        let reloads =
            scope.spawn(|| (0..RELOADS).map(|number| reload(number + 1).inspect(|_| thread::sleep(PAUSE))).collect());
        let busy = fleet.run(time)?;
        let Ok(reloads) = reloads.join() else { bail!("the reloads panicked") };
        Ok((busy, reloads))
    })?;
    let mut reloads = reloads?;
    tally.add(&quiet);
    tally.add(&busy);
    drop(fleet);
    let mut seen = sockets.close();
    tally.requests += seen.messages;
    seen.cut.iter().for_each(|how| tally.error(format!("a WebSocket was cut: {how}")));
    let before = server.process.resident_kib()?;
    for number in 0..MANY {
        reload(number + 1)?;
    }
    let grown = server.process.resident_kib()? / before;
    let late = |tally: &mut Tally, share| percentile(&mut tally.first_bytes, share);
    let added = |share, quiet: &mut Tally, busy: &mut Tally| late(busy, share) - late(quiet, share);
    Ok(vec![
        Row::alone(format!("reload of {ROUTES} routes p50, ms"), percentile(&mut reloads, 0.5), Budget::Value(200.0)),
        Row::alone(format!("reload of {ROUTES} routes p95, ms"), percentile(&mut reloads, 0.95), Budget::Value(200.0)),
        Row::alone(
            format!("first byte p99 that {RELOADS} reloads add for {PLAYERS} players, ms"),
            added(0.99, &mut quiet, &mut busy),
            Budget::Value(20.0),
        ),
        Row::alone("first byte p99 without reloads, ms", late(&mut quiet, 0.99), Budget::None),
        Row::alone("players that ran dry during reloads", (busy.late + busy.errors) as f64, Budget::Value(0.0)),
        Row::alone(
            format!("WebSockets of {WEB_SOCKETS} cut during reloads"),
            seen.cut.len() as f64,
            Budget::Value(0.0),
        ),
        Row::alone("message and its echo p99, ms", percentile(&mut seen.delays, 0.99), Budget::None),
        Row::alone(format!("memory after {MANY} reloads, to before"), grown, Budget::Value(1.05)),
    ])
}

/// Sends a POST without a body; fails where the answer is not 200.
fn post(address: SocketAddr, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "POST {path}: {answer}");
    Ok(())
}
