//! Mixing desk of a channel: takes decoded tracks, joins them, and sends a tenth of a second ten times a second. It asks nobody
//! anything that could take time.

use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, interval};

use super::output::Program;
use super::station::{FailureCause, PlayOutcome};
use super::{DeskCommand, DeskReport, DeskTrack, PlayerContext};
use crate::audio::decoder::{BLOCK_FRAMES, DecodedBlock};
use crate::audio::mixer::{MixerSlot, TrackMixer};
use crate::audio::{CHANNELS, SAMPLE_RATE};
use primitives::clock::monotonic_now;
use track_audio::decoder::DecodeError;

/// Time that a block plays.
const BLOCK: Duration = Duration::from_millis(100);
/// Interval at which a queue is looked at in which nothing waits.
const EMPTY_WAIT: Duration = Duration::from_secs(1);
/// Interval at which the song is said again: listeners take what is older for gone.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// Longest pause of this process that is made up for; after a longer one the sound goes on from now.
const MAX_CATCH_UP: Duration = Duration::from_secs(2);

/// Track in a slot of the mixer.
struct LoadedTrack {
    track: DeskTrack,
    title: String,
    length: Option<Duration>,
    heard_frames: u64,
    has_samples: bool,
    outcome: PlayOutcome,
}

/// State of the desk.
struct MixingDesk<'a> {
    context: &'a PlayerContext,
    reports: Sender<DeskReport>,
    mixer: TrackMixer,
    current: Option<LoadedTrack>,
    next: Option<LoadedTrack>,
    program: Option<Box<dyn Program>>,
    is_waiting: bool,
    ask_at: Instant,
    announce_at: Instant,
    idle_since: Instant,
    block: Vec<f32>,
}

/// Runs the desk until control is gone.
pub async fn run(context: &PlayerContext, reports: Sender<DeskReport>, mut commands: Receiver<DeskCommand>) {
    let fade = context.crossfade.as_millis() as usize * SAMPLE_RATE as usize / 1000;
    let now: Instant = monotonic_now().into();
    let mut desk = MixingDesk {
        context,
        reports,
        mixer: TrackMixer::new(fade),
        current: None,
        next: None,
        program: None,
        is_waiting: false,
        ask_at: now,
        announce_at: now,
        idle_since: now,
        block: Vec::new(),
    };
    let mut ticks = interval(BLOCK);
    loop {
        let due = ticks.tick().await;
        let now: Instant = monotonic_now().into();
        if now.duration_since(due) > MAX_CATCH_UP {
            ticks.reset();
        }
        while let Ok(command) = commands.try_recv() {
            desk.obey(command, now);
        }
        desk.take_samples();
        desk.ask(now);
        desk.send(now).await;
    }
}

