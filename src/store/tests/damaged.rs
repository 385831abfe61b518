//! Damaged state: every file of a data folder, in every way it can be wrong. A row of the table says
//! what must come of it: the folder opens with everything, or without what was damaged (and the
//! peers bring that back), or it is refused. Never is it taken for an empty one.

use super::*;
use crate::limits::ORPHAN_GRACE_MS;
use std::os::unix::fs::{PermissionsExt, symlink};

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Truncated(u64),
    Flipped,
    Zeroed,
    Emptied,
    Removed,
    Folder,
    Fifo,
    Link,
    Unreadable,
    Swapped,
    Foreign,
    Longer,
}

use Damage::{
    Emptied, Fifo, Flipped, Folder, Foreign, Link, Longer, Removed, Swapped, Truncated, Unreadable, Zeroed,
};

const ALL: [Damage; 16] = [
    Truncated(1),
    Truncated(10),
    Truncated(50),
    Truncated(90),
    Truncated(99),
    Flipped,
    Zeroed,
    Emptied,
    Removed,
    Folder,
    Fifo,
    Link,
    Unreadable,
    Swapped,
    Foreign,
    Longer,
];

/// A data folder with something of everything, and the files in it by kind.
struct Patient {
    folder: TempDir,
    /// What was in the place of the damage.
    aside: TempDir,
    small: Sample,
    large: [Sample; 2],
}

impl Patient {
    fn new() -> Patient {
        let (folder, store) = fresh();
        let small = Sample::new(random(1_000, 1));
        let large = [Sample::new(random(200_000, 2)), Sample::new(random(200_000, 3))];
        for sample in [&small, &large[0], &large[1]] {
            drop(sample.put(&store));
        }
        for (at, text) in ["a", "b"].into_iter().enumerate() {
            let versions = vec![version(at as u64 + 1)];
            let writes = vec![CatalogWrite::Name { name: name(text), versions }];
            wait_for(|done| store.write_catalog(writes, done)).expect("durable");
        }
        let unfinished = Sample::new(random(2 << 20, 4));
        unfinished.send_first(&mut store.receive(), unfinished.chunks.len() / 4 * 3);
        drop(store);
        Patient { folder, aside: tempfile::tempdir().expect("a folder"), small, large }
    }

    fn path(&self, file: &str) -> PathBuf {
        let root = self.folder.path();
        let id = |sample: &Sample| sample.id().to_string();
        match file {
            "content" => {
                let id = id(&self.large[0]);
                root.join("contents").join(&id[..2]).join(&id[2..])
            }
            "part" | "journal" => files_in(&root.join("incoming"))
                .into_iter()
                .find(|path| path.extension().is_some_and(|extension| extension == file))
                .expect("a broken-off content"),
            file => root.join(file),
        }
    }

