//! Command `tidegate import`: adds the objects of a bucket to the catalog. Running it again updates the catalog, so an
//! import that broke off is simply run again.

use std::io::{IsTerminal, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{BAD_CONFIGURATION, block_on_threads, refuse, say};
use crate::app::listing::{BucketListing, Listed};
use crate::config::{self, Settings};
use catalog::{Catalog, ImportSummary, NewTrack};
use http_semantics::media_type;
use primitives::clock::Clock;
use primitives::ids::{TrackId, UserId};
use primitives::lifecycle::BackgroundTasks;
use s3;
use server_kit::database::Database;

/// Objects between two lines of progress where there is no terminal.
const LINE_EVERY: u64 = 10_000;

/// What is imported, and how.
#[derive(clap::Args, Debug)]
pub struct ImportArgs {
    /// The configuration file.
    #[arg(short, long, default_value = "conf/tidegate.yaml")]
    pub config: PathBuf,
    /// The store's name in `ObjectStores`.
    #[arg(long)]
    pub store: String,
    /// The bucket.
    #[arg(long)]
    pub bucket: String,
    /// Only keys that begin with this.
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// Where in a key the track's id is, as in `tracks/{id}.mp3`; `*` is any text. Keys of another form are passed over.
    /// Default: the last part of the key without its ending.
    #[arg(long, value_parser = IdPattern::parse)]
    pub id_pattern: Option<IdPattern>,
    /// Whose the tracks are.
    #[arg(long, value_parser = parse_owner)]
    pub owner: Option<UserId>,
}

fn parse_owner(text: &str) -> Result<UserId, &'static str> {
    UserId::parse(text).ok_or("expected 1 to 256 bytes without control characters")
}

/// Pattern that finds the id in a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPattern {
    before: String,
    after: String,
}

impl IdPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (before, after) = text.split_once("{id}").ok_or("expected `{id}` in it, as in tracks/{id}.mp3")?;
        let plain = |part: &str| !part.contains(['{', '}']) && part.matches('*').count() <= 1;
        let good = plain(before) && plain(after);
        good.then(|| Self { before: before.to_owned(), after: after.to_owned() })
            .ok_or_else(|| "expected one `{id}`, and at most one `*` on each side of it".to_owned())
    }

    /// Returns the id in `key`: the rest after removing the shortest beginning and the shortest end that fit.
    fn id<'a>(&self, key: &'a str) -> Option<&'a str> {
        let rest = match self.before.split_once('*') {
            None => key.strip_prefix(self.before.as_str())?,
            Some((start, end)) => key.strip_prefix(start)?.split_once(end)?.1,
        };
        match self.after.split_once('*') {
            None => rest.strip_suffix(self.after.as_str()),
            Some((start, end)) => Some(rest.strip_suffix(end)?.split_once(start)?.0),
        }
    }
}

/// Returns the last part of a key without its extension.
fn stem(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or(key);
    // A name such as `.hidden` has no extension.
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

/// Counts of an import.
#[derive(Default)]
struct ImportTotals {
    seen: u64,
    passed_over: u64,
    tracks: ImportSummary,
}

/// Imports the objects; returns the exit code.
pub fn run(args: &ImportArgs) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(report) => return refuse(&report),
    };
    if let Some(wrong) = wrong(args, &settings) {
        say(&mut stderr(), &format!("tidegate import: {wrong}"));
        return ExitCode::from(BAD_CONFIGURATION);
    }
    match block_on_threads(import(args, settings)) {
        Ok(totals) => {
            say(&mut stdout(), &summary(&totals));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&mut stderr(), &format!("tidegate import: {error}; run it again to go on"));
            ExitCode::FAILURE
        }
    }
}

fn wrong(args: &ImportArgs, settings: &Settings) -> Option<String> {
    if settings.database.is_none() {
        return Some("the configuration has no Database, where the catalogue is".to_owned());
    }
    if !settings.stores.iter().any(|store| *store.name == *args.store) {
        return Some(format!("ObjectStores has no `{}`", args.store));
    }
    (!s3::is_bucket_name(&args.bucket)).then(|| format!("`{}` cannot be a bucket's name", args.bucket))
}

fn summary(totals: &ImportTotals) -> String {
    let ImportTotals { seen, passed_over, tracks } = totals;
    let (added, changed, unchanged) = (tracks.added, tracks.changed, tracks.unchanged);
    format!(
        "{seen} objects: {added} tracks added, {changed} changed, {unchanged} unchanged; {passed_over} keys passed over"
    )
}

