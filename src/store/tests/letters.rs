//! The rows of letters: there after a crash, gone when removed, none in a folder older than letters.

use super::disk_states::{for_ever, in_catalog, place};
use super::*;
use crate::store::database::MAIL;
use crate::types::{Letter, LetterId, LetterPlace, LetterType, Priority, StreamId};
use crate::wire::mail::{MailKey, MailWrite, RosterRow, StreamState};
use rustix::io::Errno;

const STREAM: StreamId =
    StreamId { sender: NodeId([7; 16]), instance: InstanceId(u64::MAX), priority: Priority::Low };

fn letter(number: u64, payload: &str) -> MailRow {
    let letter = Letter {
        id: LetterId([5; 16]),
        kind: LetterType::parse("note").expect("a type"),
        source: "attic".into(),
        target: None,
        created_us: 1,
        expires_ms: u64::MAX,
        payload: payload.into(),
        attachments: vec![name("a/b")],
        addressees: vec![NodeId([1; 16]), NodeId([2; 16])],
    };
    MailRow::Letter { place: LetterPlace { stream: STREAM, number }, letter }
}

fn stream(done: u64) -> MailRow {
    let state = StreamState { until_ms: 9, done: vec![(1, done)], cursors: vec![(NodeId([1; 16]), 300)] };
    MailRow::Stream { stream: STREAM, state }
}

fn seen(until_ms: u64) -> MailRow {
    MailRow::Seen { id: LetterId([8; 16]), until_ms }
}

fn put(row: MailRow) -> CatalogWrite {
    CatalogWrite::Mail(MailWrite::Put(Box::new(row)))
}

fn remove(row: &MailRow) -> CatalogWrite {
    CatalogWrite::Mail(MailWrite::Remove(row.key()))
}

fn sorted(mut rows: Vec<MailRow>) -> Vec<MailRow> {
    rows.sort_by_key(MailRow::key);
    rows
}

#[test]
fn rows_of_letters_are_there_after_a_crash_unless_they_were_removed() {
    let (folder, store) = fresh();
    let machine = MailRow::Roster(RosterRow { node: NodeId([3; 16]), name: "cellar".into(), day: 20_000 });
    let largest = "x".repeat(crate::limits::LETTER_PAYLOAD_BYTES_MAX);
    let rows = [letter(1, "1"), letter(2, &largest), letter(300, "{}"), stream(2), seen(4), machine.clone()];
    wait_for(|done| store.write_catalog(rows.map(put).into(), done)).expect("durable");
    wait_for(|done| {
        let writes = vec![remove(&letter(1, "")), put(stream(5)), remove(&letter(77, "")), remove(&seen(0))];
        store.write_catalog(writes, done);
    })
    .expect("durable");
    let copy = crash_copy(&folder);
    let loaded = open(&copy).1;
    let left = vec![letter(2, &largest), letter(300, "{}"), stream(5), machine];
    assert_eq!(sorted(loaded.mail), left);
    assert!(loaded.names.is_empty(), "letters are no part of the catalog");
}

#[test]
fn a_folder_that_is_older_than_letters_has_none() {
    let (folder, store) = fresh();
    let named = CatalogWrite::Name { name: name("a"), versions: vec![version(1)] };
    wait_for(|done| store.write_catalog(vec![named, put(stream(1))], done)).expect("durable");
    drop(store);
    let database = redb::Database::open(folder.path().join("catalog.redb")).expect("a database");
    let transaction = database.begin_write().expect("begun");
    assert!(transaction.delete_table(MAIL).expect("removed"), "it was there");
    transaction.commit().expect("committed");
    drop(database);
    let (store, loaded) = open(&folder);
    assert_eq!((loaded.names.len(), loaded.mail), (1, vec![]));
    wait_for(|done| store.write_catalog(vec![put(seen(5))], done)).expect("durable");
    drop(store);
    assert_eq!(open(&folder).1.mail, vec![seen(5)]);
}

/// While there is no room changes wait; of those of one row the last stays.
#[test]
fn of_changes_that_wait_for_room_the_last_of_a_row_counts() {
    let (folder, faults, store) = place();
    wait_for(|done| store.write_catalog(vec![put(letter(1, "1"))], done)).expect("durable");
    faults.set(for_ever(Errno::NOSPC, in_catalog));
    let write = |change: CatalogWrite| {
        let (sender, outcome) = sync_channel(1);
        store.write_catalog(vec![change], Box::new(move |result| sender.send(result).expect("waiting")));
        outcome
    };
    let mut waiting = vec![write(put(letter(2, "2")))];
    while store.is_usable() {
        std::thread::yield_now();
    }
    for done in 1..3_000 {
        waiting.push(write(put(stream(done))));
    }
    waiting.push(write(remove(&letter(1, ""))));
    waiting.push(write(put(seen(3))));
    waiting.push(write(remove(&seen(0))));
    waiting.push(write(remove(&letter(2, ""))));
    waiting.push(write(put(letter(2, "again"))));
    assert!(waiting.iter().all(|outcome| outcome.try_recv().is_err()), "nothing was acknowledged");
    faults.set(None);
    for outcome in waiting {
        outcome.recv_timeout(Duration::from_secs(30)).expect("told").expect("durable");
    }
    drop(store);
    let mail = sorted(open(&folder).1.mail);
    assert_eq!(mail, vec![letter(2, "again"), stream(2_999)]);
    assert!(matches!(mail[0].key(), MailKey::Letter(_)));
}