    fn damage(&self, file: &str, damage: Damage) {
        let path = self.path(file);
        let bytes = fs::read(&path).unwrap_or_default();
        match damage {
            Truncated(percent) => {
                fs::write(&path, &bytes[..bytes.len() * percent as usize / 100]).expect("written");
            }
            Flipped => {
                let mut bytes = bytes;
                let at = bytes.len() / 3;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 4;
                }
                fs::write(&path, bytes).expect("written");
            }
            Zeroed => fs::write(&path, vec![0; bytes.len()]).expect("written"),
            Emptied => fs::write(&path, "").expect("written"),
            Longer => fs::write(&path, [bytes.as_slice(), &[7; 5_000]].concat()).expect("written"),
            Unreadable => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("changed");
            }
            Swapped | Foreign => fs::write(&path, self.other(file, damage)).expect("written"),
            Removed | Folder | Fifo | Link => {
                let aside = self.aside.path().join(file);
                fs::rename(&path, &aside).expect("moved");
                match damage {
                    Folder => fs::create_dir(&path).expect("made"),
                    Fifo => {
                        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                        let kind = rustix::fs::FileType::Fifo;
                        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("made");
                    }
                    Link => symlink(&aside, &path).expect("made"),
                    _ => fs::remove_file(&aside).expect("removed"),
                }
            }
        }
    }

    /// The bytes of another file of its kind: of this folder, or of another node's.
    fn other(&self, file: &str, damage: Damage) -> Vec<u8> {
        if file == "content" && damage == Swapped {
            let id = self.large[1].id().to_string();
            return fs::read(self.folder.path().join("contents").join(&id[..2]).join(&id[2..]))
                .expect("read");
        }
        match damage {
            // Of another kind.
            Swapped => fs::read(self.folder.path().join("disk")).expect("read"),
            _ => {
                let other = Patient::new();
                fs::read(other.path(file)).expect("read")
            }
        }
    }
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All is there.
    Whole,
    /// All but the damaged content, which is no longer held once it was looked at.
    WithoutIt,
    /// The message says this.
    Refused(&'static str),
    /// One or the other: a flipped bit of a database may lie where nothing is.
    Either(&'static str),
}

fn expected(file: &str, damage: Damage) -> Outcome {
    use Outcome::{Either, Refused, Whole, WithoutIt};
    let is_root = rustix::process::geteuid().is_root();
    match (file, damage) {
        (_, Unreadable) if is_root => Whole,
        ("content", Unreadable) => WithoutIt,
        (_, Unreadable) => Refused(""),
        // The other node holds the same content.
        ("content", Foreign) => Whole,
        ("content", _) => WithoutIt,
        // Hints, which are hashed before they are used.
        ("part" | "journal" | "reserve", _) => Whole,
        // Held by whoever has it open; what is in it does not matter.
        ("lock", Folder | Fifo | Link) => Refused("lock"),
        ("lock", _) => Whole,
        // Another id, of another node: its proxy asks for everything anew.
        ("disk", Foreign | Swapped) => Whole,
        // The line's end is not needed.
        ("disk", Flipped | Truncated(99)) => Either("disk"),
        ("disk", _) => Refused("disk"),
        ("format", Swapped) => Refused("format"),
        ("format", Foreign) => Whole,
        ("format", _) => Refused("format"),
        // One of another node is whole, and so are its names; the contents are then not ours.
        ("catalog.redb", Foreign) => WithoutIt,
        ("catalog.redb", Flipped | Longer | Truncated(_)) => Either("catalog"),
        ("catalog.redb", _) => Refused("catalog"),
        other => panic!("no row for {other:?}"),
    }
}

fn check_row(file: &str, damage: Damage) -> Outcome {
    let patient = Patient::new();
    patient.damage(file, damage);
    let why = format!("{file} {damage:?}");
    let (store, loaded) = match Store::open(patient.folder.path(), None) {
        Ok(opened) => opened,
        Err(error) => {
            let text = error.to_string();
            let names_it = matches!(expected(file, damage), Outcome::Refused(word) | Outcome::Either(word) if text.contains(word));
            assert!(names_it, "{why}: refused with {error:?}");
            assert!(error.hint().is_some(), "{why}: {text}");
            // What was refused once is refused again, and not repaired in passing.
            assert!(Store::open(patient.folder.path(), None).is_err(), "{why}");
            return Outcome::Refused("");
        }
    };
    let foreign = file == "catalog.redb" && damage == Foreign;
    assert_eq!(loaded.names.len(), 2, "{why}");
    let damaged = file == "content" && !store.verify(&patient.large[0].id()).unwrap_or(false);
    if damaged {
        assert_eq!(store.holds(&patient.large[0].id()), None, "{why}");
        assert!(store.read(&patient.large[0].id(), 0, 1).is_err(), "{why}");
        // A peer brings it back.
        drop(patient.large[0].put(&store));
    }
    if !foreign {
        for sample in [&patient.small, &patient.large[0], &patient.large[1]] {
            sample.check(&store);
        }
    }
    if damaged || foreign { Outcome::WithoutIt } else { Outcome::Whole }
}

#[test]
fn each_file_damaged_in_each_way_is_refused_or_recovered_and_never_taken_for_empty() {
    let files = ["format", "disk", "lock", "catalog.redb", "reserve", "content", "part", "journal"];
    let mut counts = [0; 3];
    for file in files {
        for damage in ALL {
            if file == "lock" && damage == Removed {
                continue; // it is made anew, as in a new folder
            }
            let outcome = check_row(file, damage);
            match (expected(file, damage), outcome) {
                (Outcome::Either(_), Outcome::Whole | Outcome::Refused(_)) => {}
                (Outcome::Refused(_), Outcome::Refused(_)) => {}
                (wanted, is) => assert_eq!(wanted, is, "{file} {damage:?}"),
            }
            counts[match outcome {
                Outcome::Whole => 0,
                Outcome::WithoutIt => 1,
                _ => 2,
            }] += 1;
        }
    }
    println!("whole {}, without the damaged content {}, refused {}", counts[0], counts[1], counts[2]);
}

#[test]
fn a_catalog_is_refused_at_every_length_and_with_any_page_zeroed() {
    let patient = Patient::new();
    let path = patient.path("catalog.redb");
    let whole = fs::read(&path).expect("read");
    let (mut refused, mut opened) = (0, 0);
    let mut judge = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).expect("written");
        match Store::open(patient.folder.path(), None) {
            Ok((store, loaded)) => {
                assert_eq!((loaded.names.len(), loaded.contents.len()), (2, 3), "{what}");
                [&patient.small, &patient.large[0]].iter().for_each(|sample| sample.check(&store));
                opened += 1;
            }
            Err(StoreError::CatalogDamaged { .. }) => refused += 1,
            Err(error) => panic!("{what}: {error:?}"),
        }
    };
    for length in (0..whole.len()).step_by(whole.len() / 150) {
        judge(&whole[..length], &format!("{length} bytes"));
    }
    for start in (0..whole.len()).step_by(4_096 * whole.len().div_ceil(4_096 * 100)) {
        let mut bytes = whole.clone();
        let end = bytes.len().min(start + 4_096);
        bytes[start..end].fill(0);
        judge(&bytes, &format!("zero from {start} on"));
    }
    println!("{refused} refused, {opened} opened with everything");
    assert!(refused > 100);
}

