//! Files of this machine that a backup needs for a while: copies, and what is tried out. They are readable by their owner alone.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Beginning of their names.
const PREFIX: &str = "tidegate-backup-";

/// File that is removed when this is dropped.
#[derive(Debug)]
pub struct WorkFile(PathBuf);

impl WorkFile {
    /// Makes an empty file for a part of the backup `id`.
    pub fn create(folder: &Path, id: Uuid, name: &str) -> io::Result<Self> {
        let path = folder.join(format!("{PREFIX}{id}-{name}"));
        // A name of chance that nobody else can have made before, as a link for example.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkFile {
    fn drop(&mut self) {
        // One that stays is removed with those of backups that are over.
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns the ids of the backups that have files in `folder`, each once.
pub fn ids_of_files(folder: &Path) -> Vec<Uuid> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let id_of = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix(PREFIX)?;
        // 36 characters, as ids are written in names.
        Uuid::parse_str(rest.get(..36)?).ok()
    };
    let mut ids: Vec<_> = entries.filter_map(id_of).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Removes the files of the backup `id`, which has ended without its process removing them.
pub fn remove_files_of(folder: &Path, id: Uuid) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let own = format!("{PREFIX}{id}-");
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)) {
        let _ = fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_their_backup_and_removed_with_it_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let kept: Vec<_> = [(one, "copy.db"), (one, "trial.db"), (other, "trial.rdb")]
            .map(|(id, name)| WorkFile::create(folder.path(), id, name).expect("a file"))
            .into();
        for foreign in ["tidegate-backup-", "tidegate-backup-nothing", "notes.txt"] {
            fs::write(folder.path().join(foreign), "").expect("a file");
        }
        assert!(WorkFile::create(folder.path(), one, "copy.db").is_err(), "no file is taken that is there");
        assert_eq!(ids_of_files(folder.path()), [one, other]);
        remove_files_of(folder.path(), one);
        assert_eq!(ids_of_files(folder.path()), [other]);
        drop(kept);
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 3);
    }
}
