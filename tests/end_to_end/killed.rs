//! Messages to a machine that is killed again and again, or whose programs take them away (P11).

use crate::letters::{assert_each_once, documents, put_whole};
use crate::process::{s, wait_until};
use crate::village::{Village, number, word};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use thorp::clock::Rng;

/// Times that a node is killed.
const KILLS: u64 = 6;

/// Writes messages 0, 1, … into an outbox; no more than a few wait at a time, so that they come as a stream.
#[track_caller]
fn stream(outbox: &Path, count: u64) {
    for n in 0..count {
        wait_until(s(60), "the outbox takes messages", || {
            let waiting = fs::read_dir(outbox).unwrap().count();
            if waiting < 8 { Ok(()) } else { Err(format!("{waiting} wait")) }
        });
        let message = json!({"type": "tick", "payload": {"n": n}}).to_string();
        put_whole(&outbox.join(format!("{n:04}.json")), &message);
    }
}

/// Kills a node whenever another part of `count` messages has come, and starts it again.
#[track_caller]
fn kill_while_they_come(
    village: &mut Village,
    name: &str,
    count: u64,
    mut come: impl FnMut(&Village) -> u64,
) {
    let mut rng = Rng::seeded(count);
    let part = count / (KILLS + 1);
    for kill in 0..KILLS {
        let at = part * kill + rng.below(part);
        wait_until(s(60), &format!("{at} messages have come"), || {
            let come = come(village);
            if come >= at { Ok(()) } else { Err(format!("{come}")) }
        });
        village.kill9(name);
        village.add(name, &[]);
    }
}

#[test]
fn a_receiver_that_is_killed_gets_each_message_once_in_order() {
    let count = 200;
    let mut village = Village::of(3, &[]);
    village.note_hook("b", "tick");
    let outbox = village.letters("a", "outbox");
    std::thread::scope(|scope| {
        let files = scope.spawn(|| stream(&outbox, count));
        kill_while_they_come(&mut village, "b", count, |village| village.inbox_numbers("b").len() as u64);
        files.join().unwrap();
    });
    let inbox = wait_until(s(60), "all are there", || {
        let inbox = village.documents("b", "inbox");
        if inbox.len() as u64 >= count { Ok(inbox) } else { Err(inbox.len().to_string()) }
    });
    assert_each_once(&village.inbox_numbers("b"), count, "the inbox");
    let ids: BTreeMap<String, u64> =
        inbox.iter().map(|document| (word(&document["id"]), number(&document["payload"]["n"]))).collect();
    assert_eq!(ids.len() as u64, count, "each has an id of its own");
    let ran = wait_until(s(60), "the hook was run for each", || {
        let ran = village.ran("b");
        let of: BTreeSet<&String> = ran.iter().map(|ran| &ran.id).collect();
        if of.len() == ids.len() { Ok(ran) } else { Err(format!("{} of {}", of.len(), ids.len())) }
    });
    let mut first = Vec::new();
    for run in &ran {
        let n = number(&run.document["payload"]["n"]);
        assert_eq!(ids.get(&run.id), Some(&n), "always under the same id");
        if !first.contains(&n) {
            first.push(n);
        }
    }
    assert_each_once(&first, count, "first runs of the hook");
    eprintln!("hooks ran {} times for {} messages", ran.len(), ids.len());
    village.wait_for_documents("c", "inbox", inbox.len(), s(30));
}

#[test]
fn what_a_program_took_out_of_the_inbox_does_not_come_again() {
    let count = 200;
    let mut village = Village::of(3, &[]);
    let (outbox, inbox) = (village.letters("a", "outbox"), village.letters("b", "inbox"));
    let (taken, over) = (std::sync::Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let files = scope.spawn(|| stream(&outbox, count));
        // It takes whatever it sees, also while the node is down.
        let consumer = scope.spawn(|| {
            wait_until(s(180), "all is over", || {
                // A folder that changes while it is listed may show a file and not the one before it; what the
                // first listing shows has all that came before it in the second.
                let last = documents(&inbox).pop().map(|(name, _)| name);
                for (name, document) in documents(&inbox) {
                    if last.as_ref().is_none_or(|last| name > *last) {
                        continue;
                    }
                    fs::remove_file(inbox.join(name)).unwrap();
                    taken.lock().unwrap().push(number(&document["payload"]["n"]));
                }
                if over.load(Ordering::Relaxed) { Ok(()) } else { Err("not yet".to_owned()) }
            });
        });
        let taken = || taken.lock().unwrap().clone();
        kill_while_they_come(&mut village, "b", count, |_| taken().len() as u64);
        files.join().unwrap();
        wait_until(s(60), "the last one came", || {
            let taken = taken();
            if taken.contains(&(count - 1)) { Ok(()) } else { Err(format!("{taken:?}")) }
        });
        // A last start shows whatever is left to be shown; then a message more comes after all that.
        village.kill9("b");
        village.add("b", &[]);
        village.settle();
        let end = json!({ "n": count }).to_string();
        village.json_at("a", &["send", "tick", "--payload", &end, "--wait"]);
        wait_until(s(60), "the end came", || {
            let taken = taken();
            if taken.contains(&count) { Ok(()) } else { Err(format!("{taken:?}")) }
        });
        over.store(true, Ordering::Relaxed);
        consumer.join().unwrap();
    });
    assert_each_once(&taken.into_inner().unwrap(), count + 1, "what was taken");
}
