//! Purges and their times: the epochs that are part of every key in the cache. A bounded list, kept beside the disk
//! cache so that a restart brings nothing back.

use std::fs::{File, rename};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::cache_keys::ObjectId;

/// Most purges that are kept one by one. Past that the older half becomes one purge of everything.
const MAX_PURGES: usize = 1000;

/// Scope of a purge: objects, never routes. All routes over a bucket share what is cached, so a purge of one route
/// would leave the same bytes to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeScope {
    /// Object with this key, in every store and bucket.
    Key(String),
    /// Objects whose keys begin with this prefix, in every store and bucket.
    Prefix(String),
    /// Objects of one bucket.
    Bucket {
        /// Name of the store in the YAML.
        store: String,
        /// Name of the bucket.
        bucket: String,
        /// Prefix of their keys; empty: all objects.
        prefix: String,
    },
    /// Everything.
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PurgeRecord {
    scope: PurgeScope,
    /// Time of the purge, in milliseconds since the Unix epoch.
    at: u64,
}

/// List of the purges in force.
pub struct PurgeLog {
    // Read for every request, changed seldom: readers take no lock.
    list: ArcSwap<Vec<PurgeRecord>>,
    /// File in which the list is kept, where there is one; locked while the list is changed.
    file: Mutex<Option<PathBuf>>,
}

impl PurgeLog {
    /// Reads the list from `file`, where there is one. A list that cannot be read counts as a purge of everything at
    /// `now`, because nobody knows any more what must not be served.
    pub fn open(file: Option<PathBuf>, now: u64) -> Self {
        let list = file.as_deref().map_or_else(Vec::new, |file| read_or_purge(file, now));
        Self { list: ArcSwap::from_pointee(list), file: Mutex::new(file) }
    }

    /// Returns the purge epoch of `object`: the newest purge that covers it, in milliseconds since the Unix epoch; 0
    /// where none does.
    pub fn epoch(&self, object: &ObjectId) -> u64 {
        let list = self.list.load();
        list.iter().filter(|purge| purge.scope.covers(object)).map(|purge| purge.at).max().unwrap_or(0)
    }

    /// Purges `scope` at `now`. In force when it returns, also with an error, which says that the list could not be
    /// written.
    pub fn add(&self, scope: PurgeScope, now: u64) -> io::Result<()> {
        let file = self.file.lock();
        let mut list: Vec<PurgeRecord> = self.list.load().to_vec();
        // Two purges in one millisecond, or after the clock was set back, still follow each other.
        let newest = list.iter().map(|purge| purge.at).max().unwrap_or(0);
        let at = now.max(newest.saturating_add(1));
        // A purge of everything replaces all others, a repeated one its predecessor: the list grows only by new scopes.
        list.retain(|purge| scope != PurgeScope::All && purge.scope != scope);
        list.push(PurgeRecord { scope, at });
        if list.len() > MAX_PURGES {
            let older: Vec<PurgeRecord> = list.drain(..MAX_PURGES / 2).collect();
            // The newest time of the older half covers all of it: nothing that was purged comes back.
            let at = older.iter().map(|purge| purge.at).max().unwrap_or(at);
            list.insert(0, PurgeRecord { scope: PurgeScope::All, at });
        }
        // Before writing: a disk that fails must not keep a purge from taking effect.
        self.list.store(Arc::new(list.clone()));
        file.as_deref().map_or(Ok(()), |file| write(file, &list))
    }

    /// Includes the purges of `other`, which hold for the same objects.
    pub fn include(&self, other: &Self) -> io::Result<()> {
        let file = self.file.lock();
        let list = merged(&self.list.load(), &other.list.load());
        if *self.list.load().as_ref() == list {
            return Ok(());
        }
        self.list.store(Arc::new(list.clone()));
        file.as_deref().map_or(Ok(()), |file| write(file, &list))
    }

    /// Writes no file any more: it belongs to another list from now on.
    pub fn forget_file(&self) {
        *self.file.lock() = None;
    }

    /// Keeps the list in `file` from now on, which another process has written until now; its purges hold too.
    pub fn take_over(&self, file: PathBuf, now: u64) -> io::Result<()> {
        let mut kept = self.file.lock();
        let list = merged(&read_or_purge(&file, now), &self.list.load());
        self.list.store(Arc::new(list.clone()));
        let written = write(&file, &list);
        *kept = Some(file);
        written
    }
}

impl PurgeScope {
    /// Returns true if the purge covers `object`.
    fn covers(&self, object: &ObjectId) -> bool {
        let begins_with = |prefix: &str| object.key.starts_with(prefix);
        match self {
            Self::Key(key) => **key == *object.key,
            Self::Prefix(prefix) => begins_with(prefix),
            Self::Bucket { store, bucket, prefix } => {
                **store == *object.store && **bucket == *object.bucket && begins_with(prefix)
            }
            Self::All => true,
        }
    }
}

/// Returns the purges of both lists, of those of one scope the newest.
fn merged(one: &[PurgeRecord], other: &[PurgeRecord]) -> Vec<PurgeRecord> {
    let is_newest = |purge: &&PurgeRecord| other.iter().all(|it| it.scope != purge.scope || it.at < purge.at);
    let mut list: Vec<PurgeRecord> = one.iter().filter(is_newest).cloned().collect();
    let missing = |purge: &&PurgeRecord| list.iter().all(|it| it.scope != purge.scope);
    let missing: Vec<PurgeRecord> = other.iter().filter(missing).cloned().collect();
    list.extend(missing);
    list
}

