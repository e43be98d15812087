//! Sockets that listen: TCP on one address or on all that a name has, and Unix sockets, whose file an earlier process may
//! have left behind.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, net, os};

use rustix::fs::{FlockOperation, OFlags, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::listen_sockets::{BoundTcpSocket, ListenSockets, SocketRegistration, SocketRole};
use crate::listener::{BACKLOG, ListenError};
use crate::settings::ListenerSettings;
use crate::transport::PlainStream;

/// Address that stands for the other end of a Unix socket, which has none. No TCP connection comes from it (RFC 1122
/// §3.2.1.3).
pub const UNIX_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Tries to lock the file of a Unix socket, and the pause between two: five seconds, in which any start is over.
const LOCK_TRIES: usize = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Reason why a Unix socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum UnixSocketError {
    /// Another process listens on it.
    #[error("cannot listen on unix:{0}: another process listens on it")]
    InUse(PathBuf),
    /// The file is something else, and is not removed for that reason.
    #[error("cannot listen on unix:{0}: the file is there and no socket; remove it, or give another path")]
    NotSocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on unix:{path}: {source}")]
    System {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

/// Address that a socket listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundAddress {
    /// Of TCP, with the port that it got.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl BoundAddress {
    /// Returns the address of a TCP socket; `None` where it is a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that listens, before a runtime watches it.
pub struct BoundSocket {
    /// Its address.
    pub address: BoundAddress,
    socket: SystemSocket,
    registration: SocketRegistration,
}

/// A listening socket of the system.
pub(crate) enum SystemSocket {
    /// Of TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl SystemSocket {
    /// Returns another descriptor of the same socket.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }
}

impl From<SystemSocket> for OwnedFd {
    fn from(socket: SystemSocket) -> Self {
        match socket {
            SystemSocket::Tcp(socket) => socket.into(),
            SystemSocket::Unix(socket) => socket.into(),
        }
    }
}

impl BoundSocket {
    /// Closes it where it is not wanted after all; the file of a Unix socket goes with it.
    pub(crate) fn discard(self) {
        if let BoundAddress::Unix(path) = &self.address {
            // A file that stays is replaced by whoever listens there next.
            let _ = fs::remove_file(path);
        }
    }

    /// Hands the socket to the runtime of the caller, which it needs; the registration is to be dropped with it. Fails
    /// where the runtime cannot watch it.
    pub fn listen(self) -> io::Result<(ListeningSocket, SocketRegistration)> {
        let socket = match self.socket {
            SystemSocket::Tcp(socket) => ListeningSocket::Tcp(tokio::net::TcpListener::from_std(socket)?),
            SystemSocket::Unix(socket) => ListeningSocket::Unix(tokio::net::UnixListener::from_std(socket)?),
        };
        Ok((socket, self.registration))
    }
}

/// Opens a TCP socket on `address`, or takes it over from `sockets`: the one of the name `wanted`, where it is given. Fails
/// where the address is taken, not this machine's, or not allowed.
pub(crate) fn open_tcp(
    address: SocketAddr,
    sockets: &ListenSockets,
    wanted: Option<&str>,
) -> Result<BoundSocket, ListenError> {
    let BoundTcpSocket { listener, address, registration } = sockets.open(SocketRole::Listener, address, wanted)?;
    Ok(BoundSocket { address: BoundAddress::Tcp(address), socket: SystemSocket::Tcp(listener), registration })
}

/// Opens a Unix socket at `path` with the mode of `listener`, or takes it over from `sockets`, as [`open_tcp`] does.
pub(crate) fn open_unix(
    path: &Path,
    sockets: &ListenSockets,
    listener: &ListenerSettings,
) -> Result<BoundSocket, ListenError> {
    let mode = listener.socket_mode;
    let (socket, registration) =
        sockets.open_unix(path, (listener.socket.as_deref(), mode), || bind_unix(path, mode))?;
    Ok(BoundSocket { address: BoundAddress::Unix(path.to_owned()), socket: SystemSocket::Unix(socket), registration })
}

/// Returns the addresses of `name`, each once.
pub(crate) async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, ListenError> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found = found.map_err(|source| ListenError::Resolve { name: name.to_owned(), source })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        // A resolver may give an address twice.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Opens, by `open`, those of the addresses of `name` that this machine has: `localhost` often has an IPv6 address where
/// IPv6 is switched off.
pub(crate) fn open_present<T>(
    name: &str,
    addresses: Vec<SocketAddr>,
    mut open: impl FnMut(SocketAddr) -> Result<T, ListenError>,
) -> Result<Vec<T>, ListenError> {
    let (mut bound, mut missing) = (Vec::new(), None);
    for address in addresses {
        match open(address) {
            Ok(socket) => bound.push(socket),
            Err(ListenError::Bind { address, source }) if is_absent(&source) => {
                tracing::warn!("{name} is also {address}, which this machine does not have: not listened on");
                missing = Some(ListenError::Bind { address, source });
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if bound.is_empty() => Err(error),
        Some(_) | None => Ok(bound),
    }
}

/// Returns true where the machine lacks the address, or its whole family.
fn is_absent(error: &io::Error) -> bool {
    // errno(3) of Linux: EAFNOSUPPORT has no kind of its own.
    const NO_FAMILY: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_FAMILY)
}

fn bind_unix(path: &Path, mode: Option<u32>) -> Result<UnixListener, UnixSocketError> {
    let failed = |source| UnixSocketError::System { path: path.to_owned(), source };
    // Until it listens: two processes that start at once would else both find the file of a third, and each remove that of
    // the other.
    let _lock = SocketLock::take(path).map_err(failed)?.ok_or_else(|| UnixSocketError::InUse(path.to_owned()))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    let address = SockAddr::unix(path).map_err(failed)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(failed(error));
        }
        remove_stale(path, &address)?;
        socket.bind(&address).map_err(failed)?;
    }
    // Before it listens: until then nobody can connect, whatever the mode is.
    if let Some(mode) = mode {
        set_socket_mode(path, mode).map_err(failed)?;
    }
    socket.listen(BACKLOG).map_err(failed)?;
    // tokio takes over sockets only in this mode.
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket.into())
}

/// Sets the mode of the socket at `path`. Fails where something else stands there, such as a link that would lead to the
/// mode of another file.
pub fn set_socket_mode(path: &Path, mode: u32) -> io::Result<()> {
    let flags = i32::try_from((OFlags::PATH | OFlags::NOFOLLOW).bits()).map_err(io::Error::other)?;
    let socket = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !socket.metadata()?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no socket any more"));
    }
    // The descriptor is the socket itself, whatever stands at the path by now.
    fs::set_permissions(format!("/proc/self/fd/{}", socket.as_raw_fd()), Permissions::from_mode(mode))
}

