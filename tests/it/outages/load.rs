//! Players, reports and events, and what comes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::{PACE, PIECE, PLAYERS, TRACKS, USERS, id, user};
use crate::support::{Client, Gate, eventually, token};
use primitives::clock::monotonic_now;

/// 500 reports of positions a second, and a tenth as many events.
const REPORT_EVERY: Duration = Duration::from_millis(2);
const EVENT_EVERY: Duration = Duration::from_millis(20);
/// Requests under way at once, past which the machine and not Tidegate is slow: then fewer are sent.
const UNDER_WAY: usize = 100;

/// What came of the load so far.
#[derive(Default)]
pub(super) struct Tally {
    /// Tracks that were heard to their end.
    pub(super) heard: AtomicUsize,
    /// Reports that were acknowledged, and those that were told to come again.
    pub(super) kept: AtomicUsize,
    pub(super) refused: AtomicUsize,
    /// Events that were told to come again: the disk was too slow.
    pub(super) late: AtomicUsize,
    /// The newest acknowledged report of each user and track.
    pub(super) positions: Mutex<BTreeMap<(usize, usize), i64>>,
    pub(super) events: Mutex<BTreeSet<String>>,
    /// What must not be.
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Fails as soon as something is wrong.
    pub(super) fn is_good(&self) {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty(), "{} times, first: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    }

    fn events(&self) -> usize {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Players begin and end tracks, and events are taken.
    pub(super) async fn streams_go_on(&self) {
        let (heard, events) = (self.heard.load(Ordering::Relaxed), self.events());
        eventually("streams and events go on", async || {
            self.is_good();
            (self.heard.load(Ordering::Relaxed) >= heard + 100 && self.events() >= events + 100).then_some(())
        })
        .await;
    }

    pub(super) async fn reports_go_on(&self) {
        let kept = self.kept.load(Ordering::Relaxed);
        eventually("reports are kept", async || {
            self.is_good();
            (self.kept.load(Ordering::Relaxed) >= kept + 500).then_some(())
        })
        .await;
    }

    pub(super) async fn reports_are_refused(&self) {
        let refused = self.refused.load(Ordering::Relaxed);
        let more = async || (self.refused.load(Ordering::Relaxed) > refused).then_some(());
        eventually("reports are refused", more).await;
    }
}

/// Players, reports and events; they end with the set.
pub(super) struct Load {
    pub(super) tasks: JoinSet<()>,
    pub(super) tally: Arc<Tally>,
}

impl Load {
    /// Half of the players show a token, half play a URL with one in it. All are known before they begin.
    pub(super) async fn start(gate: &Gate, track: &Arc<[u8]>) -> Self {
        let mut this = Self { tasks: JoinSet::new(), tally: Arc::default() };
        let client = gate.client();
        for number in 0..PLAYERS {
            let (client, tally, track) = (client.clone(), Arc::clone(&this.tally), Arc::clone(track));
            let (user, id) = (user(number % USERS), id(number % TRACKS));
            let bearer = token::of(&user);
            let (path, bearer) = match number % 2 {
                0 => (format!("/api/v1/tracks/{id}/stream"), Some(bearer)),
                _ => (url(gate, &client, &id, &bearer).await, None),
            };
            let known = async || {
                let head = client.request(Method::HEAD, &path);
                let head = bearer.iter().fold(head, |head, bearer| head.bearer_auth(bearer));
                head.send().await.is_ok_and(|answer| answer.status() == 200).then_some(())
            };
            eventually("the player may have the track", known).await;
            this.tasks.spawn(async move {
                // Not all at once.
                tokio::time::sleep(PACE * 8 * u32::try_from(number).expect("small") / 200).await;
                loop {
                    match play(&client, &path, bearer.as_deref(), &track).await {
                        Ok(()) => drop(tally.heard.fetch_add(1, Ordering::Relaxed)),
                        Err(wrong) => tally.wrong(wrong),
                    }
                }
            });
        }
        this.tasks.spawn(reports(client.clone(), Arc::clone(&this.tally)));
        this.tasks.spawn(events(client, Arc::clone(&this.tally)));
        this
    }
}

/// The path of a streaming URL.
async fn url(gate: &Gate, client: &Client, id: &str, bearer: &str) -> String {
    let path = format!("/api/v1/tracks/{id}/stream-url");
    let said = client.get(&path, &[("authorization", &format!("Bearer {bearer}"))]).await;
    let said: Value = serde_json::from_slice(&said.is(200).body).expect("JSON");
    let url = said["streamUrl"].as_str().expect("a URL");
    url.strip_prefix(&gate.url()).expect("it is a URL of this gate").to_owned()
}

/// Hears the track at its pace, every byte of it.
async fn play(client: &Client, path: &str, bearer: Option<&str>, track: &[u8]) -> Result<(), String> {
    let (began, mut heard) = (monotonic_now(), 0);
    let broken = |error: reqwest::Error| {
        let kind = if error.is_timeout() { "timed out" } else { "broke" };
        format!("a stream {kind} after {:?}: {error:?}", began.elapsed())
    };
    let request = client.request(Method::GET, path);
    let request = bearer.into_iter().fold(request, |request, bearer| request.bearer_auth(bearer));
    let mut response = request.send().await.map_err(broken)?;
    if response.status() != 200 {
        return Err(format!("a stream was answered {}: {:?}", response.status(), response.text().await));
    }
    let mut pace = interval(PACE);
    let mut pause = PIECE;
    while let Some(bytes) = response.chunk().await.map_err(broken)? {
        if !track[heard..].starts_with(&bytes) {
            return Err(format!("wrong bytes after {heard}"));
        }
        heard += bytes.len();
        while pause <= heard {
            pace.tick().await;
            pause += PIECE;
        }
    }
    if heard == track.len() { Ok(()) } else { Err(format!("a clean end after {heard} bytes")) }
}

/// Sends a request every so often, however long the ones before it take, until the task ends.
async fn every(period: Duration, mut next: impl FnMut(usize) -> tokio::task::JoinHandle<()>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0.. {
        ticks.tick().await;
        drop(next(number));
    }
}

async fn reports(client: Client, tally: Arc<Tally>) {
    // In the past, so that no report is of the future.
    let begun = (token::now() - 3600) * 1000;
    let tokens: Vec<String> = (0..USERS).map(|number| token::of(&user(number))).collect();
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    every(REPORT_EVERY, |number| {
        let (user, track) = (number % USERS, number / USERS % 5);
        let position = i64::try_from(number).expect("small");
        let body = json!({ "positionMs": position, "durationMs": 10_000_000, "timestamp": begun + position });
        let path = format!("/api/v1/tracks/{}/position", id(track));
        let request = client.request(Method::POST, &path).bearer_auth(&tokens[user]).json(&body);
        let (tally, place) = (Arc::clone(&tally), Arc::clone(&places).try_acquire_owned());
        tokio::spawn(async move {
            if place.is_err() {
                return;
            }
            match request.send().await {
                Ok(answer) if answer.status() == 204 => {
                    let mut positions = tally.positions.lock().unwrap_or_else(PoisonError::into_inner);
                    let newest = positions.entry((user, track)).or_default();
                    *newest = position.max(*newest);
                    tally.kept.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) if answer.status() == 503 && answer.headers().contains_key("retry-after") => {
                    tally.refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => tally.wrong(format!("a report was answered {}", answer.status())),
                Err(error) => tally.wrong(format!("a report was not answered: {error:?}")),
            }
        })
    })
    .await;
}

async fn events(client: Client, tally: Arc<Tally>) {
    let tokens: Vec<String> = (0..USERS).map(|number| token::of(&user(number))).collect();
    every(EVENT_EVERY, |number| {
        let event_id = Uuid::now_v7().to_string();
        let body = json!({ "action": "Seek", "positionMs": number, "eventId": event_id });
        let path = format!("/api/v1/tracks/{}/events", id(number % TRACKS));
        let request = client.request(Method::POST, &path).bearer_auth(&tokens[number % USERS]).json(&body);
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            match request.send().await {
                Ok(answer) if answer.status() == 202 => {
                    tally.events.lock().unwrap_or_else(PoisonError::into_inner).insert(event_id);
                }
                Ok(answer) if answer.status() == 503 && answer.headers().contains_key("retry-after") => {
                    tally.late.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => tally.wrong(format!("an event was answered {}", answer.status())),
                Err(error) => tally.wrong(format!("an event was not answered: {error:?}")),
            }
        })
    })
    .await;
}
