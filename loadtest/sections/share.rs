//! The share relay: the document's three scenarios with clients that poll; thousands of listeners that are pushed to; as
//! many sessions as listeners.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::load::{Group, Tally};
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section};
use crate::servers::{Server, Target};
use crate::share::{self, Document, Heard, Pushed, Relay};
use primitives::clock::monotonic_now;

/// Sessions and listeners of each in the document's scenarios.
const SCENARIOS: [(u32, u32); 3] = [(10, 1), (5, 10), (50, 5)];
/// What is measured of each scenario unless said otherwise.
const TIME: Duration = Duration::from_secs(60);
/// Until everybody is there and plays.
const LEAD: Duration = Duration::from_secs(3);

/// For all listeners of pushed audio to connect.
const JOINING: Duration = Duration::from_secs(60);

/// Nothing that could be kept up by itself: `--profile` has no relay.
pub fn load(_: &Target) -> Vec<Group> {
    Vec::new()
}

pub fn measure_polled(_: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (sessions, listeners) in SCENARIOS {
        let server = bench.yard.sharing(&bench.origin, "MaxSessions: 50")?;
        let (mut heard, cores) = runtime()?.block_on(polled(bench, &server, sessions, listeners))?;
        heard.count(tally);
        let row = |figure: &str, value, budget| {
            Row::alone(format!("share, {sessions} × {listeners} polling: {figure}"), value, budget)
        };
        rows.push(row("p99 of a request, ms", percentile(&mut heard.delays, 0.99), Budget::Value(50.0)));
        rows.push(row("cores", cores, if sessions == 50 { Budget::Value(1.2) } else { Budget::None }));
        rows.extend(faults(&heard, |figure, value| row(figure, value, Budget::Value(0.0))));
    }
    Ok(rows)
}

async fn polled(bench: &Bench, server: &Server, sessions: u32, listeners: u32) -> Result<(Heard, f64)> {
    let relay = relay(server);
    let (time, mut tasks) = (bench.asked_window.unwrap_or(TIME), JoinSet::new());
    let document = Document::new(relay.clone(), monotonic_now() + LEAD + time);
    for id in 0..sessions {
        share::start(&relay, id).await?;
        tasks.spawn(document.clone().host(id, f64::from(id) / f64::from(sessions)));
    }
    tokio::time::sleep(LEAD / 2).await;
    for number in 0..sessions * listeners {
        let share = f64::from(number) / f64::from(sessions * listeners);
        tasks.spawn(document.clone().listener(number % sessions, share));
    }
    tokio::time::sleep(LEAD / 2).await;
    let before = server.process.cpu_seconds()?;
    tokio::time::sleep(time.mul_f64(0.9)).await;
    let cores = (server.process.cpu_seconds()? - before) / time.mul_f64(0.9).as_secs_f64();
    Ok((share::all(tasks).await?, cores))
}

/// 8,000 listeners of 80 sessions, twice a second.
pub fn measure_pushed(_: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    pushed(bench, tally, (80, 100), "MaxSessions: 80, Cadence: 500ms", Some((0.4, 16.0)))
}

/// 1,000 sessions with one listener each.
pub fn measure_sessions(_: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    pushed(bench, tally, (1000, 1), "MaxSessions: 1000", None)
}

fn pushed(
    bench: &Bench,
    tally: &mut Tally,
    (sessions, listeners): (u32, u32),
    settings: &str,
    budgets: Option<(f64, f64)>,
) -> Result<Vec<Row>> {
    let server = bench.yard.sharing(&bench.origin, settings)?;
    let (mut heard, cores, each) = runtime()?.block_on(push(bench, &server, sessions, listeners))?;
    heard.count(tally);
    let row = |figure: &str, value, budget| {
        Row::alone(format!("share, {sessions} × {listeners} pushed: {figure}"), value, budget)
    };
    let budget = |budget: Option<f64>| budget.map_or(Budget::None, Budget::Value);
    let mut rows = vec![
        row("cores", cores, budget(budgets.map(|budgets| budgets.0))),
        row("memory of a listener, KiB", each, budget(budgets.map(|budgets| budgets.1))),
        row("p99 of the delay, ms", percentile(&mut heard.delays, 0.99), Budget::Value(1000.0)),
    ];
    rows.extend(faults(&heard, |figure, value| row(figure, value, Budget::Value(0.0))));
    Ok(rows)
}

async fn push(bench: &Bench, server: &Server, sessions: u32, listeners: u32) -> Result<(Heard, f64, f64)> {
    let relay = relay(server);
    let time = bench.asked_window.unwrap_or(TIME);
    // Who has joined listens at once, so that nobody falls behind while the others connect.
    let from = monotonic_now() + JOINING;
    let end = from + time;
    let hosts = Pushed { relay: relay.clone(), end: end + LEAD };
    let mut hosting = JoinSet::new();
    for id in 0..sessions {
        share::start(&relay, id).await?;
        hosting.spawn(hosts.clone().host(id, f64::from(id) / f64::from(sessions)));
    }
    tokio::time::sleep(LEAD / 2).await;
    let memory = server.process.resident_kib()?;
    let mut listening = JoinSet::new();
    for number in 0..sessions * listeners {
        listening.spawn(hosts.join(number % sessions).await?.listen(from, end));
    }
    ensure!(monotonic_now() < from, "the listeners took too long to connect");
    tokio::time::sleep_until(from.into()).await;
    let before = server.process.cpu_seconds()?;
    tokio::time::sleep(time.mul_f64(0.9)).await;
    let cores = (server.process.cpu_seconds()? - before) / time.mul_f64(0.9).as_secs_f64();
    let each = (server.process.resident_kib()? - memory) / f64::from(sessions * listeners);
    let heard = share::all(listening).await?;
    while let Some(host) = hosting.try_join_next() {
        // None may have ended before its listeners.
        host??;
    }
    Ok((heard, cores, each))
}

fn faults(heard: &Heard, row: impl Fn(&str, f64) -> Row) -> [Row; 3] {
    [
        row("gaps", heard.gaps as f64),
        row("wrong samples", heard.wrong as f64),
        row("refused or broken", heard.errors as f64),
    ]
}

fn relay(server: &Server) -> Relay {
    Relay { address: server.target.address, token: crate::servers::SHARE_TOKEN.into() }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}