async fn import(args: &ImportArgs, settings: Settings) -> Result<ImportTotals, String> {
    let clock = Clock::system();
    let database = settings.database.as_ref().ok_or("no Database")?;
    let database = Database::open(database).await.map_err(|error| error.to_string())?;
    database.migrate().await.map_err(|error| error.to_string())?;
    let catalog = Catalog::new(database.clone(), None);
    let tasks = BackgroundTasks::default();
    let mut listing = BucketListing::open(&settings, &args.store, &args.bucket, &args.prefix, &clock, &tasks)
        .await
        .map_err(|error| error.to_string())?;
    let progress = ImportProgress::new();
    let mut totals = ImportTotals::default();
    while let Some(page) = listing.next().await.map_err(|error| error.to_string())? {
        totals.seen += page.len() as u64;
        let tracks: Vec<NewTrack> = page.into_iter().filter_map(|listed| track(args, listed)).collect();
        // All objects seen, less those imported before and those of this page.
        totals.passed_over = totals.seen - (done(&totals) + tracks.len() as u64);
        let imported = catalog.import(&tracks, clock.unix_millis()).await.map_err(|error| error.to_string())?;
        totals.tracks.added += imported.added;
        totals.tracks.changed += imported.changed;
        totals.tracks.unchanged += imported.unchanged;
        progress.at(&totals);
    }
    progress.end();
    // Background tasks of the listing are of no use any more; a second is enough for them to end.
    tasks.shutdown(Duration::from_secs(1)).await;
    database.close().await;
    Ok(totals)
}

fn done(totals: &ImportTotals) -> u64 {
    totals.tracks.added + totals.tracks.changed + totals.tracks.unchanged
}

fn track(args: &ImportArgs, listed: Listed) -> Option<NewTrack> {
    let id = match &args.id_pattern {
        Some(pattern) => pattern.id(&listed.key)?,
        None => stem(&listed.key),
    };
    // A key's slashes are folders: an id that still has one was not meant by anybody.
    let id = TrackId::parse(id).filter(|id| !id.as_str().contains('/'))?;
    let content_type = media_type::from_key_extension(&listed.key).map(str::to_owned);
    let (store, bucket, owner) = (args.store.clone(), args.bucket.clone(), args.owner.clone());
    Some(NewTrack { id, store, bucket, content_type, size: listed.size, owner, key: listed.key })
}

/// Progress: a spinner on a terminal (a listing does not give its length), lines elsewhere.
struct ImportProgress {
    bar: Option<ProgressBar>,
    said: std::cell::Cell<u64>,
}

impl ImportProgress {
    fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {pos} objects  {per_sec}  {elapsed}  {msg}");
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            // The template is a constant; should it be wrong, progress is shown plainly rather than not at all.
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        Self { bar, said: std::cell::Cell::new(0) }
    }

    fn at(&self, totals: &ImportTotals) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(totals.seen);
                bar.set_message(format!("{} added, {} changed", totals.tracks.added, totals.tracks.changed));
            }
            None if totals.seen >= self.said.get() + LINE_EVERY => {
                self.said.set(totals.seen);
                say(&mut stderr(), &format!("so far {}", summary(totals)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_where_the_pattern_says() {
        let table = [
            ("tracks/{id}.mp3", "tracks/a.mp3", Some("a")),
            ("tracks/{id}.mp3", "tracks/a.b.mp3", Some("a.b")),
            ("tracks/{id}.mp3", "tracks/a.flac", None),
            ("tracks/{id}.mp3", "other/a.mp3", None),
            ("*/{id}.*", "music/a.flac", Some("a")),
            ("{id}", "a", Some("a")),
            ("tracks/{id}/*.m3u8", "tracks/a/main.m3u8", Some("a")),
        ];
        for (pattern, key, expected) in table {
            assert_eq!(IdPattern::parse(pattern).expect(pattern).id(key), expected, "{pattern} {key}");
        }
        for pattern in ["tracks", "{id}{id}", "{other}/{id}", "a*b*{id}"] {
            assert!(IdPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_owner_that_cannot_be_a_users_id_is_refused() {
        assert!(parse_owner("alice").is_ok() && parse_owner("*").is_ok());
        for text in ["", "a\tb", &"x".repeat(257)] {
            assert!(parse_owner(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn without_a_pattern_the_id_is_the_name_without_its_ending() {
        for (key, expected) in [("a.mp3", "a"), ("x/y/a.b.mp3", "a.b"), ("x/a", "a"), ("x/.hidden", ".hidden")] {
            assert_eq!(stem(key), expected, "{key}");
        }
    }
}
