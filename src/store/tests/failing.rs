//! Failing calls: a workload is run again and again, and each time another call of the file system
//! fails, until a run passes untouched. After each, with a disk that works again: what was
//! acknowledged is there, nothing is there by half, and what could not be done was not called done.

use super::*;
use crate::store::disk::faults::{Faults, Plan, Site};
use crate::store::disk::{Call, Room};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};

const ROOM: Room = Room { bytes: 64 << 20, free_bytes: 50 << 20, free_inodes: Some(10_000) };

/// What a run was told, and so what must be there afterwards.
#[derive(Default)]
struct Ledger {
    /// Contents that were acknowledged, and those whose removal was.
    contents: BTreeMap<ContentId, bool>,
    /// Those of which it is not known.
    doubtful: BTreeSet<ContentId>,
    /// What each name may be.
    names: BTreeMap<FileName, Vec<Vec<Version>>>,
    term: u64,
    blob: Option<Vec<u8>>,
    errors: usize,
}

/// A folder whose calls fail, in memory if that is possible: nothing here is about a crash.
struct Place {
    folder: TempDir,
    faults: Arc<Faults>,
}

impl Place {
    fn new() -> Place {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("folder");
        let faults = Faults::of(folder.path());
        faults.set_room(Some(ROOM));
        Place { folder, faults }
    }
}

/// The contents that all runs use: hashing them once is enough.
struct Samples {
    small: Sample,
    empty: Sample,
    large: Sample,
    edited: Sample,
    broken_off: Sample,
}

impl Samples {
    fn new() -> Samples {
        let large = random(300_000, 2);
        let edited = [&large[..150_000], b"other", &large[150_000..]].concat();
        Samples {
            small: Sample::new(random(100, 1)),
            empty: Sample::new(Vec::new()),
            large: Sample::new(large),
            edited: Sample::new(edited),
            broken_off: Sample::new(random(1_500_000, 3)),
        }
    }

    fn all(&self) -> [&Sample; 5] {
        [&self.small, &self.empty, &self.large, &self.edited, &self.broken_off]
    }
}

/// One step: if a call failed in it that must not be passed over, it says so.
fn step<T>(
    place: &Place,
    what: &str,
    plan: Option<Plan>,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let before = place.faults.failed().len();
    let result = work();
    let failed = place.faults.failed();
    for (call, site) in &failed[before.min(failed.len())..] {
        // The catalog and an open have the reserve to fall back on; of drafts and leftovers nobody
        // speaks.
        let full = plan.is_some_and(|plan| [Errno::NOSPC, Errno::DQUOT].contains(&plan.errno));
        let helped = full && (what == "open" || (!call.syncs() && site.starts_with("catalog.redb")));
        // What cannot be kept aside is removed instead.
        let kept_for_later = site.starts_with("reserve") || (*call == Call::Rename && site == "quarantine/*");
        let must = call.changes() && *call != Call::Remove && !kept_for_later && !helped;
        assert!(!must || result.is_err(), "{what} was called done, but {call:?} of {site} failed: {plan:?}");
    }
    result
}

fn send_all(store: &Store, sample: &Sample, count: usize) -> Result<Incoming, StoreError> {
    let (mut incoming, mut first) = (store.receive(), 0);
    for window in sample.chunks[..count].chunks(7) {
        for (at, needed) in incoming.offer(window)?.iter().enumerate() {
            if *needed {
                incoming.write((first + at) as u32, sample.part(first + at))?;
            }
        }
        first += window.len();
    }
    Ok(incoming)
}

/// Waits for a change of the catalog; on a disk without any room it stays unanswered.
fn saved(store: &Store, write: impl FnOnce(Done)) -> Result<(), StoreError> {
    let (sender, outcome) = sync_channel(1);
    write(Box::new(move |result| drop(sender.send(result))));
    for _ in 0..30_000 {
        match outcome.recv_timeout(Duration::from_millis(1)) {
            Ok(result) => return result,
            Err(_) if !store.is_usable() && store.disk_state() == DiskState::Full => {
                return Err(StoreError::Full { needed_bytes: 0, free_bytes: 0 });
            }
            Err(_) => {}
        }
    }
    panic!("no answer in 30 s");
}

