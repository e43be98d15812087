//! Upgrades among players and a loop of requests: nobody may be refused, and no stream cut.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::load::{Group, Tally};
use crate::objects;
use crate::player::{Outcome, Player, Wish};
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section};
use crate::servers::{Server, Target};
use primitives::clock::monotonic_now;

const PLAYERS: usize = 200;
const UPGRADES: usize = 10;
/// Bytes of a track that a player plays before it connects anew: about three seconds.
const PIECE: usize = 512 << 10;
/// Requests of a run of `h2load`, which counts those that were refused or cut, and its connections.
const RUN: [&str; 4] = ["-n", "2000", "-c", "10"];

/// Nothing that could be kept up by itself: players of `--profile` do not come back.
pub fn load(_: &Target) -> Vec<Group> {
    Vec::new()
}

/// What the clients have seen.
#[derive(Default)]
struct Heard {
    whole: u64,
    requests: u64,
    faults: Vec<String>,
}

/// The process that serves at the end, which is nobody's child.
struct LastProcess(PathBuf);

impl LastProcess {
    fn id(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.0)?.trim().to_owned())
    }
}

impl Drop for LastProcess {
    fn drop(&mut self) {
        if let Ok(id) = self.id() {
            let _ended = Command::new("kill").arg(id).status();
        }
    }
}

pub fn measure(_: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let (server, binary) = bench.yard.upgradable(&bench.origin)?;
    let last = LastProcess(server.configuration().with_file_name("pid"));
    let end = AtomicBool::new(false);
    let (heard, mut times) = thread::scope(|scope| -> Result<_> {
        let clients = scope.spawn(|| play(bench, &server, &end));
        let requests = scope.spawn(|| ask(&server.target, &end));
        let upgrades = upgrade(&binary, &last);
        end.store(true, Ordering::Relaxed);
        let joined = |panicked| anyhow::anyhow!("a client panicked: {panicked:?}");
        let mut heard = clients.join().map_err(joined)??;
        let requests = requests.join().map_err(joined)??;
        heard.requests = requests.requests;
        heard.faults.extend(requests.faults);
        Ok((heard, upgrades?))
    })?;
    ensure!(heard.whole > 0 && heard.requests > 0, "nothing was asked");
    tally.requests += heard.whole + heard.requests;
    for fault in &heard.faults {
        eprintln!("loadtest: upgrades: {fault}");
        tally.error(fault.clone());
    }
    let row = |figure: &str, count, budget| Row::alone(format!("{UPGRADES} upgrades: {figure}"), count, budget);
    Ok(vec![
        row("refused or cut", heard.faults.len() as f64, Budget::Value(0.0)),
        row(&format!("whole streams of {PLAYERS} players"), heard.whole as f64, Budget::None),
        row("requests of h2load", heard.requests as f64, Budget::None),
        row("time of one p50, ms", percentile(&mut times, 0.5), Budget::None),
    ])
}

/// Makes the upgrades, one after the other; the times that they took.
fn upgrade(binary: &Path, last: &LastProcess) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..UPGRADES {
        let before = last.id()?;
        let began = monotonic_now();
        let output = Command::new(binary).args(["upgrade", "--pid", &before]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && last.id()? != before, "upgrade {number} failed: {said}");
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Has `h2load` ask over and over, until the upgrades are over.
fn ask(target: &Target, end: &AtomicBool) -> Result<Heard> {
    let mut heard = Heard::default();
    let url = format!("http://{}/stream/{}", target.address, objects::SMALL.key(0));
    let authorization = format!("authorization: Bearer {}", target.token());
    while !end.load(Ordering::Relaxed) {
        let mut command = Command::new("h2load");
        let output = command.arg("--h1").args(RUN).args(["-H", &authorization, &url]).output();
        let output = output.context("running h2load, of Debian's nghttp2-client")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // `requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout`
        let counts = said.lines().find_map(|line| line.strip_prefix("requests: ")).context("h2load counted nothing")?;
        let count = |name: &str| -> u64 {
            let counted = counts.split(", ").find_map(|count| count.strip_suffix(name));
            counted.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
        };
        heard.requests += count("total");
        if count("succeeded") != count("total") || count("total") == 0 {
            heard.faults.push(format!("h2load: {counts}"));
        }
    }
    Ok(heard)
}

/// Plays until the upgrades are over.
fn play(bench: &Bench, server: &Server, end: &AtomicBool) -> Result<Heard> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let files: Arc<[Arc<[u8]>]> = bench.yard.contents(objects::TRACKS)?.into();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut heard = Heard::default();
    runtime.block_on(async {
        let mut players = JoinSet::new();
        for number in 0..PLAYERS {
            let (address, token) = (server.target.address, server.target.token().to_owned());
            players.spawn(listen((address, token), Arc::clone(&files), number, Arc::clone(&is_over)));
        }
        while !end.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        is_over.store(true, Ordering::Relaxed);
        while let Some(player) = players.join_next().await {
            let (whole, faults) = player?;
            heard.whole += whole;
            heard.faults.extend(faults);
        }
        Ok(heard)
    })
}

/// One player, which connects anew for each piece: whoever is refused would be one of these.
async fn listen(
    (address, token): (SocketAddr, String),
    files: Arc<[Arc<[u8]>]>,
    number: usize,
    is_over: Arc<AtomicBool>,
) -> (u64, Vec<String>) {
    let (mut whole, mut faults, mut tasks) = (0, Vec::new(), JoinSet::new());
    while !is_over.load(Ordering::Relaxed) {
        let track = rand::random_range(0..files.len());
        let file = Arc::clone(&files[track]);
        let first = rand::random_range(0..file.len() - PIECE);
        let path = format!("/stream/{}", objects::TRACKS.key(track));
        let wish = Wish { path, token: token.clone(), file, range: Some((first, first + PIECE)) };
        match Player::connect(address, number % 2 == 1, &mut tasks).await {
            Ok(mut player) => match player.play(&wish).await {
                Outcome::Whole => whole += 1,
                fault => faults.push(format!("player {number}: {fault:?}")),
            },
            Err(error) => faults.push(format!("player {number} was refused: {error:#}")),
        }
    }
    (whole, faults)
}
