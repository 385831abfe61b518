//! Contents: received in pieces, reused, broken off, read, checked, removed.

use super::*;

#[test]
fn an_edited_content_needs_only_what_changed() {
    let (_folder, store) = fresh();
    let before = Sample::new(random(8 << 20, 5));
    before.put(&store);
    let mut data = before.data.clone();
    data.splice(3 << 20..3 << 20, *b"a few bytes more");
    let after = Sample::new(data);
    let (sent, _) = after.put(&store);
    assert!(sent > 0 && sent <= 3 * CHUNK_FINE.2 as u64, "{sent} bytes travelled");
    after.check(&store);
    before.check(&store);
    // Both versions share their start; either comes back without a byte.
    assert!(after.put(&store).1.already && before.put(&store).1.already);
}

#[test]
fn an_unchanged_content_writes_nothing() {
    let (folder, store) = fresh();
    let base = Sample::new(random(6 << 20, 6));
    let edited = Sample::new([&base.data[..5 << 20], &random(1 << 20, 7)].concat());
    let small = Sample::new(random(100, 8));
    for sample in [&base, &edited, &small] {
        sample.put(&store);
    }
    let commits = store.commits();
    for sample in [&base, &edited, &small] {
        let mut incoming = store.receive();
        for window in sample.chunks.chunks(5) {
            assert!(incoming.offer(window).expect("offer").iter().all(|needed| !needed));
            assert!(files_in(&folder.path().join("incoming")).is_empty());
        }
        for index in [0, sample.chunks.len() - 1] {
            assert_eq!(incoming.chunk(index as u32).expect("chunk"), sample.part(index));
        }
        let finished = incoming.finish(sample.id(), sample.data.len() as u64).expect("finish");
        assert!(finished.already);
    }
    assert_eq!(store.commits(), commits);
}

#[test]
fn a_shortened_content_is_made_from_the_longer_one() {
    let (_folder, store) = fresh();
    let long = Sample::new(random(3 << 20, 6));
    long.put(&store);
    let count = long.chunks.len() / 2;
    let lengths: Vec<usize> = long.chunks[..count].iter().map(|chunk| chunk.bytes as usize).collect();
    let short = Sample::cut(long.data[..lengths.iter().sum()].to_vec(), &lengths);
    let (sent, finished) = short.put(&store);
    assert_eq!((sent, finished.already), (0, false));
    short.check(&store);
}

#[test]
fn a_mirrored_content_that_is_damaged_is_put_aside_and_travels_at_the_next_try() {
    let (folder, store) = fresh();
    let base = Sample::new(random(6 << 20, 6));
    let edited = Sample::new([&base.data[..5 << 20], &random(1 << 20, 7)].concat());
    drop(base.put(&store));
    let path = store.inner.shared.folder.content(&base.id());
    let mut bytes = fs::read(&path).expect("read");
    bytes[1_000] ^= 1;
    fs::write(&path, bytes).expect("written");
    let mut incoming = store.receive();
    let mut offers = edited.chunks.chunks(4).map(|window| incoming.offer(window));
    let error = offers.find_map(Result::err).expect("the damage is noticed");
    assert!(matches!(error, StoreError::Damaged(content) if content == base.id()), "{error:?}");
    drop(incoming);
    assert_eq!(store.holds(&base.id()), None);
    assert!(folder.path().join("quarantine").join(base.id().to_string()).exists());
    assert_eq!(edited.put(&store).0, edited.data.len() as u64);
    edited.check(&store);
}

#[test]
fn a_damaged_chunk_is_not_taken_over() {
    let (_folder, store) = fresh();
    let base = Sample::new(random(6 << 20, 6));
    drop(base.put(&store));
    let path = store.inner.shared.folder.content(&base.id());
    let mut bytes = fs::read(&path).expect("read");
    bytes[2 << 20] ^= 1;
    fs::write(&path, bytes).expect("written");
    // Another start, so that nothing is mirrored.
    let other = Sample::new([&random(50_000, 7), &base.data[..]].concat());
    let (sent, _) = other.put(&store);
    assert!(sent > 50_000 && sent < 4 << 20, "{sent}");
    other.check(&store);
}