fn run(place: &Place, samples: &Samples, plan: Option<Plan>) -> Ledger {
    let mut ledger = Ledger::default();
    for round in 0..2_u64 {
        let opened = step(place, "open", plan, || Store::open(place.folder.path(), None));
        let Ok((store, _)) = opened else {
            ledger.errors += 1;
            continue;
        };
        let put = |ledger: &mut Ledger, sample: &Sample| {
            let result = step(place, "put", plan, || {
                send_all(&store, sample, sample.chunks.len())?.finish(sample.id(), sample.data.len() as u64)
            });
            match result {
                Ok(_) => drop(ledger.contents.insert(sample.id(), true)),
                Err(_) => ledger.doubt(sample.id()),
            }
        };
        put(&mut ledger, &samples.small);
        put(&mut ledger, &samples.empty);
        put(&mut ledger, &samples.large);
        put(&mut ledger, &samples.edited);
        let half = samples.broken_off.chunks.len() * 9 / 10;
        if round == 0 {
            ledger.errors += usize::from(
                step(place, "half a put", plan, || send_all(&store, &samples.broken_off, half)).is_err(),
            );
        } else {
            put(&mut ledger, &samples.broken_off);
        }
        let writes: [(&str, Vec<Version>); 3] = [
            ("a", vec![version(round + 1), version(round + 10)]),
            ("b", vec![version(round + 2)]),
            ("b", vec![]),
        ];
        for (text, versions) in writes {
            let write = CatalogWrite::Name { name: name(text), versions: versions.clone() };
            let result =
                step(place, "catalog", plan, || saved(&store, |done| store.write_catalog(vec![write], done)));
            ledger.named(text, versions, result.is_ok());
        }
        let term = Term { number: round + 1, proxy: NodeId([1; 16]) };
        match step(place, "term", plan, || saved(&store, |done| store.set_term(term, done))) {
            Ok(()) => ledger.term = round + 1,
            Err(_) => ledger.errors += 1,
        }
        let blob = vec![round as u8; 3];
        match step(place, "blob", plan, || store.meta_set("key", blob.clone())) {
            Ok(()) => ledger.blob = Some(blob),
            Err(_) => (ledger.blob, ledger.errors) = (None, ledger.errors + 1),
        }
        for sample in samples.all() {
            match step(place, "verify", plan, || store.verify(&sample.id())) {
                Ok(true) => {}
                Err(StoreError::NotHeld(_)) if ledger.contents.get(&sample.id()) != Some(&true) => {}
                // A disk that cannot be read has put it aside; that is no acknowledgement broken.
                Ok(false) => ledger.doubt(sample.id()),
                Err(_) => ledger.errors += 1,
            }
            if let Ok(bytes) = store.read(&sample.id(), 0, sample.data.len().min(1_000) as u32) {
                assert!(bytes[..] == sample.data[..bytes.len()], "other bytes were read");
            }
        }
        match step(place, "remove", plan, || store.remove(&samples.small.id())) {
            Ok(true) => drop(ledger.contents.insert(samples.small.id(), false)),
            Ok(false) => {}
            Err(_) => ledger.doubt(samples.small.id()),
        }
        let large = samples.large.id();
        match step(place, "set aside", plan, || store.set_aside(&large)) {
            Ok(true) => drop(ledger.contents.insert(large, false)),
            Ok(false) => {}
            Err(_) => ledger.doubt(large),
        }
        match step(place, "readopt", plan, || store.readopt(&large)) {
            Ok(Some(_)) => drop(ledger.contents.insert(large, true)),
            Ok(None) => {}
            Err(_) => ledger.doubt(large),
        }
        let _ = (store.set_aside(&samples.edited.id()), ledger.contents.remove(&samples.edited.id()));
        ledger.errors += usize::from(
            step(place, "expire", plan, || store.expire_asides(Duration::ZERO)).is_err()
                || step(place, "end", plan, || store.end_well()).is_err(),
        );
        store.tend();
    }
    ledger
}

impl Ledger {
    fn doubt(&mut self, content: ContentId) {
        self.errors += 1;
        self.contents.remove(&content);
        self.doubtful.insert(content);
    }

    fn named(&mut self, text: &str, versions: Vec<Version>, durable: bool) {
        let may_be = self.names.entry(name(text)).or_insert_with(|| vec![Vec::new()]);
        if durable {
            may_be.clear();
        } else {
            self.errors += 1;
        }
        may_be.push(versions);
    }

