//! Playback events reported by players over keep-alive connections: one in a request at a fixed rate, and as many lists as are
//! taken; delivered to a file meanwhile, and waiting for a broker that is away.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Request, Tally};
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section, warm};
use crate::servers::Target;
use primitives::clock::monotonic_now;

const RATE: u32 = 5000;
const CONNECTIONS: u32 = 128;
const TRACKS: usize = 4000;
/// Unless said otherwise.
const TIME: Duration = Duration::from_secs(30);
/// For everything that was taken to be in the file.
const DELIVERY: Duration = Duration::from_secs(60);
/// Events in a list, and who sends them one after the other.
const LIST: usize = 100;
const SENDERS: usize = 8;

/// Reports at [`RATE`], whatever the answers do.
pub fn load(target: &Target) -> Vec<Group> {
    let request = |track: usize| post(target, track, &event(track), 1);
    vec![Group {
        address: target.address,
        connections: CONNECTIONS as usize,
        pace: Pace::Every(Duration::from_secs(1) * CONNECTIONS / RATE),
        order: Order::Random,
        requests: (0..TRACKS).map(request).collect(),
        sampled: true,
    }]
}

/// Lists, the next one when the last is taken.
fn lists(target: &Target) -> Vec<Group> {
    let request = |track: usize| {
        let events: Vec<String> = (0..LIST).map(|number| event(track + number)).collect();
        post(target, track, &format!("[{}]", events.join(",")), LIST)
    };
    vec![Group {
        address: target.address,
        connections: SENDERS,
        pace: Pace::Closed,
        order: Order::Random,
        requests: (0..TRACKS / LIST).map(request).collect(),
        sampled: false,
    }]
}

fn event(number: usize) -> String {
    format!("{{\"action\":\"Seek\",\"positionMs\":{}}}", number * 700)
}

fn post(target: &Target, track: usize, body: &str, events: usize) -> Request {
    let text = format!(
        "POST /api/v1/tracks/track-{track}/events HTTP/1.1\r\nHost: media.example\r\nUser-Agent: loadtest\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        target.token(),
        body.len()
    );
    let answer = format!("{{\"accepted\":{events},\"duplicates\":0}}");
    Request { text: text.into_bytes(), status: b"202", length: answer.len() as u64 }
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let folder = bench.yard.folder().join("events");
    let _old = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let file = folder.join("events.jsonl");
    let to_file = format!("File: \"{}\", Rotation: {{ Size: 64GiB }}", file.display());
    // Nobody listens there.
    let away = "Kafka: { Brokers: [\"127.0.0.1:1\"] }".to_owned();
    let mut rows = Vec::new();
    for (name, sink) in [("a file", to_file), ("a broker that is away", away)] {
        let outbox = folder.join(if sink.starts_with("File") { "delivered" } else { "waiting" });
        let outbox = format!("Outbox: {{ Path: \"{}\", Size: 8GiB }}", outbox.display());
        let server = bench.yard.publishing(&bench.origin, &format!("{sink}, {outbox}"))?;
        let before = tally.requests;
        let mut fleet = warm((section.load)(&server.target), tally)?;
        let (time, cpu) = (bench.asked_window.unwrap_or(TIME), server.process.cpu_seconds()?);
        let mut done = fleet.run(time)?;
        let cpu = server.process.cpu_seconds()? - cpu;
        tally.add(&done);
        let mut events = tally.requests - before;
        ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
        let p99 = percentile(&mut done.first_bytes, 0.99);
        let rate = done.requests as f64 / time.as_secs_f64();
        rows.push(Row::alone(format!("events, {name}: kept a second (of {RATE})"), rate, Budget::None));
        rows.push(Row::alone(format!("events, {name}: p99, ms"), p99, Budget::Value(20.0)));
        let each = cpu * 1e6 / done.requests as f64;
        rows.push(Row::alone(format!("events, {name}: CPU of Tidegate each, µs"), each, Budget::None));
        let mut fleet = Fleet::connect(lists(&server.target))?;
        let done = fleet.run(time)?;
        tally.add(&done);
        events += done.requests * LIST as u64;
        let rate = (done.requests * LIST as u64) as f64 / time.as_secs_f64();
        rows.push(Row::alone(format!("events, {name}, in lists of {LIST}: kept a second"), rate, Budget::None));
        if sink.starts_with("File") {
            let late = delivered(&file, events)?.as_secs_f64() * 1e3;
            rows.push(Row::alone(format!("events, {name}: all delivered after the last, ms"), late, Budget::None));
        }
    }
    Ok(rows)
}

/// How long it takes until the file has so many lines.
fn delivered(file: &Path, count: u64) -> Result<Duration> {
    let begun = monotonic_now();
    let (mut file, mut buffer, mut lines) = (fs::File::open(file)?, vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer)?;
        lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
        if lines >= count {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < DELIVERY, "{lines} of {count} events were delivered");
        if read == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
