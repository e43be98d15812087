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

/// Removes the files of the backup `id`, which has ended without its process removing them.
pub fn remove_files_of(folder: &Path, id: Uuid) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let own = format!("{PREFIX}{id}-");
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)) {
        let _ = fs::remove_file(entry.path());
    }
}
