//! Opening a data folder: new, used, damaged, foreign, after a crash.

use super::*;

#[test]
fn contents_of_every_size_come_back_and_survive_a_new_start() {
    let (folder, store) = fresh();
    let inline = INLINE_BYTES_MAX as usize;
    let samples: Vec<Sample> = [0, 1, 4_096, inline, inline + 1, 300_000, 9 << 20]
        .iter()
        .map(|bytes| Sample::new(random(*bytes, *bytes as u64)))
        .collect();
    for sample in &samples {
        let (sent, finished) = sample.put(&store);
        assert_eq!((sent, finished.already), (sample.data.len() as u64, false));
        sample.check(&store);
    }
    let total: u64 = samples.iter().map(|sample| sample.data.len() as u64).sum();
    assert_eq!((store.usage().used_bytes, store.usage().contents), (total, samples.len() as u64));
    drop(store);
    let (store, loaded) = open(&folder);
    assert_eq!((loaded.contents.len(), loaded.generation), (samples.len(), 2));
    for sample in &samples {
        sample.check(&store);
        assert!(store.verify(&sample.id()).expect("verify"));
    }
    assert!(files_in(&folder.path().join("incoming")).is_empty());
}

#[test]
fn files_and_folders_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    fn check(path: &Path) {
        let mode = fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{path:?}");
            files_in(path).iter().for_each(|path| check(path));
        } else {
            assert_eq!(mode, 0o600, "{path:?}");
        }
    }
    let folder = tempfile::tempdir().expect("folder");
    let (store, _) = Store::open(&folder.path().join("a/b"), None).expect("open");
    Sample::new(random(100_000, 1)).put(&store);
    check(&folder.path().join("a/b"));
}

#[test]
fn the_catalog_is_there_after_a_crash() {
    let (folder, store) = fresh();
    let dots = vec![Dot { counter: 2, instance: InstanceId(8) }, Dot { counter: 9, instance: InstanceId(1) }];
    let term = Term { number: 4, proxy: NodeId([3; 16]) };
    wait_for(|done| {
        store.write_catalog(
            vec![
                CatalogWrite::Name { name: name("a/b"), versions: vec![version(1), version(2)] },
                CatalogWrite::Name { name: name("gone"), versions: vec![version(3)] },
                CatalogWrite::Prefix { instance: InstanceId(u64::MAX), counter: 7 },
                CatalogWrite::Prefix { instance: InstanceId(9), counter: 1 },
                CatalogWrite::Extra { dots: vec![Dot { counter: 5, instance: InstanceId(5) }] },
            ],
            done,
        );
    })
    .expect("durable");
    wait_for(|done| {
        let writes = vec![
            CatalogWrite::Name { name: name("gone"), versions: vec![] },
            CatalogWrite::Prefix { instance: InstanceId(9), counter: 3 },
            CatalogWrite::Extra { dots: dots.clone() },
        ];
        store.write_catalog(writes, done);
    })
    .expect("durable");
    wait_for(|done| store.set_term(term, done)).expect("durable");
    store.meta_set("drain", vec![1, 2]).expect("durable");
    let copy = crash_copy(&folder);
    let (copied, loaded) = open(&copy);
    assert_eq!(loaded.names, [(name("a/b"), vec![version(1), version(2)])]);
    assert_eq!(loaded.context.prefixes, [(InstanceId(9), 3), (InstanceId(u64::MAX), 7)]);
    assert_eq!(loaded.context.extra, dots);
    assert_eq!((loaded.term, loaded.generation), (term, 2));
    assert_eq!(copied.meta_get("drain").expect("read"), Some(vec![1, 2]));
    assert_eq!(copied.meta_get("other").expect("read"), None);
    assert_eq!(copied.disk(), store.disk());
}

#[test]
fn an_entry_too_large_to_be_read_back_is_refused_before_it_is_written() {
    let (folder, store) = fresh();
    let mut large = version(1);
    large.body = Body::Symlink { target: "x".repeat(4_000).into() };
    let versions = vec![large; 400];
    let result = wait_for(|done| {
        store.write_catalog(vec![CatalogWrite::Name { name: name("a"), versions }], done);
    });
    assert!(matches!(result, Err(StoreError::RecordTooLarge)), "{result:?}");
    drop(store);
    assert!(open(&folder).1.names.is_empty());
}

