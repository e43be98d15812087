//! Where access lines go, and how.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::telemetry::settings::SyslogAddress;

/// Mode of a new file: others are no readers of who has asked for what.
const FILE_MODE: u32 = 0o640;
/// Priority of a line for syslog: facility local0, severity informational (RFC 5424, section 6.2.1).
const PRIORITY: u8 = 16 * 8 + 6;
/// Name of the program, for syslog.
const PROGRAM: &str = "tidegate";
/// Time for which a socket that takes nothing is waited for.
const SEND_TIME: Duration = Duration::from_secs(1);

/// Failure to append lines.
pub struct AppendError {
    /// Number of lines that were not written, or not whole.
    pub lost: u64,
    /// The system's own words.
    pub source: io::Error,
}

/// Where whole lines go.
pub enum LineSink {
    /// Standard output.
    Stdout,
    /// A file.
    File(AppendedFile),
    /// A service of syslog.
    Syslog(SyslogSender),
}

impl LineSink {
    /// Appends whole lines.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let written = out.write_all(lines).and_then(|()| out.flush());
                written.map_err(|source| AppendError { lost: count_lines(lines), source })
            }
            Self::File(file) => file.append(lines),
            Self::Syslog(sender) => sender.send(lines),
        }
    }

    /// Opens a file anew; there is nothing to do for the others.
    pub fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout | Self::Syslog(_) => Ok(()),
            Self::File(file) => file.reopen(),
        }
    }

    /// Says whether it can be opened anew.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Returns its name in messages, which is that of its setting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stdout => "the access log (Telemetry.AccessLog.Output)",
            Self::File(_) => "the access log (Telemetry.AccessLog.File)",
            Self::Syslog(_) => "the access log (Telemetry.AccessLog.Syslog)",
        }
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Sends each line as a message to a service of syslog.
pub struct SyslogSender {
    address: SyslogAddress,
    host: String,
    socket: Option<SyslogSocket>,
}

enum SyslogSocket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl SyslogSender {
    /// Sends to `address`, whether anybody is there or not.
    pub fn new(address: SyslogAddress) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim().to_owned()).filter(|host| !host.is_empty() && !host.contains(char::is_whitespace));
        // RFC 5424, section 6.2.4: what is not known is a dash.
        Self { address, host: host.unwrap_or_else(|| "-".to_owned()), socket: None }
    }

    fn send(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        let mut left = lines;
        while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
            if let Err(source) = self.send_line(&left[..end]) {
                // The service may have been started anew.
                self.socket = None;
                return Err(AppendError { lost: count_lines(left), source });
            }
            left = &left[end + 1..];
        }
        Ok(())
    }

    fn send_line(&mut self, line: &[u8]) -> io::Result<()> {
        let message = [self.header().as_bytes(), line].concat();
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => SyslogSocket::connect(&self.address)?,
        };
        match self.socket.insert(socket) {
            SyslogSocket::Unix(socket) => socket.send(&message)?,
            SyslogSocket::Udp(socket) => socket.send(&message)?,
        };
        Ok(())
    }

    /// The beginning of a message. A service of this machine knows the host and the time, and expects neither.
    fn header(&self) -> String {
        let pid = std::process::id();
        match self.address {
            SyslogAddress::Unix(_) => format!("<{PRIORITY}>{PROGRAM}[{pid}]: "),
            SyslogAddress::Udp(_) => {
                format!("<{PRIORITY}>1 {:.6} {} {PROGRAM} {pid} access - ", Timestamp::now(), self.host)
            }
        }
    }
}

impl SyslogSocket {
    fn connect(address: &SyslogAddress) -> io::Result<Self> {
        match address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(SEND_TIME))?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
            SyslogAddress::Udp(to) => {
                let to = to.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
                let any =
                    if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
                let socket = UdpSocket::bind((any, 0))?;
                socket.set_write_timeout(Some(SEND_TIME))?;
                socket.connect(to)?;
                Ok(Self::Udp(socket))
            }
        }
    }
}

/// A file that lines are appended to.
pub struct AppendedFile {
    path: PathBuf,
    /// `None` after it failed: it is opened anew.
    file: Option<File>,
    /// The last line was written in part.
    is_torn: bool,
}

impl AppendedFile {
    /// Opens the file at `path`, and makes it where it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Some(open_to_append(path)?), is_torn: false })
    }

    /// Appends whole lines.
    fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        let mut left = lines;
        let written = self.append_from(&mut left);
        written.map_err(|source| {
            // The next try finds another file, or the same with room.
            self.file = None;
            let is_whole = left.len() == lines.len() || lines[..lines.len() - left.len()].ends_with(b"\n");
            self.is_torn |= !is_whole;
            AppendError { lost: count_lines(left), source }
        })
    }

    /// Appends lines, and takes what was written off `left`.
    fn append_from(&mut self, left: &mut &[u8]) -> io::Result<()> {
        let file = self.opened()?;
        if self.is_torn {
            // What follows begins a line of its own.
            (&file).write_all(b"\n")?;
            self.is_torn = false;
        }
        while !left.is_empty() {
            match (&file).write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Takes the file that is open. One that was removed is made anew: its lines would be for nobody.
    fn opened(&mut self) -> io::Result<File> {
        match self.file.take() {
            Some(file) if file.metadata().is_ok_and(|it| it.nlink() > 0) => Ok(file),
            Some(_) | None => open_to_append(&self.path),
        }
    }

    /// Opens the file at the path; keeps the one that is open where that fails.
    fn reopen(&mut self) -> io::Result<()> {
        self.file = Some(open_to_append(&self.path)?);
        self.is_torn = false;
        Ok(())
    }
}

/// Opens the file without waiting: a pipe that nobody reads would else hold whoever opens it, and whoever writes.
fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).map_err(io::Error::other)?;
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> AppendedFile {
        AppendedFile { path: path.to_owned(), file: None, is_torn: false }
    }

    #[test]
    fn what_is_lost_are_the_lines_that_were_not_written_whole() {
        // Every write to it fails for want of space.
        let mut full = file(Path::new("/dev/full"));
        let Err(AppendError { lost, source }) = full.append(b"one\ntwo\n") else { panic!("it is full") };
        assert_eq!((lost, source.kind()), (2, io::ErrorKind::StorageFull));
        assert!(!full.is_torn, "nothing of a line was written");
    }

    #[test]
    fn a_line_after_one_that_was_torn_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut torn = file(&path);
        torn.append(b"half a li").ok().unwrap();
        torn.is_torn = true;
        torn.append(b"whole\n").ok().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a li\nwhole\n");
    }

    #[test]
    fn a_file_that_was_removed_is_made_anew_and_one_that_was_moved_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut log = file(&path);
        log.append(b"one\n").ok().unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.append(b"two\n").ok().unwrap();
        log.reopen().unwrap();
        log.append(b"three\n").ok().unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        std::fs::remove_file(&path).unwrap();
        log.append(b"four\n").ok().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
    }
}
