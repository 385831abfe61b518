//! Files on their way through this server, for those who watch. Shell.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// Into the cluster.
    Upload,
    /// Out of it.
    Download,
}

/// All transfers under way, and what those that ended have moved.
#[derive(Clone, Default)]
pub(crate) struct Transfers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    moved_bytes: [AtomicU64; 2],
    running: Mutex<BTreeMap<u64, Arc<Running>>>,
}

struct Running {
    name: String,
    direction: Direction,
    bytes: AtomicU64,
    total: Option<u64>,
}

/// A transfer under way; it has ended when this is dropped.
pub(crate) struct Transfer {
    all: Transfers,
    id: u64,
    running: Arc<Running>,
}

/// A transfer, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TransferPart {
    id: u64,
    name: String,
    direction: Direction,
    bytes: u64,
    total: Option<u64>,
}

impl Transfers {
    /// One begins; `total` bytes if that is known.
    pub(crate) fn begin(&self, name: &str, direction: Direction, total: Option<u64>) -> Transfer {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let running = Arc::new(Running { name: name.to_owned(), direction, bytes: AtomicU64::new(0), total });
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&running));
        Transfer { all: self.clone(), id, running }
    }

    /// Those under way.
    pub(crate) fn list(&self) -> Vec<TransferPart> {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |(id, running): (&u64, &Arc<Running>)| TransferPart {
            id: *id,
            name: running.name.clone(),
            direction: running.direction,
            bytes: running.bytes.load(Ordering::Relaxed),
            total: running.total,
        };
        running.iter().map(part).collect()
    }

    /// Bytes moved since the start.
    pub(crate) fn moved_bytes(&self, direction: Direction) -> u64 {
        self.0.moved_bytes[direction as usize].load(Ordering::Relaxed)
    }
}

impl Transfer {
    /// So many bytes more have moved.
    pub(crate) fn advance(&self, bytes: u64) {
        self.running.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.0.moved_bytes[self.running.direction as usize].fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.all.0.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
