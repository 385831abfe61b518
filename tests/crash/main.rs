//! Power cuts: the real binary on a real file system that loses power while it acknowledges.
//!
//! A node on a loop-mounted ext4, xfs or btrfs takes puts, overwrites and removals from several
//! clients at once. After a random time the power is cut ([`disk`] says how), the node is killed, the
//! file system is mounted again, a node started on it, and everything compared with what was
//! acknowledged: each acknowledged file is listed with its bytes, each removal holds, what was not
//! acknowledged is there whole or not at all. Many cuts hit one image, so that recovery from a
//! recovery is tested too.
//!
//! Needs root, loop devices, the `mkfs` of each file system, and `cc`; what is missing is said
//! loudly and skipped, unless `THORP_REQUIRE_LAN=1` (here too: no skips).
//!
//! Environment: `THORP_CUTS=<cuts in all>`; `THORP_CUTS_SEED=<number>`; `THORP_BINARY=<path>` for
//! another build; `THORP_CUTS_RECIPE=<words>` for the table. `tests/prove cuts` shows that left-out
//! syncs are caught.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod cycles;
mod disk;
mod ledger;
mod load;
mod node;
mod room;

use cycles::Tally;
use disk::Kind;
use std::process::ExitCode;
use thorp::clock::{self, Rng};

/// Cuts in all, unless `THORP_CUTS` says otherwise: enough to see that the harness works.
const CUTS_DEFAULT: u64 = 6;

const TESTS: [(&str, Kind); 3] = [
    ("power_cuts_on_ext4_lose_nothing", Kind::Ext4),
    ("power_cuts_on_xfs_lose_nothing", Kind::Xfs),
    ("power_cuts_on_btrfs_lose_nothing", Kind::Btrfs),
];

fn main() -> ExitCode {
    let (chosen, is_list) = selection();
    if is_list {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        return summary(&[], 0, 0);
    }
    let start = clock::now();
    if !room::is_inside() {
        // Does not come back when it succeeds: this process becomes the one inside.
        let why = room::enter();
        println!("SKIPPED: crash: {why}");
        return summary(&[], chosen.len(), clock::now().since(start));
    }
    println!("\nrunning {} tests", chosen.len());
    let (ready, missing): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|(_, kind)| kind.has_tools());
    for (name, kind) in &missing {
        println!("SKIPPED: crash: {name}: no mkfs.{kind}");
    }
    let seed = number("THORP_CUTS_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ clock::wall().0);
    let share = number("THORP_CUTS").unwrap_or(CUTS_DEFAULT).div_ceil(ready.len().max(1) as u64);
    println!("THORP_CUTS_SEED={seed}, {share} cuts on each file system");
    let mut rng = Rng::seeded(seed);
    let room = room::Room::new();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let cut = |&(_, kind): &(&str, Kind)| {
            let (seed, path) = (rng.next_u64(), room.path());
            scope.spawn(move || cycles::run(path, kind, share, seed))
        };
        let running: Vec<_> = ready.iter().map(cut).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Tally::broken())).collect()
    });
    cycles::print_table(&tallies);
    for ((name, _), tally) in ready.iter().zip(&tallies) {
        println!("test {name} ... {}", if tally.is_clean() { "ok" } else { "FAILED" });
    }
    summary(&tallies, missing.len(), clock::now().since(start))
}

/// The tests that the command line names, and whether they are only to be listed.
fn selection() -> (Vec<(&'static str, Kind)>, bool) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    // None of these tests is marked ignored.
    let takes = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str()));
    let asks = |option: &str| args.iter().any(|arg| arg == option);
    let chosen = TESTS.into_iter().filter(|(name, _)| takes(name) && !asks("--ignored")).collect();
    (chosen, asks("--list"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn summary(tallies: &[Tally], skipped: usize, ms: u64) -> ExitCode {
    let bad = tallies.iter().filter(|tally| !tally.is_clean()).count();
    let is_failure = bad > 0 || (skipped > 0 && room::is_required());
    let word = if is_failure { "FAILED" } else { "ok" };
    println!(
        "\ntest result: {word}. {} passed; {bad} failed; {skipped} ignored; 0 measured; 0 filtered out; \
         finished in {:.2}s\n",
        tallies.len() - bad,
        ms as f64 / 1_000.0
    );
    if is_failure { ExitCode::from(101) } else { ExitCode::SUCCESS }
}
