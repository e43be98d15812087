//! Connections of the admin listener, which are bounded in number. Where all places are taken, a new connection gets the
//! place of one that has not sent a whole request: who only holds places keeps no health check out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use primitives::clock::monotonic_now;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// Time in which a connection keeps its place whatever it waits for: a request is on its way for a while, and who comes again
/// and again would else take the place of one before it is read.
const LEAST_TIME: Duration = Duration::from_millis(250);

/// Connections of the listener. Clones share them.
#[derive(Clone, Default)]
pub struct AdminConnections {
    shared: Arc<ConnectionTable>,
}

#[derive(Default)]
struct ConnectionTable {
    entries: Mutex<ConnectionEntries>,
    /// A place has become free, or a connection waits for its client by now.
    changed: Notify,
}

#[derive(Default)]
struct ConnectionEntries {
    next: u64,
    open: Vec<ConnectionEntry>,
}

struct ConnectionEntry {
    id: u64,
    peer: IpAddr,
    /// Begin of the wait for a request, or for its rest; `None` while an answer is made.
    waits_since: Option<Instant>,
    evicted: CancellationToken,
}

/// An open connection, until it is dropped. Clones are the same connection.
#[derive(Clone)]
pub struct AdminConnection(Arc<ConnectionPlace>);

struct ConnectionPlace {
    table: Arc<ConnectionTable>,
    id: u64,
    evicted: CancellationToken,
}

/// A request that arrives, until it is dropped.
pub struct ArrivalGuard(AdminConnection);

/// An answer under way, until it is dropped.
pub struct AnswerGuard(AdminConnection);

impl AdminConnections {
    /// Counts a connection of `peer`; waits while no place can be had. Can be dropped.
    pub async fn admit(&self, peer: IpAddr) -> AdminConnection {
        loop {
            let wait = match self.try_admit(peer, monotonic_now()) {
                Ok(connection) => return connection,
                Err(wait) => wait,
            };
            let later = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = later => {}
                // One that comes between the two is kept for the next wait.
                () = self.shared.changed.notified() => {}
            }
        }
    }

    /// Counts a connection. Fails where all places are taken, with the time until a connection that waits gives its place;
    /// `None`: none waits.
    fn try_admit(&self, peer: IpAddr, now: Instant) -> Result<AdminConnection, Option<Duration>> {
        let mut entries = self.shared.entries.lock();
        if entries.open.len() >= MAX_CONNECTIONS {
            let place = entries.first_to_go(now)?;
            // Its place is free from now on, and it ends when it next runs.
            entries.open.swap_remove(place).evicted.cancel();
        }
        entries.next += 1;
        let (id, evicted) = (entries.next, CancellationToken::new());
        entries.open.push(ConnectionEntry { id, peer, waits_since: Some(now), evicted: evicted.clone() });
        Ok(AdminConnection(Arc::new(ConnectionPlace { table: Arc::clone(&self.shared), id, evicted })))
    }
}

impl ConnectionEntries {
    /// Returns the place of the connection that has waited for the longest, of the address that has the most. Fails where none
    /// has waited for long enough, as [`AdminConnections::try_admit`] does.
    fn first_to_go(&self, now: Instant) -> Result<usize, Option<Duration>> {
        let count = |peer| self.open.iter().filter(|entry| entry.peer == peer).count();
        let waiting = self.open.iter().enumerate().filter_map(|(place, entry)| {
            let since = entry.waits_since?;
            Some((place, entry.peer, now.saturating_duration_since(since)))
        });
        let first = waiting
            .clone()
            .filter(|(.., time)| *time >= LEAST_TIME)
            .max_by_key(|(_, peer, time)| (count(*peer), *time));
        let longest = || waiting.map(|(.., time)| time).max();
        first.map(|(place, ..)| place).ok_or_else(|| longest().map(|time| LEAST_TIME.saturating_sub(time)))
    }
}

impl AdminConnection {
    /// Resolves when the place was given to another connection.
    pub async fn evicted(&self) {
        self.0.evicted.cancelled().await;
    }

    /// Notes the head of a request. Once the whole of it is there, the connection keeps its place until it is answered.
    pub fn begin_request(&self, is_whole: bool) -> ArrivalGuard {
        self.set_waiting((!is_whole).then(monotonic_now));
        ArrivalGuard(self.clone())
    }

    /// Notes that an answer is sent, after which the connection waits for its client again.
    pub fn begin_answer(&self) -> AnswerGuard {
        AnswerGuard(self.clone())
    }

    fn set_waiting(&self, since: Option<Instant>) {
        let ConnectionPlace { table, id, .. } = &*self.0;
        let mut entries = table.entries.lock();
        if let Some(entry) = entries.open.iter_mut().find(|entry| entry.id == *id) {
            entry.waits_since = since;
        }
    }
}

impl Drop for ArrivalGuard {
    fn drop(&mut self) {
        self.0.set_waiting(None);
    }
}

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.0.set_waiting(Some(monotonic_now()));
        self.0.0.table.changed.notify_one();
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.table.entries.lock().open.retain(|entry| entry.id != self.id);
        self.table.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// A request that has arrived, and its answer, which is under way.
    fn answer(connection: &AdminConnection) -> AnswerGuard {
        drop(connection.begin_request(false));
        connection.begin_answer()
    }

    fn is_evicted(connection: &AdminConnection) -> bool {
        connection.0.evicted.is_cancelled()
    }

    #[test]
    fn the_oldest_that_waits_goes_and_those_of_the_address_with_the_most_first() {
        let all = AdminConnections::default();
        let start = monotonic_now();
        let admit = |peer, at: u64| all.try_admit(address(peer), start + Duration::from_millis(at));
        let lone = admit(1, 0).expect("a place is free");
        let mut others: Vec<_> = (1..64).map(|at| admit(2, at).expect("a place is free")).collect();
        let first = answer(&others[0]);
        let wait = admit(3, 100).err().expect("none has waited for long enough");
        assert_eq!(wait, Some(Duration::from_millis(150)), "for the lone one");
        let probe = admit(3, 1000).expect("another one goes");
        assert_eq!(others.iter().map(is_evicted).filter(|it| *it).count(), 1);
        assert!(is_evicted(&others[1]), "the first is answered, so that the second is the oldest");
        assert!(!is_evicted(&lone) && !is_evicted(&probe));
        // Where all are answered, the next one waits for the end of an answer.
        others.retain(|connection| !is_evicted(connection));
        let mut answers: Vec<_> = others[1..].iter().chain([&lone, &probe]).map(answer).collect();
        answers.push(first);
        assert_eq!(answers.len(), MAX_CONNECTIONS);
        assert_eq!(admit(4, 10_000).err(), Some(None));
        answers.pop();
        assert!(admit(4, 10_000).is_ok());
    }
}
