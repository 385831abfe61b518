//! Hashing anew: what is damaged is found and put aside, and knowing it costs no commit each.

use super::*;
use crate::limits::DOUBTFUL_MS;

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn a_content_is_verified_in_pieces_and_the_flaw_is_found_wherever_it_is() {
    for at in [0, 3 << 20, (6 << 20) - 1] {
        let (folder, store) = fresh();
        let sample = Sample::new(random(6 << 20, 5));
        drop(sample.put(&store));
        let mut verification = store.verification(&sample.id()).expect("held");
        let mut steps = 0;
        while verification.step(1 << 20).expect("readable") == Verified::More {
            steps += 1;
        }
        assert!((3..=6).contains(&steps), "{steps}");
        flip(&store.inner.shared.folder.content(&sample.id()), at);
        let mut verification = store.verification(&sample.id()).expect("held");
        let found = loop {
            match verification.step(1 << 20).expect("readable") {
                Verified::More => {}
                other => break other,
            }
        };
        assert_eq!(found, Verified::Bad);
        assert_eq!(store.holds(&sample.id()), None);
        assert!(matches!(verification.step(1), Err(StoreError::NotHeld(_))), "nothing is condemned twice");
        assert!(folder.path().join("quarantine").join(sample.id().to_string()).exists());
        assert_eq!(sample.put(&store).0, 6 << 20);
        assert!(store.verify(&sample.id()).expect("readable"));
    }
}

#[test]
fn what_changes_its_length_or_goes_away_is_damaged() {
    let sample = Sample::new(random(300_000, 5));
    for length in [Some(299_999), Some(300_001), None] {
        let (_folder, store) = fresh();
        drop(sample.put(&store));
        let path = store.inner.shared.folder.content(&sample.id());
        match length {
            Some(length) => {
                fs::OpenOptions::new().write(true).open(&path).expect("open").set_len(length).expect("cut");
            }
            None => fs::remove_file(&path).expect("removed"),
        }
        assert!(!store.verify(&sample.id()).expect("looked at"));
        assert_eq!(store.holds(&sample.id()), None);
    }
}

#[test]
fn a_content_that_is_mended_meanwhile_is_not_condemned() {
    let (_folder, store) = fresh();
    let sample = Sample::new(random(6 << 20, 5));
    drop(sample.put(&store));
    let path = store.inner.shared.folder.content(&sample.id());
    let good = fs::read(&path).expect("read");
    let mut verification = store.verification(&sample.id()).expect("held");
    assert_eq!(verification.step(1 << 20).expect("good"), Verified::More);
    // The open file goes bad, and another takes its place.
    flip(&path, 5 << 20);
    let draft = path.with_extension("draft");
    fs::write(&draft, good).expect("written");
    fs::rename(&draft, &path).expect("renamed");
    while verification.step(1 << 20).expect("looked at again") == Verified::More {}
    sample.check(&store);
}

#[test]
fn that_it_was_verified_costs_one_commit_for_all() {
    let (folder, store) = fresh();
    let samples: Vec<Sample> = (0..40).map(|seed| Sample::new(random(1_000, seed))).collect();
    for sample in &samples {
        drop(sample.put(&store));
    }
    let stored = store.record(&samples[0].id()).expect("held").stored_ms;
    let before = clock::wall().0;
    while clock::wall().0 == before {
        std::hint::spin_loop();
    }
    let commits = store.commits();
    for sample in &samples {
        assert!(store.verify(&sample.id()).expect("readable"));
    }
    assert_eq!(store.commits(), commits);
    let verified = |store: &Store| store.record(&samples[0].id()).expect("held").verified_ms;
    assert!(verified(&store) > stored, "it is known at once");
    // A crash forgets it, which is safe.
    let copied = crash_copy(&folder);
    assert_eq!(verified(&open(&copied).0), stored);
    store.save_verified().expect("saved");
    store.save_verified().expect("nothing to save");
    assert_eq!(store.commits(), commits + 1);
    let last = verified(&store);
    drop(store);
    assert_eq!(verified(&open(&folder).0), last);
}

#[test]
fn after_a_crash_what_was_written_last_is_doubtful() {
    let (folder, store) = fresh();
    let samples: Vec<Sample> = (0..3).map(|seed| Sample::new(random(50_000, seed))).collect();
    for sample in &samples {
        drop(sample.put(&store));
    }
    let crashed = crash_copy(&folder);
    let doubtful = open(&crashed).1.doubtful;
    assert_eq!(doubtful.len(), 3);
    store.end_well().expect("ended");
    drop(store);
    assert!(open(&folder).1.doubtful.is_empty(), "it ended on purpose");
    assert_eq!(open(&folder).1.doubtful.len(), 3, "and that counts once");
    let row = |(ago, sample): (u64, &Sample)| database::HeldRow {
        content: sample.id(),
        size: 1,
        stored_ms: 1_700_000_000_000 - ago,
        verified_ms: 0,
    };
    let ages = [0, DOUBTFUL_MS, DOUBTFUL_MS + 1];
    let held: Vec<database::HeldRow> = ages.into_iter().zip(&samples).map(row).collect();
    assert_eq!(open::written_last(&held), [samples[0].id(), samples[1].id()]);
    assert!(open::written_last(&[]).is_empty());
}

#[test]
fn what_is_left_of_a_small_content_is_kept_too() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(500, 5));
    drop(sample.put(&store));
    let mut new = store.record(&sample.id()).expect("held");
    new.single = Some(chunk_hash(b"something else"));
    // The database lies.
    let change = change::NewContent {
        content: sample.id(),
        record: new,
        inline: Some(vec![7; 500]),
        root: vec![],
        pages: change::Pages::default(),
    };
    store.inner.writer.write(Change::Content(Box::new(change))).expect("written");
    assert!(!store.verify(&sample.id()).expect("looked at"));
    let remains = folder.path().join("quarantine").join(sample.id().to_string());
    assert_eq!(fs::read(remains).expect("kept"), [7; 500]);
    assert_eq!(sample.put(&store).0, 500);
}