#[test]
fn folders_that_are_not_right_are_refused_each_for_its_own_reason() {
    let refused = |change: &dyn Fn(&Path)| {
        let (folder, store) = fresh();
        let finished = Sample::new(random(100_000, 1)).put(&store).1;
        drop((finished, store));
        change(folder.path());
        let error = Store::open(folder.path(), None).expect_err("refused");
        assert!(error.hint().is_some(), "{error}");
        error
    };
    let foreign = refused(&|folder| fs::remove_file(folder.join("format")).expect("removed"));
    assert!(matches!(foreign, StoreError::Format { .. }), "{foreign:?}");
    let newer = refused(&|folder| {
        fs::write(folder.join("format"), "thorp data folder, format 2\n").expect("written");
    });
    assert!(matches!(&newer, StoreError::Newer { found, .. } if found.ends_with('2')), "{newer:?}");
    let catalog = refused(&|folder| fs::remove_file(folder.join("catalog.redb")).expect("removed"));
    assert!(matches!(&catalog, StoreError::Missing { missing } if missing.ends_with("catalog.redb")));
    let both = refused(&|folder| {
        fs::remove_file(folder.join("catalog.redb")).expect("removed");
        fs::remove_file(folder.join("disk")).expect("removed");
    });
    assert!(matches!(both, StoreError::Missing { .. }), "{both:?}");
    let contents = refused(&|folder| fs::remove_dir_all(folder.join("contents")).expect("removed"));
    assert!(matches!(&contents, StoreError::Missing { missing } if missing.ends_with("contents")));
    let disk = refused(&|folder| fs::remove_file(folder.join("disk")).expect("removed"));
    assert!(matches!(disk, StoreError::DiskId { .. }), "{disk:?}");
    let disk = refused(&|folder| fs::write(folder.join("disk"), "x").expect("written"));
    assert!(matches!(disk, StoreError::DiskId { .. }), "{disk:?}");
    let empty = refused(&|folder| fs::write(folder.join("catalog.redb"), "").expect("written"));
    assert!(matches!(empty, StoreError::CatalogDamaged { .. }), "{empty:?}");
    let short = refused(&|folder| {
        let file = fs::OpenOptions::new().write(true).open(folder.join("catalog.redb")).expect("open");
        file.set_len(4_096).expect("cut");
    });
    assert!(matches!(short, StoreError::CatalogDamaged { .. }), "{short:?}");
}

#[test]
fn a_folder_with_other_things_in_it_stays_untouched() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("letter.txt"), "dear").expect("written");
    let error = Store::open(folder.path(), None).expect_err("refused");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    assert_eq!(files_in(folder.path()), [folder.path().join("letter.txt")]);
}

#[test]
fn a_folder_below_a_file_cannot_be_written_to() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("file"), "").expect("written");
    let error = Store::open(&folder.path().join("file/data"), None).expect_err("refused");
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error:?}");
}

#[test]
fn a_first_start_that_was_interrupted_goes_on() {
    let (folder, store) = fresh();
    drop(store);
    for keep in [&["format", "lock"][..], &["lock"], &["lock", "format", "incoming", "contents"]] {
        let half = crash_copy(&folder);
        for path in files_in(half.path()) {
            if !keep.iter().any(|name| path.ends_with(name)) {
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .expect("removed");
            }
        }
        assert_eq!(open(&half).1.generation, 1, "{keep:?}");
    }
}

#[test]
fn one_process_at_a_time_uses_a_folder() {
    let (folder, store) = fresh();
    let error = Store::open(folder.path(), None).expect_err("refused");
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    let other = store.clone();
    drop(store);
    assert!(Store::open(folder.path(), None).is_err());
    drop(other);
    assert_eq!(open(&folder).1.generation, 2);
}

