//! Full and suspect disks: what still works, what is said, and what goes on by itself.

use super::*;
use crate::limits::{QUARANTINE_HELD_KEEP_MS, QUARANTINE_KEEP_MS};
use crate::store::disk::faults::{Faults, Plan};
use crate::store::disk::{Call, Room};
use rustix::io::Errno;

const ROOM: Room = Room { bytes: 64 << 20, free_bytes: 50 << 20, free_inodes: Some(10_000) };
/// Below the headroom.
const NO_ROOM: Room = Room { free_bytes: 1 << 20, ..ROOM };

pub(super) fn place() -> (TempDir, Arc<Faults>, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let faults = Faults::of(folder.path());
    faults.set_room(Some(ROOM));
    let store = open(&folder).0;
    (folder, faults, store)
}

pub(super) fn for_ever(errno: Errno, only: fn(Call, &Path) -> bool) -> Option<Plan> {
    Some(Plan { at: 1, for_ever: true, after: false, errno, only })
}

pub(super) fn in_catalog(call: Call, path: &Path) -> bool {
    call.changes() && !call.syncs() && path.ends_with("catalog.redb")
}

/// The catalog finds no room as long as the reserve takes it.
fn reserve_takes_all(call: Call, path: &Path) -> bool {
    let reserve = path.parent().expect("a folder").join("reserve");
    in_catalog(call, path) && fs::metadata(reserve).is_ok_and(|file| file.len() > 0)
}

fn try_put(store: &Store, sample: &Sample) -> Result<Finished, StoreError> {
    let mut incoming = store.receive();
    for (index, chunk) in sample.chunks.iter().enumerate() {
        if incoming.offer(&[*chunk])? == [true] {
            incoming.write(index as u32, sample.part(index))?;
        }
    }
    incoming.finish(sample.id(), sample.data.len() as u64)
}

fn names_one(store: &Store, text: &str) -> std::sync::mpsc::Receiver<Result<(), StoreError>> {
    let (sender, outcome) = sync_channel(1);
    let writes = vec![CatalogWrite::Name { name: name(text), versions: vec![version(1)] }];
    store.write_catalog(writes, Box::new(move |result| drop(sender.send(result))));
    outcome
}

#[test]
fn a_reserve_is_kept_and_lets_files_be_removed_on_a_full_disk() {
    let (folder, faults, store) = place();
    let reserve = folder.path().join("reserve");
    assert_eq!(fs::metadata(&reserve).expect("made").len(), 1 << 20, "a 64th of the disk");
    let sample = Sample::new(random(100_000, 1));
    drop(sample.put(&store));
    faults.set(for_ever(Errno::NOSPC, reserve_takes_all));
    faults.set_room(Some(NO_ROOM));
    assert!(store.remove(&sample.id()).expect("removed"), "with the reserve");
    assert_eq!(names_one(&store, "a").recv_timeout(Duration::from_secs(30)).expect("told").ok(), Some(()));
    assert_eq!(fs::metadata(&reserve).expect("there").len(), 0, "given back");
    assert_eq!((store.disk_state(), store.is_usable()), (DiskState::Full, true));
    assert!(matches!(try_put(&store, &sample), Err(StoreError::Full { .. })));
    store.tend();
    assert_eq!(store.disk_state(), DiskState::Full);
    faults.set_room(Some(ROOM));
    store.tend();
    assert_eq!(store.disk_state(), DiskState::Ok, "by itself");
    assert_eq!(fs::metadata(&reserve).expect("made anew").len(), 1 << 20);
    faults.set(None);
    sample.put(&store);
    sample.check(&store);
}

#[test]
fn a_catalog_without_any_room_waits_unacknowledged_and_goes_on_by_itself() {
    let (folder, faults, store) = place();
    let sample = Sample::new(random(20_000, 1));
    drop(sample.put(&store));
    faults.set(for_ever(Errno::NOSPC, in_catalog));
    let waiting: Vec<_> = (0..3).map(|at| names_one(&store, &format!("name {at}"))).collect();
    while store.is_usable() {
        std::thread::yield_now();
    }
    // Far more than the queue holds: the engine must never wait for the disk.
    for at in 0..3_000 {
        names_one(&store, &format!("name {}", at % 50));
    }
    assert!(waiting.iter().all(|outcome| outcome.try_recv().is_err()), "nothing was acknowledged");
    assert!(matches!(try_put(&store, &Sample::new(random(10, 9))), Err(StoreError::Full { .. })));
    sample.check(&store);
    faults.set(None);
    for outcome in waiting {
        outcome.recv_timeout(Duration::from_secs(30)).expect("told").expect("durable");
    }
    assert!(store.is_usable());
    store.tend();
    assert_eq!(store.disk_state(), DiskState::Ok);
    drop(store);
    assert_eq!(open(&folder).1.names.len(), 50);
}

