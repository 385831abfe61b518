//! How much room there is: what the disk has free, less the headroom that is never filled, within
//! the capacity that the owner set.
//!
//! Invariant: thorp never fills a disk. The headroom keeps room for the catalog, so that removing
//! files and passing copies on work when no new content is taken; a part of it, the [`Reserve`], is
//! really taken, because others fill disks as well. No content is taken while there is less.
//!
//! [`Reserve`]: super::reserve::Reserve

use super::Shared;
use super::disk::Room;
use super::error::StoreError;
use super::reserve::reserve_bytes;
use crate::limits::{INODES_FREE_MIN, headroom_bytes};
use std::sync::atomic::Ordering;

/// How full the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of contents that it could hold in all, headroom already subtracted.
    pub capacity_bytes: u64,
    /// Bytes of the contents held.
    pub used_bytes: u64,
    /// Bytes that it could still take.
    pub free_bytes: u64,
    /// Contents held.
    pub contents: u64,
}

/// Of what is free on a disk of `disk_bytes`, with what makes way, the part that may be filled.
fn usable(free_bytes: u64, disk_bytes: u64, aside_bytes: u64) -> u64 {
    free_bytes.saturating_add(aside_bytes).saturating_sub(headroom_bytes(disk_bytes))
}

/// How full the store is. A disk that does not answer has no room.
pub(super) fn usage(shared: &Shared) -> Usage {
    // What is aside goes when its room is needed: it counts as free.
    measure(shared, shared.asides().bytes())
}

/// How full the store is, if so many bytes of what lies on the disk count as free.
fn measure(shared: &Shared, aside_bytes: u64) -> Usage {
    let (used_bytes, contents) = shared.index.used();
    let incoming = shared.incoming_bytes.load(Ordering::Relaxed);
    let on_disk = match shared.disk.room(shared.folder.root()) {
        Ok(room) if shared.health.check_room().is_ok() => above_headroom(shared, &room, aside_bytes),
        _ => 0,
    };
    let free_bytes = match shared.capacity {
        Some(capacity) => on_disk.min(capacity.saturating_sub(used_bytes.saturating_add(incoming))),
        None => on_disk,
    };
    Usage { capacity_bytes: used_bytes.saturating_add(free_bytes), used_bytes, free_bytes, contents }
}

/// Bytes of the disk that contents may take.
fn above_headroom(shared: &Shared, room: &Room, aside_bytes: u64) -> u64 {
    if room.free_inodes.is_some_and(|inodes| inodes < INODES_FREE_MIN) {
        return 0;
    }
    usable(room.free_bytes.saturating_add(shared.reserve.bytes()), room.bytes, aside_bytes)
}

/// Looks whether the disk is full, and makes the reserve if it is not there: call it now and then.
pub(super) fn look(shared: &Shared) {
    if shared.health.is_suspect() {
        return;
    }
    let Ok(room) = shared.disk.room(shared.folder.root()) else { return };
    // What makes way when room is needed must be let to.
    let yielding = shared.asides().bytes().saturating_add(shared.removed.bytes());
    if above_headroom(shared, &room, yielding) == 0 {
        shared.health.set_full("less room is free than is kept for the catalog");
        return;
    }
    let wanted = reserve_bytes(room.bytes);
    let whole = shared.reserve.bytes() >= wanted;
    if whole && !shared.health.is_full() {
        return;
    }
    match shared.reserve.make(wanted) {
        Ok(()) => shared.health.set_roomy(),
        // Where room cannot be taken ahead, what the disk says has to do.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::Unsupported) => shared.health.set_roomy(),
        Err(error) => {
            tracing::debug!(%error, "there is no room for the reserve");
            if shared.health.is_full() {
                shared.drop_partials();
                while shared.drop_oldest_aside(u64::MAX) {}
            }
        }
    }
}

/// Bytes that can be written before anything has to make way.
fn room(shared: &Shared) -> u64 {
    let aside = shared.asides().bytes();
    let free_bytes = measure(shared, 0).free_bytes;
    match shared.capacity {
        // What is aside takes of the capacity, too, until it goes.
        Some(capacity) => {
            let (used_bytes, _) = shared.index.used();
            let incoming = shared.incoming_bytes.load(Ordering::Relaxed);
            let filled = used_bytes.saturating_add(incoming).saturating_add(aside);
            free_bytes.min(capacity.saturating_sub(filled))
        }
        None => free_bytes,
    }
}

/// Makes sure that `needed_bytes` more may be written; contents aside make way, the oldest first, and
/// broken-off ones. What would not be enough stays.
pub(super) fn check(shared: &Shared, needed_bytes: u64) -> Result<(), StoreError> {
    shared.health.check_room()?;
    if room(shared) >= needed_bytes {
        return Ok(());
    }
    if usage(shared).free_bytes < needed_bytes {
        shared.drop_partials();
    }
    if usage(shared).free_bytes >= needed_bytes {
        while room(shared) < needed_bytes && shared.drop_oldest_aside(u64::MAX) {}
    }
    let free_bytes = room(shared);
    let missing_bytes = needed_bytes.saturating_sub(free_bytes);
    let there = || room(shared) >= needed_bytes;
    if missing_bytes == 0 || shared.removed.give_way(missing_bytes, there) {
        return Ok(());
    }
    Err(StoreError::Full { needed_bytes, free_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{HEADROOM_BYTES, SMALL_DISK_BYTES};

    #[test]
    fn what_is_aside_counts_as_free() {
        let (disk, headroom) = (100 << 30, headroom_bytes(100 << 30));
        assert_eq!(usable(headroom + 5, disk, 0), 5);
        assert_eq!(usable(headroom + 5, disk, 7), 12);
        // Also where it lies in what is never filled otherwise.
        assert_eq!(usable(headroom - 5, disk, 7), 2);
        assert_eq!(usable(0, disk, 7), 0);
    }

    #[test]
    fn headroom_is_a_gibibyte_or_five_percent_and_less_on_a_small_card() {
        assert_eq!(headroom_bytes(100 << 30), (100 << 30) / 100 * 5);
        assert_eq!(headroom_bytes(SMALL_DISK_BYTES), HEADROOM_BYTES);
        assert_eq!(headroom_bytes(8 << 30), (8 << 30) / 100 * 5);
        assert!(headroom_bytes(8 << 30) < HEADROOM_BYTES);
    }
}
