//! The load generator: one thread, one event loop, any number of keep-alive HTTP/1.1 connections.
//!
//! It shares the machine with what it measures, so it must be cheap: requests are prepared texts, and bodies are
//! dropped inside the kernel (`MSG_TRUNC`), never copied. It checks the status and the announced length of every answer
//! and counts the body's bytes; it knows nothing of who answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::load::{Group, Order, Pace, Request, Tally};
use crate::play::{Habits, Play};
use primitives::clock::monotonic_now;

/// Reads of a response header: large enough for any header, small enough to copy little of the body.
const HEAD: usize = 4096;
/// What a paused reader reads at most: the header and a good kilobyte.
const PAUSED_HEAD: usize = 2048;
/// How much of a body one call drops.
const SINK: usize = 1 << 20;
/// `MSG_TRUNC` of Linux: on TCP, the bytes are taken off the socket and not copied (tcp(7)).
const MSG_TRUNC: i32 = 0x20;
/// An answer that makes no progress for so long on loopback is a fault.
const STALLED: Duration = Duration::from_secs(2);
/// A run with so many errors has nothing more to tell.
const TOO_MANY_ERRORS: u64 = 50;

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Waits for its time.
    Idle,
    /// Sent; so many bytes of the header are read.
    Head(usize),
    /// So many bytes of the body are still to come.
    Body(u64),
    /// Will not read again.
    Paused,
}

struct Connection {
    stream: TcpStream,
    group: usize,
    state: State,
    /// The index of the request under way or sent last.
    request: usize,
    /// When the request under way was to be sent, or the next one is.
    due: Instant,
    /// From when the time of the request under way counts.
    wanted: Instant,
    progress: Instant,
    head: Box<[u8]>,
    /// Where a player is in its track.
    play: Option<Play>,
}

/// All connections of a load, and the loop that drives them.
pub struct Fleet {
    poll: Poll,
    groups: Vec<Group>,
    connections: Vec<Connection>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    random: u64,
    sink: Box<[MaybeUninit<u8>]>,
    tally: Tally,
}

impl Fleet {
    /// Connects everybody. Paced connections start spread evenly over their period.
    pub fn connect(groups: Vec<Group>) -> Result<Self> {
        let mut fleet = Self {
            poll: Poll::new()?,
            groups,
            connections: Vec::new(),
            due: BinaryHeap::new(),
            random: 0x9E37_79B9_7F4A_7C15,
            sink: Box::new_uninit_slice(SINK),
            tally: Tally::default(),
        };
        let start = monotonic_now();
        for group in 0..fleet.groups.len() {
            let Group { address, connections, pace, order, .. } = fleet.groups[group];
            for nth in 0..connections {
                let index = fleet.connections.len();
                let stream = open(&fleet.poll, address, index)?;
                let count = fleet.groups[group].requests.len();
                let request = match order {
                    Order::Random | Order::InTurn => fleet.any(count),
                    Order::Dealt => (nth + count).saturating_sub(connections),
                };
                let head = if matches!(pace, Pace::Pause) { PAUSED_HEAD } else { HEAD };
                let share = nth as f64 / connections as f64;
                let due = match pace {
                    Pace::Closed | Pace::Once | Pace::Pause => start,
                    Pace::Every(period) | Pace::Player(Habits { chunk: period, .. }) => start + period.mul_f64(share),
                };
                let play = match pace {
                    Pace::Player(habits) => Some(Play::new(habits, due, fleet.any(1000) as f64 / 1000.0)),
                    _ => None,
                };
                fleet.connections.push(Connection {
                    stream,
                    group,
                    state: State::Idle,
                    request,
                    due,
                    wanted: due,
                    progress: start,
                    head: vec![0; head].into_boxed_slice(),
                    play,
                });
                fleet.due.push(Reverse((due, index)));
            }
        }
        Ok(fleet)
    }

