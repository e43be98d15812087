//! Sockets that listen: TCP on one address or on all that a name has, and Unix sockets, whose file an earlier process may
//! have left behind.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{fmt, net, os};

use rustix::fs::OFlags;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::listen_sockets::{BoundTcpSocket, ListenSockets, SocketRegistration, SocketRole};
use crate::listener::{BACKLOG, ListenError};
use crate::settings::ListenerSettings;
use crate::transport::PlainStream;

/// Address that stands for the other end of a Unix socket, which has none. No TCP connection comes from it (RFC 1122
/// §3.2.1.3).
pub const UNIX_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        // Without the right to connect it is not known, and a live one must stay.
        Ok(()) | Err(_) => Err(UnixSocketError::InUse(path.to_owned())),
    }
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
