//! Messages of thorp beside those of mosquitto and NATS JetStream, in one run: how long one takes, and how many go
//! through in a second. Where a peer is not installed, its rows are left out and the output says so.
//!
//! All are measured in turn, round by round, so that what else the machine does meets all of them. The sender, the
//! server (of thorp, the proxy) and the receiver are three hosts. A time ends when a program that follows has
//! read the message from its pipe (`thorp inbox --follow --json`, `mosquitto_sub`), or when the hook's first statement
//! runs. A rate ends when the last message is a file in the inbox, or was printed by the subscriber.
//!
//! Environment: `THORP_BENCH_ROUNDS`, `THORP_BENCH_EACH` (messages of each kind and round),
//! `THORP_BENCH_BURST` (messages in a burst).

pub mod nats;
pub mod programs;
pub mod run;
mod systems;
mod table;
pub mod tools;
pub mod web;

use crate::cluster::{Cluster, Node};
use crate::enter;
use crate::measure::number;
use crate::network::{Host, Lan};
use crate::process::{poll, s};
use crate::runner::{self, Verdict};
use programs::HOOKED;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use systems::{Place, Publisher, System, play, thorp_cluster, warm_up};
use table::Row;
use thorp::clock;

/// Hosts whose disk is the file system of the build, the first three of which have all roles; the others send as well.
const ON_DISK: usize = 7;
/// Hosts whose disk is in memory.
const IN_MEMORY: usize = 3;
/// A message that has not come by then is lost, in milliseconds.
const LOST_MS: u64 = 10_000;
/// A burst that has not ended by then has lost messages, in milliseconds.
const BURST_MS_MAX: u64 = 300_000;
/// Between two messages that are sent one at a time.
const REST: Duration = Duration::from_millis(20);
/// A type without a hook.
const PLAIN: &str = "plain";

/// Numbers of messages: none twice in a run.
static NEXT: AtomicU64 = AtomicU64::new(1);

fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Measures and prints the table.
pub fn compare() -> Verdict {
    let (rounds, each) = (number("THORP_BENCH_ROUNDS", 4), number("THORP_BENCH_EACH", 50));
    let burst = number("THORP_BENCH_BURST", 10_000);
    runner::allow(s(3_600));
    // Before there are hosts, so that they all see it.
    let memory = Memory::mount();
    let (disk_hosts, memory_hosts): (Vec<usize>, Vec<usize>) =
        ((1..=ON_DISK).collect(), (ON_DISK + 1..=ON_DISK + IN_MEMORY).collect());
    let lan = Lan::of(ON_DISK + IN_MEMORY, &[(77, &disk_hosts), (78, &memory_hosts)]);
    let on_disk: Vec<Host> = lan.hosts()[..ON_DISK].to_vec();
    let in_memory: Vec<Host> = lan.hosts()[ON_DISK..].iter().map(|host| moved(host, &memory.0)).collect();
    let (disk_nodes, disk) = thorp_cluster(&on_disk[..3], "disk");
    let (_memory_nodes, memory_place) = thorp_cluster(&in_memory, "memory");
    let systems: Vec<System> = [&disk, &memory_place].into_iter().flat_map(systems_at).collect();
    let mut rows: Vec<Row> = systems.iter().map(Row::of).collect();
    table::head(&on_disk[0].folder, &memory.0, rounds, each, burst);
    for round in 0..usize::try_from(rounds).expect("few rounds") {
        for at in (0..systems.len()).map(|at| (at + round) % systems.len()) {
            one_at_a_time(&systems[at], each, &mut rows[at]);
        }
        for at in (0..systems.len()).map(|at| (at + round) % systems.len()) {
            let rate = rate(&systems[at], &[systems[at].place.sender.clone()], burst, &mut rows[at]);
            rows[at].rates.push(rate);
        }
        println!("  round {} of {rounds} is done, load {}", round + 1, table::load());
    }
    let senders = more_senders(disk_nodes, &on_disk, &disk);
    for _ in 0..rounds.min(2) {
        for (system, row) in systems.iter().zip(&mut rows).filter(|(system, _)| system.place.store == "disk")
        {
            let rate = rate(system, &senders.1, burst, row);
            row.rates_of_many.push(rate);
        }
    }
    table::print(&rows, each * rounds, burst, senders.1.len());
    let bad: u64 = rows.iter().filter(|row| row.name == "thorp").map(|row| row.lost + row.wrong).sum();
    assert!(bad == 0, "thorp has lost, doubled or disordered {bad} messages");
    Verdict::Passed
}

