//! The clients: real commands, one after another each, until the power is cut.

use crate::ledger::{Content, Ledger};
use crate::node::{Seat, pause, read_json};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thorp::clock::Rng;

/// The name under which everything is stored.
pub const ROOT: &str = "load/";
/// Files of one folder that is put.
const FOLDER_FILES: u64 = 8;
/// A client with more files than this removes most of them: what is compared stays bounded.
const FILES_MAX: usize = 60;

/// What the clients share with whoever cuts the power.
#[derive(Default)]
pub struct Switch {
    /// Answers that come later than this were never heard.
    pub is_cut: AtomicBool,
    /// Nothing more will be answered.
    pub is_over: AtomicBool,
    /// Commands acknowledged so far.
    pub acknowledged: AtomicU64,
}

/// Operations that were acknowledged: files put, replaced, removed; and those with no answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// New files.
    pub put: u64,
    /// Files with new bytes.
    pub replaced: u64,
    /// Removed files.
    pub removed: u64,
    /// Commands whose outcome is open.
    pub open: u64,
}

/// One client: its names, what it did, its randomness.
pub struct Client {
    /// What it knows.
    pub ledger: Ledger,
    /// What it counted.
    pub counts: Counts,
    number: usize,
    next: u64,
    rng: Rng,
    folder: PathBuf,
    seat: Seat,
}

/// What a command is for.
enum Step {
    Put(Vec<(String, Content)>),
    Replace(String, Content),
    Remove(Vec<String>),
}

impl Client {
    /// A client that keeps its files in `folder`.
    pub fn new(number: usize, seed: u64, folder: &Path, seat: &Seat) -> Client {
        Client {
            ledger: Ledger::default(),
            counts: Counts::default(),
            number,
            next: 0,
            rng: Rng::seeded(seed),
            folder: folder.join(format!("files-{number}")),
            seat: seat.clone(),
        }
    }

    /// Gives commands until the power is cut.
    pub fn work(&mut self, switch: &Switch) {
        while !switch.is_cut.load(Ordering::Acquire) && !switch.is_over.load(Ordering::Acquire) {
            let step = self.draw();
            let child = self.start(&step);
            let is_acknowledged = wait(child, switch).is_some_and(|answer| step.is_in(&answer));
            if is_acknowledged {
                self.note(&step);
                switch.acknowledged.fetch_add(1, Ordering::Relaxed);
            } else {
                self.counts.open += 1;
            }
        }
    }

    fn draw(&mut self) -> Step {
        let present = self.ledger.present();
        let count = present.len() as u64;
        if present.len() > FILES_MAX {
            return Step::Remove(present.into_iter().skip(FILES_MAX / 4).collect());
        }
        let chosen =
            usize::try_from(self.rng.below(count)).ok().and_then(|index| present.get(index).cloned());
        match (self.rng.below(20), chosen) {
            (0..2, Some(name)) => Step::Remove(vec![name]),
            (2..7, Some(name)) => Step::Replace(name, Content::draw(&mut self.rng)),
            (7..10, _) => {
                let folder = self.name();
                let draw = |index| (format!("{folder}/{index}"), Content::draw(&mut self.rng));
                Step::Put((0..FOLDER_FILES).map(draw).collect())
            }
            _ => Step::Put(vec![(self.name(), Content::draw(&mut self.rng))]),
        }
    }

    fn name(&mut self) -> String {
        self.next += 1;
        format!("{ROOT}{}-{}", self.number, self.next)
    }

    /// Writes the files, notes what is asked for, and starts the command.
    fn start(&mut self, step: &Step) -> Child {
        let folder = self.folder.clone();
        // Not there at first.
        drop(fs::remove_dir_all(&folder));
        let write = |name: &str, content: &Content| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, content.bytes()).expect("a file to put");
            path
        };
        let mut args: Vec<String> = Vec::new();
        match step {
            Step::Put(files) => {
                let paths: Vec<PathBuf> = files.iter().map(|(name, content)| write(name, content)).collect();
                let top = if files.len() == 1 { paths[0].as_path() } else { paths[0].parent().unwrap() };
                args.extend(
                    ["put", text(top), "--into", ROOT.trim_end_matches('/'), "-n", "1"].map(str::to_owned),
                );
                files.iter().for_each(|(name, content)| self.ledger.ask(name, Some(*content)));
            }
            Step::Replace(name, content) => {
                let path = write(name, content);
                args.extend(["put", text(&path), "--as", name, "-n", "1"].map(str::to_owned));
                self.ledger.ask(name, Some(*content));
            }
            Step::Remove(names) => {
                args.push("rm".to_owned());
                args.extend(names.iter().cloned());
                names.iter().for_each(|name| self.ledger.ask(name, None));
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.seat.client(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a command")
    }

    fn note(&mut self, step: &Step) {
        match step {
            Step::Put(files) => {
                self.counts.put += files.len() as u64;
                files.iter().for_each(|(name, _)| self.ledger.acknowledge(name));
            }
            Step::Replace(name, _) => {
                self.counts.replaced += 1;
                self.ledger.acknowledge(name);
            }
            Step::Remove(names) => {
                self.counts.removed += names.len() as u64;
                names.iter().for_each(|name| self.ledger.acknowledge(name));
            }
        }
    }
}

impl Step {
    /// Whether the answer says that all of it is done.
    fn is_in(&self, answer: &Value) -> bool {
        let stored = |name: &String| {
            let mut rows = answer["files"].as_array().into_iter().flatten();
            rows.any(|row| row["name"] == **name && row["replicas"] == 1)
        };
        match self {
            Step::Put(files) => files.iter().all(|(name, _)| stored(name)),
            Step::Replace(name, _) => stored(name),
            Step::Remove(names) => {
                let gone = answer["removed"].as_array().into_iter().flatten();
                let gone: Vec<&str> = gone.filter_map(Value::as_str).collect();
                names.iter().all(|name| gone.contains(&name.as_str()))
            }
        }
    }
}

/// What a command that ended well before it was too late said. It is killed once all is over.
fn wait(mut child: Child, switch: &Switch) -> Option<Value> {
    loop {
        // Looked at first: the answer was there before the power went, or proves nothing.
        let is_late = switch.is_cut.load(Ordering::Acquire);
        match child.try_wait().expect("the state of a child") {
            Some(_) => {
                let output = child.wait_with_output().ok()?;
                return if output.status.success() && !is_late { read_json(&output).ok() } else { None };
            }
            None if switch.is_over.load(Ordering::Acquire) => {
                drop(child.kill());
                drop(child.wait());
                return None;
            }
            None => pause(1),
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