#[test]
fn equal_chunks_of_one_content_travel_once() {
    let (_folder, store) = fresh();
    let mut data = vec![0; 3 << 20];
    data[..200].fill(7);
    data.extend_from_slice(&random(100_000, 1));
    data.extend_from_slice(&vec![0; 1 << 20]);
    let sample = Sample::new(data);
    // All offered before any comes: the later ones wait for the first.
    let mut incoming = store.receive();
    let needed = incoming.offer(&sample.chunks).expect("offer");
    let travel: Vec<usize> = (0..needed.len()).filter(|index| needed[*index]).collect();
    assert!(travel.len() < sample.chunks.len() / 2, "{travel:?}");
    let late = sample.chunks.iter().rposition(|chunk| chunk.hash == sample.chunks[1].hash).expect("zeros");
    assert!(late > 1 && !needed[late] && incoming.chunk(late as u32).is_err());
    let mut incoming = store.receive();
    incoming.offer(&sample.chunks).expect("offer");
    for index in travel.iter().rev() {
        incoming.write(*index as u32, sample.part(*index)).expect("write");
    }
    assert_eq!(incoming.chunk(late as u32).expect("chunk"), sample.part(late));
    let finished = incoming.finish(sample.id(), sample.data.len() as u64).expect("finish");
    sample.check(&store);
    // And in small windows, where the first is there already.
    drop(finished);
    assert!(store.remove(&sample.id()).expect("remove"));
    let (sent, _) = sample.put(&store);
    assert_eq!(sent, travel.iter().map(|index| u64::from(sample.chunks[*index].bytes)).sum::<u64>());
    sample.check(&store);
}

#[test]
fn equal_chunks_inside_a_content_that_stays_in_memory() {
    let (_folder, store) = fresh();
    let data = [[1_u8; 100], [2; 100], [1; 100], [1; 100]].concat();
    let sample = Sample::cut(data, &[100; 4]);
    let mut incoming = store.receive();
    assert_eq!(incoming.offer(&sample.chunks).expect("offer"), [true, true, false, false]);
    incoming.write(1, sample.part(1)).expect("write");
    incoming.write(0, sample.part(0)).expect("write");
    incoming.finish(sample.id(), 400).expect("finish");
    sample.check(&store);
    assert!(sample.put(&store).1.already);
}

#[test]
fn wrong_bytes_and_unasked_chunks_are_refused_and_the_content_goes_on() {
    let (_folder, store) = fresh();
    let sample = Sample::new(random(500_000, 2));
    let mut incoming = store.receive();
    incoming.offer(&sample.chunks[..2]).expect("offer");
    let mut wrong = sample.part(1).to_vec();
    wrong[0] ^= 1;
    assert!(matches!(incoming.write(1, &wrong), Err(StoreError::ChunkDamaged { index: 1 })));
    assert!(matches!(incoming.write(1, &wrong[1..]), Err(StoreError::ChunkDamaged { index: 1 })));
    assert!(matches!(incoming.write(2, sample.part(2)), Err(StoreError::Refused(_))));
    incoming.write(1, sample.part(1)).expect("write");
    assert!(matches!(incoming.write(1, sample.part(1)), Err(StoreError::Refused(_))));
    assert!(matches!(incoming.write(u32::MAX, b"x"), Err(StoreError::Refused(_))));
    incoming.write(0, sample.part(0)).expect("write");
    assert!(matches!(incoming.write(0, sample.part(0)), Err(StoreError::Refused(_))));
    for (index, chunk) in sample.chunks.iter().enumerate().skip(2) {
        assert_eq!(incoming.offer(&[*chunk]).expect("offer"), [true]);
        incoming.write(index as u32, sample.part(index)).expect("write");
    }
    incoming.finish(sample.id(), 500_000).expect("finish");
    sample.check(&store);
}

#[test]
fn what_is_announced_must_come_and_be_that_content() {
    let (_folder, store) = fresh();
    let sample = Sample::new(random(500_000, 2));
    let mut incoming = store.receive();
    incoming.offer(&sample.chunks).expect("offer");
    assert!(matches!(incoming.finish(sample.id(), 500_000), Err(StoreError::Refused(_))));
    for (id, size) in [(ContentId([1; 32]), 500_000), (sample.id(), 499_999)] {
        let mut incoming = store.receive();
        sample.send(&mut incoming);
        assert!(matches!(incoming.finish(id, size), Err(StoreError::Mismatch { .. })));
    }
    for bytes in [0, crate::limits::CHUNK_BYTES_MAX as u32 + 1] {
        let chunk = ChunkRef { bytes, ..sample.chunks[0] };
        let mut incoming = store.receive();
        assert!(matches!(incoming.offer(&[chunk]), Err(StoreError::Refused(_))));
        assert!(incoming.offer(&sample.chunks[..1]).is_err(), "it was given up");
    }
    assert!(store.contents().is_empty());
}

