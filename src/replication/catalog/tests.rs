//! Random histories of several replicas, against an oracle that knows all that ever happened.

use super::*;
use crate::limits::REMOVED_PER_NAME_MAX;
use crate::replication::removed::{self, Fate};
use crate::replication::shown;
use crate::types::Wanted;
use crate::wire::message::Delta;
use proptest::prelude::*;
use register::settings;

const REPLICAS: usize = 4;

fn name(number: u8) -> FileName {
    // Files, folders with files, and names that sort between a folder and what lies in it.
    let texts = ["a", "a/b", "a b", "a/b/c", "d", "d/e.txt", "x", "a/b.tar.gz"];
    FileName::parse(texts[usize::from(number) % texts.len()]).expect("valid")
}

fn dot(instance: u64, counter: u64) -> Dot {
    Dot { counter, instance: InstanceId(instance) }
}

fn version(dot: Dot, content: u8, wanted: u8) -> Version {
    let body = match content % 5 {
        0 => Body::Folder,
        1 => Body::Symlink { target: "there".into() },
        _ => Body::File { content: ContentId([content % 7; 32]), size: u64::from(content % 7) },
    };
    Version { dot, body, mode: 0o644, modified_ns: 0, wanted: Wanted::new(wanted), removed_s: 0 }
}

/// The entries a store would have after the writes it was given.
#[derive(Clone, Default)]
struct Disk {
    names: BTreeMap<FileName, Vec<Version>>,
    prefixes: BTreeMap<InstanceId, u64>,
    extra: Vec<Dot>,
}

impl Disk {
    fn persist(&mut self, writes: &[CatalogWrite]) {
        for write in writes {
            match write.clone() {
                CatalogWrite::Name { name, versions } if versions.is_empty() => {
                    self.names.remove(&name);
                }
                CatalogWrite::Name { name, versions } => {
                    self.names.insert(name, versions);
                }
                CatalogWrite::Prefix { instance, counter } => {
                    assert!(self.prefixes.insert(instance, counter).unwrap_or(0) < counter);
                }
                CatalogWrite::Extra { dots } => {
                    assert_ne!(self.extra, dots, "a write that changes nothing");
                    self.extra = dots;
                }
                CatalogWrite::Mail(_) => unreachable!("a catalog writes no letters"),
            }
        }
    }

    fn load(&self) -> Catalog {
        let wire = crate::wire::message::Context {
            prefixes: self.prefixes.iter().map(|(instance, counter)| (*instance, *counter)).collect(),
            extra: self.extra.clone(),
        };
        let context = CausalContext::from_wire(&wire).expect("a valid context on disk");
        Catalog::load(context, self.names.clone()).expect("a valid catalog on disk")
    }
}

struct Replica {
    catalog: Catalog,
    disk: Disk,
    instance: u64,
    counter: u64,
}

impl Replica {
    fn mint(&mut self) -> Dot {
        self.counter += 1;
        dot(self.instance, self.counter)
    }

    /// Merges, persists, and checks that what is said to have happened did.
    fn merge(&mut self, merge: impl FnOnce(&mut Catalog) -> Merged) -> Merged {
        let before = self.catalog.clone();
        let merged = merge(&mut self.catalog);
        self.disk.persist(&merged.writes);
        assert_eq!(merged.changed, before.digest() != self.catalog.digest());
        assert!(merged.changed || merged.writes.is_empty());
        let trashed = |catalog: &Catalog| -> Vec<ContentId> {
            catalog.trash().contents().map(|(content, _)| *content).collect()
        };
        let removed: Vec<ContentId> = [trashed(&before), trashed(&self.catalog)].concat();
        let all = before.contents().chain(self.catalog.contents()).map(|(content, _)| *content);
        let all = all.chain(removed);
        for content in all.collect::<BTreeSet<_>>() {
            let wanted = |catalog: &Catalog| {
                (catalog.content(&content).map(ContentRefs::wanted), catalog.names_content(&content))
            };
            let same = wanted(&before) == wanted(&self.catalog);
            assert!(same || merged.contents.contains(&content));
        }
        check(&self.catalog);
        let differ = before.conflicts() != self.catalog.conflicts();
        assert!(!differ || before.conflicts_changed() != self.catalog.conflicts_changed());
        assert_same(&self.disk.load(), &self.catalog);
        merged
    }
}

