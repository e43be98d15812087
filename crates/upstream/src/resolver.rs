//! Addresses of a host name. One lookup serves all who connect, and once some addresses are known a new lookup runs
//! beside the requests: a resolver that hangs keeps nobody from a server that was there a moment ago.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::destination::ConnectError;
use primitives::clock::monotonic_now;

/// Time for which addresses are used without a new lookup. After it they are used until new ones are known.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// Time after a failed lookup before the next one, while known addresses are used.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Time after which a lookup that has no result is given up, so that another can begin.
const MAX_LOOKUP: Duration = Duration::from_secs(30);

type AddressList = Arc<[SocketAddr]>;
type LookupResult = Result<AddressList, Arc<io::Error>>;
type PendingLookup = Shared<BoxFuture<'static, LookupResult>>;

/// Lookup of the addresses of a host and port. Once polled it continues whether it is polled again or not, as the
/// system's resolver does in a thread of its own.
pub type Resolver = Arc<dyn Fn(&str, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Returns the system's resolver (getaddrinfo), which knows no TTL.
pub fn system_resolver() -> Resolver {
    Arc::new(|host, port| {
        let host = host.to_owned();
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    })
}

/// A host and port with the addresses known for it.
pub struct CachedAddresses {
    host: String,
    port: u16,
    resolver: Resolver,
    state: Mutex<LookupState>,
}

impl CachedAddresses {
    /// Creates the entry for `host` and `port`, with no address known yet.
    pub fn new(host: String, port: u16, lookup: Resolver) -> Self {
        Self { host, port, resolver: lookup, state: Mutex::default() }
    }

    /// Returns the addresses, at once where some are known. Otherwise waits up to `limit` for the lookup and fails with
    /// `Resolve` or `Timeout`.
    pub async fn get(&self, limit: Duration) -> Result<AddressList, ConnectError> {
        let asking = match self.state.lock().step(monotonic_now(), || self.ask()) {
            LookupStep::Known(known) => return Ok(known),
            LookupStep::Failed(error) => return Err(ConnectError::Resolve(error)),
            LookupStep::Wait(asking) => asking,
        };
        // Only this caller gives up at `limit`: the lookup is shared and continues.
        let answer = timeout(limit, asking.clone()).await.map_err(|_| ConnectError::Timeout)?;
        self.state.lock().record_result(&asking, &answer, monotonic_now());
        answer.map_err(ConnectError::Resolve)
    }

    fn ask(&self) -> PendingLookup {
        let found = (self.resolver)(&self.host, self.port);
        let answer = async move {
            match found.await {
                // No address is a failure: a list that is known is never empty.
                Ok(addresses) if addresses.is_empty() => Err(Arc::new(io::ErrorKind::AddrNotAvailable.into())),
                Ok(addresses) => Ok(addresses.into()),
                Err(error) => Err(Arc::new(error)),
            }
        };
        answer.boxed().shared()
    }
}

/// Known addresses, the time until which they are fresh, and the lookup under way. The time is an argument.
#[derive(Default)]
struct LookupState {
    known: Option<AddressList>,
    /// Time of the next lookup.
    due: Option<Instant>,
    under_way: Option<(PendingLookup, Instant)>,
}

/// Answer to a caller who wants to connect.
enum LookupStep {
    /// Addresses to use now.
    Known(AddressList),
    /// No address is known, and the lookup failed.
    Failed(Arc<io::Error>),
    /// No address is known yet: the lookup to wait for.
    Wait(PendingLookup),
}

impl LookupState {
    /// Starts a lookup with `ask` where one is due, and takes over the result of one that has ended.
    fn step(&mut self, now: Instant, ask: impl FnOnce() -> PendingLookup) -> LookupStep {
        if let (Some(known), true) = (&self.known, self.due.is_some_and(|due| now < due)) {
            return LookupStep::Known(Arc::clone(known));
        }
        let going_on = self.under_way.take().filter(|(_, since)| now.saturating_duration_since(*since) < MAX_LOOKUP);
        let (asking, since) = going_on.unwrap_or_else(|| (ask(), now));
        self.under_way = Some((asking.clone(), since));
        // Polled once here: a future does not start by itself, and nobody else may be waiting for it.
        let answer = asking.clone().now_or_never();
        if let Some(answer) = &answer {
            self.record_result(&asking, answer, now);
        }
        match (&self.known, answer) {
            (Some(known), _) => LookupStep::Known(Arc::clone(known)),
            (None, Some(Err(error))) => LookupStep::Failed(error),
            (None, _) => LookupStep::Wait(asking),
        }
    }

    /// Records the result of the lookup `asking`, once.
    fn record_result(&mut self, asking: &PendingLookup, answer: &LookupResult, now: Instant) {
        // Another caller recorded it, or it was given up for a newer lookup.
        if !self.under_way.as_ref().is_some_and(|(current, _)| current.ptr_eq(asking)) {
            return;
        }
        self.under_way = None;
        self.due = Some(now + if answer.is_ok() { FRESH_FOR } else { RETRY_AFTER });
        if let Ok(addresses) = answer {
            self.known = Some(Arc::clone(addresses));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join_all, pending};
    use tokio::sync::oneshot;

    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 9000).into()
    }

    fn answered(addresses: &[SocketAddr]) -> PendingLookup {
        let addresses = Arc::from(addresses);
        async move { Ok(addresses) }.boxed().shared()
    }

    fn failed() -> PendingLookup {
        async { Err(Arc::new(io::Error::other("no such name"))) }.boxed().shared()
    }

    fn hangs() -> PendingLookup {
        pending().boxed().shared()
    }

    /// The addresses that `step` gives; none where it fails or waits.
    fn known(step: LookupStep) -> Vec<SocketAddr> {
        match step {
            LookupStep::Known(known) => known.to_vec(),
            LookupStep::Failed(_) | LookupStep::Wait(_) => Vec::new(),
        }
    }

    fn unasked() -> PendingLookup {
        panic!("a lookup that nobody needs")
    }

    #[test]
    fn known_addresses_serve_while_a_lookup_hangs_and_new_ones_as_soon_as_they_are_there() {
        let (start, mut state) = (monotonic_now(), LookupState::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(known(state.step(at(0), || answered(&[address(1)]))), [address(1)]);
        assert_eq!(known(state.step(at(9), unasked)), [address(1)]);
        let (tell, told) = oneshot::channel();
        let lookup = async { told.await.map_err(|_| Arc::new(io::ErrorKind::Other.into())) }.boxed().shared();
        assert_eq!(known(state.step(at(10), || lookup)), [address(1)]);
        assert_eq!(known(state.step(at(39), unasked)), [address(1)], "one lookup at a time");
        tell.send(Arc::from([address(2)])).expect("it is waited for");
        assert_eq!(known(state.step(at(39), unasked)), [address(2)]);
        assert_eq!(known(state.step(at(48), unasked)), [address(2)]);
    }

    #[test]
    fn a_lookup_that_hangs_for_good_is_given_up() {
        let (start, mut state) = (monotonic_now(), LookupState::default());
        assert!(matches!(state.step(start, hangs), LookupStep::Wait(_)));
        assert!(matches!(state.step(start + MAX_LOOKUP / 2, unasked), LookupStep::Wait(_)));
        assert_eq!(known(state.step(start + MAX_LOOKUP, || answered(&[address(1)]))), [address(1)]);
    }

    #[test]
    fn a_name_that_resolves_no_more_keeps_its_addresses_and_is_asked_for_once_a_second() {
        let (start, mut state) = (monotonic_now(), LookupState::default());
        state.step(start, || answered(&[address(1)]));
        let later = start + FRESH_FOR;
        assert_eq!(known(state.step(later, failed)), [address(1)]);
        assert_eq!(known(state.step(later + RETRY_AFTER / 2, unasked)), [address(1)]);
        assert_eq!(known(state.step(later + RETRY_AFTER, || answered(&[address(2)]))), [address(2)]);
    }

    #[tokio::test]
    async fn all_who_wait_for_the_first_lookup_share_it_and_its_limit() {
        let (asked, (tell, told)) = (Arc::new(AtomicUsize::new(0)), oneshot::channel::<()>());
        let (count, told) = (Arc::clone(&asked), Mutex::new(Some(told)));
        let addresses = CachedAddresses::new(
            "store.test".to_owned(),
            9000,
            Arc::new(move |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
                let told = told.lock().take();
                async move {
                    match told {
                        Some(told) => told.await.map_err(io::Error::other)?,
                        None => pending().await,
                    }
                    Ok(vec![address(1)])
                }
                .boxed()
            }),
        );
        let short = addresses.get(Duration::from_millis(20)).await;
        assert!(matches!(short, Err(ConnectError::Timeout)), "{short:?}");
        let all = join_all((0..50).map(|_| addresses.get(Duration::from_secs(10))));
        let (all, ()) = tokio::join!(all, async { tell.send(()).expect("it is waited for") });
        assert!(all.into_iter().all(|found| found.is_ok_and(|found| found[..] == [address(1)])));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_name_that_is_unknown_is_said_to_be_so_each_time() {
        let lookup: Resolver = Arc::new(|_, _| async { Ok(Vec::new()) }.boxed());
        let addresses = CachedAddresses::new("store.test".to_owned(), 9000, lookup);
        for _ in 0..2 {
            let found = addresses.get(Duration::from_secs(10)).await;
            assert!(matches!(found, Err(ConnectError::Resolve(_))), "{found:?}");
        }
    }
}