#[test]
fn inodes_that_are_used_up_are_a_full_disk() {
    let (_folder, faults, store) = place();
    let large = Sample::new(random(100_000, 1));
    faults.set(for_ever(Errno::NOSPC, |call, _| call == Call::Create));
    assert!(matches!(try_put(&store, &large), Err(StoreError::Full { .. })));
    store.tend();
    assert_eq!((store.disk_state(), store.usage().free_bytes), (DiskState::Full, 0));
    faults.set(None);
    store.tend();
    assert_eq!(store.disk_state(), DiskState::Ok);
    faults.set_room(Some(Room { free_inodes: Some(3), ..ROOM }));
    store.tend();
    assert_eq!((store.disk_state(), store.usage().free_bytes), (DiskState::Full, 0));
    faults.set_room(Some(Room { free_inodes: None, ..ROOM }));
    store.tend();
    drop(large.put(&store));
}

#[test]
fn a_commit_that_fails_makes_the_disk_suspect_and_all_contents_can_still_be_read() {
    let (folder, faults, store) = place();
    let samples = [random(50, 1), random(20_000, 2), random(400_000, 3)].map(Sample::new);
    for sample in &samples {
        drop(sample.put(&store));
    }
    faults.set(for_ever(Errno::IO, |call, path| call == Call::Sync && path.ends_with("catalog.redb")));
    let outcome = names_one(&store, "a").recv_timeout(Duration::from_secs(30)).expect("told");
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!((store.disk_state(), store.is_usable()), (DiskState::Suspect, false));
    // From now on the disk is read-only, and nothing tries to write.
    let before = fs::read(folder.path().join("catalog.redb")).expect("read");
    faults.set(for_ever(Errno::ROFS, |call, _| call.changes()));
    for sample in &samples {
        sample.check(&store);
        assert!(matches!(store.remove(&sample.id()), Err(StoreError::Suspect)));
    }
    store.tend();
    assert_eq!(faults.failed(), [], "nothing was tried again");
    drop(store);
    assert!(
        fs::read(folder.path().join("catalog.redb")).expect("read") == before,
        "the catalog is as it was"
    );
    faults.set(None);
    let (store, loaded) = open(&folder);
    assert!(loaded.names.len() <= 1 && loaded.contents.len() == samples.len());
    samples.iter().for_each(|sample| sample.check(&store));
}

#[test]
fn an_early_sync_that_fails_is_not_forgotten() {
    let (_folder, faults, store) = place();
    faults.set_room(None);
    let sample = Sample::new(random(70 << 20, 1));
    faults.set(Some(Plan {
        at: 1,
        for_ever: false,
        after: false,
        errno: Errno::IO,
        only: |call, _| call == Call::SyncContent,
    }));
    assert!(try_put(&store, &sample).is_err());
    assert_eq!((store.disk_state(), store.holds(&sample.id())), (DiskState::Suspect, None));
}

#[test]
fn a_process_short_of_descriptors_damages_no_copy() {
    let (_folder, faults, store) = place();
    let sample = Sample::new(random(400_000, 1));
    drop(sample.put(&store));
    faults.set(for_ever(Errno::MFILE, |call, _| call == Call::Open));
    let error = store.read(&sample.id(), 0, 10).expect_err("no descriptor");
    assert!(!error.is_damage(), "{error:?}");
    assert!(store.verify(&sample.id()).is_err());
    faults.set(None);
    assert_eq!(store.disk_state(), DiskState::Ok);
    sample.check(&store);
    // A sector that cannot be read is damage of that copy, and not of the disk.
    faults.set(for_ever(Errno::IO, |call, path| call == Call::Read && !path.ends_with("catalog.redb")));
    assert!(store.read(&sample.id(), 0, 10).expect_err("unreadable").is_damage());
    assert!(!store.verify(&sample.id()).expect("judged"));
    assert_eq!(store.disk_state(), DiskState::Ok);
}

#[test]
fn the_quarantine_is_emptied_by_a_good_copy_and_by_time() {
    let (folder, _, store) = place();
    let samples = [Sample::new(random(100_000, 1)), Sample::new(random(100_000, 2))];
    for sample in &samples {
        drop(sample.put(&store));
        let path = store.inner.shared.folder.content(&sample.id());
        fs::write(&path, random(100_000, 9)).expect("damaged");
        assert!(!store.verify(&sample.id()).expect("verified"));
    }
    let quarantine = folder.path().join("quarantine");
    fs::write(quarantine.join("letter"), "not ours").expect("written");
    assert_eq!(files_in(&quarantine).len(), 3);
    samples[0].put(&store);
    let after = |ms: u64| store.inner.shared.expire_quarantine(clock::wall().0 + ms + 10_000);
    after(0);
    assert_eq!(files_in(&quarantine).len(), 3);
    after(QUARANTINE_HELD_KEEP_MS);
    assert!(!quarantine.join(samples[0].id().to_string()).exists(), "a good copy came");
    assert_eq!(files_in(&quarantine).len(), 2);
    after(QUARANTINE_KEEP_MS);
    assert_eq!(files_in(&quarantine), [quarantine.join("letter")]);
}
