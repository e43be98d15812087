//! Bytes from socket to socket without a copy into our memory, by splice(2): through a pipe, which holds references to
//! the pages that the bytes came in.

use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use thread_local::ThreadLocal;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes from which splicing pays: fewer are cheaper to copy.
pub const MIN_SPLICE_BYTES: usize = 64 * 1024;
/// Capacity of a pipe in bytes: the most that Linux grants without privileges (`/proc/sys/fs/pipe-max-size`). It is
/// counted in pages, and each fragment of a packet takes one.
const PIPE_CAPACITY: usize = 1024 * 1024;
/// Most bytes moved in one call.
const MAX_SPLICE_BYTES: usize = 256 * 1024;
/// Most times that the pipe is filled and emptied in one call: a store that sends its bytes one by one must not keep
/// the thread.
const MAX_STEPS: usize = 32;

/// One pipe for each thread, empty whenever no call of [`SplicePipes::splice`] is running.
#[derive(Default)]
// The lock is never contended; `ThreadLocal` gives shared references only.
pub struct SplicePipes(ThreadLocal<Mutex<Option<Pipe>>>);

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// Outcome of moving bytes from socket to socket.
#[derive(Debug, PartialEq, Eq)]
pub enum SpliceOutcome {
    /// This many bytes were moved. Bytes that the target did not accept were read into the buffer.
    Bytes(usize),
    /// No bytes are there now.
    NothingAvailable,
    /// Splicing is not possible here, or the source is at its end: reading will tell.
    Unsupported,
    /// This many bytes were moved; then the source connection broke, which the system reports only once.
    SourceBroken(usize),
}

impl SplicePipes {
    /// Moves up to `room` bytes that are there now from `from` to `to`, without waiting. Bytes that `to` does not
    /// accept are appended to `rest`. An error is one of `to`, or of reading the pipe.
    pub fn splice(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        room: usize,
        rest: &mut Vec<u8>,
    ) -> io::Result<SpliceOutcome> {
        let mut place = self.0.get_or_default().lock();
        // Taken out until it is empty again: after an error it still holds bytes of this client, which nobody else may
        // get, and is closed.
        let Some(pipe) = place.take().or_else(|| Pipe::open().ok()) else { return Ok(SpliceOutcome::Unsupported) };
        let (room, mut passed) = (room.min(MAX_SPLICE_BYTES), 0);
        for _ in 0..MAX_STEPS {
            let taken = match pipe.splice_in(from, room - passed) {
                Ok(taken @ 1..) => taken,
                ended => {
                    *place = Some(pipe);
                    return Ok(ended_after(passed, ended.err()));
                }
            };
            let given = pipe.splice_out(to, taken)?;
            passed += given;
            if given < taken {
                pipe.read_rest(taken - given, rest)?;
                break;
            }
            if passed == room {
                break;
            }
        }
        *place = Some(pipe);
        Ok(SpliceOutcome::Bytes(passed))
    }
}

