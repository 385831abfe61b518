//! What the tasks of a hop share: contents, chunks and queues. Pure.
//!
//! Invariant: a chunk's slot exists from its offer until it is settled what the next holder gets;
//! a content's `local` counts the chunks that may still have to be read from our disk for it.

use super::super::patience::Patience;
use crate::clock::Moment;
use crate::limits::{DISK_PATIENCE_MS, OFFER_WINDOW_CHUNKS};
use crate::store::Finished;
use crate::types::{ChunkRef, NodeId};
use crate::wire::message::ErrorCode;
use crate::wire::transfer::{ContentEnd, TransferFrame};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Entries in any of the queues beyond which no more is read from upstream. Twice the sender's
/// window: what it may still have to send is at most one window, so the other half waits for
/// something that goes on without it.
const BACKLOG_MAX: usize = 2 * OFFER_WINDOW_CHUNKS;

/// A chunk's bytes, counted against the window until nobody needs them any more.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) _room: OwnedSemaphorePermit,
}

/// A chunk of which it is not yet settled what the next holder gets.
pub(super) struct Slot {
    pub(super) bytes: u32,
    /// Whether we need it; `None` until the disk was asked.
    pub(super) own: Option<bool>,
    /// Whether the next holder does; `None` until it answers.
    pub(super) next: Option<bool>,
    /// It came, and waits for the next holder's answer.
    pub(super) parked: Option<Arc<Held>>,
}

/// A content that was begun and not yet reported upstream.
#[derive(Default)]
pub(super) struct Passing {
    /// Index of the next chunk to be offered.
    pub(super) chunks: u32,
    pub(super) end: Option<ContentEnd>,
    /// Chunks that we have, and that the next holder may get from our disk.
    pub(super) local: u32,
    pub(super) finishing: Option<Moment>,
    pub(super) stored: bool,
    /// Who has it downstream, once they said so.
    pub(super) next: Option<Vec<NodeId>>,
}

/// The next holder.
pub(super) struct Next {
    pub(super) node: NodeId,
    pub(super) queue: VecDeque<Outgoing>,
    pub(super) patience: Patience,
}

impl Next {
    pub(super) fn new(nodes: &[NodeId]) -> Next {
        let node = nodes.first().copied().unwrap_or_default();
        Next { node, queue: VecDeque::new(), patience: Patience::default() }
    }
}

/// What goes to the next holder.
pub(super) enum Outgoing {
    Frame(TransferFrame),
    Chunk {
        content_no: u32,
        index: u32,
        held: Arc<Held>,
    },
    /// A chunk that must be read from our disk first.
    Local {
        content_no: u32,
        index: u32,
        bytes: u32,
    },
}

/// What the disk thread has to do.
pub(super) enum Job {
    Offer {
        content_no: u32,
        first: u32,
        chunks: Vec<ChunkRef>,
        end: Option<ContentEnd>,
    },
    Write {
        content_no: u32,
        index: u32,
        held: Arc<Held>,
    },
    Read {
        content_no: u32,
        indices: Vec<u32>,
        reply: oneshot::Sender<Vec<(u32, Bytes)>>,
    },
    /// The content may be complete.
    Look {
        content_no: u32,
    },
    Abandon {
        content_no: u32,
    },
}

#[derive(Default)]
pub(super) struct State {
    pub(super) contents: BTreeMap<u32, Passing>,
    pub(super) slots: BTreeMap<(u32, u32), Slot>,
    pub(super) jobs: VecDeque<Job>,
    /// Chunks in the offers among the jobs: an offer is as large as they are many.
    pub(super) offered: usize,
    pub(super) outbox: VecDeque<TransferFrame>,
    pub(super) next: Option<Next>,
    /// Nodes that dropped out since the chain stands.
    pub(super) failed: BTreeSet<NodeId>,
    /// Since when the disk thread is at one operation.
    pub(super) busy: Option<Moment>,
    /// Contents stay pinned until the session ends, so that no drop can fall between two phases.
    pub(super) pins: Vec<Finished>,
    pub(super) failure: Option<(ErrorCode, Box<str>)>,
    pub(super) closed: bool,
}

impl State {
    pub(super) fn job(&mut self, job: Job) {
        if let Job::Offer { chunks, .. } = &job {
            self.offered += chunks.len();
        }
        self.jobs.push_back(job);
    }

    pub(super) fn next_job(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        if let Job::Offer { chunks, .. } = &job {
            self.offered = self.offered.saturating_sub(chunks.len());
        }
        Some(job)
    }

    /// Settles a slot as far as it can be, after anything about it has changed.
    pub(super) fn settle(&mut self, content_no: u32, index: u32) {
        let Some(slot) = self.slots.get_mut(&(content_no, index)) else { return };
        let Some(next) = self.next.as_mut() else { return };
        match (slot.next, slot.own, slot.parked.take()) {
            (Some(true), _, Some(held)) => next.queue.push_back(Outgoing::Chunk { content_no, index, held }),
            (Some(true), Some(false), None) => {
                // Stays counted in `local` until it has been read.
                next.queue.push_back(Outgoing::Local { content_no, index, bytes: slot.bytes });
            }
            (Some(false), Some(own), _) => {
                if !own {
                    self.release_local(content_no);
                }
            }
            (_, _, parked) => {
                slot.parked = parked;
                return;
            }
        }
        self.slots.remove(&(content_no, index));
    }

    /// One chunk fewer for which the content must be kept readable.
    pub(super) fn release_local(&mut self, content_no: u32) {
        if let Some(passing) = self.contents.get_mut(&content_no) {
            passing.local = passing.local.saturating_sub(1);
            if passing.local == 0 {
                self.job(Job::Look { content_no });
            }
        }
    }

    /// Says `Stored` upstream once both we and those after us have the content.
    pub(super) fn report(&mut self, content_no: u32, own: NodeId) {
        let alone = self.next.is_none();
        let done = self
            .contents
            .get(&content_no)
            .is_some_and(|passing| passing.stored && (alone || passing.next.is_some()));
        if !done {
            return;
        }
        if let Some(passing) = self.contents.remove(&content_no) {
            let nodes = std::iter::once(own).chain(passing.next.unwrap_or_default()).collect();
            let failed = self.failed.iter().copied().collect();
            self.outbox.push_back(TransferFrame::Stored { content_no, nodes, failed });
        }
    }

    pub(super) fn is_crowded(&self) -> bool {
        let downstream = self.next.as_ref().map_or(0, |next| next.queue.len());
        [self.slots.len(), self.jobs.len(), self.offered, self.outbox.len(), downstream]
            .iter()
            .any(|&len| len >= BACKLOG_MAX)
    }

    /// Whether it would be true to say that we are at work.
    pub(super) fn is_working(&self, now: Moment) -> bool {
        let in_time = |since: &Moment| now.since(*since) < DISK_PATIENCE_MS;
        !self.contents.is_empty()
            && self.busy.iter().all(in_time)
            && self.contents.values().filter_map(|passing| passing.finishing.as_ref()).all(in_time)
    }
}
