//! What was acknowledged, and what that allows to be seen after a cut.
//!
//! Every name belongs to one client, which works on one thing at a time. So for a name there is one
//! certain state, and after a cut possibly some more that were asked for and not answered.

use std::collections::BTreeMap;
use thorp::clock::Rng;

/// A file's bytes, by the seed that makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    seed: u64,
    bytes: usize,
}

impl Content {
    /// Small ones, which lie in the database, ones that are a file, and some of several chunks.
    pub fn draw(rng: &mut Rng) -> Content {
        let (least, span) = match rng.below(20) {
            0..6 => (1, 30_000),
            6..18 => (33_000, 160_000),
            _ => (1 << 20, 2 << 20),
        };
        let bytes = usize::try_from(least + rng.below(span)).expect("a small number");
        Content { seed: rng.next_u64(), bytes }
    }

    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        Rng::seeded(self.seed).fill(&mut bytes);
        bytes
    }
}

/// One name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What was acknowledged last; `None`: that it is not there.
    certain: Option<Content>,
    /// What was asked for since, with no answer.
    possible: Vec<Option<Content>>,
    /// All that happened to it, for messages and to tell an older state from other bytes.
    past: Vec<(Event, Option<Content>)>,
}

/// What happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Asked,
    Acknowledged,
    Seen,
}

/// What one client did.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    names: BTreeMap<String, Known>,
}

/// What was found wrong.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Acknowledged and gone, without a copy, or an older state than acknowledged.
    pub lost: u64,
    /// Other bytes than any that were ever asked for: halves, damage.
    pub wrong: u64,
    /// Removed, acknowledged, and there again.
    pub revived: u64,
    /// In words, the first of them.
    pub words: Vec<String>,
    /// Names about which the ledger knows no more.
    pub names: Vec<String>,
}

impl Findings {
    /// Notes one in words.
    pub fn say(&mut self, words: String) {
        if self.words.len() < 8 {
            self.words.push(words);
        }
    }
}

/// A name after the restart: its state in `ls`, and its bytes if they could be had.
pub struct Seen {
    /// `ok`, `lost`, …
    pub state: String,
    /// What `get` gave.
    pub bytes: Option<Vec<u8>>,
}

impl Ledger {
    /// Notes what was asked for: its outcome is open from now on.
    pub fn ask(&mut self, name: &str, content: Option<Content>) {
        let known = self.names.entry(name.to_owned()).or_default();
        known.possible.push(content);
        known.past.push((Event::Asked, content));
    }

    /// Notes that what was asked for last was acknowledged.
    pub fn acknowledge(&mut self, name: &str) {
        let known = self.names.entry(name.to_owned()).or_default();
        if let Some(content) = known.possible.pop() {
            known.certain = content;
            known.possible.clear();
            known.past.push((Event::Acknowledged, content));
        }
    }

    /// Names that are certainly there.
    pub fn present(&self) -> Vec<String> {
        let is_certain = |known: &Known| known.certain.is_some() && known.possible.is_empty();
        self.names.iter().filter(|(_, known)| is_certain(known)).map(|(name, _)| name.clone()).collect()
    }

    /// Compares with what is seen, taking from `seen` what it knows. What is there as it may be is
    /// certain from now on; what is wrong is told once, and then forgotten.
    pub fn compare(&mut self, seen: &mut BTreeMap<String, Seen>, findings: &mut Findings) {
        self.names.retain(|name, known| {
            let Some(fault) = known.settle(seen.remove(name)) else { return true };
            let (count, words) = match fault {
                Fault::Lost(why) => (&mut findings.lost, format!("lost: {why}")),
                Fault::Wrong(bytes) => {
                    (&mut findings.wrong, format!("wrong: {bytes} bytes of something else"))
                }
                Fault::Revived => (&mut findings.revived, "revived".to_owned()),
            };
            *count += 1;
            findings.names.push(name.clone());
            findings.say(format!("{name}: {words}; it was {:?}", known.past));
            false
        });
    }
}

/// What can be wrong with a name.
enum Fault {
    /// Acknowledged and not there, or only as it was before.
    Lost(String),
    /// Other bytes than were ever asked for.
    Wrong(usize),
    /// Removed, and there again.
    Revived,
}

impl Known {
    /// Takes what is seen as what is certain, or says what is wrong with it.
    fn settle(&mut self, seen: Option<Seen>) -> Option<Fault> {
        let mut allowed = std::mem::take(&mut self.possible);
        allowed.push(self.certain);
        let Some(seen) = seen else {
            self.certain = None;
            self.past.push((Event::Seen, None));
            return (!allowed.contains(&None)).then(|| Fault::Lost("it is not listed".to_owned()));
        };
        let Some(bytes) = seen.bytes else {
            return Some(Fault::Lost(format!("it is listed as {} and cannot be had", seen.state)));
        };
        let same = |content: &&Content| content.bytes == bytes.len() && content.bytes() == bytes;
        let found = allowed.iter().flatten().find(same).copied();
        if let Some(content) = found {
            self.certain = found;
            self.past.push((Event::Seen, Some(content)));
            return None;
        }
        let older = self.past.iter().filter_map(|(_, content)| content.as_ref()).find(same);
        match older {
            _ if allowed.iter().all(Option::is_none) => Some(Fault::Revived),
            Some(older) => Some(Fault::Lost(format!("it is as it was before: {older:?}"))),
            None => Some(Fault::Wrong(bytes.len())),
        }
    }
}
