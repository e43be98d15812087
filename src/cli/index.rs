//! Command `tidegate index`: listens to the catalogue's tracks, so that clips of them are recognised. What is known is not
//! listened to again, so a run that broke off is simply run again, and one after each import costs only the new tracks.

use std::collections::HashSet;
use std::io::{IsTerminal, stderr, stdout};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Handle;

use super::{BAD_CONFIGURATION, block_on_threads, refuse, say};
use crate::app::recognition::{CatalogObjects, object_version};
use crate::config::{self, Settings};
use catalog::{Catalog, Track};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use recognition::index::{IndexSummary, IndexWriter, IndexedTrack};
use recognition::landmarks::{LandmarkExtractor, LandmarkPurpose, LandmarkStream, SOUND, WangExtractor};
use server_kit::database::Database;
use track_audio::decoder::{DecodeError, TrackDecoder};
use track_audio::object::{ObjectFile, TrackObject, TrackObjectError};

/// Tracks of the catalogue that are read at a time.
const PAGE: u32 = 1000;
/// Time between two commits: what a run that is broken off loses.
const COMMIT_INTERVAL: Duration = Duration::from_secs(30);
/// Tracks between two lines of progress where there is no terminal.
const LINE_EVERY: u64 = 100;
/// Reasons that are shown at the end.
const SHOWN_FAILURES: usize = 10;

/// What is indexed, and how.
#[derive(clap::Args, Debug)]
pub struct IndexArgs {
    /// The configuration file.
    #[arg(short, long, default_value = super::DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// How many tracks are listened to at once. Default: one for each processor.
    #[arg(long)]
    pub jobs: Option<NonZero<usize>>,
    /// Begin anew, and also try tracks again that could not be decoded; the old index answers until the first tracks are in the new one.
    #[arg(long)]
    pub rebuild: bool,
}

/// Outcome for one track.
enum Listened {
    /// It has been listened to.
    Track(IndexedTrack),
    /// It is no music, or damaged.
    Failed(String),
    /// It could not be read; another time it may be.
    Unread(String),
}

/// Outcome of a run.
struct RunTotals {
    indexed: u64,
    failed: u64,
    unread: u64,
    known: u64,
    removed: u64,
    failures: Vec<String>,
    summary: IndexSummary,
}

/// Makes the index; returns the exit code.
pub fn run(args: &IndexArgs) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(report) => return refuse(&report),
    };
    if settings.recognition.is_none() {
        say(&mut stderr(), "tidegate index: the configuration has no Recognition, which says where the index is");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    match block_on_threads(index(args, settings)) {
        Ok(totals) => {
            totals.failures.iter().for_each(|failure| say(&mut stderr(), failure));
            say(&mut stdout(), &summary(&totals));
            if totals.unread == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&mut stderr(), &format!("tidegate index: {error}; run it again to go on"));
            ExitCode::FAILURE
        }
    }
}

fn summary(totals: &RunTotals) -> String {
    let RunTotals { indexed, failed, unread, known, removed, summary, .. } = totals;
    let IndexSummary { tracks, seconds, bytes, segments, .. } = summary;
    let (hours, kibibytes) = (seconds / 3600, bytes / 1024);
    let again = if *unread > 0 { "; run it again for those that could not be read" } else { "" };
    format!(
        "{indexed} tracks indexed, {known} known, {removed} removed, {failed} without sound, {unread} not read{again}\n\
         the index has {tracks} tracks, {hours} hours, {kibibytes} KiB in {segments} segments"
    )
}

async fn index(args: &IndexArgs, settings: Settings) -> Result<RunTotals, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (Some(recognition), Some(database)) = (&settings.recognition, &settings.database) else {
        return Err("the configuration has no Recognition".to_owned());
    };
    let (clock, tasks) = (Clock::system(), BackgroundTasks::default());
    let extractor = WangExtractor::new(LandmarkPurpose::Index).name();
    let mut writer = IndexWriter::open(&recognition.index, extractor, args.rebuild).map_err(|error| text(&error))?;
    let database = Database::open(database).await.map_err(|error| text(&error))?;
    database.migrate().await.map_err(|error| text(&error))?;
    let tracks = catalogue(&Catalog::new(database.clone(), None)).await?;
    database.close().await;
    let objects = Arc::new(CatalogObjects::open(&settings, &clock, &tasks).await.map_err(|error| text(&error))?);
    let removed = remove_missing(&mut writer, &tracks);
    let all = tracks.len() as u64;
    let new = |track: &Track| writer.version(&track.id) != Some(object_version(track).as_str());
    let tracks: Vec<Track> = tracks.into_iter().filter(new).collect();
    let known = all - tracks.len() as u64;
    let mut totals = listen(args, &objects, tracks, &mut writer).await?;
    let shown = writer.failures().take(SHOWN_FAILURES);
    totals.failures.extend(shown.map(|(id, reason)| format!("without sound: {id}: {reason}")));
    totals.summary = writer.finish().map_err(|error| text(&error))?;
    // Embedded stores are of no use any more; a second is enough for them to end.
    tasks.shutdown(Duration::from_secs(1)).await;
    Ok(RunTotals { known, removed, ..totals })
}

