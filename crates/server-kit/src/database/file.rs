//! File of an embedded database, recognized when another one takes its place.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// File as it was when it was opened. A process goes on writing into it after it was removed or moved away, and loses
/// those writes with its end: so this must be checked.
#[derive(Clone, Debug)]
pub struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// Returns the file that is at `path` now.
    pub fn at(path: &Path) -> Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Returns an error if the file is not at its path any more, or another one is.
    pub fn check(&self) -> Result<()> {
        let found = fs::metadata(&self.path)?;
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, "another file is in the place of the database"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_or_another_is_told_from_the_one_that_was_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, aside) = (folder.path().join("one.db"), folder.path().join("aside.db"));
        fs::write(&path, "").expect("it can be written");
        let file = DatabaseFile::at(&path).expect("it is there");
        assert!(file.check().is_ok());
        fs::rename(&path, &aside).expect("it can be moved");
        assert!(file.check().is_err());
        fs::write(&path, "").expect("it can be written");
        assert!(file.check().is_err());
        fs::rename(&aside, &path).expect("it can be moved");
        assert!(file.check().is_ok());
    }
}