#[test]
fn a_broken_off_content_goes_on_after_a_drop_and_after_a_new_start() {
    for reopen in [false, true] {
        let (folder, store) = fresh();
        let sample = Sample::new(random(6 << 20, 4));
        let mut incoming = store.receive();
        let sent = sample.send_first(&mut incoming, sample.chunks.len() * 2 / 3);
        drop(incoming);
        let store = if reopen {
            drop(store);
            open(&folder).0
        } else {
            store
        };
        assert_eq!(files_in(&folder.path().join("incoming")).len(), 2);
        let (rest, _) = sample.put(&store);
        assert_eq!(rest, sample.data.len() as u64 - sent);
        sample.check(&store);
        assert!(files_in(&folder.path().join("incoming")).is_empty());
        assert_eq!(store.inner.shared.incoming_bytes.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn chunks_of_a_broken_off_content_serve_another_and_damaged_ones_do_not() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(4 << 20, 4));
    let mut incoming = store.receive();
    sample.send_first(&mut incoming, sample.chunks.len() - 1);
    drop(incoming);
    let part = files_in(&folder.path().join("incoming")).pop().expect("part");
    let mut bytes = fs::read(&part).expect("read");
    bytes[2 << 20] ^= 1;
    fs::write(&part, bytes).expect("written");
    let other = Sample::new([&random(70_000, 9), &sample.data[..]].concat());
    let (sent, _) = other.put(&store);
    assert!(sent < 1 << 20, "{sent}");
    other.check(&store);
    assert!(files_in(&folder.path().join("incoming")).is_empty(), "its chunks are in a content now");
}

#[test]
fn little_is_not_kept_when_it_breaks_off() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(900_000, 4));
    let mut incoming = store.receive();
    sample.send(&mut incoming);
    assert!(!files_in(&folder.path().join("incoming")).is_empty());
    drop(incoming);
    assert!(files_in(&folder.path().join("incoming")).is_empty());
}

#[test]
fn many_small_contents_share_a_few_commits() {
    let (_folder, store) = fresh();
    let samples: Vec<Sample> = (0..1_000).map(|seed| Sample::new(random(1_000, seed))).collect();
    let before = store.commits();
    let (sender, outcomes) = channel();
    for sample in &samples {
        let mut incoming = store.receive();
        sample.send(&mut incoming);
        let sender = sender.clone();
        let done = move |result: Result<Finished, StoreError>| sender.send(result).expect("waiting");
        incoming.finish_async(sample.id(), 1_000, Box::new(done));
    }
    for _ in &samples {
        outcomes.recv_timeout(Duration::from_secs(60)).expect("answer").expect("durable");
    }
    let commits = store.commits() - before;
    assert!(commits < 100, "{commits} commits");
    samples.iter().for_each(|sample| sample.check(&store));
}

#[test]
fn one_content_put_many_times_at_once_is_held_once() {
    let (_folder, store) = fresh();
    let sample = Sample::new(random(300_000, 1));
    let new: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| usize::from(!sample.put(&store).1.already))).collect();
        threads.into_iter().map(|thread| thread.join().expect("thread")).sum()
    });
    assert_eq!(new, 1);
    assert_eq!(store.usage().used_bytes, 300_000);
    sample.check(&store);
}

#[test]
fn a_pinned_content_is_not_removed() {
    let (folder, store) = fresh();
    for bytes in [100, 200_000] {
        let sample = Sample::new(random(bytes, 1));
        let (_, finished) = sample.put(&store);
        let second = store.pin(&sample.id());
        assert!(!store.remove(&sample.id()).expect("remove"), "pinned by the put");
        drop(finished);
        assert!(!store.remove(&sample.id()).expect("remove"), "pinned a second time");
        sample.check(&store);
        drop(second);
        assert!(store.remove(&sample.id()).expect("remove"));
        assert!(!store.remove(&sample.id()).expect("remove"), "not held any more");
        assert!(store.read(&sample.id(), 0, 1).is_err());
        assert_eq!(sample.put(&store).0, bytes as u64, "its chunks are forgotten");
        assert!(store.remove(&sample.id()).expect("remove"));
    }
    assert_eq!(store.usage().used_bytes, 0);
    drop(store);
    assert!(open(&folder).1.contents.is_empty());
}

