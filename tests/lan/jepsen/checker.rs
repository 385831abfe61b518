//! Compares what is there at the end with the history. Pure.
//!
//! What can be said for certain without knowing in which order things happened inside:
//!
//! - **lost**: an acknowledged put is not there, and nothing that ended after it began (nor anything
//!   whose outcome is unknown) can have replaced or removed it and is itself there, or a removal.
//! - **resurrected**: a name that was put once, acknowledged, then removed, acknowledged, is there.
//! - **wrong**: bytes that nobody put under that name, or that a client was told were not put.
//! - **below**: fewer (or more) copies than wanted, or a wanted number that nobody asked for.
//!
//! Writes on two sides of a split are both there: neither saw the other, so neither excuses the
//! other's absence unless it is there itself or came later.

use super::history::{Action, Operation, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// One version that is listed at the end.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As listed, maybe under a conflict name.
    pub listed: String,
    /// Which put it is by its bytes; `None` if they are nobody's or could not be had.
    pub origin: Option<usize>,
    /// Copies wanted.
    pub wanted: u64,
    /// Copies there.
    pub copies: u64,
    /// As `ls` calls it.
    pub state: String,
}

/// What is wrong.
#[derive(Debug, Default)]
pub struct Findings {
    counts: [usize; 4],
    words: Vec<String>,
}

/// A kind of finding: its place in the counts.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Acknowledged and gone.
    Lost = 0,
    /// Removed and back.
    Resurrected = 1,
    /// Not what was put.
    Wrong = 2,
    /// Not in as many copies as asked.
    Below = 3,
}

impl Findings {
    /// Notes one.
    pub fn add(&mut self, kind: Kind, words: String) {
        self.counts[kind as usize] += 1;
        self.words.push(words);
    }

    /// Lost, resurrected, wrong, below.
    pub fn counts(&self) -> [usize; 4] {
        self.counts
    }

    /// Each in words.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// The name that a listed name stands for: conflict names have a `~`, ours have none.
pub fn base(listed: &str) -> &str {
    listed.split('~').next().unwrap_or(listed)
}

/// Compares.
pub fn check(operations: &[Operation], seen: &[Seen], findings: &mut Findings) {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, operation) in operations.iter().enumerate() {
        by_name.entry(&operation.name).or_default().push(number);
    }
    let mut there: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    for one in seen {
        there.entry(base(&one.listed)).or_default().push(one);
    }
    for (name, rows) in &there {
        let numbers = by_name.get(name).map_or(&[][..], Vec::as_slice);
        rows.iter().for_each(|row| check_row(operations, numbers, row, findings));
    }
    for (name, numbers) in &by_name {
        let rows = there.get(name).map_or(&[][..], Vec::as_slice);
        let visible: BTreeSet<usize> = rows.iter().filter_map(|row| row.origin).collect();
        check_lost(operations, numbers, &visible, findings);
        check_resurrected(operations, numbers, &visible, findings);
    }
}

/// Bytes, number of copies.
fn check_row(operations: &[Operation], numbers: &[usize], row: &Seen, findings: &mut Findings) {
    let put = row.origin.filter(|origin| numbers.contains(origin)).map(|origin| &operations[origin]);
    match put {
        Some(put) if put.outcome != Outcome::Failed => {}
        Some(put) => findings.add(
            Kind::Wrong,
            format!("wrong: {} is there, and its client was told that it is not: {put:?}", row.listed),
        ),
        None if row.state == "lost" => {
            findings.add(Kind::Lost, format!("lost: no copy of {row:?}"));
        }
        None => findings.add(Kind::Wrong, format!("wrong: nobody put the bytes of {row:?}")),
    }
    if row.state != "ok" || row.copies != row.wanted {
        findings.add(Kind::Below, format!("below: {row:?}"));
    }
    let asked = |number: &&usize| match operations[**number].action {
        Action::Put { copies, .. } | Action::Count(copies) => copies == row.wanted,
        Action::Remove | Action::Get => false,
    };
    if !numbers.iter().any(|number| asked(&number)) {
        findings.add(Kind::Below, format!("below: nobody asked for so many copies: {row:?}"));
    }
}

