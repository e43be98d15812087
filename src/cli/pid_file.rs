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
    file: File,
}

/// The file before it is in its place; dropped, it is removed.
pub struct PreparedPidFile {
    path: PathBuf,
    /// Name that it has until then.
    new: PathBuf,
    file: Option<File>,
}

impl PreparedPidFile {
    /// Writes the id of this process, to be put at `path`.
    pub fn write(path: &Path) -> io::Result<Self> {
        write_locked(path).map_err(|error| failed(&error))
    }

    /// Puts the file in its place, as a whole or not at all.
    pub fn publish(mut self) -> io::Result<PidFile> {
        std::fs::rename(&self.new, &self.path).map_err(|error| failed(&error))?;
        let file = self.file.take().ok_or_else(|| io::Error::other("it is published"))?;
        Ok(PidFile { path: self.path.clone(), file })
    }
}

impl Drop for PreparedPidFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Left behind it is in nobody's way.
            let _ = std::fs::remove_file(&self.new);
        }
    }
}

impl PidFile {
    /// Writes the file again where it names another process: one that should have taken over, and did not.
    pub fn restore(&mut self) -> io::Result<()> {
        if self.names_this_process() {
            return Ok(());
        }
        let mut prepared = write_locked(&self.path).map_err(|error| failed(&error))?;
        std::fs::rename(&prepared.new, &self.path).map_err(|error| failed(&error))?;
        self.file = prepared.file.take().ok_or_else(|| io::Error::other("it is published"))?;
        Ok(())
    }

    fn names_this_process(&self) -> bool {
        let ours = std::process::id().to_string();
        std::fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == ours)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.names_this_process() {
            // Left behind it names a process that does not run, which whoever reads it sees.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the file of the process id (Server.PidFile) cannot be written: {error}"))
}

fn write_locked(path: &Path) -> io::Result<PreparedPidFile> {
    let id = std::process::id();
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{id}.new"));
    let new = PathBuf::from(new);
    // One of a process that had the same id.
    let _ = std::fs::remove_file(&new);
    // Made here, and not followed where it is a link.
    let file = OpenOptions::new().write(true).create_new(true).open(&new)?;
    let mut prepared = PreparedPidFile { path: path.to_owned(), new, file: Some(file) };
    if let Some(file) = &mut prepared.file {
        flock(&*file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(format!("{id}\n").as_bytes())?;
    }
    Ok(prepared)
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
