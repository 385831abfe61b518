//! Copies that were one too many: kept aside, no copies, taken back whole or not at all.

use super::*;
use std::os::unix::fs::MetadataExt;

const NOT_YET: Duration = Duration::from_secs(3_600);

fn asides(folder: &TempDir) -> Vec<PathBuf> {
    files_in(&folder.path().join("aside"))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

/// The file of a content that has one.
fn file(store: &Store, sample: &Sample) -> PathBuf {
    store.inner.shared.folder.content(&sample.id())
}

#[test]
fn what_is_aside_is_no_copy_and_comes_back_without_a_byte() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(3 << 20, 1));
    drop(sample.put(&store));
    let inode = file(&store, &sample).metadata().expect("a file").ino();
    assert!(store.set_aside(&sample.id()).expect("set aside"));
    assert!(store.holds(&sample.id()).is_none() && store.contents().is_empty());
    assert!(store.root(&sample.id()).is_err() && store.read(&sample.id(), 0, 10).is_err());
    assert!(store.record(&sample.id()).is_err() && store.verify(&sample.id()).is_err());
    assert_eq!((store.usage().used_bytes, asides(&folder).len()), (0, 1));
    assert!(!file(&store, &sample).exists());

    let finished = store.readopt(&sample.id()).expect("readopted").expect("aside");
    assert!(!finished.already && finished.size == 3 << 20);
    sample.check(&store);
    assert_eq!(file(&store, &sample).metadata().expect("a file").ino(), inode);
    assert!(asides(&folder).is_empty());
    assert!(store.readopt(&sample.id()).expect("held").expect("held").already);
    assert!(store.readopt(&ContentId([9; 32])).expect("unknown").is_none());
}

#[test]
fn a_put_takes_what_is_aside_chunk_by_chunk() {
    let (folder, store) = fresh();
    let (sample, single) = (Sample::new(random(3 << 20, 1)), Sample::cut(random(40_000, 2), &[40_000]));
    for sample in [&sample, &single] {
        drop(sample.put(&store));
        assert!(store.set_aside(&sample.id()).expect("set aside"));
        let (sent, finished) = sample.put(&store);
        assert_eq!((sent, finished.already), (0, false));
        sample.check(&store);
    }
    assert!(asides(&folder).is_empty(), "a content is held or aside, never both");
    let copied = crash_copy(&folder);
    drop(store);
    let store = open(&copied).0;
    sample.check(&store);
    single.check(&store);
}

#[test]
fn what_is_damaged_aside_does_not_come_back() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(3 << 20, 1));
    drop(sample.put(&store));
    assert!(store.set_aside(&sample.id()).expect("set aside"));
    flip(&asides(&folder)[0], 2 << 20);
    assert!(store.readopt(&sample.id()).expect("looked at").is_none());
    assert!(store.holds(&sample.id()).is_none() && asides(&folder).is_empty());
    assert!(store.readopt(&sample.id()).expect("gone").is_none());
    let (sent, _) = sample.put(&store);
    assert_eq!(sent, 3 << 20);
    sample.check(&store);
    // Its row is gone without taking anything of the new copy along.
    store.expire_asides(NOT_YET).expect("expired");
    sample.check(&store);
    drop(store);
    sample.check(&open(&folder).0);
}

#[test]
fn what_is_aside_survives_a_start_and_a_crash_at_each_step() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(200_000, 1));
    drop(sample.put(&store));
    let held = crash_copy(&folder);
    assert!(store.set_aside(&sample.id()).expect("set aside"));
    let aside = crash_copy(&folder);
    drop(store.readopt(&sample.id()).expect("readopted"));
    drop(store);

    let start = |folder: &TempDir| {
        let (store, loaded) = open(folder);
        assert!(loaded.contents.is_empty(), "it is no copy");
        let readopted = store.readopt(&sample.id()).expect("looked at").is_some();
        if readopted {
            sample.check(&store);
        }
        readopted
    };
    // Between the commit and the move out of the contents, or the move back and its commit.
    let between = crash_copy(&aside);
    let place = |folder: &TempDir| {
        let id = sample.id().to_string();
        folder.path().join("contents").join(&id[..2]).join(&id[2..])
    };
    fs::rename(&asides(&between)[0], place(&between)).expect("renamed");
    assert!(start(&between));
    assert!(start(&aside), "an ordinary start");
    // A row without its file, or with half of it; a file without its row.
    let without = crash_copy(&folder);
    drop(open(&without));
    let stray = without.path().join("aside").join(sample.id().to_string());
    fs::write(&stray, b"half").expect("written");
    drop(open(&without));
    assert!(!stray.exists());
    let (store, _) = open(&held);
    assert!(store.set_aside(&sample.id()).expect("set aside"));
    drop(store);
    fs::write(&asides(&held)[0], b"half").expect("written");
    assert!(!start(&held));
    assert!(asides(&held).is_empty());
}

#[test]
fn it_goes_when_room_is_needed_the_oldest_first_and_when_it_is_old() {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(folder.path(), Some(4 << 20)).expect("open").0;
    let samples: Vec<Sample> = (0..3).map(|seed| Sample::new(random(1 << 20, seed))).collect();
    for sample in &samples {
        drop(sample.put(&store));
        assert!(store.set_aside(&sample.id()).expect("set aside"));
        let before = clock::wall();
        while clock::wall() == before {
            std::hint::spin_loop();
        }
    }
    assert_eq!(store.usage().free_bytes, 4 << 20, "its room counts as free");
    let large = Sample::new(random(5 << 19, 9));
    drop(large.put(&store));
    large.check(&store);
    let left = |sample: &Sample| folder.path().join("aside").join(sample.id().to_string()).exists();
    assert_eq!(samples.iter().map(left).collect::<Vec<bool>>(), [false, false, true]);
    // What does not fit however much makes way takes nothing along.
    let too_large = Sample::new(random(4 << 20, 10));
    let mut incoming = store.receive();
    assert!(
        too_large.chunks.chunks(4).any(|window| {
            match incoming.offer(window) {
                Ok(_) => false,
                Err(error) => matches!(error, StoreError::Full { .. }),
            }
        }) || incoming.finish(too_large.id(), 4 << 20).is_err()
    );
    store.expire_asides(NOT_YET).expect("expired");
    assert!(left(&samples[2]));
    store.expire_asides(Duration::ZERO).expect("expired");
    assert!(asides(&folder).is_empty());
    assert!(store.readopt(&samples[2].id()).expect("gone").is_none());
    large.check(&store);
}

#[test]
fn what_is_pinned_stays_a_copy_and_what_is_small_goes() {
    let (folder, store) = fresh();
    let (large, small) = (Sample::new(random(1 << 20, 1)), Sample::new(random(100, 2)));
    let (_, pinned) = large.put(&store);
    drop(small.put(&store));
    assert!(!store.set_aside(&large.id()).expect("pinned"));
    large.check(&store);
    drop(pinned);
    assert!(store.set_aside(&large.id()).expect("free"));
    assert!(!store.set_aside(&large.id()).expect("not held"));
    assert!(store.set_aside(&small.id()).expect("small"));
    assert!(store.holds(&small.id()).is_none() && store.readopt(&small.id()).expect("gone").is_none());
    assert_eq!(asides(&folder).len(), 1);
}
