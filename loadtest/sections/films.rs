//! Films: what a segment below a grant costs against the same object by a plain route, an audience that fetches segments and
//! reports positions, and what the start of a film costs. The check of manifests is in `manifests`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::generator::Fleet;
use crate::load::{Group, Order, Pace, Request, Tally};
use crate::objects::BUCKET;
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section, positions, warm};
use crate::servers::{Server, token_of};

/// The film.
const MOVIE: &str = "b1";
/// Segments of the film, of each size.
const SEGMENTS: usize = 64;
/// Bytes of a segment: six seconds at 670 kbit/s; and of one that costs hardly more than its request.
const SEGMENT: usize = 500_000;
const SMALL_SEGMENT: usize = 1024;
/// The audience: viewers, the time between two segments of each, and between two reports.
const VIEWERS: usize = 3000;
const SEGMENT_EVERY: Duration = Duration::from_secs(6);
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// What is measured of the audience unless said otherwise.
const TIME: Duration = Duration::from_secs(60);
/// Time for which one of two ways to the same objects is measured before the other: what the machine does besides falls on both.
const TURN: Duration = Duration::from_millis(500);
/// The way of each fleet: 0 by the object route, 1 below a grant.
const FLEETS: [usize; 4] = [0, 1, 1, 0];
/// Users that start films; one may start 120 in an hour.
const STARTERS: usize = 4000;
/// Reports of each viewer before they come again.
const REPORTS: usize = 8;

pub fn measure(_section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    make_film(bench)?;
    let users = bench.yard.subscriptions()?;
    let mut rows = Vec::new();
    for (cached, name) in [(false, "uncached"), (true, "cached")] {
        for (kind, size, budget) in [("segment", SEGMENT, Budget::Ratio(1.03)), ("small", SMALL_SEGMENT, Budget::None)]
        {
            let rounds = against_objects(bench, &users, cached, (kind, size), tally)?;
            let figure = format!("films, {size} B {name}: CPU each, to the object route");
            rows.push(Row::new(figure, "µs", &rounds, budget));
        }
    }
    let folder = bench.yard.folder().join("films");
    fs::create_dir_all(&folder)?;
    let (_redis, redis) = positions::redis(&folder)?;
    let (_postgres, postgres) = positions::postgres(&folder)?;
    let storage = format!("Database: {{ Url: \"{postgres}\" }}\nState: {{ Url: \"{redis}\" }}\n");
    let server = bench.yard.films(&bench.origin, &users, &storage, true)?;
    rows.extend(audience(bench, &server, tally)?);
    rows.push(starts(bench, &server, tally)?);
    Ok(rows)
}

/// Makes the film in the origin's bucket, of bytes that nothing can make smaller.
fn make_film(bench: &Bench) -> Result<()> {
    let folder = bench.yard.folder().join("store").join(BUCKET).join("movies").join(MOVIE);
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("index.m3u8"),
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nsegment-0.ts\n#EXT-X-ENDLIST\n",
    )?;
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for (kind, size) in [("segment", SEGMENT), ("small", SMALL_SEGMENT)] {
        for number in 0..SEGMENTS {
            let mut bytes = Vec::with_capacity(size + 8);
            while bytes.len() < size {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                bytes.extend_from_slice(&random.to_le_bytes());
            }
            fs::write(folder.join(format!("{kind}-{number}.ts")), &bytes[..size])?;
        }
    }
    Ok(())
}

