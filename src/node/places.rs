//! Places for connections. Shell.
//!
//! Invariant: there are never more than so many, and yet nobody is ever kept out by those that are
//! in: when all places are taken, the oldest connection of the address that has the most goes. So
//! one machine that opens connections without end competes with itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A number of places.
#[derive(Clone)]
pub(crate) struct Places {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    most: usize,
    next: u64,
    /// By age; dropping the sender takes the place away.
    taken: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
}

/// A place; free again when it is dropped.
pub(crate) struct Place {
    places: Places,
    number: u64,
    withdrawn: oneshot::Receiver<()>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Places {
        Places { inner: Arc::new(Mutex::new(Inner { most, next: 0, taken: BTreeMap::new() })) }
    }

    /// A place for a connection from `address`, if need be another's.
    pub(crate) fn enter(&self, address: IpAddr) -> Place {
        let (sender, withdrawn) = oneshot::channel();
        let mut inner = self.inner();
        if inner.taken.len() >= inner.most {
            inner.withdraw_one();
        }
        inner.next += 1;
        let number = inner.next;
        inner.taken.insert(number, (address, sender));
        drop(inner);
        Place { places: self.clone(), number, withdrawn }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn withdraw_one(&mut self) {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (address, _) in self.taken.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let greediest = counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address);
        let oldest = self.taken.iter().find(|(_, (address, _))| Some(*address) == greediest);
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.taken.remove(&number);
        }
    }
}

impl Place {
    /// Completes when the place is given to somebody else.
    pub(crate) async fn taken(&mut self) {
        let _ = (&mut self.withdrawn).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.inner().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn the_oldest_of_the_address_with_the_most_goes() {
        let places = Places::new(4);
        let mut quiet = places.enter(address(1));
        let mut greedy: Vec<Place> = (0..3).map(|_| places.enter(address(2))).collect();
        let mut another = places.enter(address(3));
        greedy[0].taken().await;
        assert!(quiet.withdrawn.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert!(greedy[1].withdrawn.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert!(another.withdrawn.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop(greedy);
        assert_eq!(places.inner().taken.len(), 2);
    }
}
