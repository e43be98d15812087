//! Players that compare every byte, while the ways to the origin break at random: a stream must never be wrong, and never
//! be broken off while one of the ways is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::faulty::Faulty;
use crate::load::Tally;
use crate::objects;
use crate::player::{Outcome, Player, Wish};
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section};
use primitives::clock::monotonic_now;

const PLAYERS: usize = 200;
/// Unless said otherwise.
const TIME: Duration = Duration::from_secs(60);
/// What a player waits after it was refused: the gate's Retry-After.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Heard {
    whole: u64,
    bytes: u64,
    refused: u64,
    broken: Vec<String>,
    wrong: Vec<String>,
}

pub fn measure(_: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let time = bench.asked_window.unwrap_or(TIME);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (heard, faults) = runtime.block_on(soak(bench, time))?;
    tally.requests += heard.whole + heard.refused + (heard.broken.len() + heard.wrong.len()) as u64;
    tally.bytes += heard.bytes;
    for message in heard.wrong.iter().chain(&heard.broken) {
        eprintln!("loadtest: soak: {message}");
        tally.error(message.clone());
    }
    ensure!(heard.whole > 0 && faults > 0, "{} whole answers, {faults} faults: nothing was tested", heard.whole);
    let row =
        |figure: &str, count: usize, budget| Row::alone(format!("{figure}, {PLAYERS} players"), count as f64, budget);
    Ok(vec![
        row("soak: faults on the way", faults as usize, Budget::None),
        row("soak: whole answers", heard.whole as usize, Budget::None),
        row("soak: refused before the first byte", heard.refused as usize, Budget::None),
        row("soak: broken streams", heard.broken.len(), Budget::Value(0.0)),
        row("soak: wrong answers", heard.wrong.len(), Budget::Value(0.0)),
    ])
}

async fn soak(bench: &Bench, time: Duration) -> Result<(Heard, u64)> {
    let mut relays = JoinSet::new();
    let faulty = Faulty::start(bench.origin.target.address, &mut relays).await?;
    let server = bench.yard.soaked(&bench.origin, faulty.addresses)?;
    let files: Arc<[Arc<[u8]>]> = bench.yard.contents(objects::TRACKS)?.into();
    let end = monotonic_now() + time;
    let mut players = JoinSet::new();
    for number in 0..PLAYERS {
        let (address, token, files) = (server.target.address, server.target.token().to_owned(), Arc::clone(&files));
        players.spawn(async move { listen(address, &token, &files, number, end).await });
    }
    let mut all = Heard::default();
    while let Some(heard) = players.join_next().await {
        let heard = heard??;
        all.whole += heard.whole;
        all.bytes += heard.bytes;
        all.refused += heard.refused;
        all.broken.extend(heard.broken);
        all.wrong.extend(heard.wrong);
    }
    Ok((all, faulty.faults.load(Ordering::Relaxed)))
}

/// One player until `end`: seeks about in tracks, cached and not, over the protocol that its number gives it.
async fn listen(address: SocketAddr, token: &str, files: &[Arc<[u8]>], number: usize, end: Instant) -> Result<Heard> {
    let (mut heard, mut tasks) = (Heard::default(), JoinSet::new());
    let prefix = if number.is_multiple_of(4) { "/cached" } else { "/stream" };
    let mut player = None;
    while monotonic_now() < end {
        let current = match &mut player {
            Some(player) => player,
            empty => empty.insert(Player::connect(address, number % 2 == 1, &mut tasks).await?),
        };
        let track = rand::random_range(0..files.len());
        let file = Arc::clone(&files[track]);
        let first = rand::random_range(0..file.len());
        let length = rand::random_range(1..1024 * 1024).min(file.len() - first);
        let range = (rand::random_range(0..20) > 0).then_some((first, first + length));
        let bytes = range.map_or(file.len(), |(first, end)| end - first);
        let path = format!("{prefix}/{}", objects::TRACKS.key(track));
        let outcome = current.play(&Wish { path, token: token.to_owned(), file, range }).await;
        if outcome != Outcome::Whole {
            player = None;
        }
        match outcome {
            Outcome::Whole => (heard.whole, heard.bytes) = (heard.whole + 1, heard.bytes + bytes as u64),
            Outcome::Refused(_) => {
                heard.refused += 1;
                tokio::time::sleep(AFTER_REFUSAL).await;
            }
            Outcome::Broken(how) => heard.broken.push(format!("{prefix}, player {number}: {how}")),
            Outcome::Wrong(how) => heard.wrong.push(format!("{prefix}, player {number}: {how}")),
        }
    }
    Ok(heard)
}
