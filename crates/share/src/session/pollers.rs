//! Listeners that poll. The document's receivers say nothing of themselves, and several share an address; but each asks
//! for the chunks after the one that it was given last, and by that they are told apart, counted, and limited one by
//! one.
//!
//! A listener that asks for anything else may have come just now, or makes its position up. All such polls of an
//! address have one limit and count as one listener, until one goes on from the live edge, where it was given
//! something.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::refusal::Refusal;
use crate::token_bucket::TokenBucket;
use primitives::unix_time::UnixMillis;

/// Polls for audio, and looks at metadata and status, of one listener per second; the document's receiver makes 10 and 2.
const POLL_RATE: f64 = 12.0;
/// Burst of the same.
const POLL_BURST: f64 = 24.0;
/// Cost of a poll that brings nothing.
const EMPTY_POLL_COST: f64 = 0.1;
/// Time after which a listener is gone that has not asked.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// Time in which a listener that came just now may go on.
const NEWCOMER_TIME: Duration = Duration::from_millis(1_500);
/// Listeners of one address in one session at most.
const MAX_PER_ADDRESS: usize = 64;
/// Addresses in one session at most.
const MAX_ADDRESSES: usize = 10_000;

/// Listener that goes on from where it was.
struct PollCursor {
    /// Number that it was given last.
    last_given: i64,
    seen_at: UnixMillis,
    limit: TokenBucket,
}

struct AddressPolls {
    cursors: Vec<PollCursor>,
    /// Numbers that were given to listeners that came just now, and the times of that.
    newcomers: VecDeque<(i64, UnixMillis)>,
    /// Time at which the last of them came, if one has not gone on.
    newcomer_at: Option<UnixMillis>,
    /// Limit of all of them together.
    newcomer_limit: TokenBucket,
    look_limit: TokenBucket,
    seen_at: UnixMillis,
}

/// Answer to a poll.
pub struct PollAnswer<T> {
    /// Number of its last chunk; the one that was asked for where there is nothing.
    pub newest: i64,
    /// True where that is the newest of all.
    pub is_newest: bool,
    /// Answer itself.
    pub value: T,
}

/// Listeners of one session that poll.
#[derive(Default)]
pub struct PollingListeners {
    addresses: HashMap<IpAddr, AddressPolls>,
    joined: u64,
}

impl PollingListeners {
    /// Counts a poll for the chunks after `since`, and answers it. Fails over the listener's limit.
    pub fn poll<T>(
        &mut self,
        address: IpAddr,
        since: i64,
        now: UnixMillis,
        answer: impl FnOnce() -> PollAnswer<T>,
    ) -> Result<T, Refusal> {
        let since = since.max(-1);
        let address = self.address(address, now)?;
        let PollAnswer { newest, is_newest: edge, value } = answer();
        // Listeners who wait for a silent host ask for the same, and look like one; what they get costs little.
        let cost = if newest == since { EMPTY_POLL_COST } else { 1.0 };
        if let Some(cursor) = address.cursor_at(since) {
            cursor.limit.take(cost, now).map_err(too_fast)?;
            (cursor.last_given, cursor.seen_at) = (newest, now);
        } else if let Some(at) = address.newcomer_given(since, now) {
            let mut bucket = TokenBucket::new(POLL_RATE, POLL_BURST, now);
            bucket.take(cost, now).map_err(too_fast)?;
            address.cursors.push(PollCursor { last_given: newest, seen_at: now, limit: bucket });
            address.newcomers.remove(at);
            // The one that came, or one of several that came together.
            if address.newcomers.is_empty() {
                address.newcomer_at = None;
            } else {
                self.joined += 1;
            }
        } else {
            address.newcomer_limit.take(cost, now).map_err(too_fast)?;
            let came = !address.has_newcomer(now);
            address.newcomer_at = Some(now);
            if edge && newest >= 0 {
                if address.newcomers.len() >= MAX_PER_ADDRESS {
                    address.newcomers.pop_front();
                }
                address.newcomers.push_back((newest, now));
            }
            self.joined += u64::from(came);
        }
        Ok(value)
    }

    /// Counts a request for metadata or status. Fails where there are too many.
    pub fn count_look(&mut self, address: IpAddr, now: UnixMillis) -> Result<(), Refusal> {
        let address = self.address(address, now)?;
        #[expect(clippy::cast_precision_loss, reason = "at most PER_ADDRESS")]
        let share = 1.0 / address.count(now).max(1) as f64;
        address.look_limit.take(share, now).map_err(too_fast)
    }

    /// Returns how many ever came, as far as they can be told apart.
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// Returns the number of polling listeners.
    pub fn count(&self, now: UnixMillis) -> usize {
        self.addresses.values().map(|address| address.count(now)).sum()
    }

    /// Forgets listeners that are gone.
    pub fn sweep(&mut self, now: UnixMillis) {
        self.addresses.retain(|_, address| {
            address.cursors.retain(|cursor| now - cursor.seen_at < GONE_AFTER);
            now - address.seen_at < GONE_AFTER
        });
    }

