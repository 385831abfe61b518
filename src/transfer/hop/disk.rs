//! The disk thread of a hop: asks the store what is needed, writes what comes, ends contents.

use super::Hop;
use super::state::{Job, Outgoing};
use crate::clock;
use crate::limits::SESSION_CHUNKS_MAX;
use crate::store::{Incoming, StoreError};
use crate::transfer::holder::code_of;
use crate::types::ChunkRef;
use crate::wire::transfer::{ContentEnd, TransferFrame};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// A content that is being received, on the disk thread's side.
struct Work {
    incoming: Incoming,
    /// Needed chunks that have not come.
    missing: u32,
    /// Set once the last offer has been looked at, not merely come.
    end: Option<ContentEnd>,
    /// Chunks to be read for the next holder that are not there yet.
    deferred: Vec<u32>,
}

/// The disk thread.
pub(super) struct Worker {
    hop: Arc<Hop>,
    contents: BTreeMap<u32, Work>,
    /// Chunks of all contents that were offered and are not there yet, or behind one that is not.
    pending: usize,
}

impl Worker {
    pub(super) fn new(hop: Arc<Hop>) -> Worker {
        Worker { hop, contents: BTreeMap::new(), pending: 0 }
    }

    /// Works until the session is closed. A failure of the disk ends the session.
    pub(super) fn run(mut self) {
        loop {
            let job = {
                let mut state = self.hop.state();
                state.busy = None;
                loop {
                    if state.closed {
                        return;
                    }
                    if let Some(job) = state.next_job() {
                        state.busy = Some(clock::now());
                        break job;
                    }
                    state = self.hop.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if let Err(error) = self.perform(job) {
                self.hop.fail(code_of(&error), &error.to_string());
                return;
            }
            self.hop.wake();
        }
    }

    fn perform(&mut self, job: Job) -> Result<(), StoreError> {
        match job {
            Job::Offer { content_no, first, chunks, end } => {
                self.offer(content_no, first, &chunks)?;
                if let Some(work) = self.contents.get_mut(&content_no) {
                    work.end = end;
                }
                self.look(content_no)
            }
            Job::Write { content_no, index, held } => {
                let Some(work) = self.contents.get_mut(&content_no) else {
                    return Err(StoreError::Refused("a chunk of no content"));
                };
                let before = work.incoming.pending();
                work.incoming.write(index, &held.bytes)?;
                self.pending = (self.pending + work.incoming.pending()).saturating_sub(before);
                work.missing = work.missing.saturating_sub(1);
                drop(held);
                let deferred = std::mem::take(&mut work.deferred);
                if !deferred.is_empty()
                    && let Some(next) = &mut self.hop.state().next
                {
                    let again = deferred.into_iter();
                    next.queue.extend(again.map(|index| Outgoing::Local { content_no, index, bytes: 0 }));
                }
                self.look(content_no)
            }
            Job::Read { content_no, indices, reply } => {
                let Some(work) = self.contents.get_mut(&content_no) else { return Ok(()) };
                let mut chunks = Vec::with_capacity(indices.len());
                for index in indices {
                    match work.incoming.chunk(index) {
                        Ok(bytes) => chunks.push((index, bytes)),
                        // The same as an earlier chunk that is still on its way: once more later.
                        Err(StoreError::Refused(_)) => work.deferred.push(index),
                        Err(error) => return Err(error),
                    }
                }
                let _ = reply.send(chunks);
                Ok(())
            }
            Job::Look { content_no } => self.look(content_no),
            Job::Abandon { content_no } => {
                if let Some(work) = self.contents.remove(&content_no) {
                    self.pending = self.pending.saturating_sub(work.incoming.pending());
                }
                Ok(())
            }
        }
    }

    fn offer(&mut self, content_no: u32, first: u32, chunks: &[ChunkRef]) -> Result<(), StoreError> {
        let work = match self.contents.entry(content_no) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Work {
                incoming: self.hop.context.store.receive(),
                missing: 0,
                end: None,
                deferred: Vec::new(),
            }),
        };
        if chunks.is_empty() {
            return Ok(());
        }
        let before = work.incoming.pending();
        let needed = work.incoming.offer(chunks)?;
        self.pending = (self.pending + work.incoming.pending()).saturating_sub(before);
        if self.pending > SESSION_CHUNKS_MAX {
            return Err(StoreError::Refused("more chunks than were asked for"));
        }
        let missing = needed.iter().filter(|needed| **needed).count();
        work.missing = work.missing.saturating_add(u32::try_from(missing).unwrap_or(u32::MAX));
        let mut guard = self.hop.state();
        let state = &mut *guard;
        for (index, &own) in (first..).zip(&needed) {
            let Some(slot) = state.slots.get_mut(&(content_no, index)) else { continue };
            slot.own = Some(own);
            if !own && let Some(passing) = state.contents.get_mut(&content_no) {
                passing.local += 1;
            }
            state.settle(content_no, index);
        }
        state.outbox.push_back(TransferFrame::Need { content_no, first, needed });
        Ok(())
    }

    /// Finishes the content if everything is there and nothing of it must be read any more.
    fn look(&mut self, content_no: u32) -> Result<(), StoreError> {
        let Some(work) = self.contents.get(&content_no) else { return Ok(()) };
        let end = {
            let mut state = self.hop.state();
            let Some(passing) = state.contents.get_mut(&content_no) else { return Ok(()) };
            match work.end {
                Some(end) if passing.local == 0 && work.missing == 0 => {
                    passing.finishing = Some(clock::now());
                    end
                }
                _ => return Ok(()),
            }
        };
        if let Some(work) = self.contents.remove(&content_no) {
            let hop = Arc::clone(&self.hop);
            let done = move |result| hop.finished(content_no, end, result);
            work.incoming.finish_async(end.content, end.size, Box::new(done));
        }
        Ok(())
    }
}