fn check_lost(
    operations: &[Operation],
    numbers: &[usize],
    visible: &BTreeSet<usize>,
    findings: &mut Findings,
) {
    // What can be the last word on other versions.
    let is_final = |number: usize| match operations[number].action {
        Action::Put { .. } => visible.contains(&number),
        Action::Remove => operations[number].outcome != Outcome::Failed,
        Action::Count(_) | Action::Get => false,
    };
    let ends = |number: usize| match operations[number].outcome {
        Outcome::Unknown => u64::MAX,
        Outcome::Done | Outcome::Failed => operations[number].end,
    };
    for &number in numbers {
        let put = &operations[number];
        let is_put = matches!(put.action, Action::Put { .. }) && put.outcome == Outcome::Done;
        if !is_put || visible.contains(&number) {
            continue;
        }
        let excuse =
            numbers.iter().find(|other| **other != number && is_final(**other) && ends(**other) > put.start);
        if excuse.is_none() {
            findings.add(Kind::Lost, format!("lost: #{number} {put:?}"));
        }
    }
}

fn check_resurrected(
    operations: &[Operation],
    numbers: &[usize],
    visible: &BTreeSet<usize>,
    findings: &mut Findings,
) {
    let puts: Vec<usize> = numbers
        .iter()
        .copied()
        .filter(|number| matches!(operations[*number].action, Action::Put { .. }))
        .collect();
    let [put] = puts[..] else { return };
    if operations[put].outcome != Outcome::Done || !visible.contains(&put) {
        return;
    }
    let is_removal = |number: &&usize| {
        let one = &operations[**number];
        one.action == Action::Remove && one.outcome == Outcome::Done && one.start > operations[put].end
    };
    if let Some(removal) = numbers.iter().find(|number| is_removal(number)) {
        let (removal, put) = (&operations[*removal], &operations[put]);
        findings.add(Kind::Resurrected, format!("resurrected: {put:?} after {removal:?}"));
    }
}

/// What it is, the history, what is there at the end, the counts to find.
type Case = (&'static str, Vec<Operation>, Vec<Seen>, [usize; 4]);

/// The checker can fail: histories with a planted fault of each kind, and one without.
pub fn finds_what_is_planted() -> crate::runner::Verdict {
    let step = |name: &str, action: Action, start: u64, end: u64, outcome: Outcome| Operation {
        client: 1,
        name: name.to_owned(),
        action,
        start,
        end,
        outcome,
        note: String::new(),
    };
    let put = || Action::Put { bytes: 100, copies: 2 };
    let (done, failed, unknown) = (Outcome::Done, Outcome::Failed, Outcome::Unknown);
    let row = |listed: &str, origin: usize, copies: u64| Seen {
        listed: listed.to_owned(),
        origin: Some(origin),
        wanted: 2,
        copies,
        state: "ok".to_owned(),
    };
    let first = step("a", put(), 0, 10, done);
    let later = step("a", put(), 20, 30, done);
    let beside = step("a", put(), 5, 12, done);
    let removal = step("a", Action::Remove, 20, 30, done);
    let early = step("a", Action::Remove, 0, 1, done);
    let cases: [Case; 13] = [
        ("all well", vec![first.clone()], vec![row("a", 0, 2)], [0; 4]),
        ("gone", vec![first.clone()], vec![], [1, 0, 0, 0]),
        ("replaced", vec![first.clone(), later.clone()], vec![row("a", 1, 2)], [0; 4]),
        ("an older state", vec![first.clone(), later.clone()], vec![row("a", 0, 2)], [1, 0, 0, 0]),
        ("two sides", vec![first.clone(), beside.clone()], vec![row("a", 1, 2), row("a~1-2", 0, 2)], [0; 4]),
        ("neither of two sides", vec![first.clone(), beside], vec![], [2, 0, 0, 0]),
        ("removed", vec![first.clone(), removal.clone()], vec![], [0; 4]),
        ("back again", vec![first.clone(), removal.clone()], vec![row("a", 0, 2)], [0, 1, 0, 0]),
        ("removed before it was put", vec![step("a", put(), 5, 9, done), early], vec![], [1, 0, 0, 0]),
        ("maybe", vec![step("a", put(), 0, 9, unknown)], vec![], [0; 4]),
        ("said to be not there", vec![step("a", put(), 0, 9, failed)], vec![row("a", 0, 2)], [0, 0, 1, 0]),
        (
            "another's bytes",
            vec![first.clone(), step("b", put(), 0, 9, done)],
            vec![row("a", 1, 2), row("b", 1, 2)],
            [1, 0, 1, 0],
        ),
        ("a copy too few", vec![first], vec![row("a", 0, 1)], [0, 0, 0, 1]),
    ];
    for (what, operations, seen, wanted) in cases {
        let mut findings = Findings::default();
        check(&operations, &seen, &mut findings);
        assert_eq!(findings.counts(), wanted, "{what}: {:?}", findings.words());
    }
    crate::runner::Verdict::Passed
}