/// What is kept incrementally must be what a catalog made anew from the same entries has.
fn check(catalog: &Catalog) {
    let names = catalog
        .all_names(Bound::Unbounded, Bound::Unbounded)
        .map(|name| (name.clone(), catalog.all_versions(name).into_owned()));
    let anew = Catalog::load(catalog.context().clone(), names).expect("valid");
    assert_same(&anew, catalog);
    assert!(catalog.dead.is_subset(catalog.context.extra()));
    let conflicts: BTreeSet<FileName> = catalog
        .names_from(None, "")
        .filter(|(name, versions)| {
            let is_folder = catalog
                .names_from(None, "")
                .any(|(other, _)| other != *name && other.is_under(name.as_str()));
            assert_eq!(is_folder, catalog.is_folder(name.as_str()));
            versions.len() > 1 || (is_folder && versions.iter().any(is_file))
        })
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(*catalog.conflicts(), conflicts);
}

fn assert_same(a: &Catalog, b: &Catalog) {
    assert_eq!(a.names, b.names);
    assert_eq!(a.context, b.context);
    assert_eq!(a.contents, b.contents);
    let without_times = |catalog: &Catalog| -> Vec<(ContentId, u64, u32)> {
        catalog.trash().contents().map(|(content, refs)| (*content, refs.size, refs.versions)).collect()
    };
    assert_eq!(without_times(a), without_times(b));
    assert_eq!((&a.trash.names, a.trash.len()), (&b.trash.names, b.trash.len()));
    assert_eq!(a.conflicts, b.conflicts);
    assert_eq!(a.buckets, b.buckets);
    assert_eq!(a.digest(), b.digest());
}

/// An exchange under way.
struct Session {
    from: usize,
    to: usize,
    sync: SyncIn,
    buckets: BTreeSet<u16>,
    after: Option<FileName>,
}

/// All that was ever minted, and what of it was replaced or removed by somebody.
#[derive(Default)]
struct Oracle {
    minted: BTreeMap<(FileName, Dot), u8>,
    settings: BTreeMap<(FileName, Dot, Dot), u8>,
    gone: BTreeSet<Dot>,
}

impl Oracle {
    fn note(&mut self, delta: &Delta) {
        let mut carried = BTreeSet::new();
        for (name, versions) in &delta.names {
            for version in versions {
                carried.insert(version.dot);
                self.minted.entry((name.clone(), version.dot)).or_insert(version.wanted.initial);
                for (dot, count) in settings(version) {
                    carried.insert(*dot);
                    self.settings.insert((name.clone(), version.dot, *dot), *count);
                }
            }
        }
        self.gone.extend(delta.context.iter().filter(|dot| !carried.contains(*dot)));
    }

    /// Versions and their wanted counts once everybody knows everything.
    fn expected(&self) -> BTreeMap<(FileName, Dot), u8> {
        let live = self.minted.iter().filter(|((_, dot), _)| !self.gone.contains(dot));
        live.map(|((name, dot), initial)| {
            let of = |key: &(FileName, Dot, Dot)| key.0 == *name && key.1 == *dot;
            let live = self.settings.iter().filter(|(key, _)| of(key) && !self.gone.contains(&key.2));
            ((name.clone(), *dot), live.map(|(_, count)| *count).max().unwrap_or(*initial))
        })
        .collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put { at: usize, name: u8, content: u8, wanted: u8, mask: u8 },
    PutPlain { at: usize, name: u8, content: u8, fate: Fate },
    Remove { at: usize, names: Vec<u8>, fate: Fate },
    Restore { at: usize, name: u8, pick: u8 },
    Empty { at: usize, before_s: u32 },
    SetWanted { at: usize, name: u8, pick: u8, count: u8 },
    Deliver { to: usize, delta: usize },
    Begin { from: usize, to: usize },
    Page { session: usize },
    Restart { at: usize },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => (1_u32..9).prop_map(Fate::Trash), 1 => Just(Fate::Gone)]
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..REPLICAS;
    prop_oneof![
        4 => (at.clone(), 0_u8..8, any::<u8>(), 1_u8..5, any::<u8>())
            .prop_map(|(at, name, content, wanted, mask)| Op::Put { at, name, content, wanted, mask }),
        2 => (at.clone(), 0_u8..8, any::<u8>(), fate())
            .prop_map(|(at, name, content, fate)| Op::PutPlain { at, name, content, fate }),
        2 => (at.clone(), prop::collection::vec(0_u8..8, 1..3), fate())
            .prop_map(|(at, names, fate)| Op::Remove { at, names, fate }),
        1 => (at.clone(), 0_u8..8, any::<u8>()).prop_map(|(at, name, pick)| Op::Restore { at, name, pick }),
        1 => (at.clone(), 0_u32..9).prop_map(|(at, before_s)| Op::Empty { at, before_s }),
        3 => (at.clone(), 0_u8..8, any::<u8>(), 1_u8..9)
            .prop_map(|(at, name, pick, count)| Op::SetWanted { at, name, pick, count }),
        6 => (at.clone(), any::<usize>()).prop_map(|(to, delta)| Op::Deliver { to, delta }),
        3 => (at.clone(), at.clone()).prop_map(|(from, to)| Op::Begin { from, to }),
        6 => any::<usize>().prop_map(|session| Op::Page { session }),
        1 => at.prop_map(|at| Op::Restart { at }),
    ]
}

