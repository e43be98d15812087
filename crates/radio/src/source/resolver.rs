//! Resolution of stations' names, whose servers anybody may run: the time, the addresses of an answer, and the lookups at once
//! are bounded, since each keeps a thread of this process until the system's resolver gives up.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::SourceError;
use primitives::blocking_calls::BlockingCalls;

/// Time that is waited for an answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most lookups at once: one that nobody waits for any more counts until it has ended.
const MAX_LOOKUPS: usize = 32;
/// Most addresses of an answer that are judged.
const MAX_ANSWERS: usize = 64;

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolver of names. Clones share its bound.
#[derive(Clone)]
pub struct StationResolver {
    lookup: Arc<Lookup>,
    calls: Arc<BlockingCalls>,
}

impl StationResolver {
    /// Creates the resolver, over that of the system.
    pub fn new() -> Self {
        Self::over(RESOLVE_TIMEOUT, |name, port| Ok((name, port).to_socket_addrs()?.take(MAX_ANSWERS).collect()))
    }

    /// Creates a resolver that asks `lookup`, which may block, and waits for `limit`.
    pub fn over(
        limit: Duration,
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self { lookup: Arc::new(lookup), calls: Arc::new(BlockingCalls::with_most(limit, MAX_LOOKUPS)) }
    }

    /// Returns the first addresses of a name. Fails where there is no answer in time.
    pub async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, SourceError> {
        let (lookup, name) = (Arc::clone(&self.lookup), name.to_owned());
        let answer = self.calls.run(move || lookup(&name, port)).await;
        let mut found = answer.ok().and_then(Result::ok).ok_or(SourceError::Unresolved)?;
        found.truncate(MAX_ANSWERS);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use parking_lot::Mutex;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn of_an_answer_with_many_addresses_the_first_are_taken() {
        let many: Vec<SocketAddr> = (0..5000_u16).map(|port| SocketAddr::from(([93, 184, 216, 34], port))).collect();
        let expected = many[..MAX_ANSWERS].to_vec();
        let resolver = StationResolver::over(RESOLVE_TIMEOUT, move |_, _| Ok(many.clone()));
        assert_eq!(resolver.resolve("radio.example", 80).await, Ok(expected));
    }

    #[tokio::test]
    async fn a_name_without_an_answer_is_no_address() {
        let failing = StationResolver::over(RESOLVE_TIMEOUT, |_, _| Err(io::ErrorKind::NotFound.into()));
        assert_eq!(failing.resolve("radio.example", 80).await, Err(SourceError::Unresolved));
        let panicking = StationResolver::over(RESOLVE_TIMEOUT, |_, _| panic!("a resolver that fails"));
        assert_eq!(panicking.resolve("radio.example", 80).await, Err(SourceError::Unresolved));
    }

    #[tokio::test]
    async fn servers_that_do_not_answer_take_no_more_threads_than_there_are_lookups() {
        let (release, held) = mpsc::channel::<()>();
        let (held, begun) = (Mutex::new(held), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&begun);
        let resolver = StationResolver::over(Duration::from_millis(20), move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            // Ends when the test lets it.
            let _ = held.lock().recv();
            Ok(vec![address("93.184.216.34:80")])
        });
        let asked = (0..3 * MAX_LOOKUPS).map(|_| resolver.resolve("slow.example", 80));
        let answers = futures::future::join_all(asked).await;
        assert!(answers.iter().all(|answer| *answer == Err(SourceError::Unresolved)));
        assert!(begun.load(Ordering::Relaxed) <= MAX_LOOKUPS, "those that nobody waits for still count");
        drop(release);
        // All of them end, and there is room again.
        while resolver.resolve("slow.example", 80).await != Ok(vec![address("93.184.216.34:80")]) {}
    }
}