    /// Drives the load for `time`. Answers under way at its end go on in the next run.
    pub fn run(&mut self, time: Duration) -> Result<Tally> {
        let end = monotonic_now() + time;
        let mut events = Events::with_capacity(1024);
        loop {
            self.send_due()?;
            let now = monotonic_now();
            if now >= end || self.tally.errors >= TOO_MANY_ERRORS {
                break;
            }
            let wake = self.due.peek().map_or(end, |Reverse((due, _))| (*due).min(end));
            match self.poll.poll(&mut events, Some(wake.saturating_duration_since(now))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                self.advance(event.token().0)?;
            }
        }
        self.report_stalled();
        Ok(std::mem::take(&mut self.tally))
    }

    /// How many paused readers have what they wanted.
    pub fn paused(&self) -> usize {
        self.connections.iter().filter(|connection| connection.state == State::Paused).count()
    }

    fn send_due(&mut self) -> Result<()> {
        let now = monotonic_now();
        while let Some(&Reverse((due, index))) = self.due.peek() {
            if due > now {
                break;
            }
            self.due.pop();
            self.send(index, now)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, now: Instant) -> Result<()> {
        let group = &self.groups[self.connections[index].group];
        let (requests, order) = (Rc::clone(&group.requests), group.order);
        let next = match order {
            Order::Random => self.any(requests.len()),
            Order::InTurn => (self.connections[index].request + 1) % requests.len(),
            Order::Dealt => (self.connections[index].request + group.connections) % requests.len(),
        };
        let connection = &mut self.connections[index];
        (connection.request, connection.state, connection.progress) = (next, State::Head(0), now);
        // The loop's own timer is a millisecond coarse: a time that was merely rounded up is not the server's delay.
        let late = now.duration_since(connection.due) >= Duration::from_millis(2);
        connection.wanted = if late { connection.due } else { now };
        match connection.stream.write(&requests[next].text) {
            Ok(written) if written == requests[next].text.len() => Ok(()),
            Ok(_) => self.fail(index, "a request did not fit into the socket"),
            Err(error) => self.fail(index, &format!("sending: {error}")),
        }
    }

    /// Reads what has come, and sends the next request of a closed loop. Events are edge-triggered: a read that leaves
    /// room in its buffer emptied the socket, and the next bytes bring the next event (epoll(7)).
    fn advance(&mut self, index: usize) -> Result<()> {
        loop {
            let step = match self.connections[index].state {
                State::Idle => self.read_idle(index),
                State::Head(filled) => self.read_head(index, filled),
                State::Body(left) => self.read_body(index, left),
                State::Paused => return Ok(()),
            };
            let more = match step {
                Ok(more) => more,
                Err(error) => return self.fail(index, &format!("{error:#}")),
            };
            if self.connections[index].state == State::Body(0) {
                return self.finish(index);
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Nothing may come unasked; a closed connection is found here.
    fn read_idle(&mut self, index: usize) -> Result<bool> {
        match self.connections[index].stream.read(&mut [0; 1]) {
            Ok(0) => bail!("the idle connection was closed"),
            Ok(_) => bail!("bytes after the end of an answer"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("waiting"),
        }
    }

    fn read_head(&mut self, index: usize, filled: usize) -> Result<bool> {
        let connection = &mut self.connections[index];
        let read = match connection.stream.read(&mut connection.head[filled..]) {
            Ok(0) => bail!("the connection was closed before an answer"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("reading a header"),
        };
        let filled = filled + read;
        let now = monotonic_now();
        connection.progress = now;
        connection.state = State::Head(filled);
        let group = &self.groups[connection.group];
        let expected = &group.requests[connection.request];
        let Some(end) = connection.head[..filled].windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(filled < connection.head.len(), "the header is longer than {} bytes", connection.head.len());
            return Ok(false);
        };
        check_head(&connection.head[..end], expected)?;
        let body = (filled - end - 4) as u64;
        if body == 0 && expected.length > 0 {
            return Ok(false); // the first byte that counts is one of the body
        }
        ensure!(body <= expected.length, "bytes after the end of an answer");
        if group.sampled {
            self.tally.first_bytes.push(now.duration_since(connection.wanted));
        }
        self.tally.bytes += body;
        let paused = matches!(group.pace, Pace::Pause);
        connection.state = if paused { State::Paused } else { State::Body(expected.length - body) };
        Ok(filled == connection.head.len())
    }

    fn read_body(&mut self, index: usize, left: u64) -> Result<bool> {
        let connection = &mut self.connections[index];
        let room = usize::try_from(left).map_or(SINK, |left| left.min(SINK));
        match SockRef::from(&connection.stream).recv_with_flags(&mut self.sink[..room], MSG_TRUNC) {
            Ok(0) => bail!("the body ended {left} bytes early"),
            Ok(read) => {
                connection.state = State::Body(left - read as u64);
                connection.progress = monotonic_now();
                self.tally.bytes += read as u64;
                Ok(read == SINK)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("reading a body"),
        }
    }

    fn finish(&mut self, index: usize) -> Result<()> {
        self.tally.requests += 1;
        let now = monotonic_now();
        let connection = &mut self.connections[index];
        connection.state = State::Idle;
        let group = &self.groups[connection.group];
        match group.pace {
            Pace::Closed => {
                connection.due = now;
                self.send(index, now)
            }
            Pace::Once | Pace::Pause => Ok(()),
            Pace::Player(habits) => {
                self.tally.late += u64::from(connection.due + habits.chunk < now);
                let bound = group.requests.len();
                let next = connection.play.as_mut().context("a player that does not play")?.next(now);
                connection.due = next.due;
                if next.jump {
                    let to = self.any(bound);
                    self.connections[index].request = to;
                }
                self.due.push(Reverse((next.due, index)));
                Ok(())
            }
            Pace::Every(period) => {
                connection.due += period;
                self.tally.late += u64::from(!group.sampled && connection.due < now);
                self.due.push(Reverse((connection.due, index)));
                Ok(())
            }
        }
    }

    /// Counts an error, and goes on with a new connection.
    fn fail(&mut self, index: usize, message: &str) -> Result<()> {
        let connection = &mut self.connections[index];
        let request = &self.groups[connection.group].requests[connection.request].text;
        let line = request.split(|byte| *byte == b'\r').next().map(String::from_utf8_lossy).unwrap_or_default();
        self.tally.error(format!("{line}: {message}"));
        self.poll.registry().deregister(&mut connection.stream)?;
        connection.stream = open(&self.poll, self.groups[connection.group].address, index)?;
        connection.state = State::Idle;
        connection.due = monotonic_now() + Duration::from_millis(20);
        self.due.push(Reverse((connection.due, index)));
        Ok(())
    }

    fn report_stalled(&mut self) {
        let now = monotonic_now();
        for connection in &mut self.connections {
            let waiting = matches!(connection.state, State::Head(_) | State::Body(_));
            if waiting && now.duration_since(connection.progress) > STALLED {
                connection.progress = now;
                self.tally.error(format!("an answer made no progress for {} s", STALLED.as_secs()));
            }
        }
    }

    /// A number below `bound` (xorshift; the same run sends the same requests).
    fn any(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }
}

fn open(poll: &Poll, address: SocketAddr, index: usize) -> Result<TcpStream> {
    let stream = std::net::TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
    Ok(stream)
}

/// The status and the length must be what was expected; nothing else of the header matters here.
fn check_head(head: &[u8], expected: &Request) -> Result<()> {
    let status = head.get(9..12).unwrap_or_default();
    if status != expected.status {
        bail!("status {}, expected {}", String::from_utf8_lossy(status), String::from_utf8_lossy(expected.status));
    }
    let length = head
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split_at_checked(15))
        .find(|(name, _)| name.eq_ignore_ascii_case(b"content-length:"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok());
    ensure!(length.unwrap_or(0) == expected.length, "Content-Length {length:?}, expected {}", expected.length);
    Ok(())
}