struct Cluster {
    replicas: Vec<Replica>,
    deltas: Vec<Delta>,
    sessions: Vec<Session>,
    oracle: Oracle,
    instances: u64,
}

impl Cluster {
    fn new() -> Cluster {
        let replica =
            |instance| Replica { catalog: Catalog::new(), disk: Disk::default(), instance, counter: 0 };
        Cluster {
            replicas: (1..=REPLICAS as u64).map(replica).collect(),
            deltas: Vec::new(),
            sessions: Vec::new(),
            oracle: Oracle::default(),
            instances: REPLICAS as u64,
        }
    }

    fn made(&mut self, at: usize, delta: Delta) {
        self.oracle.note(&delta);
        self.replicas[at].merge(|catalog| catalog.merge_delta(&delta));
        // The maker's own change does to it just what it was meant to.
        for (name, versions) in &delta.names {
            let now = self.replicas[at].catalog.all_versions(name);
            assert!(versions.iter().all(|version| now.contains(version)));
        }
        self.deltas.push(delta);
    }

    /// Makes a change at `at` with dots of its own.
    fn make(
        &mut self,
        at: usize,
        make: impl FnOnce(&Catalog, &mut dyn FnMut() -> Dot) -> Option<Delta>,
    ) -> Option<()> {
        let replica = &mut self.replicas[at];
        let (instance, mut counter) = (replica.instance, replica.counter);
        let mut mint = || {
            counter += 1;
            dot(instance, counter)
        };
        let delta = make(&replica.catalog, &mut mint);
        replica.counter = counter;
        self.made(at, delta?);
        Some(())
    }

    fn remove(&mut self, at: usize, names: Vec<u8>, fate: Fate) {
        let numbers: BTreeSet<u8> = names.into_iter().map(|number| number % 8).collect();
        let before = self.replicas[at].catalog.clone();
        self.make(at, |catalog, mint| {
            let all = |name: &FileName| catalog.versions(name).iter().map(|v| v.dot).collect();
            let names: Vec<(FileName, Vec<Dot>)> =
                numbers.iter().map(|number| name(*number)).map(|name| (name.clone(), all(&name))).collect();
            Some(removed::delta_remove(catalog, &names, fate, mint))
        });
        for number in numbers {
            let (was, now) = (&before, &self.replicas[at].catalog);
            let files = was.versions(&name(number)).iter().filter(|version| is_file(version)).count();
            // Empty folders go to the trash where nothing else does.
            let files = if files == 0 { was.versions(&name(number)).len() } else { files };
            assert!(now.versions(&name(number)).is_empty());
            let kept = was.trash().versions(&name(number)).len() + if fate == Fate::Gone { 0 } else { files };
            let most = if fate == Fate::Gone { kept } else { kept.min(REMOVED_PER_NAME_MAX) };
            assert_eq!(now.trash().versions(&name(number)).len(), most);
        }
    }

