//! Single flight: one piece of work for all who want its result at the same time. The first to ask leads it, the others
//! join and follow its state. When the last follower has left, the work is cancelled.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Table of work under way, by its key.
pub struct SingleFlight<K, S> {
    table: Mutex<HashMap<K, Arc<watch::Sender<S>>>>,
}

/// Role of a caller in a piece of work.
pub enum FlightRole<K: Eq + Hash + Clone, S> {
    /// The work is under way: follow its state.
    Joined(watch::Receiver<S>),
    /// The caller must do the work, and update its state; the receiver makes it a follower too.
    Leading(FlightLeader<K, S>, watch::Receiver<S>),
}

/// Leader's side of the work. Dropping it ends the flight: a later caller begins another.
pub struct FlightLeader<K: Eq + Hash + Clone, S> {
    flights: Arc<SingleFlight<K, S>>,
    key: K,
    sender: Arc<watch::Sender<S>>,
}

impl<K: Eq + Hash + Clone, S: Default> SingleFlight<K, S> {
    /// Creates a table without work.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(HashMap::new()) })
    }

    /// Returns true if no work is under way.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.table.lock().is_empty()
    }

    /// Joins the work for `key` if it is under way, else makes the caller its leader.
    pub fn join_or_lead(self: &Arc<Self>, key: &K) -> FlightRole<K, S> {
        let mut table = self.table.lock();
        if let Some(sender) = table.get(key) {
            return FlightRole::Joined(sender.subscribe());
        }
        let (sender, receiver) = watch::channel(S::default());
        let sender = Arc::new(sender);
        // The receiver is made before anybody else can see the entry: a flight never begins deserted.
        table.insert(key.clone(), Arc::clone(&sender));
        FlightRole::Leading(FlightLeader { flights: Arc::clone(self), key: key.clone(), sender }, receiver)
    }
}

impl<K: Eq + Hash + Clone, S> FlightLeader<K, S> {
    /// Changes the state and wakes the followers.
    pub fn update(&self, change: impl FnOnce(&mut S)) {
        self.sender.send_modify(change);
    }

    /// Reads the state.
    pub fn read<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        read(&self.sender.borrow())
    }

    /// Waits until there is no follower. One may still join afterwards.
    pub async fn deserted(&self) {
        self.sender.closed().await;
    }

    /// Ends the flight if there is no follower, and returns true; from then on nobody can join it.
    pub fn end_if_deserted(&self) -> bool {
        let mut table = self.flights.table.lock();
        // Joining takes the same lock, so a follower that joined before is counted here.
        let deserted = self.sender.receiver_count() == 0;
        if deserted {
            self.remove_from(&mut table);
        }
        deserted
    }

    /// Waits until there is no follower, and ends the flight: afterwards nobody can join it.
    pub async fn abandoned(&self) {
        loop {
            // A follower may have joined in between: then wait again.
            self.deserted().await;
            if self.end_if_deserted() {
                return;
            }
        }
    }

    fn remove_from(&self, table: &mut HashMap<K, Arc<watch::Sender<S>>>) {
        // After the end of this flight another one may have begun under the same key.
        if table.get(&self.key).is_some_and(|sender| Arc::ptr_eq(sender, &self.sender)) {
            table.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Clone, S> Drop for FlightLeader<K, S> {
    fn drop(&mut self) {
        let mut table = self.flights.table.lock();
        self.remove_from(&mut table);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_first_leads_the_others_join_and_all_see_the_result() {
        let flights: Arc<SingleFlight<u8, Option<u32>>> = SingleFlight::new();
        let FlightRole::Leading(lead, mut first) = flights.join_or_lead(&1) else { panic!("nobody was at it") };
        let FlightRole::Joined(mut second) = flights.join_or_lead(&1) else { panic!("it is under way") };
        assert!(matches!(flights.join_or_lead(&2), FlightRole::Leading(..)), "another key is another flight");
        lead.update(|state| *state = Some(7));
        for follower in [&mut first, &mut second] {
            assert_eq!(follower.wait_for(Option::is_some).await.map(|state| *state).ok(), Some(Some(7)));
        }
        drop(lead);
        assert!(matches!(flights.join_or_lead(&1), FlightRole::Leading(..)), "the next one is a new flight");
    }

    #[tokio::test]
    async fn a_flight_is_abandoned_when_the_last_one_left_and_not_before() {
        let flights: Arc<SingleFlight<u8, ()>> = SingleFlight::new();
        let FlightRole::Leading(lead, first) = flights.join_or_lead(&1) else { panic!("nobody was at it") };
        let FlightRole::Joined(second) = flights.join_or_lead(&1) else { panic!("it is under way") };
        drop(first);
        assert!(lead.abandoned().now_or_never().is_none());
        drop(second);
        lead.abandoned().await;
        assert!(matches!(flights.join_or_lead(&1), FlightRole::Leading(..)), "nobody joins an abandoned flight");
        drop(lead);
    }

    #[tokio::test]
    async fn a_leader_that_vanishes_is_noticed() {
        let flights: Arc<SingleFlight<u8, Option<u32>>> = SingleFlight::new();
        let FlightRole::Leading(lead, mut first) = flights.join_or_lead(&1) else { panic!("nobody was at it") };
        drop(lead);
        assert!(first.changed().await.is_err());
    }
}