/// Maps the end of a splice that took no bytes, after `passed` bytes were moved. Without an error the source is at its
/// end.
fn ended_after(passed: usize, error: Option<io::Error>) -> SpliceOutcome {
    match (passed, error.map(|error| error.kind())) {
        (0, Some(io::ErrorKind::WouldBlock)) => SpliceOutcome::NothingAvailable,
        // Neither every kind of socket can do it, nor every system.
        (0, None | Some(io::ErrorKind::InvalidInput)) => SpliceOutcome::Unsupported,
        (_, None | Some(io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput)) => SpliceOutcome::Bytes(passed),
        (_, Some(_)) => SpliceOutcome::SourceBroken(passed),
    }
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Fails where the user has too many pipe pages already (pipe(7)); then bodies are read instead.
        fcntl_setpipe_size(&writer, PIPE_CAPACITY)?;
        Ok(Self { reader, writer })
    }

    /// Takes up to `room` bytes that are there from the socket. Fewer bytes say nothing about the socket: the system
    /// ends early where a packet has many fragments, each of which takes a page of the pipe. Only `WouldBlock` says
    /// that there is no more, and only then may we wait for the socket.
    fn splice_in(&self, from: &TcpStream, room: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        // `try_io` clears Tokio's readiness on `WouldBlock`, without which the next wait would return at once.
        from.try_io(Interest::READABLE, || splice(from, None, &self.writer, None, room, flags).map_err(io::Error::from))
    }

    /// Gives as many of the `taken` bytes in the pipe as `to` accepts now, and returns how many.
    fn splice_out(&self, to: &TcpStream, taken: usize) -> io::Result<usize> {
        let mut given = 0;
        while given < taken {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let step = || splice(&self.reader, None, to, None, taken - given, flags).map_err(io::Error::from);
            match to.try_io(Interest::WRITABLE, step) {
                Ok(step) => given += step,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(given)
    }

    /// Reads the `left` bytes that are still in the pipe and appends them to `into`.
    fn read_rest(&self, left: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.reserve_exact(left);
        let whole = into.len() + left;
        while into.len() < whole {
            // We hold the write end ourselves, so an end here means that the count is wrong.
            if rustix::io::read(&self.reader, spare_capacity(into))? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns the two ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (connected.expect("a connection"), accepted.expect("a connection").0)
    }

    fn song(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[tokio::test]
    async fn every_byte_is_passed_or_read_in_order_whatever_the_other_end_takes() {
        let ((mut store, from), (to, mut player)) = (pair().await, pair().await);
        let sent = song(8 * 1024 * 1024);
        let sending = async { store.write_all(&sent).await.expect("taken") };
        let passing = async {
            let (pipes, mut left, mut rests) = (SplicePipes::default(), sent.len(), 0);
            while left > 0 {
                from.readable().await.expect("open");
                let mut rest = Vec::new();
                let SpliceOutcome::Bytes(passed) = pipes.splice(&from, &to, left, &mut rest).expect("open") else {
                    continue;
                };
                left -= passed + rest.len();
                rests += rest.len();
                let mut rest = &rest[..];
                while !rest.is_empty() {
                    to.writable().await.expect("open");
                    rest = &rest[to.try_write(rest).unwrap_or(0)..];
                }
            }
            rests
        };
        let playing = async {
            let mut got = vec![0; sent.len()];
            for piece in got.chunks_mut(128 * 1024) {
                tokio::task::yield_now().await;
                player.read_exact(piece).await.expect("sent");
            }
            got
        };
        let ((), rests, got) = tokio::join!(sending, passing, playing);
        assert!(got == sent, "other bytes than were sent");
        assert!(rests > 0, "the player was never behind");
    }

    #[tokio::test]
    async fn nothing_is_told_from_the_end() {
        let ((mut store, from), (to, _player)) = (pair().await, pair().await);
        let (pipes, mut rest) = (SplicePipes::default(), Vec::new());
        assert_eq!(
            pipes.splice(&from, &to, MIN_SPLICE_BYTES, &mut rest).expect("open"),
            SpliceOutcome::NothingAvailable
        );
        store.write_all(b"the end").await.expect("taken");
        store.shutdown().await.expect("open");
        let mut came = Vec::new();
        while came.last() != Some(&SpliceOutcome::Unsupported) {
            from.readable().await.expect("open");
            came.push(pipes.splice(&from, &to, MIN_SPLICE_BYTES, &mut rest).expect("open"));
        }
        came.retain(|passed| *passed != SpliceOutcome::NothingAvailable);
        assert_eq!(came, [SpliceOutcome::Bytes(7), SpliceOutcome::Unsupported]);
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn a_reset_is_told_from_the_end() {
        let ((store, from), (to, _player)) = (pair().await, pair().await);
        SockRef::from(&store).set_linger(Some(Duration::ZERO)).expect("open");
        drop(store);
        from.readable().await.expect("its end");
        assert_eq!(
            SplicePipes::default().splice(&from, &to, MIN_SPLICE_BYTES, &mut Vec::new()).expect("open"),
            SpliceOutcome::SourceBroken(0)
        );
    }

    #[test]
    fn an_error_is_told_with_the_bytes_before_it() {
        for (passed, error, expected) in [
            (0, None, SpliceOutcome::Unsupported),
            (7, None, SpliceOutcome::Bytes(7)),
            (0, Some(io::ErrorKind::WouldBlock), SpliceOutcome::NothingAvailable),
            (7, Some(io::ErrorKind::WouldBlock), SpliceOutcome::Bytes(7)),
            (7, Some(io::ErrorKind::ConnectionReset), SpliceOutcome::SourceBroken(7)),
        ] {
            assert_eq!(ended_after(passed, error.map(io::Error::from)), expected);
        }
    }

    #[tokio::test]
    async fn who_has_gone_takes_nothing_and_leaves_nothing_to_the_next() {
        let ((mut store, from), (to, player)) = (pair().await, pair().await);
        let (pipes, mut rest) = (SplicePipes::default(), Vec::new());
        drop(player);
        to.readable().await.expect("its end");
        loop {
            store.write_all(b"for nobody").await.expect("taken");
            from.readable().await.expect("open");
            if pipes.splice(&from, &to, MIN_SPLICE_BYTES, &mut rest).is_err() {
                break;
            }
        }
        let (other, mut listener) = pair().await;
        store.write_all(b"for somebody").await.expect("taken");
        let mut got = [0; 12];
        loop {
            from.readable().await.expect("open");
            if pipes.splice(&from, &other, MIN_SPLICE_BYTES, &mut rest).expect("open") == SpliceOutcome::Bytes(12) {
                break;
            }
        }
        listener.read_exact(&mut got).await.expect("sent");
        assert_eq!(&got, b"for somebody");
    }
}