    fn restore(&mut self, at: usize, number: u8, pick: u8) {
        let removed = self.replicas[at].catalog.trash().versions(&name(number)).to_vec();
        if removed.is_empty() {
            return;
        }
        let picked = &removed[usize::from(pick) % removed.len()];
        let made = self.make(at, |catalog, mint| {
            removed::delta_restore(catalog, &name(number), picked.dot, Fate::Trash(9), mint)
        });
        assert!(made.is_some());
        let catalog = &self.replicas[at].catalog;
        let plain = shown::plain(catalog, &name(number));
        assert!(plain.map_or(catalog.is_folder(name(number).as_str()), |plain| plain.body == picked.body));
    }

    fn empty(&mut self, at: usize, before_s: u32) {
        self.make(at, |catalog, mint| {
            let old = removed::to_empty(catalog, before_s, 100);
            Some(removed::delta_remove(catalog, &old, Fate::Gone, mint))
        });
        let left = self.replicas[at].catalog.trash().names();
        assert!(left.flat_map(|(_, versions)| versions).all(|version| version.removed_s >= before_s));
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Put { at, name: number, content, wanted, mask } => {
                let name = name(number);
                let new = self.replicas[at].mint();
                let catalog = &self.replicas[at].catalog;
                // Some of what is here, and things that are not here, which must have no effect.
                let mut replaces: Vec<Dot> = catalog
                    .versions(&name)
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| mask >> (at % 8) & 1 == 1)
                    .map(|(_, version)| version.dot)
                    .collect();
                replaces.extend([dot(1, u64::from(mask)), dot(99, 1)]);
                let known: BTreeSet<Dot> = catalog.all_versions(&name).iter().flat_map(dots_of).collect();
                let delta = catalog.delta_put(&name, version(new, content, wanted), &replaces);
                assert!(delta.context.iter().all(|dot| *dot == new || known.contains(dot)));
                self.made(at, delta);
            }
            Op::PutPlain { at, name: number, content, fate } => {
                let new = version(Dot::default(), content, 2);
                let delta = self.make(at, |catalog, mint| {
                    Some(shown::delta_put_plain(catalog, &name(number), new.clone(), &[], fate, mint))
                });
                let (instance, counter) = (self.replicas[at].instance, self.replicas[at].counter);
                assert!(delta.is_some());
                let catalog = &self.replicas[at].catalog;
                if let Some(plain) = shown::plain(catalog, &name(number)) {
                    assert!(plain.body == new.body && plain.dot == dot(instance, counter));
                } else {
                    assert!(catalog.is_folder(name(number).as_str()));
                }
            }
            Op::Remove { at, names, fate } => self.remove(at, names, fate),
            Op::Restore { at, name, pick } => self.restore(at, name, pick),
            Op::Empty { at, before_s } => self.empty(at, before_s),
            Op::SetWanted { at, name: number, pick, count } => {
                let name = name(number);
                let versions = self.replicas[at].catalog.versions(&name);
                if versions.is_empty() {
                    return;
                }
                let picked = versions[usize::from(pick) % versions.len()].dot;
                let new = self.replicas[at].mint();
                let delta = self.replicas[at].catalog.delta_set_wanted(&name, picked, count, new);
                self.made(at, delta.expect("it is there"));
                let now = self.replicas[at].catalog.versions(&name).iter().find(|v| v.dot == picked);
                assert_eq!(now.map(|version| version.wanted.count()), Some(count));
            }
            Op::Deliver { to, delta } if !self.deltas.is_empty() => {
                let delta = self.deltas[delta % self.deltas.len()].clone();
                self.replicas[to].merge(|catalog| catalog.merge_delta(&delta));
                let again = self.replicas[to].merge(|catalog| catalog.merge_delta(&delta));
                assert_eq!(again, Merged::default());
            }
            Op::Deliver { .. } => {}
            Op::Begin { from, to } => {
                let session = self.begin(from, to);
                self.sessions.push(session);
            }
            Op::Page { session } if !self.sessions.is_empty() => {
                let at = session % self.sessions.len();
                let mut session = self.sessions.remove(at);
                if !self.page(&mut session) {
                    self.sessions.push(session);
                }
            }
            Op::Page { .. } => {}
            Op::Restart { at } => {
                self.instances += 1;
                let replica = &mut self.replicas[at];
                replica.catalog = replica.disk.load();
                (replica.instance, replica.counter) = (self.instances, 0);
                self.sessions.retain(|session| session.to != at && session.from != at);
            }
        }
    }

    fn begin(&self, from: usize, to: usize) -> Session {
        let (sender, receiver) = (&self.replicas[from].catalog, &self.replicas[to].catalog);
        let buckets = sender.differing(&receiver.buckets());
        let context = CausalContext::from_wire(&sender.context_to_send()).expect("valid");
        let sync = SyncIn::begin(context, buckets.iter().copied());
        Session { from, to, sync, buckets: buckets.into_iter().collect(), after: None }
    }

    /// One page of two names; whether it was the last.
    fn page(&mut self, session: &mut Session) -> bool {
        let sender = &self.replicas[session.from].catalog;
        let slice = sender.slice(&session.buckets, session.after.as_ref(), 2, 1 << 20);
        session.after = slice.names.last().map(|(name, _)| name.clone()).or(session.after.take());
        let sync = &mut session.sync;
        self.replicas[session.to]
            .merge(|catalog| catalog.merge_page(sync, slice.names, slice.last).expect("a valid page"));
        slice.last
    }

    fn exchange(&mut self, from: usize, to: usize) {
        let mut session = self.begin(from, to);
        while !self.page(&mut session) {}
    }

    fn exchange_all(&mut self) {
        for _ in 0..2 {
            for at in 0..REPLICAS {
                self.exchange(at, (at + 1) % REPLICAS);
                self.exchange((at + 1) % REPLICAS, at);
            }
        }
    }

    /// All versions there are, live or in the trash.
    fn all(&self, at: usize) -> BTreeMap<(FileName, Dot), u8> {
        let catalog = &self.replicas[at].catalog;
        let names = catalog.all_names(Bound::Unbounded, Bound::Unbounded);
        names
            .flat_map(|name| {
                let versions = catalog.all_versions(name).into_owned();
                versions.into_iter().map(move |version| ((name.clone(), version.dot), version.wanted.count()))
            })
            .collect()
    }

    fn converged(&self) {
        let expected = self.oracle.expected();
        for at in 0..REPLICAS {
            assert_eq!(self.all(at), expected);
            assert_same(&self.replicas[at].catalog, &self.replicas[0].catalog);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_history_converges_to_what_nobody_removed(ops in prop::collection::vec(op(), 1..70)) {
        let mut cluster = Cluster::new();
        for op in ops {
            cluster.run(op);
        }
        cluster.exchange_all();
        cluster.converged();
        // A message that was under way for ever, to whomever, changes nothing: what was removed
        // stays removed.
        let digest = cluster.replicas[0].catalog.digest();
        for delta in cluster.deltas.clone() {
            let merged = cluster.replicas[0].merge(|catalog| catalog.merge_delta(&delta));
            prop_assert_eq!(merged, Merged::default());
        }
        prop_assert_eq!(cluster.replicas[0].catalog.digest(), digest);
    }

    #[test]
    fn deltas_give_the_same_catalog_in_every_order(
        ops in prop::collection::vec(op(), 1..50), keys in prop::collection::vec(any::<u64>(), 50),
    ) {
        let mut cluster = Cluster::new();
        for op in ops {
            cluster.run(op);
        }
        let mut shuffled: Vec<&Delta> = cluster.deltas.iter().collect();
        let mut forward = Catalog::new();
        for delta in &shuffled {
            forward.merge_delta(delta);
        }
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        let mut backward = Catalog::new();
        for (at, delta) in shuffled.iter().enumerate() {
            backward.merge_delta(delta);
            backward.merge_delta(shuffled[at / 2]);
        }
        assert_same(&forward, &backward);
    }

    #[test]
    fn pages_of_a_hostile_peer_are_refused_or_leave_a_valid_catalog(
        dots in prop::collection::vec((0_u8..8, 0_u64..3, 0_u64..4, any::<u8>()), 0..12),
        counters in prop::collection::vec(0_u64..5, 3), last in any::<bool>(), all in any::<bool>(),
    ) {
        let mut cluster = Cluster::new();
        for at in 0..5 {
            cluster.run(Op::Put { at: usize::from(at) % REPLICAS, name: at, content: at, wanted: 2, mask: 0 });
            cluster.run(Op::Deliver { to: 0, delta: usize::from(at) });
        }
        let mut names: BTreeMap<FileName, Vec<Version>> = BTreeMap::new();
        for (number, instance, counter, content) in dots {
            let mut version = version(dot(instance, counter), content, content);
            let later = vec![(dot(instance, counter), 0), (dot(0, 0), 3), (dot(instance, counter), 2)];
            version.wanted.later = (content % 2 == 0).then(|| Box::new(later));
            names.entry(name(number)).or_default().push(version);
        }
        let delta = Delta {
            context: counters.iter().map(|counter| dot(1, *counter)).collect(),
            names: names.clone().into_iter().chain(names.clone()).collect(),
        };
        let mut sync = SyncIn::begin(
            counters.into_iter().map(|counter| dot(2, counter)).collect(),
            if all { 0..SYNC_BUCKETS as u16 } else { 0..500 },
        );
        let replica = &mut cluster.replicas[0];
        let before = replica.catalog.clone();
        if replica.catalog.merge_page(&mut sync, names.into_iter().collect(), last).is_err() {
            assert_same(&replica.catalog, &before);
        }
        check(&replica.catalog);
        replica.catalog.merge_delta(&delta);
        check(&replica.catalog);
    }
}

#[test]
fn of_concurrent_counts_the_greater_wins_and_the_first_never_comes_back() {
    let mut cluster = Cluster::new();
    cluster.run(Op::Put { at: 0, name: 0, content: 3, wanted: 9, mask: 0 });
    cluster.run(Op::Deliver { to: 1, delta: 0 });
    cluster.run(Op::SetWanted { at: 0, name: 0, pick: 0, count: 2 });
    cluster.run(Op::SetWanted { at: 1, name: 0, pick: 0, count: 3 });
    cluster.exchange_all();
    let wanted = |cluster: &Cluster| cluster.all(2).values().copied().collect::<Vec<_>>();
    assert_eq!(wanted(&cluster), [3]);
    cluster.run(Op::SetWanted { at: 2, name: 0, pick: 0, count: 1 });
    cluster.exchange_all();
    cluster.run(Op::Deliver { to: 2, delta: 0 });
    assert_eq!(wanted(&cluster), [1]);
    cluster.converged();
}

#[test]
fn a_count_that_was_set_meanwhile_does_not_revive_a_removed_file() {
    let mut cluster = Cluster::new();
    cluster.run(Op::Put { at: 0, name: 0, content: 3, wanted: 2, mask: 0 });
    cluster.run(Op::Deliver { to: 1, delta: 0 });
    cluster.run(Op::Remove { at: 0, names: vec![0], fate: Fate::Trash(3) });
    cluster.run(Op::SetWanted { at: 1, name: 0, pick: 0, count: 4 });
    cluster.exchange_all();
    cluster.converged();
    assert!(cluster.replicas[3].catalog.is_empty());
}

#[test]
fn an_exchange_that_breaks_off_removes_nothing_of_the_sender() {
    let mut cluster = Cluster::new();
    for number in 0..8 {
        cluster.run(Op::Put { at: 0, name: number, content: 3, wanted: 2, mask: 0 });
    }
    let mut session = cluster.begin(0, 1);
    assert!(!cluster.page(&mut session));
    assert_eq!(cluster.replicas[1].catalog.len(), 2);
    cluster.run(Op::Restart { at: 1 });
    cluster.exchange(1, 0);
    assert_eq!(cluster.replicas[0].catalog.len(), 8);
    cluster.exchange(0, 1);
    assert_same(&cluster.replicas[0].catalog, &cluster.replicas[1].catalog);
}

#[test]
fn something_removed_in_the_middle_of_an_exchange_is_remembered_over_a_restart() {
    let mut cluster = Cluster::new();
    for number in 0..8 {
        cluster.run(Op::Put { at: 0, name: number, content: 3, wanted: 2, mask: 0 });
    }
    let mut session = cluster.begin(0, 1);
    assert!(!cluster.page(&mut session) && !cluster.page(&mut session));
    let got = cluster.replicas[1].catalog.names_from(None, "").last().expect("two pages came").0.clone();
    assert!(!cluster.replicas[1].catalog.context().extra().is_empty());
    let dots = cluster.replicas[1].catalog.versions(&got).iter().map(|version| version.dot).collect();
    cluster.make(1, |catalog, mint| {
        Some(removed::delta_remove(catalog, &[(got.clone(), dots)], Fate::Gone, mint))
    });
    cluster.run(Op::Restart { at: 1 });
    cluster.exchange(0, 1);
    assert!(cluster.replicas[1].catalog.versions(&got).is_empty());
}

#[test]
fn a_first_exchange_writes_each_name_once_and_no_long_lists_of_dots() {
    let mut source = Catalog::new();
    for number in 1..=3_000_u64 {
        let name = FileName::parse(&format!("{:04}", number * 7_919 % 10_000)).expect("valid");
        source.merge_delta(&source.delta_put(&name, version(dot(1, number), 3, 2), &[]));
    }
    let (mut target, mut disk) = (Catalog::new(), Disk::default());
    let buckets: BTreeSet<u16> = source.differing(&target.buckets()).into_iter().collect();
    let mut sync = SyncIn::begin(source.context().clone(), buckets.iter().copied());
    let (mut after, mut writes, mut pages) = (None, 0, 0);
    loop {
        let slice = source.sync_page(&buckets, after.as_ref());
        let last = slice.last;
        assert!(slice.names.len() <= crate::limits::PAGE_ROWS_MAX);
        after = slice.names.last().map(|(name, _)| name.clone());
        let merged = target.merge_page(&mut sync, slice.names, last).expect("valid");
        assert!(merged.writes.iter().all(|write| !matches!(write, CatalogWrite::Extra { .. })));
        disk.persist(&merged.writes);
        writes += merged.writes.len();
        pages += 1;
        if last {
            break;
        }
    }
    assert!(sync.is_finished() && pages == 6 && writes <= 3_000 + pages);
    assert_same(&source, &target);
    assert_same(&disk.load(), &target);
    assert_eq!(target.merge_page(&mut sync, vec![], true), Err(SyncError::Finished));
}

#[test]
fn names_are_listed_from_anywhere_and_by_any_prefix() {
    let mut catalog = Catalog::new();
    let texts = ["a", "a b", "a.txt", "a/.x", "a/b/c", "a/é", "b", "é"];
    for (text, counter) in texts.iter().zip(1..) {
        let name = FileName::parse(text).expect("valid");
        catalog.merge_delta(&catalog.delta_put(&name, version(dot(1, counter), 3, 2), &[]));
    }
    let folders = ["", "a", "a/b"];
    for folder in folders.iter().chain(&texts) {
        assert_eq!(catalog.is_folder(folder), folders.contains(folder), "{folder}");
    }
    for prefix in ["", "a", "a/", "a/.", "a/b", "a ", "b/", "c", "/", "é", "a\n"] {
        for after in [None].into_iter().chain(texts.iter().map(Some)) {
            let bound = after.map(|text| FileName::parse(text).expect("valid"));
            let listed: Vec<&str> =
                catalog.names_from(bound.as_ref(), prefix).map(|(name, _)| name.as_str()).collect();
            let mut expected: Vec<&str> = texts.to_vec();
            expected.retain(|text| text.starts_with(prefix) && after.is_none_or(|after| text > after));
            expected.sort_unstable();
            assert_eq!(listed, expected, "{prefix:?} after {after:?}");
        }
    }
}

#[test]
fn a_stored_catalog_that_no_writes_can_have_left_is_refused() {
    let one = |dots: &[Dot]| dots.iter().map(|dot| version(*dot, 3, 2)).collect::<Vec<_>>();
    let load = |entries: Vec<(FileName, Vec<Version>)>| Catalog::load(CausalContext::new(), entries).err();
    assert_eq!(load(vec![(name(0), one(&[dot(1, 1)]))]), None);
    let twice =
        vec![(name(0), one(&[dot(1, 1)])), (name(4), one(&[dot(1, 2)])), (name(0), one(&[dot(1, 3)]))];
    assert_eq!(load(twice), Some(LoadError::Twice(name(0))));
    for bad in [vec![], one(&[dot(1, 0)]), one(&[dot(1, 1), dot(1, 1)])] {
        assert_eq!(load(vec![(name(0), bad)]), Some(LoadError::Invalid(name(0))));
    }
}

#[test]
fn an_entry_stays_within_its_memory() {
    assert!(size_of::<(FileName, Box<[Version]>)>() + size_of::<Version>() <= 128);
}
