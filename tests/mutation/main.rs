//! Planted bugs: each must be found by the simulator, or the simulator is worth nothing.
//!
//! `table` lists edits of the pure core that break a promise. A plain `cargo test` checks that each
//! still fits the code, so that the table cannot rot. This runs them, and prints a table of what
//! was found, by which promise, and how many seeds it took; what no seed finds is left to the core's
//! own tests (a page of an exchange that is not the last one, a message of an old term: rare in clusters
//! as small as the simulator's), and must fall there:
//!
//! ```text
//! THORP_MUTANTS=all cargo test --release --test mutation -- --nocapture
//! ```
//!
//! `THORP_MUTANTS=NAME` runs those whose names contain it (or one of several, with commas). The pure core is copied into a crate of its own, with
//! `tests/simulation`, so that a bug costs seconds to build; the product has no switches for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::print_stdout, missing_docs)]

mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::{MUTANTS, Mutant};

/// Seeds tried, fewest first: most bugs show at once.
const SEEDS: [u64; 3] = [300, 3_000, 20_000];
/// What the pure core consists of.
const CORE: [&str; 9] = [
    "limits.rs",
    "clock.rs",
    "types",
    "wire",
    "discovery/membership.rs",
    "roles/election.rs",
    "messages/mailbox",
    "replication",
    "engine",
];
const LIB: &str = "pub mod clock;\npub mod engine;\npub mod limits;\npub mod messages { pub mod mailbox; }\npub mod replication;\npub mod types;\npub mod wire;\n\
                   pub mod discovery { pub mod membership; }\npub mod roles { pub mod election; }\n";