/// Reads the list; one that cannot be read is a purge of everything at `now`.
fn read_or_purge(file: &Path, now: u64) -> Vec<PurgeRecord> {
    read(file).unwrap_or_else(|error| {
        tracing::warn!(%error, "the list of purges cannot be read: everything cached is dropped");
        vec![PurgeRecord { scope: PurgeScope::All, at: now }]
    })
}

fn read(file: &Path) -> io::Result<Vec<PurgeRecord>> {
    match std::fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        // No file yet is the normal case of a new cache.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes the list as a whole or not at all, whenever the process or the machine dies.
fn write(file: &Path, list: &[PurgeRecord]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut target = File::create(&new)?;
    target.write_all(&serde_json::to_vec(list)?)?;
    target.sync_all()?;
    rename(&new, file)?;
    // The rename itself is durable only when the folder is written too (fsync(2)).
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(store: &str, bucket: &str, prefix: &str) -> PurgeScope {
        PurgeScope::Bucket { store: store.into(), bucket: bucket.into(), prefix: prefix.into() }
    }

    fn scopes() -> [PurgeScope; 5] {
        [
            PurgeScope::Key("a/b".into()),
            PurgeScope::Prefix("a/".into()),
            bucket("s", "b", "a/"),
            bucket("s", "b", ""),
            PurgeScope::All,
        ]
    }

    fn object(store: &str, bucket: &str, key: &str) -> ObjectId {
        ObjectId { store: store.into(), bucket: bucket.into(), key: key.into() }
    }

    fn of_key(key: &str) -> ObjectId {
        object("s", "b", key)
    }

    #[test]
    fn a_purge_covers_its_scope_and_no_more() {
        let table = [
            (object("s", "b", "a/b"), [1, 1, 1, 1, 1]),
            (object("s", "b", "a/c"), [0, 1, 1, 1, 1]),
            (object("s", "b", "b"), [0, 0, 0, 1, 1]),
            (object("s", "c", "a/b"), [1, 1, 0, 0, 1]),
            (object("t", "b", "a/b"), [1, 1, 0, 0, 1]),
        ];
        for (object, expected) in table {
            for (scope, covered) in scopes().into_iter().zip(expected) {
                let purges = PurgeLog::open(None, 0);
                purges.add(scope.clone(), 1).expect("nothing is written");
                let ObjectId { store, bucket, key } = &object;
                assert_eq!(purges.epoch(&object), covered, "{scope:?} {store} {bucket} {key}");
            }
        }
    }

    #[test]
    fn epochs_grow_even_when_the_clock_does_not() {
        let purges = PurgeLog::open(None, 0);
        let mut last = 0;
        for now in [50, 50, 10, 60] {
            purges.add(PurgeScope::Key("k".into()), now).expect("nothing is written");
            let epoch = purges.epoch(&of_key("k"));
            assert!(epoch > last, "{now}");
            last = epoch;
        }
    }

    #[test]
    fn a_long_list_is_shortened_and_forgets_nothing() {
        let purges = PurgeLog::open(None, 0);
        let count = 3 * MAX_PURGES as u64;
        for number in 0..count {
            purges.add(PurgeScope::Key(number.to_string()), 1 + number).expect("nothing is written");
        }
        assert!(purges.list.load().len() <= MAX_PURGES);
        for number in 0..count {
            assert!(purges.epoch(&of_key(&number.to_string())) > number, "{number}");
        }
    }

    #[test]
    fn a_purge_that_is_repeated_takes_no_more_room() {
        let purges = PurgeLog::open(None, 0);
        purges.add(PurgeScope::Key("other".into()), 1).expect("nothing is written");
        for number in 0..2 * MAX_PURGES as u64 {
            purges.add(PurgeScope::Key("k".into()), 2 + number).expect("nothing is written");
        }
        assert_eq!((purges.list.load().len(), purges.epoch(&of_key("other"))), (2, 1));
    }

    #[test]
    fn purges_survive_a_restart_and_a_broken_list_drops_everything() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("purges.json");
        let purges = PurgeLog::open(Some(file.clone()), 0);
        for (number, scope) in scopes().into_iter().enumerate().take(4) {
            purges.add(scope, 10 + number as u64).expect("the folder can be written");
        }
        let again = PurgeLog::open(Some(file.clone()), 0);
        assert_eq!(*again.list.load(), *purges.list.load());
        // Purges that were made without the file, as long as another process had it, hold beside its own.
        let late = PurgeLog::open(None, 0);
        late.add(PurgeScope::Key("a/b".into()), 5).expect("nothing is written");
        late.add(PurgeScope::Key("late".into()), 50).expect("nothing is written");
        late.take_over(file.clone(), 60).expect("the folder can be written");
        for purges in [&late, &PurgeLog::open(Some(file.clone()), 0)] {
            assert_eq!((purges.epoch(&of_key("late")), purges.epoch(&object("t", "c", "a/b"))), (50, 11));
            assert_eq!(purges.list.load().len(), 5);
        }
        std::fs::write(&file, b"[{").expect("the folder can be written");
        assert_eq!(PurgeLog::open(Some(file), 99).epoch(&of_key("any")), 99);
    }
}