#[test]
fn flipped_bits_of_a_catalog_are_noticed_or_harmless() {
    let (folder, store) = fresh();
    let writes = vec![CatalogWrite::Name { name: name("a"), versions: vec![version(1)] }];
    wait_for(|done| store.write_catalog(writes, done)).expect("durable");
    drop(store);
    let path = folder.path().join("catalog.redb");
    let whole = fs::read(&path).expect("read");
    let record = crate::wire::record::encode_record(&vec![version(1)]);
    let entry = whole.windows(record.len()).position(|window| window == record).expect("the entry");
    let mut rng = Rng::seeded(11);
    let anywhere = (0..30).map(|_| rng.below(whole.len() as u64) as usize).collect::<Vec<_>>();
    for (at, must_be_noticed) in anywhere.into_iter().map(|at| (at, false)).chain([(entry + 2, true)]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).expect("written");
        // A second start must not take for good what the first one refused.
        for _ in 0..2 {
            match Store::open(folder.path(), None) {
                Ok((_, loaded)) => {
                    assert!(!must_be_noticed, "byte {at}: taken for good");
                    assert_eq!(loaded.names, [(name("a"), vec![version(1)])], "byte {at}");
                }
                Err(StoreError::CatalogDamaged { .. }) => {}
                Err(error) => panic!("byte {at}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_content_whose_file_is_short_or_gone_is_no_longer_held() {
    let (folder, store) = fresh();
    let samples: Vec<Sample> = (0..3).map(|seed| Sample::new(random(200_000, seed))).collect();
    for sample in &samples {
        sample.put(&store);
    }
    let path = |sample: &Sample| store.inner.shared.folder.content(&sample.id());
    fs::OpenOptions::new().write(true).open(path(&samples[0])).expect("open").set_len(199_999).expect("cut");
    fs::remove_file(path(&samples[1])).expect("removed");
    drop(store);
    let (store, loaded) = open(&folder);
    assert_eq!(loaded.contents, [(samples[2].id(), 200_000)]);
    assert_eq!(store.holds(&samples[0].id()), None);
    assert!(matches!(store.root(&samples[0].id()), Err(StoreError::NotHeld(_))));
    assert!(folder.path().join("quarantine").join(samples[0].id().to_string()).exists());
    // Their chunks are not believed to be here either.
    assert_eq!(samples[0].put(&store).0, 200_000);
    samples[0].check(&store);
}

#[test]
fn a_content_that_was_not_finished_before_a_crash_is_not_held_and_continues() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(5 << 20, 3));
    let mut incoming = store.receive();
    let half = sample.chunks.len() / 2;
    let sent = sample.send_first(&mut incoming, half);
    let copy = crash_copy(&folder);
    let (copied, loaded) = open(&copy);
    assert!(loaded.contents.is_empty());
    let (rest, finished) = sample.put(&copied);
    assert_eq!(rest, sample.data.len() as u64 - sent);
    sample.check(&copied);
    drop((finished, copied));
    assert!(files_in(&copy.path().join("incoming")).is_empty(), "the broken-off file went on as the content");
    let copied = open(&copy).0;
    sample.check(&copied);
}

#[test]
fn an_acknowledged_content_survives_a_crash_and_one_without_a_row_is_no_copy() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(400_000, 3));
    let before = crash_copy(&folder);
    sample.put(&store);
    let after = crash_copy(&folder);
    sample.check(&open(&after).0);
    // The crash came between the rename and the commit: the file is there, the row is not.
    let file = store.inner.shared.folder.content(&sample.id());
    let stray = before.path().join(file.strip_prefix(folder.path()).expect("inside"));
    fs::create_dir_all(stray.parent().expect("parent")).expect("folder");
    fs::write(&stray, random(400_000, 4)).expect("written");
    let (copied, loaded) = open(&before);
    assert!(loaded.contents.is_empty() && stray.exists());
    assert_eq!(sample.put(&copied).0, 400_000);
    sample.check(&copied);
}

#[test]
fn a_stray_file_is_removed_once_it_is_old_and_a_foreign_one_never() {
    let (folder, store) = fresh();
    drop(store);
    let prefix = folder.path().join("contents/ab");
    fs::create_dir_all(&prefix).expect("folder");
    let names = ["c".repeat(62), "d".repeat(62), "notes.txt".to_owned()];
    let old = UNIX_EPOCH + Duration::from_millis(clock::wall().0 - ORPHAN_GRACE_MS - 60_000);
    for (name, is_old) in names.iter().zip([true, false, true]) {
        fs::write(prefix.join(name), "x").expect("written");
        if is_old {
            let file = fs::OpenOptions::new().write(true).open(prefix.join(name)).expect("open");
            file.set_times(FileTimes::new().set_modified(old)).expect("times");
        }
    }
    open(&folder);
    assert_eq!(files_in(&prefix), [prefix.join(&names[1]), prefix.join(&names[2])]);
}