/// Libraries that the pure core uses.
const LIBRARIES: [&str; 5] = ["bincode", "ring", "rustix", "sha2", "thiserror"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_planted_bug_fits_the_code() {
    let mut names = std::collections::BTreeSet::new();
    for mutant in MUTANTS {
        assert!(names.insert(mutant.name), "{} stands there twice", mutant.name);
        for (file, from, to) in mutant.edits {
            let text = fs::read_to_string(root().join("src").join(file)).expect(file);
            assert_eq!(text.matches(from).count(), 1, "{}: in {file} not exactly once: {from}", mutant.name);
            assert_ne!(from, to, "{}", mutant.name);
        }
    }
}

#[test]
fn every_planted_bug_is_found() {
    let Ok(wanted) = std::env::var("THORP_MUTANTS") else {
        eprintln!("not run: THORP_MUTANTS=all runs the planted bugs");
        return;
    };
    let bench = Bench::make();
    let sound = bench.run(&[], SEEDS[0]);
    assert!(sound.seeds == 0, "the code itself fails: {sound:?}");
    assert_eq!(bench.own_tests(&[]), None, "the code itself fails");
    let chosen = MUTANTS
        .iter()
        .filter(|mutant| wanted == "all" || wanted.split(',').any(|part| mutant.name.contains(part)));
    println!("| planted bug | seeds that found it | first | promise |\n|---|---|---|---|");
    let mut alive = Vec::new();
    for mutant in chosen {
        let found = SEEDS.iter().map(|seeds| (seeds, bench.run(mutant.edits, *seeds)));
        match found.into_iter().find(|(_, found)| found.seeds > 0) {
            Some((seeds, Found { seeds: count, first: Some((first, promise)) })) => {
                println!("| {}: {} | {count} of {seeds} | {first} | {promise} |", mutant.name, mutant.what);
            }
            Some(_) => panic!("{}: seeds failed and none is named", mutant.name),
            None => match bench.own_tests(mutant.edits) {
                Some(test) => println!("| {}: {} | none | | test `{test}` |", mutant.name, mutant.what),
                None => {
                    println!("| {}: {} | none | | |", mutant.name, mutant.what);
                    alive.push(mutant.name);
                }
            },
        }
    }
    assert!(alive.is_empty(), "not found: {alive:?}");
}

/// What came of some seeds: how many failed, the first of them, and the promise that it broke.
#[derive(Debug)]
struct Found {
    seeds: u64,
    first: Option<(u64, String)>,
}

/// The pure core and the simulator, as a crate of their own.
struct Bench {
    folder: PathBuf,
}

impl Bench {
    fn make() -> Bench {
        let folder = root().join("target/mutation");
        let bench = Bench { folder };
        let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
        let line = |library: &str| {
            let start = format!("{library} =");
            manifest.lines().find(|line| line.starts_with(&start)).map(str::to_owned)
        };
        let libraries: Vec<String> = LIBRARIES.into_iter().filter_map(line).collect();
        let text = format!(
            "[package]\nname = \"thorp\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{}\n\n\
             [dev-dependencies]\n{}\n\n[profile.release]\nopt-level = 2\nlto = false\ncodegen-units = 16\nincremental = true\n\n[workspace]\n",
            libraries.join("\n"),
            line("proptest").expect("proptest among the libraries")
        );
        fs::create_dir_all(bench.folder.join("src")).expect("a folder");
        write(&bench.folder.join("Cargo.toml"), &text);
        write(&bench.folder.join("src/lib.rs"), LIB);
        if !bench.folder.join("Cargo.lock").exists() {
            fs::copy(root().join("Cargo.lock"), bench.folder.join("Cargo.lock")).expect("copied");
        }
        for part in CORE {
            mirror(&root().join("src").join(part), &bench.folder.join("src").join(part));
        }
        mirror(&root().join("tests/simulation"), &bench.folder.join("tests/simulation"));
        bench
    }

    /// What the simulator says with these edits.
    fn run(&self, edits: &[(&str, &str, &str)], seeds: u64) -> Found {
        let told = self.test(edits, &["--test", "simulation", "every_promise", "--", "--nocapture"], seeds);
        assert!(told.contains("seeds/s"), "the simulator did not run:\n{told}");
        let failure = |line: &str| {
            let (seed, rest) = line.strip_prefix("seed ")?.split_once(": ")?;
            Some((seed.parse::<u64>().ok()?, rest.split_once(" at ")?.0.to_owned()))
        };
        let count = told.split("failures ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        Found { seeds: count.expect("a count of failures"), first: told.lines().find_map(failure) }
    }

    /// The first of the core's own tests that fails with these edits.
    fn own_tests(&self, edits: &[(&str, &str, &str)]) -> Option<String> {
        let told = self.test(edits, &["--lib"], 0);
        assert!(told.contains("test result:"), "the tests did not run:\n{told}");
        let failed = |line: &str| line.strip_prefix("---- ")?.strip_suffix(" stdout ----").map(str::to_owned);
        told.lines().find_map(failed)
    }

    /// What a test of the bench prints with these edits.
    fn test(&self, edits: &[(&str, &str, &str)], which: &[&str], seeds: u64) -> String {
        let mut before = BTreeMap::new();
        for (file, from, to) in edits {
            let path = self.folder.join("src").join(file);
            let text = fs::read_to_string(&path).expect(file);
            write(&path, &text.replacen(from, to, 1));
            before.entry(path).or_insert(text);
        }
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(&self.folder)
            .args(["test", "--release", "--offline", "--quiet"])
            .args(which)
            .env("THORP_SIM_SEEDS", seeds.to_string())
            .env("THORP_SIM_WITHOUT_EXPLAINING", "1")
            .env("RUST_BACKTRACE", "0")
            .env("RUSTFLAGS", "-Awarnings")
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .expect("cargo runs");
        for (path, text) in before {
            write(&path, &text);
        }
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// Copies what differs, so that only that is built anew.
fn mirror(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("readable") {
            let name = entry.expect("an entry").file_name();
            mirror(&from.join(&name), &to.join(&name));
        }
        return;
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).expect("a folder");
    }
    write(to, &fs::read_to_string(from).expect("text"));
}

fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).expect("written");
    }
}

impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
