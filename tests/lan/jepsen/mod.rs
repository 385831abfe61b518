//! Random faults on a LAN of five hosts while six clients put, overwrite, remove, get and change
//! counts; then everything is healed, and what is there is compared with what was acknowledged.
//!
//! | file | what |
//! |---|---|
//! | `nemesis` | which fault, when, for how long: all from one seed, which is printed |
//! | `clients` | the load, and what each operation ended with |
//! | `history` | operations and contents |
//! | `checker` | what the history allows to be seen at the end; pure |
//! | `judge` | looks at the cluster when all is quiet, and at the disks when it has ended |
//!
//! Fault budget: a machine may be killed, paused, cut off or filled at any time, with any number of
//! others; a disk is lost only when every file has all its copies, and never two before they are
//! made up for.
//!
//! `THORP_JEPSEN_SECONDS` sets how long the faults last (25 by default), `THORP_JEPSEN_SEED` the
//! schedule. The schedule follows from the seed; how the processes interleave does not. When
//! something is wrong, the history and all logs are kept and their folder is named.

mod checker;
mod clients;
mod history;
mod judge;
mod nemesis;

use crate::network::{Lan, can_cut};
use crate::process::s;
use crate::runner::{self, Verdict};
pub use checker::finds_what_is_planted as checker_finds_what_is_planted;
use clients::Gate;
use history::History;
use nemesis::Nemesis;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use thorp::clock::{self, Rng};

/// Hosts with a node; one more has only a client.
pub const NODES: usize = 5;
/// How long the faults last, unless `THORP_JEPSEN_SECONDS` says otherwise.
const SECONDS_DEFAULT: u64 = 25;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// P1 to P8, all at once.
pub fn random_faults() -> Verdict {
    if let Err(why) = can_cut() {
        return Verdict::Skipped(why);
    }
    let seconds = number("THORP_JEPSEN_SECONDS").unwrap_or(SECONDS_DEFAULT);
    // Healing, comparing and the wait for lost disks come on top.
    runner::allow(s(2 * seconds + 180));
    let seed = number("THORP_JEPSEN_SEED").unwrap_or_else(|| clock::wall().0 % 1_000_000_007);
    println!("  THORP_JEPSEN_SEED={seed} THORP_JEPSEN_SECONDS={seconds}");
    let mut rng = Rng::seeded(seed);
    let lan = Lan::new(NODES + 1);
    let keeper = Keeper { lan: &lan, history: History::default(), is_well: AtomicBool::new(false), seed };
    let mut nemesis = Nemesis::start(&lan, Rng::seeded(rng.next_u64()));
    let (gate, start) = (Gate::default(), clock::now());
    std::thread::scope(|scope| {
        // However the nemesis ends, the clients are to end, too.
        let _end = gate.end_at_drop();
        for host in 1..=NODES + 1 {
            let client = clients::Client::new(host, &lan.host(host), Rng::seeded(rng.next_u64()));
            let (gate, history) = (&gate, &keeper.history);
            scope.spawn(move || client.work(gate, history));
        }
        nemesis.rage(s(seconds), &gate, &keeper.history);
    });
    nemesis.heal();
    let raged = clock::now().since(start) / 1_000;
    let cluster = nemesis.into_cluster();
    let findings = judge::judge(&lan, cluster, &keeper.history);
    keeper.history.print_summary();
    let [lost, resurrected, wrong, below] = findings.counts();
    println!(
        "  lost {lost} resurrected {resurrected} wrong {wrong} below {below} of {}, in {raged} s",
        keeper.history.acknowledged()
    );
    findings.words().iter().for_each(|words| println!("  {words}"));
    let is_well = findings.is_empty();
    keeper.is_well.store(is_well, Ordering::Relaxed);
    assert!(is_well, "something that was acknowledged did not hold; THORP_JEPSEN_SEED={seed}");
    Verdict::Passed
}

/// Keeps history and logs of a run that did not end well.
struct Keeper<'a> {
    lan: &'a Lan,
    history: History,
    is_well: AtomicBool,
    seed: u64,
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        if self.is_well.load(Ordering::Relaxed) {
            return;
        }
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("jepsen-{}", self.seed));
        drop(fs::create_dir_all(&folder));
        drop(fs::write(folder.join("history"), self.history.to_text()));
        for host in self.lan.hosts() {
            keep_logs(&host.folder.join("output"), &folder.join(&host.name));
        }
        eprintln!("  history and logs are kept in {}", folder.display());
    }
}

/// Copies what nodes wrote; commands wrote much and say little.
fn keep_logs(from: &Path, to: &Path) {
    drop(fs::create_dir_all(to));
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let is_of_a_node = fs::read_to_string(entry.path().with_extension("out"))
            .is_ok_and(|output| output.starts_with("ready "));
        if is_of_a_node {
            drop(fs::copy(entry.path(), to.join(entry.file_name())));
        }
    }
}