#[test]
fn a_flipped_byte_is_found_and_the_content_put_aside() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(2 << 20, 1));
    sample.put(&store);
    let stored = store.record(&sample.id()).expect("record");
    assert!(store.verify(&sample.id()).expect("verify"));
    assert!(store.record(&sample.id()).expect("record").verified_ms >= stored.verified_ms);
    let path = store.inner.shared.folder.content(&sample.id());
    let mut bytes = fs::read(&path).expect("read");
    bytes[1_500_000] ^= 0x10;
    fs::write(&path, &bytes).expect("written");
    assert!(!store.verify(&sample.id()).expect("verify"));
    assert_eq!(store.holds(&sample.id()), None);
    assert!(!path.exists() && folder.path().join("quarantine").join(sample.id().to_string()).exists());
    assert!(matches!(store.verify(&sample.id()), Err(StoreError::NotHeld(_))));
    drop(store);
    assert!(open(&folder).1.contents.is_empty());
}

#[test]
fn a_content_replaced_by_a_symbolic_link_is_not_followed() {
    let (folder, store) = fresh();
    let sample = Sample::new(random(100_000, 1));
    sample.put(&store);
    let path = store.inner.shared.folder.content(&sample.id());
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&path, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("link");
    assert!(store.read(&sample.id(), 0, 10).is_err());
    assert!(!store.verify(&sample.id()).expect("verify"));
}

#[test]
fn reads_beyond_a_content_are_refused() {
    let (_folder, store) = fresh();
    for bytes in [1_000, 100_000_u32] {
        let sample = Sample::new(random(bytes as usize, 1));
        sample.put(&store);
        let size = u64::from(bytes);
        assert_eq!(
            store.read(&sample.id(), size - 3, 3).expect("read"),
            sample.data[sample.data.len() - 3..]
        );
        for (offset, bytes) in [(size, 1), (0, bytes + 1), (u64::MAX, 1), (1, bytes), (0, u32::MAX)] {
            let error = store.read(&sample.id(), offset, bytes).expect_err("refused");
            assert!(matches!(error, StoreError::NoSuchPart { .. }), "{error:?}");
        }
        assert!(store.page(&sample.id(), 1).is_err());
    }
}

#[test]
fn more_than_the_capacity_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let (store, _) = Store::open(folder.path(), Some(1 << 20)).expect("open");
    let sample = Sample::new(random(700_000, 1));
    sample.put(&store);
    let usage = store.usage();
    assert_eq!((usage.capacity_bytes, usage.used_bytes, usage.free_bytes), (1 << 20, 700_000, 348_576));
    let mut incoming = store.receive();
    let second = Sample::new(random(700_000, 2));
    let error = (0..second.chunks.len())
        .find_map(|index| {
            let offered = incoming.offer(&second.chunks[index..=index]);
            offered.and_then(|_| incoming.write(index as u32, second.part(index))).err()
        })
        .expect("full");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    drop(incoming);
    assert!(files_in(&folder.path().join("incoming")).is_empty());
    assert!(store.remove(&sample.id()).expect("remove"));
    second.put(&store);
    second.check(&store);
    assert!(store.disk_state() == DiskState::Ok, "a full disk is no broken disk");
}

#[test]
fn broken_off_contents_make_way_when_room_is_needed() {
    let folder = tempfile::tempdir().expect("folder");
    let (store, _) = Store::open(folder.path(), Some(4 << 20)).expect("open");
    let mut incoming = store.receive();
    Sample::new(random(3 << 20, 1)).send(&mut incoming);
    drop(incoming);
    assert_eq!(files_in(&folder.path().join("incoming")).len(), 2);
    let sample = Sample::new(random(3 << 20, 2));
    sample.put(&store);
    sample.check(&store);
}

#[test]
fn a_suspect_store_writes_no_more_and_still_reads() {
    let (_folder, store) = fresh();
    let sample = Sample::new(random(100_000, 1));
    drop(sample.put(&store));
    let mut under_way = store.receive();
    let other = Sample::new(random(100_000, 2));
    other.send_first(&mut under_way, 1);
    store.inner.shared.health.set_suspect("a test");
    assert!(matches!(wait_for(|done| store.set_term(Term::default(), done)), Err(StoreError::Suspect)));
    assert!(matches!(store.remove(&sample.id()), Err(StoreError::Suspect)));
    assert!(under_way.offer(&other.chunks[1..2]).and_then(|_| under_way.write(1, other.part(1))).is_err());
    let small = Sample::new(random(10, 3));
    let mut incoming = store.receive();
    small.send(&mut incoming);
    assert!(matches!(incoming.finish(small.id(), 10), Err(StoreError::Suspect)));
    sample.check(&store);
}

