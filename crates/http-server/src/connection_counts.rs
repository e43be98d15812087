//! Counts of open connections: in all, of each client address and of each IPv6 network. It must not know sockets or
//! requests: a connection is an address and a permit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// Bits of an IPv6 address that its client does not choose: providers give each subscriber a network of this length or
/// a shorter one (RFC 6177), so that one machine has 2^64 addresses.
const NETWORK_BITS: u32 = 64;

/// Most connections at once, over all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCountSettings {
    /// In all.
    pub total: usize,
    /// From one client address.
    pub per_address: usize,
    /// From one IPv6 network of 64 bits.
    pub per_network: usize,
}

/// Open connections of the process.
pub struct ConnectionCounts {
    /// Connections in all.
    total: AtomicUsize,
    settings: ArcSwap<ConnectionCountSettings>,
    /// Only what is open stands here, so that [`ConnectionCountSettings::total`] bounds the memory.
    open: Mutex<HashMap<CountedClient, usize>>,
}

/// Limit that a connection would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// That of all connections.
    Total,
    /// That of the client's address.
    Address,
    /// That of the client's IPv6 network.
    Network,
}

impl ConnectionRefusal {
    /// Returns the label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
            Self::Network => "network",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum CountedClient {
    Address(IpAddr),
    Network(Ipv6Addr),
}

/// Place of an open connection among all; free again when this is dropped.
pub struct ConnectionPermit {
    counts: Arc<ConnectionCounts>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.counts.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Place of an open connection among those of its client; free again when this is dropped.
pub struct ClientPermit {
    counts: Arc<ConnectionCounts>,
    counted: [Option<CountedClient>; 2],
}

impl ConnectionCounts {
    /// Makes the counts, all of them zero.
    pub fn new(settings: ConnectionCountSettings) -> Arc<Self> {
        let settings = ArcSwap::from_pointee(settings);
        Arc::new(Self { total: AtomicUsize::new(0), settings, open: Mutex::default() })
    }

    /// Puts other limits in force. Connections that are open stay, also where they are more than that.
    pub fn set_limits(&self, settings: ConnectionCountSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// Counts a connection among all, or refuses it. Whose it is may not be known yet.
    pub fn admit(self: &Arc<Self>) -> Result<ConnectionPermit, ConnectionRefusal> {
        let most = self.settings.load().total;
        // Relaxed is enough: the number guards nothing but itself.
        let counted =
            self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then_some(open + 1));
        counted.map_err(|_| ConnectionRefusal::Total)?;
        Ok(ConnectionPermit { counts: Arc::clone(self) })
    }

    /// Counts a connection among those of the client `address`, or refuses it.
    pub fn admit_client(self: &Arc<Self>, address: IpAddr) -> Result<ClientPermit, ConnectionRefusal> {
        let mut permit = ClientPermit { counts: Arc::clone(self), counted: [None; 2] };
        let address = address.to_canonical();
        let settings = self.settings.load();
        let mut open = self.open.lock();
        let client = CountedClient::Address(address);
        if open.get(&client).is_some_and(|count| *count >= settings.per_address) {
            return Err(ConnectionRefusal::Address);
        }
        let network = network(address);
        if network.and_then(|network| open.get(&network)).is_some_and(|count| *count >= settings.per_network) {
            return Err(ConnectionRefusal::Network);
        }
        permit.counted = [Some(client), network];
        for counted in permit.counted.into_iter().flatten() {
            *open.entry(counted).or_default() += 1;
        }
        Ok(permit)
    }
}

fn network(address: IpAddr) -> Option<CountedClient> {
    let IpAddr::V6(address) = address else { return None };
    let prefix = u128::from(address) >> NETWORK_BITS << NETWORK_BITS;
    Some(CountedClient::Network(prefix.into()))
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        if self.counted == [None; 2] {
            // Refused, and the refusal holds the lock.
            return;
        }
        let mut open = self.counts.open.lock();
        for counted in self.counted.into_iter().flatten() {
            if let Entry::Occupied(mut entry) = open.entry(counted) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(total: usize, per_address: usize, per_network: usize) -> Arc<ConnectionCounts> {
        ConnectionCounts::new(ConnectionCountSettings { total, per_address, per_network })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_limit_refuses_and_frees_its_places_again() {
        for (limits, open, refused, reason) in [
            ((2, 9, 9), ["192.0.2.1", "192.0.2.2"], "192.0.2.3", ConnectionRefusal::Total),
            ((9, 2, 9), ["192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.1", ConnectionRefusal::Address),
            ((9, 2, 9), ["2001:db8::1", "2001:db8::1"], "2001:db8::1", ConnectionRefusal::Address),
            ((9, 2, 2), ["2001:db8::1", "2001:db8::2"], "2001:db8::3", ConnectionRefusal::Network),
        ] {
            let counts = counts(limits.0, limits.1, limits.2);
            let admit = |text| Ok((counts.admit()?, counts.admit_client(address(text))?));
            let mut permits = Vec::from(open.map(|open| admit(open).expect("a place")));
            assert_eq!(admit(refused).err(), Some(reason), "{refused}");
            permits.pop();
            assert_eq!(admit(refused).err(), None, "{refused}");
            permits.clear();
            assert!(counts.open.lock().is_empty());
            assert_eq!(counts.total.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn other_limits_hold_for_new_connections_and_leave_those_that_are_open() {
        let counts = counts(2, 9, 9);
        let mut permits = Vec::from([counts.admit().ok(), counts.admit().ok()]);
        assert!(counts.admit().is_err());
        counts.set_limits(ConnectionCountSettings { total: 3, per_address: 9, per_network: 9 });
        permits.push(counts.admit().ok());
        assert!(permits.iter().all(Option::is_some) && counts.admit().is_err());
        counts.set_limits(ConnectionCountSettings { total: 1, per_address: 9, per_network: 9 });
        permits.truncate(1);
        assert!(counts.admit().is_err());
        permits.clear();
        assert!(counts.admit().is_ok());
    }

    #[test]
    fn others_are_not_refused() {
        let counts = counts(9, 1, 1);
        let others = ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"];
        let permits = others.map(|other| counts.admit_client(address(other)));
        assert!(permits.iter().all(Result::is_ok));
    }
}
