//! What clients asked for, when, and what they were told.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thorp::clock::{self, Rng};

/// Bytes at the start of a content that say which operation put it.
const TAG_BYTES: usize = 16;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This many bytes, in this many copies. The bytes follow from the operation's number.
    Put {
        /// Size.
        bytes: u64,
        /// Copies.
        copies: u64,
    },
    /// Away with it.
    Remove,
    /// This many copies from now on.
    Count(u64),
    /// Its bytes.
    Get,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// Certainly without effect.
    Failed,
    /// It may have happened, may happen yet, or never.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The client's host.
    pub client: usize,
    /// The file.
    pub name: String,
    /// What was asked for.
    pub action: Action,
    /// When it was asked for, in milliseconds.
    pub start: u64,
    /// When it ended; one whose outcome is unknown may take effect later.
    pub end: u64,
    /// How it ended; unknown while it runs.
    pub outcome: Outcome,
    /// What the client was told or saw.
    pub note: String,
}

/// All operations, in the order in which they began; the place of one is its number.
#[derive(Debug, Default)]
pub struct History {
    operations: Mutex<Vec<Operation>>,
    /// Faults, with their times.
    faults: Mutex<Vec<(u64, String)>>,
    /// What was seen to be wrong while it ran.
    wrong: Mutex<Vec<String>>,
}

/// Whether an action is of some kind.
type Is<'a> = &'a dyn Fn(&Action) -> bool;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// Notes that an operation begins; gives its number.
    pub fn begin(&self, client: usize, name: &str, action: Action) -> usize {
        let start = clock::now().0;
        let mut operations = lock(&self.operations);
        let (name, outcome, note) = (name.to_owned(), Outcome::Unknown, String::new());
        operations.push(Operation { client, name, action, start, end: u64::MAX, outcome, note });
        operations.len() - 1
    }

    /// Notes how it ended.
    pub fn end(&self, number: usize, outcome: Outcome, note: String) {
        let mut operations = lock(&self.operations);
        let operation = &mut operations[number];
        (operation.end, operation.outcome, operation.note) = (clock::now().0, outcome, note);
    }

    /// Notes a fault.
    pub fn fault(&self, words: String) {
        lock(&self.faults).push((clock::now().0, words));
    }

    /// Notes something that can never be right.
    pub fn wrong(&self, words: String) {
        lock(&self.wrong).push(words);
    }

    /// What was noted as wrong.
    pub fn all_wrong(&self) -> Vec<String> {
        lock(&self.wrong).clone()
    }

    /// All operations so far.
    pub fn operations(&self) -> Vec<Operation> {
        lock(&self.operations).clone()
    }

    /// How many changes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let counts =
            |operation: &&Operation| operation.outcome == Outcome::Done && operation.action != Action::Get;
        lock(&self.operations).iter().filter(counts).count()
    }

    /// Which put made these bytes, if any did; a changed bit makes it none.
    pub fn origin(&self, bytes: &[u8]) -> Option<usize> {
        let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let number = usize::try_from(number).ok()?;
        let is_whole = match lock(&self.operations).get(number)?.action {
            Action::Put { bytes: size, .. } => u64::try_from(bytes.len()) == Ok(size),
            _ => false,
        };
        (is_whole && content(number, bytes.len()) == bytes).then_some(number)
    }

    /// Prints how many operations ended how, and how often something was broken.
    pub fn print_summary(&self) {
        let operations = lock(&self.operations);
        let count = |wanted: Is, outcome| {
            operations.iter().filter(|one| wanted(&one.action) && one.outcome == outcome).count()
        };
        let kinds: [(&str, Is); 4] = [
            ("put", &|action| matches!(action, Action::Put { .. })),
            ("rm", &|action| *action == Action::Remove),
            ("replicas", &|action| matches!(action, Action::Count(_))),
            ("get", &|action| *action == Action::Get),
        ];
        let words: Vec<String> = kinds
            .iter()
            .map(|(word, is)| {
                let [done, failed, unknown] =
                    [Outcome::Done, Outcome::Failed, Outcome::Unknown].map(|outcome| count(is, outcome));
                format!("{word} {done}/{failed}/{unknown}")
            })
            .collect();
        println!("  done/failed/unknown: {}; {} faults", words.join(", "), lock(&self.faults).len());
    }

    /// All of it, a line each, in the order of time.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<(u64, String)> = lock(&self.faults).clone();
        for (number, one) in lock(&self.operations).iter().enumerate() {
            let Operation { client, name, action, start, end, outcome, note } = one;
            let took = end.saturating_sub(*start);
            let took = if *end == u64::MAX { "…".to_owned() } else { took.to_string() };
            let note = note.replace('\n', " ");
            lines.push((
                *start,
                format!("#{number} h{client} {action:?} {name}: {outcome:?} after {took} ms {note}"),
            ));
        }
        lines.sort();
        let first = lines.first().map_or(0, |line| line.0);
        lines.iter().fold(String::new(), |mut text, (at, line)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:>8} {line}", at - first);
            text
        })
    }
}

/// The bytes of the put with this number: no two are alike.
pub fn content(number: usize, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes.max(TAG_BYTES)];
    Rng::seeded(number as u64 + 1).fill(&mut content);
    content[..8].copy_from_slice(&(number as u64).to_le_bytes());
    content
}
