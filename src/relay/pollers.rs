//! Who polls. The document's receivers say nothing of themselves, and several share an address; but each asks for what
//! came after the chunk that it was given last, and by that they are told apart, counted, and limited one by one.

use std::collections::HashMap;
use std::net::IpAddr;

use super::bucket::Bucket;
use super::refused::Refused;

/// Polls for audio, and looks at metadata and status, of one listener per second; the document's receiver makes 10 and 2.
const PER_SECOND: f64 = 12.0;
/// The same, at once.
const BURST: f64 = 24.0;
/// What a poll that brings nothing counts.
const EMPTY: f64 = 0.1;
/// A listener that has not asked for so long, in milliseconds, is gone.
const GONE: i64 = 3_000;
/// Listeners of one address in one session at most.
const PER_ADDRESS: usize = 64;
/// Addresses in one session at most.
const ADDRESSES: usize = 10_000;

struct Cursor {
    since: i64,
    seen: i64,
    bucket: Bucket,
}

struct Address {
    cursors: Vec<Cursor>,
    looks: Bucket,
    seen: i64,
}

/// The listeners of one session that poll.
#[derive(Default)]
pub struct Pollers {
    by: HashMap<IpAddr, Address>,
    joined: u64,
}

impl Pollers {
    /// A poll for what came after `since`; `answer` gives the number that it ends with, and the answer itself.
    pub fn poll<T>(
        &mut self,
        address: IpAddr,
        since: i64,
        now: i64,
        answer: impl FnOnce() -> (i64, T),
    ) -> Result<T, Refused> {
        let since = since.max(-1);
        let mut came = false;
        let address = self.address(address, now)?;
        // Of those that are there, the one that has waited longest; else one that was given nothing yet.
        let at = |since: i64| {
            let there = address.cursors.iter().enumerate().filter(move |(_, cursor)| cursor.since == since);
            there.min_by_key(|(_, cursor)| cursor.seen).map(|(index, _)| index)
        };
        let cursor = match at(since).or_else(|| at(-1)) {
            Some(index) => &mut address.cursors[index],
            None => {
                address.cursors.retain(|cursor| now - cursor.seen < GONE);
                if address.cursors.len() >= PER_ADDRESS {
                    return Err(too_fast(std::time::Duration::from_secs(1)));
                }
                let bucket = Bucket::new(PER_SECOND, BURST, now);
                address.cursors.push(Cursor { since, seen: now, bucket });
                came = true;
                address.cursors.last_mut().expect("it was just pushed")
            }
        };
        cursor.seen = now;
        let (newest, answer) = answer();
        // Listeners who wait for a silent host ask for the same, and look like one; what they get costs little.
        let cost = if newest == since { EMPTY } else { 1.0 };
        cursor.bucket.take(cost, now).map_err(too_fast)?;
        cursor.since = newest;
        self.joined += u64::from(came);
        Ok(answer)
    }

    /// A look at metadata or status.
    pub fn look(&mut self, address: IpAddr, now: i64) -> Result<(), Refused> {
        let address = self.address(address, now)?;
        #[expect(clippy::cast_precision_loss, reason = "at most PER_ADDRESS")]
        let share = 1.0 / address.cursors.len().max(1) as f64;
        address.looks.take(share, now).map_err(too_fast)
    }

    /// Whether this address listens.
    pub fn knows(&self, address: IpAddr) -> bool {
        self.by.contains_key(&address)
    }

    /// How many ever came, as far as they can be told apart.
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// How many listen.
    pub fn count(&self, now: i64) -> usize {
        let here = |address: &Address| address.cursors.iter().filter(|cursor| now - cursor.seen < GONE).count();
        self.by.values().map(here).sum()
    }

    /// Forgets those who are gone.
    pub fn sweep(&mut self, now: i64) {
        self.by.retain(|_, address| {
            address.cursors.retain(|cursor| now - cursor.seen < GONE);
            now - address.seen < GONE
        });
    }

    fn address(&mut self, address: IpAddr, now: i64) -> Result<&mut Address, Refused> {
        if self.by.len() >= ADDRESSES && !self.by.contains_key(&address) {
            return Err(Refused::NoSeat);
        }
        let looks = || Bucket::new(PER_SECOND, BURST, now);
        let entry =
            self.by.entry(address).or_insert_with(|| Address { cursors: Vec::new(), looks: looks(), seen: now });
        entry.seen = now;
        Ok(entry)
    }
}

fn too_fast(wait: std::time::Duration) -> Refused {
    Refused::TooFast { what: "a listener may poll 12 times a second", wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Listeners behind one address, each polling every 100 ms while a chunk comes every 93 ms; how many are counted.
    fn counted(listeners: usize) -> usize {
        let mut pollers = Pollers::default();
        let mut since = vec![-1; listeners];
        for round in 0..100_i64 {
            for (number, since) in since.iter_mut().enumerate() {
                let now = round * 100 + i64::try_from(number).expect("few");
                let newest = now / 93;
                let answer = || (newest.max(*since), newest.max(*since));
                *since = pollers.poll(HERE, *since, now, answer).expect("ten a second are fine");
                if round % 5 == 0 {
                    pollers.look(HERE, now).expect("two a second are fine");
                }
            }
        }
        pollers.count(10_000)
    }

    #[test]
    fn listeners_of_one_address_are_told_apart() {
        for listeners in [1, 2, 5, 20] {
            assert_eq!(counted(listeners), listeners);
        }
    }

    #[test]
    fn one_listener_may_poll_twelve_times_a_second() {
        let mut pollers = Pollers::default();
        let mut polled = 0;
        for number in 0..200 {
            polled += i64::from(pollers.poll(HERE, polled, number * 5, || (polled + 1, ())).is_ok());
        }
        assert!((34..=38).contains(&polled), "24 at once and 12 in a second, not {polled}");
        let waited =
            (0..1000).filter(|number| pollers.poll(HERE, polled, 60_000 + number, || (polled, ())).is_ok()).count();
        assert!((340..=380).contains(&waited), "ten times as many that bring nothing, not {waited}");
        assert_eq!(pollers.count(1000), 1);
    }

    #[test]
    fn an_address_is_bounded_and_who_leaves_is_forgotten() {
        let mut pollers = Pollers::default();
        let polled = (0..200).filter(|since| pollers.poll(HERE, *since, 0, || (1_000 + since, ())).is_ok()).count();
        assert_eq!(polled, PER_ADDRESS);
        assert!(pollers.knows(HERE));
        pollers.sweep(GONE);
        assert!(!pollers.knows(HERE));
        assert_eq!(pollers.count(GONE), 0);
    }
}