/// CPU of each request in µs, by the object route and below a grant, of one server in each round.
fn against_objects(
    bench: &Bench,
    users: &Server,
    cached: bool,
    (kind, size): (&str, usize),
    tally: &mut Tally,
) -> Result<Vec<[f64; 2]>> {
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds {
        let file = bench.yard.folder().join("films.db");
        let _old = fs::remove_file(&file);
        let storage = format!("Database: {{ Url: \"sqlite://{}\" }}\n", file.display());
        let server = bench.yard.films(&bench.origin, users, &storage, cached)?;
        let address = server.target.address;
        let base = start(address, &token_of("viewer")?)?;
        let file = |number: usize| format!("{kind}-{number}.ts");
        let objects: Rc<[Request]> = (0..SEGMENTS)
            .map(|number| server.target.get(&format!("movies/{MOVIE}/{}", file(number)), None, size as u64))
            .collect();
        let films: Rc<[Request]> =
            (0..SEGMENTS).map(|number| segment(&format!("{base}{}", file(number)), size)).collect();
        // In turn, so that a cache has all of them before anything is measured.
        let group = |requests| Group { order: Order::InTurn, ..closed(address, requests) };
        // Two fleets for each way, the inner ones of the same: connections that were opened later fare otherwise.
        let fleet = |requests: &Rc<[Request]>, tally: &mut Tally| warm(vec![group(Rc::clone(requests))], tally);
        let mut fleets = Vec::with_capacity(FLEETS.len());
        for way in FLEETS {
            fleets.push(fleet(if way == 0 { &objects } else { &films }, tally)?);
        }
        for fleet in &mut fleets {
            tally.add(&fleet.run(Duration::from_secs(1))?);
        }
        let (mut cpu, mut requests) = ([0.0; 2], [0; 2]);
        let asked = bench.origin.asked()?;
        for turn in 0..bench.window.div_duration_f64(TURN).ceil() as usize {
            // Which is first goes round, so that neither has the machine's better half.
            for at in 0..FLEETS.len() {
                let at = (turn + at) % FLEETS.len();
                let before = server.process.cpu_seconds()?;
                let done = fleets[at].run(TURN)?;
                cpu[FLEETS[at]] += server.process.cpu_seconds()? - before;
                requests[FLEETS[at]] += done.requests;
                tally.add(&done);
                ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
            }
        }
        if cached {
            bench.check_kept([bench.origin.asked()? - asked])?;
        }
        let both = [0, 1].map(|way| cpu[way] * 1e6 / requests[way] as f64);
        rounds.push(both);
    }
    Ok(rounds)
}

fn closed(address: SocketAddr, requests: Rc<[Request]>) -> Group {
    Group { address, connections: 32, pace: Pace::Closed, order: Order::Random, requests, sampled: false }
}

/// Viewers that each fetch a segment every six seconds and report every ten.
fn audience(bench: &Bench, server: &Server, tally: &mut Tally) -> Result<Vec<Row>> {
    let address = server.target.address;
    let viewers = ((VIEWERS as f64 * bench.scale) as usize).max(1);
    let mut sessions = Vec::with_capacity(viewers);
    for number in 0..viewers {
        let token = token_of(&format!("viewer-{number}"))?;
        sessions.push((start(address, &token)?, token));
    }
    // Dealt by viewer: the nth, and each `viewers` after it, is one viewer's.
    let segments: Rc<[Request]> = (0..SEGMENTS.min(10))
        .flat_map(|number| {
            sessions.iter().map(move |(base, _)| segment(&format!("{base}segment-{number}.ts"), SEGMENT))
        })
        .collect();
    let length = ask(address, &report(&sessions[0].1, 0))?.len() as u64;
    let reports: Rc<[Request]> = (0..REPORTS)
        .flat_map(|number| {
            let request = move |(_, token): &(String, String)| Request {
                text: report(token, number).into_bytes(),
                status: b"200",
                length,
            };
            sessions.iter().map(request)
        })
        .collect();
    let group = |pace, requests, sampled| {
        let (connections, order) = (viewers, Order::Dealt);
        Group { address, connections, pace: Pace::Every(pace), order, requests, sampled }
    };
    let mut fleet = Fleet::connect(vec![group(SEGMENT_EVERY, segments, false), group(REPORT_EVERY, reports, true)])?;
    // Until every viewer has had a segment.
    let begun = fleet.run(SEGMENT_EVERY)?;
    let (time, before) = (bench.asked_window.unwrap_or(TIME), server.process.cpu_seconds()?);
    let mut done = fleet.run(time)?;
    let cpu = server.process.cpu_seconds()? - before;
    tally.add(&begun);
    tally.add(&done);
    ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
    let row = |figure: &str, value, budget| Row::alone(format!("films, {viewers} viewers: {figure}"), value, budget);
    Ok(vec![
        row("late segments", (begun.late + done.late) as f64, Budget::Value(0.0)),
        row("p99 of a report, ms", percentile(&mut done.first_bytes, 0.99), Budget::Value(20.0)),
        row("CPU of Tidegate, cores", cpu / time.as_secs_f64(), Budget::None),
    ])
}