/// Removes the socket's file where nobody listens on it: a process that was killed leaves it behind.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), UnixSocketError> {
    let failed = |source| UnixSocketError::System { path: path.to_owned(), source };
    if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
        return Err(UnixSocketError::NotSocket(path.to_owned()));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // A listener whose queue is full would else make this wait.
    probe.set_nonblocking(true).map_err(failed)?;
    match probe.connect(address) {
        // One that is bound and does not listen yet refuses connections too.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && !is_bound(path) => {
            fs::remove_file(path).map_err(failed)
        }
        // Without the right to connect it is not known, and a live one must stay.
        Ok(()) | Err(_) => Err(UnixSocketError::InUse(path.to_owned())),
    }
}

/// Returns true where a process is seen to have a socket that it has bound to `path` in these words, listening or not.
fn is_bound(path: &Path) -> bool {
    // unix(7), proc_net(5): the path is the last column, as it was given. Where the table is hidden, what the connection said
    // has to do.
    let name = path.as_os_str().as_bytes();
    let is_it = |line: &[u8]| line.strip_suffix(name).is_some_and(|rest| rest.ends_with(b" "));
    fs::read("/proc/net/unix").is_ok_and(|table| table.split(|byte| *byte == b'\n').any(is_it))
}

/// Right to decide about the file of a Unix socket, until it is dropped: a lock on a file beside it, which is removed then.
struct SocketLock {
    path: PathBuf,
    /// Holds the lock.
    _file: fs::File,
}

