//! Runs the tests one after another and prints what `cargo test` prints.
//!
//! One after another, because they measure times; each on a thread of its own, so that one that
//! hangs is reported and the next one runs.

use crate::{bench, enter, process};
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use thorp::clock;

/// A name and what it runs; a test fails by panicking.
#[derive(Clone, Copy)]
pub struct Test(pub &'static str, pub fn() -> Verdict);

/// How a test that did not fail ended.
pub enum Verdict {
    /// All held.
    Passed,
    /// It could not be run here, and why.
    Skipped(String),
}

/// Longest that one test may take, unless it asks for more: twice what the slowest should.
const TEST_LIMIT: Duration = Duration::from_secs(120);
/// Seconds that tests which run for as long as they are told asked for beyond the limits.
static MORE_SECONDS: AtomicU64 = AtomicU64::new(0);

/// Allows the test that calls this, and so the whole run, this much more time.
pub fn allow(more: Duration) {
    MORE_SECONDS.fetch_add(more.as_secs(), Ordering::Relaxed);
}
/// Longest that all may take, unless `THORP_LAN_DEADLINE` says otherwise.
const RUN_LIMIT: Duration = Duration::from_secs(1_200);

/// What the command line asks for: the part of libtest's options that a person uses.
#[derive(Default)]
struct Selection {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
    all: bool,
}

impl Selection {
    fn read() -> Selection {
        let mut selection = Selection::default();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => selection.list = true,
                "--exact" => selection.exact = true,
                "--ignored" => selection.ignored = true,
                "--include-ignored" => selection.all = true,
                "--skip" => selection.skips.extend(args.next()),
                // Options of libtest with a value that mean nothing here.
                "--test-threads" | "--format" | "--color" | "--logfile" | "--report-time"
                | "--shuffle-seed" | "-Z" => drop(args.next()),
                _ if arg.starts_with('-') => {}
                _ => selection.filters.push(arg),
            }
        }
        selection
    }

    fn takes(&self, name: &str) -> bool {
        let matches = |pattern: &String| if self.exact { name == pattern } else { name.contains(pattern) };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skips.iter().any(matches)
    }
}

/// Runs those of `tests` that the command line names; `measurements` only where it asks for what is
/// ignored.
pub fn run(tests: &[Test], measurements: &[Test]) -> ExitCode {
    let selection = Selection::read();
    let tests = if selection.ignored { &[] } else { tests };
    let measurements = if selection.ignored || selection.all { measurements } else { &[] };
    let tests: Vec<Test> = tests.iter().chain(measurements).copied().collect();
    let chosen: Vec<Test> = tests.iter().copied().filter(|test| selection.takes(test.0)).collect();
    if selection.list {
        chosen.iter().for_each(|test| println!("{}: test", test.0));
        return ExitCode::SUCCESS;
    }
    if !chosen.is_empty() && !enter::is_inside() {
        // Inside there is no way out to a package archive.
        chosen.iter().for_each(|test| bench::tools::prepare(test.0));
        // Does not come back when it succeeds: this process becomes the LAN's.
        let why = enter::enter();
        return without_a_lan(&why, tests.len());
    }
    guard_the_run();
    println!("\nrunning {} tests", chosen.len());
    let start = clock::now();
    let (mut failed, mut skipped) = (Vec::new(), 0);
    for test in &chosen {
        let (word, seconds) = run_one(*test);
        println!("test {} ... {word} ({seconds:.1} s)", test.0);
        match word {
            "ok" => {}
            "ignored" => skipped += 1,
            _ => failed.push(test.0),
        }
    }
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    let passed = chosen.len() - failed.len() - skipped;
    summary(passed, failed.len(), skipped, tests.len() - chosen.len(), clock::now().since(start));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Runs one test; gives its word and its seconds.
fn run_one(test: Test) -> (&'static str, f64) {
    let start = clock::now();
    let (say, hear) = mpsc::sync_channel(1);
    let body = thread::Builder::new().name(test.0.to_owned()).spawn(move || {
        let verdict = panic::catch_unwind(test.1);
        let _ = say.send(());
        verdict
    });
    let body = body.expect("a thread for the test");
    let before = MORE_SECONDS.load(Ordering::Relaxed);
    let limit = || TEST_LIMIT + Duration::from_secs(MORE_SECONDS.load(Ordering::Relaxed) - before);
    let mut heard = hear.recv_timeout(TEST_LIMIT);
    while heard == Err(RecvTimeoutError::Timeout) && clock::now().since(start) < millis(limit()) {
        heard = hear.recv_timeout(Duration::from_secs(1));
    }
    let word = match heard {
        Ok(_) | Err(RecvTimeoutError::Disconnected) => match body.join() {
            Ok(Ok(Verdict::Passed)) => "ok",
            Ok(Ok(Verdict::Skipped(why))) => {
                println!("SKIPPED: lan: {}: {why}", test.0);
                if enter::is_required() { "FAILED" } else { "ignored" }
            }
            Ok(Err(_)) | Err(_) => "FAILED",
        },
        Err(RecvTimeoutError::Timeout) => {
            println!("{} did not end within {} s", test.0, limit().as_secs());
            "FAILED"
        }
    };
    // Whatever a failed test left behind must not meet the next one.
    process::end_everything();
    (word, clock::now().since(start) as f64 / 1_000.0)
}

/// Ends the whole run once its time is over; the namespaces then go with it.
fn guard_the_run() {
    let limit = std::env::var("THORP_LAN_DEADLINE").ok().and_then(|text| text.parse().ok());
    let limit = limit.map_or(RUN_LIMIT, Duration::from_secs);
    thread::spawn(move || {
        let start = clock::now();
        let allowed = || limit + Duration::from_secs(MORE_SECONDS.load(Ordering::Relaxed));
        while clock::now().since(start) < millis(allowed()) {
            // A condition that never comes true: only the limit ends it.
            let _ = process::poll(Duration::from_secs(1), || Err::<(), _>(String::new()));
        }
        println!("the run did not end within {} s\n\ntest result: FAILED.", allowed().as_secs());
        std::process::exit(101);
    });
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn without_a_lan(why: &str, tests: usize) -> ExitCode {
    println!("\nSKIPPED: lan: {why}");
    if enter::is_required() {
        println!("THORP_REQUIRE_LAN=1 is set, so this is a failure");
        summary(0, 1, tests - 1, 0, 0);
        return ExitCode::from(101);
    }
    summary(0, 0, tests, 0, 0);
    ExitCode::SUCCESS
}

fn summary(passed: usize, failed: usize, ignored: usize, filtered: usize, ms: u64) {
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
         {filtered} filtered out; finished in {:.2}s\n",
        ms as f64 / 1_000.0
    );
}
