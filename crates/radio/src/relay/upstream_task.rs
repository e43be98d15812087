//! Task of a relay: connects to its station, moves what comes, and connects again with a back-off when it breaks. While the
//! station is away, its fallback station is heard.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use prometheus::IntGauge;
use rand::Rng;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::chunk_assembler::ChunkAssembler;
use super::chunk_ring::SoundChunk;
use super::listener::RelayListener;
use super::station_board::RelayState;
use super::station_relay::StationRelay;
use super::vorbis_comment::comment_title;
use crate::metrics::StreamEnd;
use crate::service::RadioService;
use crate::source::{OpenedStation, SourceError, StreamPart, open_station};
use primitives::clock::monotonic_now;

/// Timeout of an attempt to connect, through playlists and up to the first sound.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// First wait between two attempts; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Time for which a connection must hold before the waits begin anew.
const STABLE_TIME: Duration = Duration::from_secs(30);
/// Interval in which it is looked for whether the station was deleted or moved, on another node perhaps.
const LISTING_INTERVAL: Duration = Duration::from_secs(30);
/// Time for which listeners that had sound wait before the fallback station is heard: they have a burst left.
const FALLBACK_DELAY: Duration = Duration::from_secs(2);
/// Wait between two attempts to hear the fallback station.
const FALLBACK_RETRY: Duration = Duration::from_secs(5);
/// Least time between two titles that are told; of those in between the last one counts.
const TITLE_INTERVAL: Duration = Duration::from_secs(2);

/// Runs the relay until nobody has held it for a while, its station was deleted or is away for long, or the node stops.
pub async fn run(service: RadioService, relay: Arc<StationRelay>) {
    let id = relay.station.id;
    // Whatever becomes of this task: a relay that nobody feeds must not keep its place.
    let mut running = RunningRelay { service: &service, relay: &relay, end: StreamEnd::Offline };
    // Pinned here: a listener that comes as it would become idle loses no connection.
    let mut connected = pin!(keep_connected(&service, &relay));
    let mut unlisted = pin!(wait_until_unlisted(&service, &relay));
    running.end = loop {
        tokio::select! {
            () = service.0.tasks.stopping() => break StreamEnd::Shutdown,
            () = relay.wait_until_idle(service.0.settings.linger) => {
                if service.remove_relay(&relay, true) {
                    break StreamEnd::Left;
                }
            }
            // By whoever ended it.
            () = relay.wait_until_ended() => break StreamEnd::Deleted,
            end = &mut unlisted => {
                if end == StreamEnd::Deleted {
                    service.close_board(id);
                }
                break end;
            }
            () = &mut connected => break StreamEnd::Offline,
        }
    };
}

/// A relay with a task.
struct RunningRelay<'a> {
    service: &'a RadioService,
    relay: &'a Arc<StationRelay>,
    end: StreamEnd,
}

impl Drop for RunningRelay<'_> {
    fn drop(&mut self) {
        self.service.remove_relay(self.relay, false);
        self.relay.end(self.end);
    }
}