impl SocketLock {
    /// Waits for the lock of the socket at `path`; `None` where another process has it for too long.
    fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
        for _ in 0..LOCK_TRIES {
            let mut options = fs::OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The one before has removed the file, and another one may have been made and locked meanwhile.
                Ok(()) if is_same_file(&file, &path)? => return Ok(Some(Self { path, _file: file })),
                Ok(()) => {}
                Err(error) if error == rustix::io::Errno::WOULDBLOCK => std::thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        // While it is locked. One that stays is no harm: nobody holds its lock.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_same_file(file: &fs::File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    Ok(fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
}

/// A socket that accepts connections.
pub enum ListeningSocket {
    /// Of TCP.
    Tcp(tokio::net::TcpListener),
    /// A Unix socket.
    Unix(tokio::net::UnixListener),
}

impl ListeningSocket {
    /// Waits for a connection. It is taken out of this runtime, since its events must come to the worker that serves it.
    /// Can be dropped and called again.
    pub async fn accept(&self) -> io::Result<AcceptedSocket> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                AcceptedSocket::Tcp(socket.into_std()?, peer)
            }
            Self::Unix(listener) => AcceptedSocket::Unix(listener.accept().await?.0.into_std()?),
        })
    }
}

/// A connection that was accepted and that no runtime watches.
pub enum AcceptedSocket {
    /// Of TCP, with the address of its other end.
    Tcp(net::TcpStream, SocketAddr),
    /// Of a Unix socket.
    Unix(os::unix::net::UnixStream),
}

impl AcceptedSocket {
    /// Returns the address of the other end, an IPv4 address as such also where the listener is an IPv6 one.
    pub fn peer(&self) -> IpAddr {
        match self {
            Self::Tcp(_, peer) => peer.ip().to_canonical(),
            Self::Unix(_) => UNIX_PEER,
        }
    }

    /// Hands the connection to the runtime of the caller, which it needs. Fails where the runtime cannot watch it.
    pub fn into_stream(self) -> io::Result<PlainStream> {
        Ok(match self {
            Self::Tcp(socket, _) => PlainStream::Left(TcpStream::from_std(socket)?),
            Self::Unix(socket) => PlainStream::Right(UnixStream::from_std(socket)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("bind-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn of_those_that_start_at_once_on_a_socket_that_was_left_behind_one_listens() {
        let folder = folder("race");
        let path = folder.join("socket");
        for _ in 0..50 {
            drop(UnixListener::bind(&path));
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| bind_unix(&path, Some(0o600)))).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            let listening: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
            assert_eq!(listening.len(), 1, "{outcomes:?}");
            os::unix::net::UnixStream::connect(&path).expect("the one that is there listens");
            assert!(
                outcomes
                    .iter()
                    .flat_map(|outcome| outcome.as_ref().err())
                    .all(|error| { matches!(error, UnixSocketError::InUse(_)) })
            );
        }
        assert!(!folder.join("socket.lock").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_socket_that_is_bound_and_does_not_listen_yet_stays() {
        let folder = folder("bound");
        let path = folder.join("socket");
        let early = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        early.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert!(matches!(bind_unix(&path, None), Err(UnixSocketError::InUse(_))));
        early.listen(1).unwrap();
        os::unix::net::UnixStream::connect(&path).expect("it is still there");
        drop(early);
        assert!(bind_unix(&path, None).is_ok(), "it was left behind");
        fs::remove_dir_all(&folder).unwrap();
    }
}
