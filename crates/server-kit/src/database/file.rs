//! The file of an embedded database, told from another one in its place.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file as it was when it was opened. Whoever has it open goes on writing into it after it was removed or moved away, and
/// what is written then is lost with the process: so it has to be asked for.
#[derive(Clone, Debug)]
pub struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// The file that is at `path` now.
    pub fn at(path: &Path) -> Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// An error where the file is not at its path any more, or another one is.
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