    fn address(&mut self, address: IpAddr, now: UnixMillis) -> Result<&mut AddressPolls, Refusal> {
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address) {
            return Err(Refusal::TooManyListeners);
        }
        let entry = self.addresses.entry(address).or_insert_with(|| AddressPolls {
            cursors: Vec::new(),
            newcomers: VecDeque::new(),
            newcomer_at: None,
            newcomer_limit: TokenBucket::new(POLL_RATE, POLL_BURST, now),
            look_limit: TokenBucket::new(POLL_RATE, POLL_BURST, now),
            seen_at: now,
        });
        entry.seen_at = now;
        Ok(entry)
    }
}

impl AddressPolls {
    /// Returns the listener that has waited longest of those that were given this number.
    fn cursor_at(&mut self, since: i64) -> Option<&mut PollCursor> {
        self.cursors.iter_mut().filter(|cursor| cursor.last_given == since).min_by_key(|cursor| cursor.seen_at)
    }

    /// Returns the place of this number among those that were given to listeners that came just now, where there is
    /// room for one more that goes on.
    fn newcomer_given(&mut self, since: i64, now: UnixMillis) -> Option<usize> {
        self.newcomers.retain(|(_, at)| now - *at < NEWCOMER_TIME);
        self.cursors.retain(|cursor| now - cursor.seen_at < GONE_AFTER);
        let at = self.newcomers.iter().position(|(number, _)| *number == since);
        at.filter(|_| self.cursors.len() < MAX_PER_ADDRESS)
    }

    /// Returns whether a listener came that has not gone on.
    fn has_newcomer(&self, now: UnixMillis) -> bool {
        self.newcomer_at.is_some_and(|came| now - came < GONE_AFTER)
    }

    fn count(&self, now: UnixMillis) -> usize {
        let going_on = self.cursors.iter().filter(|cursor| now - cursor.seen_at < GONE_AFTER).count();
        going_on + usize::from(self.has_newcomer(now))
    }
}

fn too_fast(wait: Duration) -> Refusal {
    Refusal::RateLimited { what: "a listener may poll 12 times a second", wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    fn answer(newest: i64) -> impl FnOnce() -> PollAnswer<()> {
        move || PollAnswer { newest, is_newest: true, value: () }
    }

    /// Listeners behind one address, each polling every 100 ms while a chunk comes every 93 ms; how many are counted.
    fn counted(listeners: usize) -> usize {
        let mut pollers = PollingListeners::default();
        let mut since = vec![-1; listeners];
        for round in 0..100_i64 {
            for (number, since) in since.iter_mut().enumerate() {
                let now = round * 100 + i64::try_from(number).expect("few");
                let newest = now / 93;
                let newest = newest.max(*since);
                let answer = || PollAnswer { newest, is_newest: true, value: newest };
                *since = pollers.poll(HERE, *since, at(now), answer).expect("ten a second are fine");
                if round % 5 == 0 {
                    pollers.count_look(HERE, at(now)).expect("two a second are fine");
                }
            }
        }
        pollers.count(at(10_000))
    }

    #[test]
    fn listeners_of_one_address_are_told_apart() {
        for listeners in [1, 2, 5, 20] {
            assert_eq!(counted(listeners), listeners);
        }
    }

    #[test]
    fn one_listener_may_poll_twelve_times_a_second() {
        let mut pollers = PollingListeners::default();
        let mut polled = 0;
        for number in 0..200 {
            polled += i64::from(pollers.poll(HERE, polled, at(number * 5), answer(polled + 1)).is_ok());
        }
        assert!((34..=38).contains(&polled), "24 at once and 12 in a second, not {polled}");
        let waited =
            (0..1000).filter(|number| pollers.poll(HERE, polled, at(60_000 + number), answer(polled)).is_ok()).count();
        assert!((340..=380).contains(&waited), "ten times as many that bring nothing, not {waited}");
        assert_eq!(pollers.count(at(1000)), 1);
    }

    #[test]
    fn who_makes_its_position_up_is_one_listener_with_one_limit() {
        let varied: [fn(i64) -> i64; 4] =
            [|number| number % 97, |_| -1, |number| 1_000_000 - number, |number| number % 7];
        for vary in varied {
            let mut pollers = PollingListeners::default();
            let polled = (0..2_000)
                .filter(|number| {
                    let newest = 100 + number / 20;
                    pollers.poll(HERE, vary(*number), at(*number), answer(newest)).is_ok()
                })
                .count();
            assert!((46..=52).contains(&polled), "24 at once and 12 a second in two seconds, not {polled}");
            assert!(pollers.count(at(2_000)) <= 2, "{}", pollers.count(at(2_000)));
            assert!(pollers.joined() <= 2);
        }
    }

    #[test]
    fn an_address_is_bounded_and_who_leaves_is_forgotten() {
        let mut pollers = PollingListeners::default();
        // As many as can be, each going on from where it is.
        for number in 0..200 {
            for since in [-1, 1_000 + number] {
                let _ = pollers.poll(HERE, since, at(number), answer(1_000 + number));
            }
        }
        assert!(pollers.count(at(200)) <= MAX_PER_ADDRESS);
        pollers.sweep(at(200) + GONE_AFTER);
        assert!(pollers.addresses.is_empty());
        assert_eq!(pollers.count(at(200) + GONE_AFTER), 0);
    }
}
