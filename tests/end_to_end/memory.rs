//! Memory of a node: under 64 MiB and 256 bytes an entry, at any moment.
//!
//! Invariant of the measure: the peak counts, as the system tells it (`VmHWM`), so nothing that was
//! given back in time is overlooked. It takes minutes and gigabytes, so it runs by itself:
//!
//! `THORP_MEMORY_FILES=250000 cargo test --release --test end_to_end memory -- --ignored --nocapture`
//!
//! with `TMPDIR` on a disk whose syncs are quick.

use crate::process::{s, wait_until};
use crate::village::{Village, text};
use std::fs;
use std::time::Duration;

/// What a process may take, in KiB.
fn bound_kib(entries: u64) -> u64 {
    (64 << 10) + entries / 4
}

/// Peak and present memory of each node in KiB; none of the peaks may pass the bound.
#[track_caller]
fn check(village: &Village, entries: u64, when: &str) {
    for node in &village.nodes {
        let status = fs::read_to_string(format!("/proc/{}/status", node.process.id())).expect("a process");
        let kib = |key: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(key)).expect("a line of the system");
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
        };
        let (peak, now, bound) = (kib("VmHWM:"), kib("VmRSS:"), bound_kib(entries));
        eprintln!("{when}, node {}: peak {peak} KiB, now {now}, bound {bound}", node.name);
        assert!(peak < bound, "{when}, node {}: {peak} KiB are over the bound of {bound}", node.name);
    }
}

/// Waits until all entries are listed with all their copies.
#[track_caller]
fn wait_until_counted(village: &Village, entries: u64) {
    wait_until(s(60), "all copies are counted", || {
        let status = village.json(&["status", "--timeout", "20s"]);
        let files = &status["files"];
        if files["ok"] == entries && files["count"] == entries { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
#[ignore = "takes minutes; see the head of this file"]
fn memory_stays_under_its_bound_with_many_files() {
    let entries =
        std::env::var("THORP_MEMORY_FILES").map_or(152_000, |count| count.parse().expect("a number"));
    let mut village = Village::of(3, &[]);
    let folder = village.path("many");
    for number in 0..entries {
        let part = folder.join(format!("folder-{:04}", number / 1_000));
        if number % 1_000 == 0 {
            fs::create_dir_all(&part).expect("a folder");
        }
        fs::write(part.join(format!("file-{number:07}.txt")), format!("{number}\n")).expect("a file");
    }
    village.start(&["put", text(&folder), "--into", "x", "-n", "3"]).wait(Duration::from_secs(600)).ended(0);
    check(&village, entries, "while they came");
    wait_until_counted(&village, entries);
    check(&village, entries, "with all of them");
    let names: Vec<String> = village.nodes.iter().map(|node| node.name.clone()).collect();
    for name in &names {
        let mut node = village.take(name);
        node.terminate();
        node.process.wait(s(10));
    }
    for name in &names {
        village.add(name, &[]);
    }
    wait_until_counted(&village, entries);
    check(&village, entries, "after a restart");
}
