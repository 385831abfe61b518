//! Seeded clusters: the real pure core in virtual time, with everything around it going wrong.
//!
//! One seed decides the cluster, the commands and the faults, and replays exactly. Promises are
//! checked after every step that changes a disk; then faults end, and all must come to rest as
//! promised. `docs/TESTED.md` says what is simulated and what is not.
//!
//! | variable | what it does |
//! |---|---|
//! | `THORP_SIM_SEEDS` | how many seeds |
//! | `THORP_SIM_FIRST` | the first of them |
//! | `THORP_SIM_SEED` | this one alone, with a trace on standard error |
//! | `THORP_SIM_NODES`, `_OPERATIONS`, `_CLIENTS`, `_NAMES`, `_WITHOUT`, `_PLAIN` | smaller options for that one |
//!
//! | file | what it is |
//! |---|---|
//! | `options` | what a seed stands for |
//! | `world` | hosts, virtual time, the queue of events |
//! | `shell` | what a node does with its engine's effects |
//! | `disk` | what is durable and what a crash leaves |
//! | `network` | datagrams and links |
//! | `clients` | commands |
//! | `faults` | what breaks, and the rule that keeps it fair |
//! | `ledger`, `promises` | the truth, and the promises checked against it |
//! | `quiet` | the end: everything at rest |
//! | `marks` | coverage |
//! | `search` | many seeds, and the smallest options that still fail |
//! | `scale` | a thousand nodes, a million files |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::print_stdout, missing_docs)]

mod clients;
mod disk;
mod faults;
mod ledger;
mod letters;
mod marks;
mod network;
mod options;
mod promises;
mod quiet;
mod scale;
mod search;
mod shell;
mod world;

use options::{Canary, Options};
use search::{Report, number, run, search};

/// Seeds in a plain `cargo test`.
const SEEDS: u64 = 300;
/// From so many seeds on every mark must have been reached.
const SEEDS_FOR_ALL_MARKS: u64 = 5_000;

#[test]
fn every_promise_holds_in_every_seed() {
    if let Some(seed) = number("SEED") {
        let options = Options::draw(seed).with_variables(|name| std::env::var(name).ok());
        eprintln!("{options}");
        let outcome = search::run_traced(seed, &options);
        eprintln!("{outcome:?}");
        assert_eq!(outcome.failure, None);
        return;
    }
    let (first, seeds) = (number("FIRST").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
    let report = search(first, seeds, |options| options);
    report.print();
    if let Some((seed, failure)) = report.failures.first() {
        search::explain(*seed, failure);
        panic!("{} of {seeds} seeds broke a promise", report.failures.len());
    }
    if seeds >= SEEDS_FOR_ALL_MARKS {
        assert_eq!(report.missed(), Vec::<String>::new(), "marks that no seed reached");
    }
}

/// Proves that the simulator sees what it should: a planted wrong must be found within some seeds.
#[test]
fn canaries_are_caught() {
    for canary in [Canary::SaysDurableTooEarly, Canary::PromisesForNothing] {
        let report: Report = search(0, 60, |mut options| {
            options.canary = Some(canary);
            options
        });
        eprintln!("{canary:?}: caught in {} of 60 seeds", report.failures.len());
        assert!(!report.failures.is_empty(), "{canary:?} lives");
    }
}

#[test]
fn one_seed_replays_exactly() {
    for seed in 0..5 {
        let options = Options::draw(seed);
        assert_eq!(run(seed, &options).hash, run(seed, &options).hash, "seed {seed}");
    }
}