impl MixingDesk<'_> {
    fn obey(&mut self, command: DeskCommand, now: Instant) {
        match command {
            DeskCommand::Program(program) => {
                self.program = Some(program);
                (self.announce_at, self.idle_since) = (now, now);
            }
            DeskCommand::Play(track) => {
                self.is_waiting = false;
                let loaded = LoadedTrack {
                    track: *track,
                    title: String::new(),
                    length: None,
                    heard_frames: 0,
                    has_samples: false,
                    outcome: PlayOutcome::Played,
                };
                match self.mixer.free_slot() {
                    Some(MixerSlot::Current) => {
                        self.report(DeskReport::Began(loaded.track.claimed.item.id));
                        self.current = Some(loaded);
                    }
                    Some(MixerSlot::Next) => self.next = Some(loaded),
                    // Only one is asked for at a time, and only for a free slot.
                    None => return,
                }
                self.mixer.load();
                self.announce_at = now;
            }
            DeskCommand::Nothing => (self.is_waiting, self.ask_at) = (false, now + EMPTY_WAIT),
            DeskCommand::Skip(id) => self.skip(id),
        }
    }

    fn skip(&mut self, id: uuid::Uuid) {
        if let Some(current) = &mut self.current
            && current.track.claimed.item.id == id
        {
            current.outcome = PlayOutcome::Skipped;
            current.track.blocks.close();
            self.mixer.skip();
        } else if let Some(next) = &mut self.next
            && next.track.claimed.item.id == id
        {
            next.outcome = PlayOutcome::Skipped;
            next.track.blocks.close();
            if self.mixer.unload_next() {
                self.next = None;
                self.report(DeskReport::Ended(id, PlayOutcome::Skipped));
            } else {
                self.mixer.end(MixerSlot::Next);
            }
        }
    }

    /// Takes what is decoded, as far as it is wanted.
    fn take_samples(&mut self) {
        let (mixer, reports) = (&mut self.mixer, &self.reports);
        for (slot, loaded) in [(MixerSlot::Current, &mut self.current), (MixerSlot::Next, &mut self.next)] {
            let Some(loaded) = loaded else { continue };
            if let Ok(title) = loaded.track.title.try_recv() {
                loaded.title = title;
                self.announce_at = monotonic_now().into();
            }
            while mixer.wants(slot, BLOCK_FRAMES) {
                match loaded.track.blocks.try_recv() {
                    Ok(DecodedBlock::Samples(samples)) => {
                        loaded.has_samples = true;
                        mixer.push(slot, &samples);
                    }
                    Ok(DecodedBlock::Length(length)) => {
                        loaded.length = Some(length);
                        if slot == MixerSlot::Current {
                            // Control looks at what waits all the time.
                            let _ = reports.try_send(DeskReport::Length(loaded.track.claimed.item.id, length));
                        }
                    }
                    Ok(DecodedBlock::Failed(error)) => {
                        loaded.outcome = failed(&error);
                        mixer.end(slot);
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        if !loaded.has_samples && loaded.outcome == PlayOutcome::Played {
                            loaded.outcome = PlayOutcome::failed(FailureCause::Damaged, "it has no sound");
                        }
                        mixer.end(slot);
                    }
                }
            }
        }
        // A next track that cannot be played makes room for another before its turn has come.
        let is_useless = |next: &mut LoadedTrack| !next.has_samples && next.outcome != PlayOutcome::Played;
        if let Some(next) = self.next.take_if(is_useless) {
            self.mixer.unload_next();
            self.report(DeskReport::Ended(next.track.claimed.item.id, next.outcome));
        }
    }

    /// Asks for a track where one is wanted: at once where nothing is heard, else when the end of what is heard is known.
    fn ask(&mut self, now: Instant) {
        let wants = match self.mixer.free_slot() {
            Some(MixerSlot::Current) => true,
            Some(MixerSlot::Next) => self.mixer.current_has_ended(),
            None => false,
        };
        if wants && !self.is_waiting && now >= self.ask_at {
            self.is_waiting = self.reports.try_send(DeskReport::WantsItem).is_ok();
        }
    }

    /// Sends a block: what is heard, and silence where nothing is.
    async fn send(&mut self, now: Instant) {
        if self.program.is_none() {
            return;
        }
        self.block.clear();
        while self.block.len() < CHANNELS * BLOCK_FRAMES {
            let before = self.block.len();
            let is_over = self.mixer.pull(BLOCK_FRAMES - before / CHANNELS, &mut self.block);
            if let Some(current) = &mut self.current {
                current.heard_frames += ((self.block.len() - before) / CHANNELS) as u64;
            }
            if is_over {
                self.change_tracks(now);
            } else {
                break;
            }
        }
        if let Some(current) = &self.current {
            self.idle_since = now;
            if current.has_samples && self.block.len() < CHANNELS * BLOCK_FRAMES {
                self.context.metrics.underruns.inc();
            }
        }
        self.block.resize(CHANNELS * BLOCK_FRAMES, 0.0);
        let Some(program) = &mut self.program else { return };
        if program.send(&self.block).is_err() {
            self.program = None;
            self.report(DeskReport::ProgramEnded);
            return;
        }
        if now >= self.announce_at {
            self.announce_at = now + ANNOUNCE_INTERVAL;
            if let Some(current) = &self.current {
                let elapsed = Duration::from_millis(current.heard_frames * 1000 / u64::from(SAMPLE_RATE));
                program.announce(&current.title, elapsed, current.length.unwrap_or_default());
            }
        }
        if now.duration_since(self.idle_since) >= self.context.idle_timeout
            && let Some(program) = self.program.take()
        {
            program.end().await;
            self.report(DeskReport::ProgramEnded);
        }
    }

    /// The current track is over, and the next one has taken its place.
    fn change_tracks(&mut self, now: Instant) {
        if let Some(over) = std::mem::replace(&mut self.current, self.next.take()) {
            self.report(DeskReport::Ended(over.track.claimed.item.id, over.outcome));
        }
        if let Some(current) = &self.current {
            let id = current.track.claimed.item.id;
            self.report(DeskReport::Began(id));
            if let Some(length) = current.length {
                self.report(DeskReport::Length(id, length));
            }
            self.announce_at = now;
        }
    }

    fn report(&self, report: DeskReport) {
        // Control takes reports as long as the desk runs; one that is lost has its claim lapse.
        let _ = self.reports.try_send(report);
    }
}

fn failed(error: &DecodeError) -> PlayOutcome {
    let cause = match error {
        DecodeError::Format(_) => FailureCause::UnknownFormat,
        DecodeError::Read(_) => FailureCause::Unreadable,
        DecodeError::Damaged(_) => FailureCause::Damaged,
        DecodeError::TooLong => FailureCause::TooLong,
    };
    PlayOutcome::failed(cause, &error.to_string())
}