#[test]
fn a_content_of_many_pages_comes_back_and_is_passed_on() {
    let (_folder, store) = fresh();
    let count = 40 * MANIFEST_PAGE_CHUNKS + 5;
    let data: Vec<u8> = (0..count as u32).flat_map(u32::to_le_bytes).collect();
    let sample = Sample::cut(data, &vec![4; count]);
    let mut incoming = store.receive();
    sample.send(&mut incoming);
    for index in [0, MANIFEST_PAGE_CHUNKS, 35 * MANIFEST_PAGE_CHUNKS + 7, count - 1] {
        assert_eq!(incoming.chunk(index as u32).expect("chunk"), sample.part(index));
    }
    incoming.finish(sample.id(), sample.data.len() as u64).expect("finish");
    sample.check(&store);
    // Mirrored over page borders, then different in the last page.
    let mut data = sample.data.clone();
    let last = data.len() - 1;
    data[last] = 0xff;
    let edited = Sample::cut(data, &vec![4; count]);
    assert_eq!(edited.put(&store).0, 4);
    edited.check(&store);
    assert!(sample.put(&store).1.already && edited.put(&store).1.already);
}

#[test]
fn who_offers_far_more_than_is_asked_for_is_refused() {
    let (_folder, store) = fresh();
    let mut incoming = store.receive();
    let chunks = |first: u32| -> Vec<ChunkRef> {
        (first..first + 4_096).map(|n| ChunkRef { hash: chunk_hash(&n.to_le_bytes()), bytes: 4 }).collect()
    };
    let refused = (0..40).find_map(|round| incoming.offer(&chunks(round * 4_096)).err()).expect("refused");
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
}

#[test]
fn a_content_with_a_like_end_and_another_start_is_not_mirrored() {
    let (_folder, store) = fresh();
    let piece = |seed: u64| random(20_000, seed);
    let three = |parts: [u64; 3]| Sample::cut(parts.map(piece).concat(), &[20_000; 3]);
    let (first, second) = (three([1, 2, 3]), three([4, 5, 6]));
    first.put(&store);
    second.put(&store);
    let mixed = three([4, 5, 3]);
    assert_eq!(mixed.put(&store).0, 0);
    mixed.check(&store);
    // The same with the difference in a page that is full.
    let many = |start: &[u8], end: &[u8]| {
        let middle: Vec<u8> = (0..12_000_u32).flat_map(u32::to_le_bytes).collect();
        Sample::cut([start, &middle, end].concat(), &vec![4; 12_002])
    };
    for sample in [many(b"aaaa", b"yyyy"), many(b"bbbb", b"zzzz"), many(b"bbbb", b"yyyy")] {
        sample.put(&store);
        sample.check(&store);
    }
    assert!(first.put(&store).1.already && second.put(&store).1.already);
}

#[test]
fn chunks_of_a_removed_content_are_found_in_another() {
    let (_folder, store) = fresh();
    let shared = random(1 << 20, 1);
    let with_start = |seed| Sample::new([&random(60_000, seed), &shared[..]].concat());
    let (first, second, third) = (with_start(2), with_start(3), with_start(4));
    drop(first.put(&store));
    assert!(store.remove(&first.id()).expect("remove"));
    second.put(&store);
    let (sent, _) = third.put(&store);
    assert!(sent < 600_000, "{sent}");
    third.check(&store);
}

#[test]
fn a_shorter_content_that_goes_on_in_a_broken_off_file_has_its_own_length() {
    let (folder, store) = fresh();
    let long = Sample::new(random(3 << 20, 6));
    let mut incoming = store.receive();
    long.send(&mut incoming);
    drop(incoming);
    let count = long.chunks.len() * 2 / 3;
    let lengths: Vec<usize> = long.chunks[..count].iter().map(|chunk| chunk.bytes as usize).collect();
    let short = Sample::cut(long.data[..lengths.iter().sum()].to_vec(), &lengths);
    assert_eq!(short.put(&store).0, 0);
    short.check(&store);
    assert!(store.verify(&short.id()).expect("verify"));
    drop(store);
    short.check(&open(&folder).0);
}