/// CPU of the start of a film by a user whose subscription is known.
fn starts(bench: &Bench, server: &Server, tally: &mut Tally) -> Result<Row> {
    let address = server.target.address;
    let length = ask(address, &start_request(&token_of("starter-0")?, CLOSE))?.len() as u64;
    let mut requests = Vec::with_capacity(STARTERS);
    for number in 0..((STARTERS as f64 * bench.scale) as usize).max(64) {
        let text = start_request(&token_of(&format!("starter-{number}"))?, "");
        requests.push(Request { text: text.into_bytes(), status: b"200", length });
    }
    // Once for each: then its subscription is known.
    let requests: Rc<[Request]> = requests.into();
    let group = Group { order: Order::InTurn, ..closed(address, requests) };
    let mut fleet = Fleet::connect(vec![Group { connections: 16, ..group }])?;
    tally.add(&fleet.run(Duration::from_secs(3))?);
    let before = server.process.cpu_seconds()?;
    let done = fleet.run(bench.window)?;
    let cpu = server.process.cpu_seconds()? - before;
    tally.add(&done);
    ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
    Ok(Row::alone("films: CPU of a start, ms", cpu * 1e3 / done.requests as f64, Budget::Value(1.0)))
}

/// A GET of a segment below a grant.
fn segment(path: &str, size: usize) -> Request {
    let text = format!("GET {path} HTTP/1.1\r\nHost: media.example\r\nUser-Agent: loadtest\r\nAccept: */*\r\n\r\n");
    Request { text: text.into_bytes(), status: b"200", length: size as u64 }
}

/// Header of a request whose answer is read to the connection's end.
const CLOSE: &str = "Connection: close\r\n";

fn post(path: &str, token: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /api/v1/stream/{MOVIE}{path} HTTP/1.1\r\nHost: media.example\r\nUser-Agent: loadtest\r\n{headers}\
         Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn start_request(token: &str, headers: &str) -> String {
    post("", token, headers, "{\"manifest_type\":\"hls\"}")
}

/// A report, the `number`th of its viewer; all are as long.
fn report(token: &str, number: usize) -> String {
    let body = format!("{{\"position_seconds\":{}}}", 1000 + 10 * number);
    post("/progress", token, "", &body)
}

/// Starts the film; returns the path of its folder below the grant.
fn start(address: SocketAddr, token: &str) -> Result<String> {
    let body = ask(address, &start_request(token, CLOSE))?;
    let body: serde_json::Value = serde_json::from_str(&body).context("the answer to a start")?;
    let url = body["manifest_url"].as_str().context("the answer to a start has no `manifest_url`")?;
    let path = url.find("/v/").map(|at| &url[at..]).context("a URL without a grant")?;
    Ok(path.trim_end_matches("index.m3u8").to_owned())
}

/// Sends a request on a connection of its own; returns the body of the answer, which must be a 200.
fn ask(address: SocketAddr, request: &str) -> Result<String> {
    let request = if request.contains(CLOSE) {
        request.to_owned()
    } else {
        request.replacen("Host:", &format!("{CLOSE}Host:"), 1)
    };
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{}: {body}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}