/// Returns the tracks of the catalogue that were not deleted.
async fn catalogue(catalog: &Catalog) -> Result<Vec<Track>, String> {
    let (mut tracks, mut after) = (Vec::new(), String::new());
    loop {
        let page = catalog.list(&after, PAGE).await.map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { return Ok(tracks) };
        after = last.id.to_string();
        tracks.extend(page.into_iter().filter(|track| track.deleted_at.is_none()));
    }
}

/// Drops what the catalogue does not have any more; returns its number.
fn remove_missing(writer: &mut IndexWriter, tracks: &[Track]) -> u64 {
    let there: HashSet<&str> = tracks.iter().map(|track| &*track.id).collect();
    let missing: Vec<String> = writer.ids().filter(|id| !there.contains(id)).map(str::to_owned).collect();
    missing.iter().for_each(|id| writer.remove(id));
    missing.len() as u64
}

/// Listens to tracks, several at once, and keeps what is heard.
async fn listen(
    args: &IndexArgs,
    objects: &Arc<CatalogObjects>,
    tracks: Vec<Track>,
    writer: &mut IndexWriter,
) -> Result<RunTotals, String> {
    let jobs = args.jobs.or(std::thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let progress = IndexProgress::new(tracks.len() as u64);
    let summary = IndexSummary { tracks: 0, failed: 0, seconds: 0, bytes: 0, segments: 0 };
    let (known, removed, failures) = (0, 0, Vec::new());
    let mut totals = RunTotals { indexed: 0, failed: 0, unread: 0, known, removed, failures, summary };
    let heard = futures::stream::iter(tracks).map(|track| {
        let objects = Arc::clone(objects);
        async move {
            let heard = listen_to(&objects, &track).await;
            (track, heard)
        }
    });
    let mut heard = std::pin::pin!(heard.buffer_unordered(jobs));
    let mut commit = tokio::time::interval(COMMIT_INTERVAL);
    commit.tick().await;
    loop {
        let next = tokio::select! {
            next = heard.next() => next,
            _ = commit.tick() => {
                writer.commit().map_err(|error| error.to_string())?;
                continue;
            }
        };
        let Some((track, outcome)) = next else { break };
        match outcome {
            Listened::Track(indexed) => {
                totals.indexed += 1;
                writer.add(indexed).map_err(|error| error.to_string())?;
            }
            Listened::Failed(reason) => {
                totals.failed += 1;
                writer.fail(&track.id, object_version(&track), reason);
            }
            Listened::Unread(reason) => {
                totals.unread += 1;
                if totals.failures.len() < SHOWN_FAILURES {
                    totals.failures.push(format!("not read: {}: {reason}", track.id));
                }
            }
        }
        progress.advance(&track.id);
    }
    progress.end();
    Ok(totals)
}

async fn listen_to(objects: &CatalogObjects, track: &Track) -> Listened {
    let object = match objects.object(track).await {
        Ok(Some(object)) => object,
        Ok(None) => return Listened::Unread("its object is not there".to_owned()),
        Err(TrackObjectError(reason)) => return Listened::Unread(reason),
    };
    let (id, version, runtime) = (track.id.to_string(), object_version(track), Handle::current());
    let heard = tokio::task::spawn_blocking(move || landmarks(id, version, object, runtime)).await;
    heard.unwrap_or_else(|_| Listened::Failed("the decoder failed".to_owned()))
}

/// Makes the landmarks of a track. It blocks.
fn landmarks(id: String, version: String, object: Arc<dyn TrackObject>, runtime: Handle) -> Listened {
    let extension = object.extension().map(str::to_owned);
    let file = Box::new(ObjectFile::new(object, runtime));
    let mut extractor = WangExtractor::new(LandmarkPurpose::Index);
    let mut stream = LandmarkStream::new(&mut extractor);
    let decoded = TrackDecoder::open(file, extension.as_deref(), SOUND).and_then(|mut decoder| {
        while decoder.read(stream.samples())? {
            stream.advance();
        }
        Ok(())
    });
    let (landmarks, frames) = stream.finish();
    match decoded {
        Err(DecodeError::Read(reason)) => return Listened::Unread(reason),
        // What comes before the damage is worth to be recognised.
        Err(error) if landmarks.is_empty() => return Listened::Failed(error.to_string()),
        Ok(()) | Err(_) => {}
    }
    Listened::Track(IndexedTrack { id, version, landmarks, frames: u32::try_from(frames).unwrap_or(u32::MAX) })
}

/// Progress: a bar on a terminal, lines elsewhere.
struct IndexProgress {
    bar: Option<ProgressBar>,
    all: u64,
    done: std::cell::Cell<u64>,
}

impl IndexProgress {
    fn new(all: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tracks  {per_sec}  {eta} left  {msg}");
            let bar = ProgressBar::new(all);
            bar.enable_steady_tick(Duration::from_millis(200));
            // The template is a constant; should it be wrong, progress is shown plainly rather than not at all.
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, all, done: std::cell::Cell::new(0) }
    }

    fn advance(&self, track: &str) {
        self.done.set(self.done.get() + 1);
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                bar.set_message(track.chars().filter(|letter| !letter.is_control()).take(40).collect::<String>());
            }
            None if self.done.get().is_multiple_of(LINE_EVERY) => {
                say(&mut stderr(), &format!("so far {} of {} tracks", self.done.get(), self.all));
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