#[test]
fn an_older_image_of_the_whole_folder_opens_as_what_it_is() {
    let (folder, store) = fresh();
    let (old, new) = (Sample::new(random(100_000, 1)), Sample::new(random(100_000, 2)));
    drop(old.put(&store));
    let image = crash_copy(&folder);
    drop(new.put(&store));
    let (store, loaded) = open(&image);
    assert_eq!((loaded.contents, loaded.generation), (vec![(old.id(), 100_000)], 2));
    assert_eq!(store.holds(&new.id()), None);
    old.check(&store);
}

#[test]
fn an_older_catalog_over_newer_contents_loses_no_file() {
    let (folder, store) = fresh();
    let image = crash_copy(&folder);
    let sample = Sample::new(random(100_000, 2));
    drop(sample.put(&store));
    let path = store.inner.shared.folder.content(&sample.id());
    drop(store);
    let old = UNIX_EPOCH + Duration::from_millis(clock::wall().0 - ORPHAN_GRACE_MS - 60_000);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("open");
    file.set_times(FileTimes::new().set_modified(old)).expect("times");
    fs::copy(image.path().join("catalog.redb"), folder.path().join("catalog.redb")).expect("copied");
    open(&folder);
    assert!(folder.path().join("quarantine").join(sample.id().to_string()).exists());
}

#[test]
fn a_rebuild_takes_in_what_is_whole_and_begins_again_when_it_was_interrupted() {
    let patient = Patient::new();
    let old = UNIX_EPOCH + Duration::from_millis(clock::wall().0 - ORPHAN_GRACE_MS - 60_000);
    let file = fs::OpenOptions::new().write(true).open(patient.path("content")).expect("open");
    file.set_times(FileTimes::new().set_modified(old)).expect("times");
    let disk = fs::read(patient.path("disk")).expect("read");
    patient.damage("catalog.redb", Zeroed);
    let error = Store::open(patient.folder.path(), None).expect_err("refused");
    assert!(error.hint().is_some_and(|hint| hint.contains("--rebuild")), "{error}");
    // One of the two files is damaged as well.
    let id = patient.large[1].id().to_string();
    let bad = patient.folder.path().join("contents").join(&id[..2]).join(&id[2..]);
    fs::write(&bad, random(200_000, 99)).expect("written");
    // Interrupted after any step: never an empty store.
    fs::write(patient.path("rebuilding"), "").expect("written");
    let error = Store::open(patient.folder.path(), None).expect_err("refused");
    assert!(matches!(error, StoreError::HalfRebuilt { .. }), "{error:?}");
    let rebuilt = Store::rebuild(patient.folder.path()).expect("rebuilt");
    assert_eq!((rebuilt.adopted, rebuilt.bytes, rebuilt.damaged), (1, 200_000, 1));
    assert!(rebuilt.aside.expect("put aside").exists());
    assert!(patient.path("quarantine").join(&id).exists());
    let (store, loaded) = open(&patient.folder);
    assert_eq!(loaded.contents, [(patient.large[0].id(), 200_000)]);
    assert!(loaded.names.is_empty());
    assert_ne!(fs::read(patient.path("disk")).expect("read"), disk, "another disk id");
    patient.large[0].check(&store);
    assert!(store.verify(&patient.large[0].id()).expect("verified"));
    // Large contents of several chunk sizes, empty folders and foreign files are no obstacle.
    let huge = Sample::new(random(9 << 20, 5));
    drop(huge.put(&store));
    drop(store);
    fs::remove_file(patient.path("catalog.redb")).expect("removed");
    assert!(matches!(Store::open(patient.folder.path(), None), Err(StoreError::Missing { .. })));
    let rebuilt = Store::rebuild(patient.folder.path()).expect("rebuilt");
    assert_eq!((rebuilt.adopted, rebuilt.aside), (2, None));
    huge.check(&open(&patient.folder).0);
}
