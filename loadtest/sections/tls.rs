//! TLS 1.3: CPU per gigabyte of 256 KiB ranges and per handshake, by h2load and OpenSSL's own client; and what everything
//! that a listener can have costs a small request.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::load::Tally;
use crate::objects;
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section, cpu};
use crate::servers::Server;

const CONNECTIONS: &str = "32";

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let start = || bench.yard.tls_pair(&bench.origin);
    let ranges = bench.rounds(start, |server| ranges(bench, server, tally))?;
    let handshakes = bench.rounds(start, |server| handshakes(bench, server))?;
    let everything = bench.rounds(
        || bench.yard.plain_and_everything(&bench.origin),
        |server| {
            let (cpu, done) = cpu::run(section, bench, server, tally)?;
            Ok(cpu * 1e6 / done.requests as f64)
        },
    )?;
    let figure = "CPU per request, 1 KiB, a listener with everything on; left: with nothing";
    Ok(vec![
        Row::new("CPU per GB, 256 KiB ranges, TLS 1.3, HTTP/1.1", "CPU-s/GB", &ranges, Budget::Ratio(0.6)),
        Row::new("CPU per TLS 1.3 handshake", "µs", &handshakes, Budget::Ratio(1.0)),
        Row::new(figure, "µs", &everything, Budget::Ratio(1.02)),
    ])
}

/// CPU seconds per gigabyte, with as many connections as can be busy.
fn ranges(bench: &Bench, server: &Server, tally: &mut Tally) -> Result<f64> {
    let seconds = bench.window.as_secs().max(1).to_string();
    let url = format!("https://{}/stream/{}", server.target.address, objects::LONG.key(0));
    let authorization = format!("authorization: Bearer {}", server.target.token());
    let range = format!("range: bytes={}-{}", cpu::RANGE, 2 * cpu::RANGE - 1);
    let before = server.process.cpu_seconds()?;
    let arguments = ["--h1", "-t", "1", "-c", CONNECTIONS, "-D", &seconds, "-H", &authorization, "-H", &range, &url];
    let output = Command::new("h2load").args(arguments).output().context("h2load (apt-get install nghttp2-client)")?;
    let cpu = server.process.cpu_seconds()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("TLS Protocol: TLSv1.3"), "no TLS 1.3:\n{text}");
    let requests = number(&text, "status codes: ")?;
    ensure!(requests > 0 && text.contains("2xx, 0 3xx, 0 4xx, 0 5xx"), "not all were answered by 2xx:\n{text}");
    tally.requests += requests;
    Ok(cpu * 1e9 / (requests * cpu::RANGE) as f64)
}

/// CPU microseconds per handshake without a ticket.
fn handshakes(bench: &Bench, server: &Server) -> Result<f64> {
    let seconds = bench.window.as_secs().max(1).to_string();
    let before = server.process.cpu_seconds()?;
    let arguments = ["s_time", "-connect", &server.target.address.to_string(), "-new", "-tls1_3", "-time", &seconds];
    let output = Command::new("openssl").args(arguments).output().context("openssl")?;
    let cpu = server.process.cpu_seconds()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let made = number(&text, " connections in ")?;
    ensure!(made > 100, "too few handshakes:\n{text}");
    Ok(cpu * 1e6 / made as f64)
}

/// The whole number before or after `mark`.
fn number(text: &str, mark: &str) -> Result<u64> {
    let Some((before, after)) = text.split_once(mark) else { bail!("no {mark:?} in:\n{text}") };
    let digits = |word: Option<&str>| word.and_then(|word| word.parse().ok());
    let found = digits(after.split_whitespace().next()).or_else(|| digits(before.split_whitespace().last()));
    found.with_context(|| format!("no number at {mark:?} in:\n{text}"))
}
