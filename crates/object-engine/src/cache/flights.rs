//! One piece of work for all who want its result: the first to ask leads it, the others join and follow its state. When
//! the last of them has left, the work is told so and ends.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Work under way, by what it is about.
pub struct Flights<K, S> {
    table: Mutex<HashMap<K, Arc<watch::Sender<S>>>>,
}

/// A part in a piece of work.
pub enum Part<K: Eq + Hash + Clone, S> {
    /// Somebody is at it.
    Joined(watch::Receiver<S>),
    /// Nobody was: whoever got this does it.
    Leading(Lead<K, S>, watch::Receiver<S>),
}

/// The leader's side. Dropping it ends the flight: whoever comes then begins another.
pub struct Lead<K: Eq + Hash + Clone, S> {
    flights: Arc<Flights<K, S>>,
    key: K,
    sender: Arc<watch::Sender<S>>,
}

impl<K: Eq + Hash + Clone, S: Default> Flights<K, S> {
    /// Nothing under way.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(HashMap::new()) })
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.table.lock().is_empty()
    }

    /// Joins the work about `key`, or leads it.
    pub fn part(self: &Arc<Self>, key: &K) -> Part<K, S> {
        let mut table = self.table.lock();
        if let Some(sender) = table.get(key) {
            return Part::Joined(sender.subscribe());
        }
        let (sender, receiver) = watch::channel(S::default());
        let sender = Arc::new(sender);
        table.insert(key.clone(), Arc::clone(&sender));
        Part::Leading(Lead { flights: Arc::clone(self), key: key.clone(), sender }, receiver)
    }
}

impl<K: Eq + Hash + Clone, S> Lead<K, S> {
    /// Changes the state and tells those who follow it.
    pub fn update(&self, change: impl FnOnce(&mut S)) {
        self.sender.send_modify(change);
    }

    /// Reads the state.
    pub fn read<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        read(&self.sender.borrow())
    }

    /// Resolves when nobody follows; somebody may still join.
    pub async fn deserted(&self) {
        self.sender.closed().await;
    }

    /// Ends the flight where nobody follows: from then on nobody can join.
    pub fn end_if_deserted(&self) -> bool {
        let mut table = self.flights.table.lock();
        // Joining takes the same lock: whoever joined before it was taken is counted here.
        let deserted = self.sender.receiver_count() == 0;
        if deserted {
            self.remove_from(&mut table);
        }
        deserted
    }

    /// Resolves when nobody follows any more; from then on nobody can join.
    pub async fn abandoned(&self) {
        loop {
            self.deserted().await;
            if self.end_if_deserted() {
                return;
            }
        }
    }

    fn remove_from(&self, table: &mut HashMap<K, Arc<watch::Sender<S>>>) {
        if table.get(&self.key).is_some_and(|sender| Arc::ptr_eq(sender, &self.sender)) {
            table.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Clone, S> Drop for Lead<K, S> {
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
        let flights: Arc<Flights<u8, Option<u32>>> = Flights::new();
        let Part::Leading(lead, mut first) = flights.part(&1) else { panic!("nobody was at it") };
        let Part::Joined(mut second) = flights.part(&1) else { panic!("it is under way") };
        assert!(matches!(flights.part(&2), Part::Leading(..)), "another key is another flight");
        lead.update(|state| *state = Some(7));
        for follower in [&mut first, &mut second] {
            assert_eq!(follower.wait_for(Option::is_some).await.map(|state| *state).ok(), Some(Some(7)));
        }
        drop(lead);
        assert!(matches!(flights.part(&1), Part::Leading(..)), "the next one is a new flight");
    }

    #[tokio::test]
    async fn a_flight_is_abandoned_when_the_last_one_left_and_not_before() {
        let flights: Arc<Flights<u8, ()>> = Flights::new();
        let Part::Leading(lead, first) = flights.part(&1) else { panic!("nobody was at it") };
        let Part::Joined(second) = flights.part(&1) else { panic!("it is under way") };
        drop(first);
        assert!(lead.abandoned().now_or_never().is_none());
        drop(second);
        lead.abandoned().await;
        assert!(matches!(flights.part(&1), Part::Leading(..)), "nobody joins an abandoned flight");
        drop(lead);
    }

    #[tokio::test]
    async fn a_leader_that_vanishes_is_noticed() {
        let flights: Arc<Flights<u8, Option<u32>>> = Flights::new();
        let Part::Leading(lead, mut first) = flights.part(&1) else { panic!("nobody was at it") };
        drop(lead);
        assert!(first.changed().await.is_err());
    }
}
