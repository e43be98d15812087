//! Whole files that an operator names: regular ones of a bounded size. A FIFO or a device would block the reader for
//! ever, or give bytes without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Reads the whole file. Fails where it is not a regular file, or longer than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut content = Vec::new();
    // One byte more tells a file that is too long from one that just fits; the length that the system states may change.
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(invalid(format!("it is longer than {limit} bytes")));
    }
    Ok(content)
}

/// As [`read`], where the file is text in UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|_| invalid("it is not text in UTF-8".to_owned()))
}

/// Opens the file to be read, through whatever links lead to it. Fails where it is not a regular file.
fn open(path: &Path) -> io::Result<File> {
    // Without waiting: to open a FIFO would else last until somebody writes to it. Regular files know no such flag.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let kind = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else {
        "a device or a socket"
    };
    Err(invalid(format!("it is {kind}; expected a regular file")))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_of_a_bounded_size_are_read_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("regular-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read_text(&file, 4).unwrap(), "text");
        assert!(read(&file, 3).unwrap_err().to_string().contains("longer than 3 bytes"));
        let refused = |path: &Path| read(path, 100).unwrap_err().to_string();
        assert!(refused(&folder).contains("it is a folder"));
        assert!(refused(Path::new("/dev/zero")).contains("it is a device"));
        let fifo = folder.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(refused(&fifo).contains("it is a FIFO; expected a regular file"));
        std::fs::write(&file, [0xff]).unwrap();
        assert!(read_text(&file, 4).unwrap_err().to_string().contains("UTF-8"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
