//! Load, cut, restart, compare; again and again; and the table of what came of it.

use crate::disk::{Disk, Kind};
use crate::ledger::{Findings, Seen};
use crate::load::{Client, Counts, ROOT, Switch};
use crate::node::{Node, Seat, pause};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use thorp::clock::{self, Rng};

/// Clients at the same time.
const CLIENTS: usize = 4;
/// Cuts before a new image is taken: contents of removed files stay for a day and would fill it.
const CUTS_PER_IMAGE: u64 = 25;
/// How long the power stays on after the first acknowledgement, and how much longer at most.
const LOAD_MS: (u64, u64) = (50, 350);
/// Longest wait for the first acknowledgement: a slow machine must not make a cut of nothing.
const FIRST_MS: u64 = 5_000;

/// What came of the cuts on one file system.
#[derive(Debug, Default)]
pub struct Tally {
    name: String,
    way: &'static str,
    cuts: u64,
    /// Cuts after which something was wrong.
    bad: u64,
    counts: Counts,
    lost: u64,
    wrong: u64,
    revived: u64,
    ms: u64,
    is_broken: bool,
}

impl Tally {
    /// The harness itself failed.
    pub fn broken() -> Tally {
        Tally { name: "broken off".to_owned(), way: "-", is_broken: true, ..Tally::default() }
    }

    /// Whether all is well, and something was tested at all.
    pub fn is_clean(&self) -> bool {
        self.bad == 0 && !self.is_broken && self.acknowledged() > 0
    }

    fn acknowledged(&self) -> u64 {
        self.counts.put + self.counts.replaced + self.counts.removed
    }
}

/// Cuts the power of one file system `cuts` times; its image lies in `room`.
pub fn run(room: &Path, kind: Kind, cuts: u64, seed: u64) -> Tally {
    let start = clock::now();
    let folder = &room.join(kind.to_string());
    fs::create_dir(folder).expect("a folder");
    let mut rng = Rng::seeded(seed);
    let mut disk = Disk::new(kind, folder);
    let mut tally = Tally { name: kind.to_string(), way: disk.way(), ..Tally::default() };
    while tally.cuts < cuts {
        if tally.cuts > 0 {
            disk.fresh();
        }
        image(&mut disk, folder, cuts, &mut rng, &mut tally);
    }
    tally.ms = clock::now().since(start);
    tally
}

/// The cuts of one image.
fn image(disk: &mut Disk, folder: &Path, cuts: u64, rng: &mut Rng, tally: &mut Tally) {
    let seat = Seat::new(folder);
    let data = disk.mount_point().join("node");
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|number| Client::new(number, rng.next_u64(), folder, &seat)).collect();
    // Names that were found wrong: they are told of once.
    let mut strangers = BTreeSet::new();
    let log = folder.join("node.log");
    let mut node = Node::start(&seat, &data, &log).unwrap_or_else(|why| panic!("the first start: {why}"));
    for _ in 0..CUTS_PER_IMAGE.min(cuts - tally.cuts) {
        load_and_cut(disk, &mut node, &mut clients, LOAD_MS.0 + rng.below(LOAD_MS.1));
        tally.cuts += 1;
        disk.restore();
        let mut findings = Findings::default();
        let restarted = Node::start(&seat, &data, &log);
        let is_over = match restarted {
            Ok(started) => {
                node = started;
                compare(&seat, folder, &mut clients, &mut strangers, &mut findings);
                false
            }
            Err(why) => {
                // Everything acknowledged is out of reach: nothing could be worse.
                let all: usize = clients.iter().map(|client| client.ledger.present().len()).sum();
                findings.lost += all.max(1) as u64;
                findings.say(format!("the node does not start again: {why}"));
                true
            }
        };
        add(tally, &mut clients, &findings);
        if !findings.words.is_empty() {
            println!("{}: cut {}:\n  {}", tally.name, tally.cuts, findings.words.join("\n  "));
            println!("  the node said:\n{}", indented(&fs::read_to_string(&log).unwrap_or_default()));
        }
        if is_over {
            break;
        }
    }
}

