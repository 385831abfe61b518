//! Many seeds, spread over threads; the smallest options that still fail.

use crate::marks::{MARKS, Marks};
use crate::options::Options;
use crate::world::{BEGIN, Failure, Outcome, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Runs one seed: the same seed and options give the same outcome.
pub fn run(seed: u64, options: &Options) -> Outcome {
    run_with(seed, options, false)
}

/// As [`run`], telling what happens on standard error.
pub fn run_traced(seed: u64, options: &Options) -> Outcome {
    run_with(seed, options, true)
}

fn run_with(seed: u64, options: &Options, trace: bool) -> Outcome {
    let whole = || {
        let mut world = World::new(seed, options, trace);
        world.run_until(BEGIN + options.fault_ms);
        if world.outcome.failure.is_none() {
            world.converge();
        }
        world.outcome.simulated_ms = world.now - BEGIN;
        world.outcome
    };
    match catch_unwind(AssertUnwindSafe(whole)) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = format!("a panic: {}", text.unwrap_or_default());
            Outcome { failure: Some(Failure { promise: "P9", what, at_ms: 0 }), ..Outcome::default() }
        }
    }
}

/// A variable of this simulator.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(format!("THORP_SIM_{name}")).ok()?.parse().ok()
}

/// What came of many seeds.
#[derive(Default)]
pub struct Report {
    pub seeds: u64,
    pub wall_ms: u64,
    pub failures: Vec<(u64, Failure)>,
    marks: Marks,
    simulated_ms: u64,
    converged_ms: Vec<u64>,
    steps: u64,
    faults: u64,
    puts: u64,
    changes: u64,
    bare: u64,
}

impl Report {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.marks.add_seed(&outcome.marks);
        self.simulated_ms += outcome.simulated_ms;
        self.converged_ms.push(outcome.converged_ms);
        self.steps += outcome.steps;
        self.faults += outcome.faults;
        self.puts += outcome.puts_acknowledged;
        self.changes += outcome.changes_acknowledged;
        self.bare += outcome.bare;
        if let Some(failure) = &outcome.failure {
            self.failures.push((seed, failure.clone()));
        }
    }

    /// Marks that no seed reached.
    pub fn missed(&self) -> Vec<String> {
        MARKS.iter().filter(|mark| self.marks.count(**mark) == 0).map(|mark| format!("{mark:?}")).collect()
    }

    pub fn print(&self) {
        let seconds = self.wall_ms as f64 / 1_000.0;
        let mut converged = self.converged_ms.clone();
        converged.sort_unstable();
        let at = |percent: usize| converged.get(converged.len() * percent / 100).copied().unwrap_or(0);
        eprintln!(
            "seeds {}, seconds {seconds:.1}, seeds/s {:.1}, simulated hours {:.1}, steps {}, acknowledged puts {}, \
             other changes {}, faults injected {}, names without bytes {}, failures {}",
            self.seeds,
            self.seeds as f64 / seconds.max(0.001),
            self.simulated_ms as f64 / 3_600_000.0,
            self.steps,
            self.puts,
            self.changes,
            self.faults,
            self.bare,
            self.failures.len()
        );
        eprintln!(
            "at rest after the last fault: half within {} ms, 99 % within {} ms, all within {} ms",
            at(50),
            at(99),
            converged.last().copied().unwrap_or(0)
        );
        let reached: Vec<String> =
            MARKS.iter().map(|mark| format!("{mark:?} {}", self.marks.count(*mark))).collect();
        eprintln!("seeds that reached each mark: {}", reached.join(", "));
        for (seed, failure) in self.failures.iter().take(20) {
            eprintln!("seed {seed}: {} at {} ms: {}", failure.promise, failure.at_ms, failure.what);
        }
    }
}

/// Runs seeds from `first` on, with the options that `change` makes of the drawn ones. One in a
/// hundred is run twice: it must come out the same.
pub fn search(first: u64, seeds: u64, change: impl Fn(Options) -> Options + Sync) -> Report {
    let begin = thorp::clock::now();
    let next = AtomicU64::new(first);
    let report = Mutex::new(Report::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let options = change(Options::draw(seed));
                    let mut outcome = run(seed, &options);
                    if seed.is_multiple_of(100) && run(seed, &options).hash != outcome.hash {
                        let what = "a second run came out differently".into();
                        outcome.failure = Some(Failure { promise: "replay", what, at_ms: 0 });
                    }
                    report.lock().unwrap_or_else(PoisonError::into_inner).add(seed, &outcome);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failures.sort_by_key(|(seed, _)| *seed);
    report.wall_ms = thorp::clock::now().since(begin);
    report
}

/// Tells how to replay a failure, and the smallest options found that still break the promise.
pub fn explain(seed: u64, failure: &Failure) {
    let mut options = Options::draw(seed);
    eprintln!("\nseed {seed} broke {}: {}\n{options}", failure.promise, failure.what);
    let mut runs = 0;
    'smaller: while runs < 400 {
        for smaller in options.smaller() {
            runs += 1;
            let found = run(seed, &smaller).failure;
            if found.is_some_and(|found| found.promise == failure.promise) {
                options = smaller;
                continue 'smaller;
            }
        }
        break;
    }
    eprintln!("smallest after {runs} runs: {options}");
    eprintln!(
        "replay: {} cargo test --release --test simulation every_promise -- --nocapture",
        options.as_variables(seed)
    );
}