/// A file system in memory, as long as this lives.
struct Memory(PathBuf);

impl Memory {
    fn mount() -> Memory {
        let memory = Memory(enter::folder().join("memory"));
        fs::create_dir_all(&memory.0).expect("a mount point");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6g", "tmpfs"]).arg(&memory.0).status();
        assert!(mounted.is_ok_and(|status| status.success()), "a file system in memory");
        memory
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

fn moved(host: &Host, memory: &Path) -> Host {
    let folder = memory.join(&host.name);
    fs::create_dir_all(&folder).expect("a folder in memory");
    let mut host = host.clone();
    host.folder = folder;
    host
}

fn is_there(program: &str) -> bool {
    let tried = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if tried.is_err() {
        println!("  `{program}` is not there: it is not compared");
    }
    tried.is_ok()
}

fn systems_at(place: &Place) -> Vec<System> {
    let mut systems = vec![System::thorp(place)];
    if is_there("mosquitto") && is_there("mosquitto_pub") {
        systems.extend([false, true].map(|persistent| System::mosquitto(place, persistent)));
    }
    if is_there("nats-server") {
        systems.extend([1, 3].map(|replicas| System::nats(place, replicas)));
    }
    systems
}

/// Nodes on all hosts, so that five send. The nodes are to be kept.
fn more_senders(mut nodes: Vec<Node>, hosts: &[Host], place: &Place) -> (Cluster, Vec<Host>) {
    let more: Vec<Node> = hosts[3..].iter().map(|host| host.client().node(&[])).collect();
    nodes.extend(more.into_iter().map(Node::ready));
    let cluster = Cluster { nodes };
    cluster.settle(s(60));
    let senders = std::iter::once(place.sender.clone()).chain(hosts[3..].iter().cloned()).collect();
    (cluster, senders)
}

/// Messages with a rest between them: handed over by a program that runs, then each by a command of its own.
fn one_at_a_time(system: &System, each: u64, row: &mut Row) {
    let (receipts, hooks) = (system.subscribe(), system.hooks());
    let mut publisher = system.publisher(&system.place.sender);
    warm_up(system, &receipts, || {
        let n = next();
        publisher.hand(n, HOOKED);
        n
    });
    let mut note = |n: u64, at: u64, handed: bool| {
        let (heard, hooked) = (receipts.wait(n, LOST_MS), hooks.as_ref().map(|h| h.wait(n, LOST_MS)));
        let (times, hook_times) = if handed {
            (&mut row.handed, &mut row.handed_hook)
        } else {
            (&mut row.command, &mut row.command_hook)
        };
        times.extend(heard.map(|heard| heard.saturating_sub(at)));
        hook_times.extend(hooked.flatten().map(|hooked| hooked.saturating_sub(at)));
        row.lost += u64::from(heard.is_none() || hooked == Some(None));
        rest();
    };
    rest();
    for _ in 0..each {
        let n = next();
        let at = publisher.hand(n, HOOKED);
        note(n, at, true);
    }
    if system.command(0).is_none() {
        return;
    }
    let mut launcher = play(&system.place.sender, "each");
    let mut launcher = launcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a launcher");
    let mut orders = launcher.stdin.take().expect("its input");
    let mut said = BufReader::new(launcher.stdout.take().expect("its output")).lines();
    for _ in 0..each {
        let n = next();
        let words = system.command(n).unwrap_or_default().join("\t");
        orders.write_all(format!("{words}\n").as_bytes()).expect("an order");
        let line = said.next().expect("an answer").expect("an answer");
        let figures: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [begun, ended, 0] = figures.as_slice() else { panic!("{}: {words}: {line}", system.name) };
        row.took.push(ended - begun);
        note(n, *begun, false);
    }
    drop(orders);
    drop(launcher.wait());
}

fn rest() {
    let _ = poll(REST, || Err::<(), _>(String::new()));
}

/// Many messages as fast as they go; how many a second until the last is there.
fn rate(system: &System, senders: &[Host], burst: u64, row: &mut Row) -> f64 {
    let each = burst / senders.len() as u64;
    let count = each * senders.len() as u64;
    let first = NEXT.fetch_add(count, Ordering::Relaxed);
    if let Some(inbox) = system.inbox() {
        return rate_of_files(system, &inbox, senders, first, each, row);
    }
    let receipts = system.subscribe();
    let mut publishers: Vec<Publisher> = senders.iter().map(|host| system.publisher(host)).collect();
    for publisher in &mut publishers {
        warm_up(system, &receipts, || {
            let n = next();
            publisher.hand(n, PLAIN);
            n
        });
    }
    let begun = clock::wall_us();
    let (mut seen, mut last) = (BTreeSet::new(), begun);
    std::thread::scope(|scope| {
        for (sender, publisher) in (0..).zip(&mut publishers) {
            let from = first + sender * each;
            scope.spawn(move || (from..from + each).for_each(|n| _ = publisher.hand(n, PLAIN)));
        }
        while (seen.len() as u64) < count {
            let Some((n, at)) = receipts.next(LOST_MS) else { break };
            if n >= first && n < first + count {
                row.wrong += u64::from(!seen.insert(n));
                last = at;
            }
        }
    });
    row.lost += count - seen.len() as u64;
    seen.len() as f64 * 1e6 / (last - begun) as f64
}

fn rate_of_files(
    system: &System,
    inbox: &Path,
    senders: &[Host],
    first: u64,
    each: u64,
    row: &mut Row,
) -> f64 {
    let count = each * senders.len() as u64;
    empty(inbox);
    let begun = clock::wall_us();
    std::thread::scope(|scope| {
        for (sender, host) in (0..).zip(senders) {
            let from = first + sender * each;
            let mut publisher = system.publisher(host);
            scope.spawn(move || (from..from + each).for_each(|n| _ = publisher.hand(n, PLAIN)));
        }
    });
    let all = poll(Duration::from_millis(BURST_MS_MAX), || {
        let there = letters(inbox).len() as u64;
        // Not so often that it is the looking that takes the time.
        let _ = poll(Duration::from_millis(200), || Err::<(), _>(String::new()));
        if there >= count { Ok(()) } else { Err(format!("{there} of {count}")) }
    });
    if let Err(why) = all {
        println!("  {}: {why} messages after {BURST_MS_MAX} ms", system.name);
    }
    // Its inode changed last when it was renamed into the inbox.
    let shown =
        |path: &Path| fs::metadata(path).map(|m| (m.ctime() * 1_000_000 + m.ctime_nsec() / 1_000) as u64);
    let files = letters(inbox);
    let last = files.iter().filter_map(|path| shown(path).ok()).max().unwrap_or(begun);
    let (mut seen, mut before) = (BTreeSet::new(), vec![0; senders.len()]);
    for n in files.iter().filter_map(|path| systems::number(&fs::read_to_string(path).ok()?)) {
        let sender = n.checked_sub(first).and_then(|at| usize::try_from(at / each).ok());
        let Some(before) = sender.and_then(|sender| before.get_mut(sender)) else { continue };
        row.wrong += u64::from(!seen.insert(n)) + u64::from(*before > n);
        *before = n;
    }
    row.lost += count - seen.len() as u64;
    empty(inbox);
    seen.len() as f64 * 1e6 / (last.saturating_sub(begun).max(1)) as f64
}

/// Files of messages, in the order of their names.
fn letters(inbox: &Path) -> Vec<PathBuf> {
    let mut letters: Vec<_> =
        fs::read_dir(inbox).expect("the inbox").flatten().map(|entry| entry.path()).collect();
    letters.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    letters.sort();
    letters
}

fn empty(inbox: &Path) {
    letters(inbox).into_iter().for_each(|path| drop(fs::remove_file(path)));
}
