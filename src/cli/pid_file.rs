//! File with the id of the process (`Server.PidFile`).

use std::io;
use std::path::{Path, PathBuf};

/// The file, while this process is the one that it names. Dropped, it removes the file, unless that names another one by
/// then: after an upgrade it is the new process's.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the id of this process to `path`, as a whole or not at all.
    pub fn write(path: &Path) -> io::Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let written = std::fs::write(&new, format!("{}\n", std::process::id()));
        written.and_then(|()| std::fs::rename(&new, path)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("the file of the process id (Server.PidFile) cannot be written: {error}"),
            )
        })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours = std::process::id().to_string();
        if std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == ours) {
            // Left behind it names a process that does not run, which whoever reads it sees.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
