//! Positions reported by players over keep-alive connections, at a fixed rate, with Redis and PostgreSQL on the same
//! machine; and with a file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::{Group, Order, Pace, Request, Tally};
use crate::process::{self, Process};
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section, warm};
use crate::servers::Target;

const RATE: u32 = 8000;
const CONNECTIONS: u32 = 128;
const TRACKS: usize = 4000;
/// Unless said otherwise.
const TIME: Duration = Duration::from_secs(60);

/// Reports at [`RATE`], whatever the answers do.
pub fn load(target: &Target) -> Vec<Group> {
    let request = |track: usize| {
        let body = format!("{{\"positionMs\":{},\"durationMs\":3600000}}", track * 700);
        let text = format!(
            "POST /api/v1/tracks/track-{track}/position HTTP/1.1\r\nHost: media.example\r\nUser-Agent: loadtest\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            target.token(),
            body.len()
        );
        Request { text: text.into_bytes(), status: b"204", length: 0 }
    };
    vec![Group {
        address: target.address,
        connections: CONNECTIONS as usize,
        pace: Pace::Every(Duration::from_secs(1) * CONNECTIONS / RATE),
        order: Order::Random,
        requests: (0..TRACKS).map(request).collect(),
        sampled: true,
    }]
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let folder = bench.yard.folder().join("positions");
    fs::create_dir_all(&folder)?;
    let (_redis, redis) = redis(&folder)?;
    let (_postgres, postgres) = postgres(&folder)?;
    let file = format!("sqlite://{}", folder.join("positions.db").display());
    let mut rows = Vec::new();
    for (name, database, redis) in [("PostgreSQL and Redis", postgres, Some(redis)), ("a file", file, None)] {
        let server = bench.yard.keeping(&bench.origin, &database, redis.as_deref())?;
        let mut fleet = warm((section.load)(&server.target), tally)?;
        let (time, before) = (bench.asked_window.unwrap_or(TIME), server.process.cpu_seconds()?);
        let mut done = fleet.run(time)?;
        let cpu = server.process.cpu_seconds()? - before;
        tally.add(&done);
        ensure!(done.requests > 0, "nothing was answered: {:?}", done.first_error);
        let p99 = percentile(&mut done.first_bytes, 0.99);
        let rate = done.requests as f64 / time.as_secs_f64();
        rows.push(Row::alone(format!("positions, {name}: kept a second (of {RATE})"), rate, Budget::None));
        rows.push(Row::alone(format!("positions, {name}: p99, ms"), p99, Budget::Value(10.0)));
        let each = cpu * 1e6 / done.requests as f64;
        rows.push(Row::alone(format!("positions, {name}: CPU of Tidegate each, µs"), each, Budget::None));
    }
    Ok(rows)
}

/// A Redis with an append-only file, and its address.
pub fn redis(folder: &Path) -> Result<(Process, String)> {
    let address = process::free_address()?;
    let (port, folder) = (address.port().to_string(), folder.display().to_string());
    let command =
        ["redis-server", "--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "yes", "--dir", &folder];
    let process = Process::start("redis", &command.map(str::to_owned), &[])?;
    process.wait_for(address)?;
    Ok((process, format!("redis://{address}")))
}

/// With its own settings: a commit is on the disk when it is acknowledged.
pub fn postgres(folder: &Path) -> Result<(Process, String)> {
    let (address, data) = (process::free_address()?, folder.join("postgres"));
    let _old = fs::remove_dir_all(&data);
    fs::create_dir_all(&data)?;
    let root = fs::metadata("/proc/self")?.uid() == 0;
    if root {
        ensure!(Command::new("chown").arg("postgres").arg(&data).status()?.success(), "chown postgres failed");
    }
    // PostgreSQL refuses to run as root.
    let other: &[&str] =
        if root { &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] } else { &[] };
    let data = data.display().to_string();
    let command = |name: &str, arguments: &[&str]| -> Result<Vec<String>> {
        let program = program(name)?.display().to_string();
        let own = [program.as_str(), "-D", &data];
        Ok([other, &own, arguments].concat().into_iter().map(str::to_owned).collect())
    };
    let make = command("initdb", &["--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "loadtest"])?;
    ensure!(Command::new(&make[0]).args(&make[1..]).output()?.status.success(), "initdb failed");
    let port = address.port().to_string();
    let settings = [
        "-p",
        &port,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
        "-c",
        "log_min_messages=fatal",
    ];
    let process = Process::start("postgres", &command("postgres", &settings)?, &[])?;
    process.wait_for(address)?;
    Ok((process, format!("postgres://loadtest@{address}/postgres")))
}

/// In `PATH`, or where Debian keeps it.
#[expect(clippy::disallowed_methods, reason = "the load test's own way to find a program")]
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let mut folders = std::env::split_paths(&path).chain(debian);
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()));
    found.with_context(|| format!("{name} is needed (apt-get install postgresql)"))
}
