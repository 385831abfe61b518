//! Room kept for the catalog: a file that takes some, and gives it back when a commit finds none.
//!
//! Others fill disks, too, and below the headroom. Without a reserve, removing files, the one thing
//! that makes room, would then fail for want of room. Invariant: it is made in full or not at all,
//! so that making it shows that there is room again, for bytes, inodes and quota alike.

use super::disk::{Disk, bytes_on_disk};
use crate::limits::{RESERVE_BYTES, RESERVE_SHARE};
use std::io;
use std::path::{Path, PathBuf};

/// The reserve of a data folder.
#[derive(Debug)]
pub(super) struct Reserve {
    disk: Disk,
    path: PathBuf,
}

/// Its size on a disk of `disk_bytes`.
pub(super) fn reserve_bytes(disk_bytes: u64) -> u64 {
    RESERVE_BYTES.min(disk_bytes / RESERVE_SHARE)
}

impl Reserve {
    pub(super) fn new(disk: &Disk, root: &Path) -> Reserve {
        Reserve { disk: disk.clone(), path: root.join("reserve") }
    }

    /// Bytes that it takes now.
    pub(super) fn bytes(&self) -> u64 {
        self.disk.look(&self.path).map_or(0, |file| if file.is_file() { bytes_on_disk(&file) } else { 0 })
    }

    /// Makes it anew, beside the old one if that is still there. After a crash it is looked for again.
    pub(super) fn make(&self, bytes: u64) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        self.disk.remove(&draft)?;
        let made = self.disk.create(&draft).and_then(|file| file.allocate(bytes));
        if let Err(error) = made.and_then(|()| self.disk.rename(&draft, &self.path)) {
            self.disk.remove(&draft)?;
            return Err(error);
        }
        Ok(())
    }

    /// Gives its room back, at once.
    pub(super) fn release(&self) {
        let released = self.disk.open_to_write(&self.path).and_then(|file| {
            file.resize(0)?;
            // Freed room can be used once the file system's journal says so.
            file.sync()
        });
        match released {
            Ok(()) => tracing::warn!("the disk is full: the catalog uses the room kept for it"),
            Err(error) => tracing::debug!(%error, "there is no reserve to give back"),
        }
    }
}
