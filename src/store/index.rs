//! What is held here, in memory: sizes, when each was last verified, pins, and who works on which
//! content.
//!
//! Invariant: a content is listed only while its row is durable, and one at a time makes, removes
//! or puts aside the same content ([`Claim`]), so that a removal never unlinks the file of a put
//! that came after it.

use crate::types::{ContentId, ContentMap};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Contents copied out of the index at a time.
const LISTED_AT_ONCE: usize = 1_024;

/// The contents held.
#[derive(Debug, Default)]
pub(super) struct Index {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    contents: ContentMap<Held>,
    used_bytes: u64,
    /// Verified later than their rows say.
    unsaved: BTreeSet<ContentId>,
    pins: BTreeMap<ContentId, u32>,
    claims: BTreeSet<ContentId>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    size: u64,
    verified_ms: u64,
}

/// A content held here, as a scrub sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldCopy {
    /// Which.
    pub content: ContentId,
    /// Size in bytes.
    pub size: u64,
    /// When it was last hashed whole, wall milliseconds.
    pub verified_ms: u64,
}

/// Keeps a content from being removed while it lives. Held by whoever said "I have it".
#[derive(Debug)]
#[must_use = "the content is pinned only while this lives"]
pub struct Pin {
    index: Arc<Index>,
    content: ContentId,
}

impl Pin {
    /// What is pinned.
    #[must_use]
    pub fn content(&self) -> ContentId {
        self.content
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.index.state();
        if let Some(count) = state.pins.get_mut(&self.content) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.content);
            }
        }
    }
}

/// The right to make, remove or put aside a content.
#[derive(Debug)]
pub(super) struct Claim {
    index: Arc<Index>,
    content: ContentId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.index.state().claims.remove(&self.content);
        self.index.released.notify_all();
    }
}

impl Index {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn size(&self, content: &ContentId) -> Option<u64> {
        self.state().contents.get(content).map(|held| held.size)
    }

    /// The next `most` contents after `after`, in order.
    pub(super) fn list_after(&self, after: Option<&ContentId>, most: usize) -> Vec<HeldCopy> {
        let state = self.state();
        let copies = state.contents.iter_after(after).take(most);
        copies
            .map(|(content, held)| HeldCopy {
                content: *content,
                size: held.size,
                verified_ms: held.verified_ms,
            })
            .collect()
    }

    /// All contents, in order. They are copied some at a time: there may be very many.
    pub(super) fn list(&self) -> impl Iterator<Item = HeldCopy> {
        let mut after = None;
        let pages = std::iter::from_fn(move || {
            let page = self.list_after(after.as_ref(), LISTED_AT_ONCE);
            after = page.last().map(|copy| copy.content);
            after.map(|_| page)
        });
        pages.flatten()
    }

    pub(super) fn verified_ms(&self, content: &ContentId) -> Option<u64> {
        self.state().contents.get(content).map(|held| held.verified_ms)
    }

    /// The content was hashed whole; `false` if it is no longer held. Its row follows by
    /// [`Index::take_unsaved`].
    pub(super) fn set_verified(&self, content: &ContentId, verified_ms: u64) -> bool {
        let mut state = self.state();
        let Some(held) = state.contents.get_mut(content) else { return false };
        held.verified_ms = verified_ms;
        state.unsaved.insert(*content);
        true
    }

    /// At most `most` contents that were verified later than their rows say, and when.
    pub(super) fn take_unsaved(&self, most: usize) -> Vec<(ContentId, u64)> {
        let mut state = self.state();
        let taken: Vec<ContentId> = state.unsaved.iter().take(most).copied().collect();
        for content in &taken {
            state.unsaved.remove(content);
        }
        let when = |content: ContentId| state.contents.get(&content).map(|held| (content, held.verified_ms));
        taken.into_iter().filter_map(when).collect()
    }

    /// Bytes and number of contents.
    pub(super) fn used(&self) -> (u64, u64) {
        let state = self.state();
        (state.used_bytes, state.contents.len() as u64)
    }

    pub(super) fn insert(&self, content: ContentId, size: u64, verified_ms: u64) {
        let mut state = self.state();
        if state.contents.insert(content, Held { size, verified_ms }).is_none() {
            state.used_bytes += size;
        }
    }

    /// Takes a content off the list; `None` if it is not there, or `unless_pinned` and pinned.
    pub(super) fn take(&self, content: &ContentId, unless_pinned: bool) -> Option<u64> {
        let mut state = self.state();
        if unless_pinned && state.pins.contains_key(content) {
            return None;
        }
        let size = state.contents.remove(content)?.size;
        state.unsaved.remove(content);
        state.used_bytes -= size;
        Some(size)
    }

    pub(super) fn pin(self: &Arc<Self>, content: ContentId) -> Pin {
        *self.state().pins.entry(content).or_insert(0) += 1;
        Pin { index: Arc::clone(self), content }
    }

    /// Waits until nobody else works on `content`.
    pub(super) fn claim(self: &Arc<Self>, content: ContentId) -> Claim {
        let mut state = self.state();
        while !state.claims.insert(content) {
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Claim { index: Arc::clone(self), content }
    }
}
