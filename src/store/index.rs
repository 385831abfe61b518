//! What is held here, in memory: sizes, pins, and who works on which content.
//!
//! Invariant: a content is listed only while its row is durable, and one at a time makes, removes
//! or puts aside the same content ([`Claim`]), so that a removal never unlinks the file of a put
//! that came after it.

use crate::types::{ContentId, ContentMap};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The contents held.
#[derive(Debug, Default)]
pub(super) struct Index {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    contents: ContentMap<u64>,
    used_bytes: u64,
    pins: BTreeMap<ContentId, u32>,
    claims: BTreeSet<ContentId>,
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
        self.state().contents.get(content).copied()
    }

    pub(super) fn list(&self) -> Vec<(ContentId, u64)> {
        self.state().contents.iter().map(|(content, size)| (*content, *size)).collect()
    }

    /// Bytes and number of contents.
    pub(super) fn used(&self) -> (u64, u64) {
        let state = self.state();
        (state.used_bytes, state.contents.len() as u64)
    }

    pub(super) fn insert(&self, content: ContentId, size: u64) {
        let mut state = self.state();
        if state.contents.insert(content, size).is_none() {
            state.used_bytes += size;
        }
    }

    /// Takes a content off the list; `None` if it is not there, or `unless_pinned` and pinned.
    pub(super) fn take(&self, content: &ContentId, unless_pinned: bool) -> Option<u64> {
        let mut state = self.state();
        if unless_pinned && state.pins.contains_key(content) {
            return None;
        }
        let size = state.contents.remove(content)?;
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
