//! The byte stream under a client's connection: a TCP or a Unix socket, as the system has it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// A connected socket: of TCP, or a Unix socket.
pub type PlainStream = Either<TcpStream, UnixStream>;

/// Sets what every connection has; fails where the socket takes no options.
pub fn configure(stream: &PlainStream) -> io::Result<()> {
    // Writes are whole pieces already; Nagle's algorithm would only delay the last of them.
    tcp(stream).map_or(Ok(()), |stream| stream.set_nodelay(true))
}

/// Returns the TCP socket; `None` where it is a Unix socket.
pub fn tcp(stream: &PlainStream) -> Option<&TcpStream> {
    match stream {
        Either::Left(stream) => Some(stream),
        Either::Right(_) => None,
    }
}

/// Returns the descriptor of the socket.
pub fn descriptor(stream: &PlainStream) -> RawFd {
    match stream {
        Either::Left(stream) => stream.as_raw_fd(),
        Either::Right(stream) => stream.as_raw_fd(),
    }
}