/// Lets the clients work for `ms` milliseconds from the first acknowledgement on, then cuts the power under them.
fn load_and_cut(disk: &mut Disk, node: &mut Node, clients: &mut [Client], ms: u64) {
    let switch = Switch::default();
    std::thread::scope(|scope| {
        let switch = &switch;
        for client in clients.iter_mut() {
            scope.spawn(move || client.work(switch));
        }
        let start = clock::now();
        while switch.acknowledged.load(Ordering::Relaxed) == 0 && clock::now().since(start) < FIRST_MS {
            pause(1);
        }
        pause(ms);
        switch.is_cut.store(true, Ordering::Release);
        disk.cut();
        node.kill9();
        switch.is_over.store(true, Ordering::Release);
    })
}

/// Compares what the node has with what was acknowledged.
fn compare(
    seat: &Seat,
    folder: &Path,
    clients: &mut [Client],
    strangers: &mut BTreeSet<String>,
    findings: &mut Findings,
) {
    let rows = match seat.ask(&["ls"]) {
        Ok(rows) => rows,
        Err(why) => {
            findings.lost += 1;
            findings.say(format!("`ls` fails: {why}"));
            Value::Array(Vec::new())
        }
    };
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let states: Vec<(String, String)> =
        rows.iter().map(|row| (word(row, "name"), word(row, "state"))).collect();
    let target = folder.join("got");
    // Left by the comparison before.
    drop(fs::remove_dir_all(&target));
    let got_all = states.is_empty()
        || seat.ask(&["get", ROOT, "-o", target.to_str().expect("a path in UTF-8")]).is_ok();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for (name, state) in states {
        let mut path = target.join(name.trim_start_matches(ROOT));
        if !got_all {
            path = folder.join("one");
            drop(fs::remove_file(&path));
            // Its absence says that it failed.
            drop(seat.ask(&["get", &name, "-o", path.to_str().expect("a path in UTF-8")]));
        }
        seen.insert(name, Seen { state, bytes: fs::read(&path).ok() });
    }
    for client in clients {
        client.ledger.compare(&mut seen, findings);
    }
    strangers.extend(std::mem::take(&mut findings.names));
    for name in seen.into_keys().filter(|name| strangers.insert(name.clone())) {
        findings.wrong += 1;
        findings.say(format!("{name} is listed and was never asked for"));
    }
}

fn add(tally: &mut Tally, clients: &mut [Client], findings: &Findings) {
    for client in clients {
        let counts = std::mem::take(&mut client.counts);
        tally.counts.put += counts.put;
        tally.counts.replaced += counts.replaced;
        tally.counts.removed += counts.removed;
        tally.counts.open += counts.open;
    }
    tally.lost += findings.lost;
    tally.wrong += findings.wrong;
    tally.revived += findings.revived;
    tally.bad += u64::from(findings.lost + findings.wrong + findings.revived > 0);
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Prints what came of all of it.
pub fn print_table(tallies: &[Tally]) {
    let recipe = std::env::var("THORP_CUTS_RECIPE").unwrap_or_else(|_| "as it is".to_owned());
    println!(
        "\n| file system | cut by | recipe | cuts | acknowledged | put, replaced, removed | open | lost | wrong | revived | cuts with loss | s a cut |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for tally in tallies {
        let Tally { name, way, cuts, bad, counts, lost, wrong, revived, ms, .. } = tally;
        let Counts { put, replaced, removed, open } = counts;
        let (all, each) = (tally.acknowledged(), *ms as f64 / 1_000.0 / (*cuts).max(1) as f64);
        println!(
            "| {name} | {way} | {recipe} | {cuts} | {all} | {put}, {replaced}, {removed} | {open} | {lost} | {wrong} | \
             {revived} | {bad} | {each:.1} |"
        );
    }
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    println!(
        "\nlost {} wrong {} revived {} of {} acknowledged, in {} cuts",
        sum(|tally| tally.lost),
        sum(|tally| tally.wrong),
        sum(|tally| tally.revived),
        sum(Tally::acknowledged),
        sum(|tally| tally.cuts)
    );
}
