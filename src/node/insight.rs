//! What this node's own process can tell of itself, to the HTTP interface beside it. Shell.
//!
//! Invariant: nobody waits for those who look; a reader that does not keep up misses arrivals.

use crate::clock;
use crate::engine::event::Note;
use crate::store::Store;
use crate::types::Letter;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::broadcast;

/// Arrivals that a slow reader may be behind.
const ARRIVALS_MAX: usize = 256;

/// A letter that came into the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Who sent it.
    pub source: String,
    /// When it was sent, microseconds since 1970 by the sender's clock.
    pub created_us: u64,
}

impl Arrival {
    /// What is told of a letter.
    pub(super) fn of(letter: &Letter) -> Arrival {
        Arrival {
            id: letter.id.to_string(),
            kind: letter.kind.to_string(),
            source: letter.source.to_string(),
            created_us: letter.created_us,
        }
    }
}

/// Happenings that are remembered for those who come to look later.
const REMEMBERED_MAX: usize = 50;

/// Something that this node saw happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A machine of this name came.
    Joined(String),
    /// A machine of this name fell silent, or said goodbye.
    Lost {
        /// Its name.
        name: String,
        /// Whether it said goodbye.
        left: bool,
    },
    /// A machine of this name leads now.
    Leads(String),
    /// A file of this name was stored or replaced.
    Stored(String),
    /// A letter came.
    Arrived(Arrival),
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Copies that this node made of contents that others hold.
    pub pulls: AtomicU64,
    /// Such copies that could not be made.
    pub pulls_failed: AtomicU64,
    /// Bytes of those that were made.
    pub pulled_bytes: AtomicU64,
    /// Surplus copies that it gave up.
    pub drops: AtomicU64,
    /// Copies that were made anew for lost ones, as this node saw it as proxy.
    pub healed: AtomicU64,
    /// Changes of the proxy or of its term.
    pub terms: AtomicU64,
}

/// See above.
pub struct Insight {
    store: Store,
    counts: Counts,
    arrivals: broadcast::Sender<Arrival>,
    /// When, milliseconds since 1970, and what; the oldest first.
    remembered: Mutex<VecDeque<(u64, Happening)>>,
}

impl Insight {
    pub(super) fn new(store: Store) -> Insight {
        let (counts, remembered) = (Counts::default(), Mutex::default());
        Insight { store, counts, arrivals: broadcast::channel(ARRIVALS_MAX).0, remembered }
    }

    /// The counts.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Letters that come from now on.
    #[must_use]
    pub fn arrivals(&self) -> broadcast::Receiver<Arrival> {
        self.arrivals.subscribe()
    }

    /// How long ago the copy that waits longest was hashed whole, in milliseconds; `None` with no
    /// copies. Looks at all of them.
    #[must_use]
    pub fn scrub_age_ms(&self) -> Option<u64> {
        let oldest = self.store.copies().map(|copy| copy.verified_ms).min()?;
        Some(clock::wall().0.saturating_sub(oldest))
    }

    /// What happened lately, with when, milliseconds since 1970; the oldest first.
    #[must_use]
    pub fn remembered(&self) -> Vec<(u64, Happening)> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.iter().cloned().collect()
    }

    pub(super) fn note(&self, note: &Note) {
        match note {
            Note::Healed { .. } => add(&self.counts.healed, 1),
            Note::ProxyChanged { name, .. } => {
                add(&self.counts.terms, 1);
                self.remember(Happening::Leads(name.to_string()));
            }
            Note::NodeJoined { name, .. } => self.remember(Happening::Joined(name.to_string())),
            Note::NodeLost { name, left, .. } => {
                self.remember(Happening::Lost { name: name.to_string(), left: *left });
            }
            Note::FileStored { name, .. } => self.remember(Happening::Stored(name.to_string())),
            _ => {}
        }
    }

    fn remember(&self, happening: Happening) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.pop_front();
        }
        remembered.push_back((clock::wall().0, happening));
    }

    /// A pull ended; `bytes` if it brought a copy.
    pub(super) fn pulled(&self, bytes: Option<u64>) {
        match bytes {
            Some(bytes) => {
                add(&self.counts.pulls, 1);
                add(&self.counts.pulled_bytes, bytes);
            }
            None => add(&self.counts.pulls_failed, 1),
        }
    }

    pub(super) fn dropped(&self) {
        add(&self.counts.drops, 1);
    }

    pub(super) fn arrived(&self, arrival: Arrival) {
        self.remember(Happening::Arrived(arrival.clone()));
        // Nobody may be looking.
        let _ = self.arrivals.send(arrival);
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
