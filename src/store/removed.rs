//! Room that contents take which only the trash of the catalog names. Who they are, and which go
//! first, the engine knows; the store asks it to let some go when there is no other room.
//!
//! Invariant: whoever needs the room waits only while there is something that could make way, and not
//! for long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

type Ask = Box<dyn Fn(u64) + Send + Sync>;

/// See above.
#[derive(Default)]
pub(super) struct Removed {
    bytes: AtomicU64,
    ask: OnceLock<Ask>,
    gone: Mutex<()>,
    went: Condvar,
}

/// How long somebody waits for room: well before a sender takes the disk for stuck.
const PATIENCE: Duration = Duration::from_millis(1_500);

impl Removed {
    /// How to ask for room, in bytes; the first answer counts.
    pub(super) fn set_ask(&self, ask: Ask) {
        let _ = self.ask.set(ask);
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Something was removed from the disk.
    pub(super) fn something_went(&self) {
        let _gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        self.went.notify_all();
    }

    /// Asks for `missing_bytes` and waits until `there` says that they have come; whether they have.
    pub(super) fn give_way(&self, missing_bytes: u64, there: impl Fn() -> bool) -> bool {
        let Some(ask) = self.ask.get() else { return false };
        if self.bytes.load(Ordering::Relaxed) < missing_bytes {
            return false;
        }
        ask(missing_bytes);
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.went.wait_timeout_while(gone, PATIENCE, |_| !there());
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn room_is_asked_for_only_where_it_could_come_and_waited_for_until_it_does() {
        let removed = Removed::default();
        assert!(!removed.give_way(5, || panic!("nobody to ask")));
        let asked = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&asked);
        removed.set_ask(Box::new(move |bytes| seen.store(bytes, Ordering::Relaxed)));
        assert!(!removed.give_way(5, || panic!("nothing to make way")));
        removed.set_bytes(5);
        assert!(removed.give_way(5, || asked.load(Ordering::Relaxed) == 5));
    }
}