/// Resolves when the station is no longer listed, or has another address there.
async fn wait_until_unlisted(service: &RadioService, relay: &StationRelay) -> StreamEnd {
    loop {
        sleep(LISTING_INTERVAL).await;
        match service.0.store.get(relay.station.id).await {
            Ok(None) => return StreamEnd::Deleted,
            Ok(Some(listed)) if listed.url != relay.station.url => return StreamEnd::Moved,
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Connects again and again; returns when the station is away for too long.
async fn keep_connected(service: &RadioService, relay: &Arc<StationRelay>) {
    relay.board.set_relay_state(RelayState::Connecting);
    let mut attempt = 0;
    let mut opened = open(service, relay).await;
    loop {
        let station = match opened.take() {
            Some(station) => station,
            None => {
                relay.board.set_relay_state(RelayState::Reconnecting);
                let reconnected = tokio::select! {
                    station = reconnect(service, relay, &mut attempt) => station,
                    () = hear_fallback(service.clone(), Arc::clone(relay)) => None,
                };
                match reconnected {
                    Some(station) => station,
                    None => return,
                }
            }
        };
        let since = monotonic_now();
        let reason = pump(service, relay, station).await;
        tracing::info!(radio.stream_id = %relay.station.id, %reason, "the stream of a radio station ended: it is connected to anew");
        if monotonic_now().duration_since(since) >= STABLE_TIME {
            attempt = 0;
        }
    }
}

async fn open(service: &RadioService, relay: &StationRelay) -> Option<OpenedStation> {
    let opened = timeout(OPEN_TIMEOUT, open_station(&service.0.client, &relay.station.url)).await;
    match opened.unwrap_or(Err(SourceError::TimedOut)) {
        Ok(station) => {
            service.0.metrics.connected.inc();
            Some(station)
        }
        Err(reason) => {
            service.0.metrics.connect_failures.inc();
            tracing::info!(radio.stream_id = %relay.station.id, %reason, "a radio station cannot be connected to");
            relay.note_failure();
            None
        }
    }
}

/// Waits and tries; returns nothing when there was no sound for too long, not even of a fallback station.
async fn reconnect(service: &RadioService, relay: &StationRelay, attempt: &mut u32) -> Option<OpenedStation> {
    loop {
        sleep(backoff(*attempt)).await;
        *attempt = attempt.saturating_add(1);
        if let Some(station) = open(service, relay).await {
            return Some(station);
        }
        if relay.silence() >= service.0.settings.offline_timeout {
            return None;
        }
    }
}

/// Returns the wait before an attempt, from 0: so many stations of one server do not come back at the same instant.
fn backoff(attempt: u32) -> Duration {
    let wait = FIRST_BACKOFF.saturating_mul(1 << attempt.min(5)).min(MAX_BACKOFF);
    wait.mul_f64(rand::rng().random_range(0.8..1.2))
}

/// Moves the stream of a station into the ring until it breaks.
async fn pump(service: &RadioService, relay: &StationRelay, mut station: OpenedStation) -> SourceError {
    let metrics = &service.0.metrics;
    let _connected = GaugeGuard::new(&metrics.upstreams);
    relay.begin(station.format.codec);
    relay.board.set_relay_state(RelayState::Live);
    let (mut assembler, mut chunks) = (ChunkAssembler::new(station.format.codec), Vec::new());
    let mut titles = TitlePace::new();
    let reason = loop {
        let deadline = assembler.deadline();
        let part = tokio::select! {
            part = timeout(station.idle_limit, station.parts.next()) => part,
            () = wait_until(deadline) => {
                assembler.flush().into_iter().for_each(|chunk| relay.push(chunk));
                continue;
            }
        };
        match part {
            Ok(Some(Ok(StreamPart::Sound(bytes)))) => {
                metrics.received_bytes.inc_by(bytes.len() as u64);
                assembler.push(&bytes, now(), &mut chunks);
                let title = assembler.take_new_headers().and_then(comment_title);
                title.into_iter().for_each(|title| titles.note(title));
                chunks.drain(..).for_each(|chunk| relay.push(chunk));
            }
            Ok(Some(Ok(StreamPart::Title(title)))) => titles.note(title),
            Ok(Some(Err(reason))) => break reason,
            Ok(None) => break SourceError::Broken,
            Err(_) => break SourceError::TimedOut,
        }
        // Sound goes on all the time, so none is late by much.
        titles.due().into_iter().for_each(|title| service.set_title(relay, title));
    };
    assembler.flush().into_iter().for_each(|chunk| relay.push(chunk));
    reason
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn now() -> Instant {
    Instant::from_std(monotonic_now())
}

/// Pace at which titles are told: each goes to everybody who follows them.
struct TitlePace {
    waiting: Option<String>,
    next_at: Instant,
}

impl TitlePace {
    fn new() -> Self {
        Self { waiting: None, next_at: now() }
    }

    /// Takes a title in the place of one that waits.
    fn note(&mut self, title: String) {
        self.waiting = Some(title);
    }

    /// Returns the title that is to be told now.
    fn due(&mut self) -> Option<String> {
        let title = self.waiting.take_if(|_| now() >= self.next_at)?;
        self.next_at = now() + TITLE_INTERVAL;
        Some(title)
    }
}

/// Hears the fallback station in the place of `relay`'s, until it is dropped; ends never.
///
/// The type is named since a relay's task holds this, and this begins another relay's task.
fn hear_fallback(service: RadioService, relay: Arc<StationRelay>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(fallback) = relay.station.fallback.filter(|id| *id != relay.station.id) else {
            return std::future::pending().await;
        };
        if relay.sound.lock().codec.is_some() {
            sleep(FALLBACK_DELAY).await;
        }
        loop {
            relay_fallback(&service, &relay, fallback).await;
            relay.board.set_relay_state(RelayState::Reconnecting);
            sleep(FALLBACK_RETRY).await;
        }
    })
}

/// Copies the sound of another station's relay until that ends. Its chunks are shared, not copied.
async fn relay_fallback(service: &RadioService, relay: &StationRelay, fallback: Uuid) {
    let Ok(Some(station)) = service.0.store.get(fallback).await else { return };
    let Ok(handle) = service.attach(&station) else { return };
    let Some(codec) = handle.relay().ready().await else { return };
    // A listener has one codec from its beginning to its end.
    if codec != relay.station.codec {
        return;
    }
    let mut listener = RelayListener::new(handle, codec, service.0.settings.burst_bytes / 2);
    relay.begin(codec);
    relay.board.set_relay_state(RelayState::Fallback);
    service.0.metrics.fallbacks.inc();
    let mut is_first = true;
    while let Ok(chunk) = listener.next_chunk().await {
        // Who listens already needs the header pages of the other stream too.
        let chunk = match chunk.preamble.as_ref().filter(|_| std::mem::take(&mut is_first)) {
            Some(preamble) => SoundChunk { bytes: [&preamble[..], &chunk.bytes].concat().into(), preamble: None },
            None => chunk,
        };
        relay.push(chunk);
    }
}

/// Counts one in a gauge as long as it lives.
struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_attempts_double_up_to_half_a_minute_each_a_fifth_longer_or_shorter() {
        for (attempt, seconds) in
            [(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0), (5, 30.0), (6, 30.0), (u32::MAX, 30.0)]
        {
            for _ in 0..200 {
                let wait = backoff(attempt).as_secs_f64();
                assert!((0.8 * seconds..1.2 * seconds).contains(&wait), "attempt {attempt}: {wait} s");
            }
        }
    }
}