    /// Opens the folder on a disk that works, and compares.
    fn check(&self, place: &Place, samples: &Samples, plan: Option<Plan>) {
        let why = || format!("{plan:?} at {:?}", place.faults.failed());
        let failed = why();
        place.faults.set(None);
        let (store, loaded) =
            Store::open(place.folder.path(), None).unwrap_or_else(|error| panic!("{error:?} after {failed}"));
        for (content, held) in &self.contents {
            assert_eq!(store.holds(content).is_some(), *held, "{content} after {failed}");
        }
        for sample in samples.all() {
            if store.holds(&sample.id()).is_some() {
                sample.check(&store);
                assert!(store.verify(&sample.id()).expect("verified"), "{failed}");
            }
        }
        assert!(loaded.contents.len() <= samples.all().len());
        let is: BTreeMap<FileName, Vec<Version>> = loaded.names.into_iter().collect();
        for (name, may_be) in &self.names {
            let versions = is.get(name).cloned().unwrap_or_default();
            assert!(may_be.contains(&versions), "{name} is {versions:?}, after {failed}");
        }
        assert!(is.keys().all(|name| self.names.contains_key(name)), "{failed}");
        assert!(loaded.term.number >= self.term, "{failed}");
        if let Some(blob) = &self.blob {
            assert_eq!(store.meta_get("key").expect("read").as_ref(), Some(blob), "{failed}");
        }
        // And it works again.
        for sample in samples.all() {
            sample.put(&store);
            sample.check(&store);
        }
        assert_eq!(store.disk_state(), DiskState::Ok, "{failed}");
    }
}

fn changes(call: Call, _: &Path) -> bool {
    call.changes()
}

fn any(_: Call, _: &Path) -> bool {
    true
}

/// Fails every call of a kind, one after the other; gives how many runs it took and where.
fn sweep(base: Plan, every: u64) -> (u64, BTreeMap<Site, u64>) {
    let samples = Samples::new();
    let (mut runs, mut sites) = (0, BTreeMap::new());
    for at in (1..).step_by(every as usize) {
        let place = Place::new();
        let plan = Plan { at, ..base };
        place.faults.set(Some(plan));
        let ledger = run(&place, &samples, Some(plan));
        let Some(first) = place.faults.failed().into_iter().next() else {
            assert_eq!(ledger.errors, 0, "an untouched run");
            assert_eq!(ledger.contents.len(), samples.all().len() - 1, "all but the one set aside");
            return (runs, sites);
        };
        *sites.entry(first).or_insert(0) += 1;
        runs += 1;
        ledger.check(&place, &samples, Some(plan));
    }
    unreachable!("a run ends");
}

fn report(what: &str, base: Plan, every: u64) {
    let (runs, sites) = sweep(base, every);
    assert!(runs > 20 / every, "{what}: hardly anything failed");
    println!("{what}: {runs} runs, {} kinds of call", sites.len());
    for ((call, site), count) in sites {
        println!("    {count:4} {call:?} of {site}");
    }
}

const ONCE: Plan = Plan { at: 1, for_ever: false, after: false, errno: Errno::IO, only: any };

#[test]
fn no_call_that_fails_once_with_an_io_error_loses_anything() {
    report("EIO once", ONCE, 1);
}

#[test]
fn no_call_whose_answer_is_lost_loses_anything() {
    report("EIO once, after it was done", Plan { after: true, only: changes, ..ONCE }, 1);
}

#[test]
fn a_disk_that_fails_for_ever_loses_nothing() {
    report("EIO for ever", Plan { for_ever: true, ..ONCE }, 1);
}

#[test]
fn a_call_that_finds_no_room_once_loses_nothing() {
    report("ENOSPC once", Plan { errno: Errno::NOSPC, only: changes, ..ONCE }, 1);
}

#[test]
fn a_disk_without_room_for_ever_loses_nothing() {
    report("ENOSPC for ever", Plan { errno: Errno::NOSPC, for_ever: true, only: changes, ..ONCE }, 1);
}

#[test]
fn a_disk_that_turns_read_only_or_over_quota_loses_nothing() {
    report("EROFS for ever", Plan { errno: Errno::ROFS, for_ever: true, only: changes, ..ONCE }, 3);
    report("EDQUOT for ever", Plan { errno: Errno::DQUOT, for_ever: true, only: changes, ..ONCE }, 5);
    let opens = |call: Call, _: &Path| matches!(call, Call::Open | Call::Create | Call::SyncFolder);
    report("EMFILE once", Plan { errno: Errno::MFILE, only: opens, ..ONCE }, 1);
}
