//! File with the id of the process (`Server.PidFile`). The process that it names holds a lock on it: one that was left
//! behind names a process that has the id by chance.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 64;

/// The file, while this process is the one that it names. Dropped, it removes the file, unless that names another one by
/// then: after an upgrade it is the new process's.
pub struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl PidFile {
    /// Writes the id of this process to `path`, as a whole or not at all.
    pub fn write(path: &Path) -> io::Result<Self> {
        write_locked(path).map(|file| Self { path: path.to_owned(), _file: file }).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("the file of the process id (Server.PidFile) cannot be written: {error}"),
            )
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours = std::process::id().to_string();
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == ours) {
            // Left behind it names a process that does not run, which whoever reads it sees.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn write_locked(path: &Path) -> io::Result<File> {
    let id = std::process::id();
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{id}.new"));
    let new = PathBuf::from(new);
    // One of a process that had the same id.
    let _ = std::fs::remove_file(&new);
    // Made here, and not followed where it is a link.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let written = file.write_all(format!("{id}\n").as_bytes()).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.map(|()| file)
}

/// Reads the id of the process that runs and that the file at `path` names. Fails where there is none.
pub fn read_running(path: &Path) -> io::Result<i32> {
    let name = format!("{} (Server.PidFile)", path.display());
    let file = File::open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{name} cannot be read: {error}; does it run?")))?;
    let mut text = String::new();
    (&file).take(MAX_BYTES).read_to_string(&mut text)?;
    let id = text.trim().parse().map_err(|_| io::Error::other(format!("there is no process id in {name}")))?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(id),
        Err(error) => Err(error.into()),
        Ok(()) => Err(io::Error::other(format!("{name} was left behind: the process that wrote it does not run"))),
    }
}
