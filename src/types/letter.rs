//! Letters: what users call messages between machines. Pure.
//!
//! In the code a *letter* is a user's message and a *message* is what links carry between nodes, so that neither
//! word means two things. A letter lies in a *stream*: all letters of one sender, one run and one
//! priority, numbered from 1 without gaps; within it the order is kept.

use super::{FileName, InstanceId, NodeId};
use crate::limits::{LABEL_BYTES_MAX, LETTER_TYPE_BYTES_MAX};
use std::fmt;

/// Which letter: a random UUID (version 4), shown in the usual form with hyphens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub [u8; 16]);

impl LetterId {
    /// An id of these random bytes.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> LetterId {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        LetterId(bytes)
    }

    /// Reads 32 hexadecimal digits, with hyphens at their places or without any; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<LetterId> {
        let hyphens = [8, 13, 18, 23];
        let digits: String = match text.len() {
            32 => text.to_owned(),
            36 if hyphens.iter().all(|at| text.as_bytes()[*at] == b'-') => {
                text.char_indices().filter(|(at, _)| !hyphens.contains(at)).map(|(_, digit)| digit).collect()
            }
            _ => return None,
        };
        NodeId::parse(&digits).map(|id| LetterId(id.0))
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// How urgent a letter is: of letters that wait together, the more urgent ones go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// First.
    High,
    /// Unless something else is said.
    #[default]
    Normal,
    /// Last.
    Low,
}

impl Priority {
    /// All of them, most urgent first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| priority.as_str() == text)
    }
}

/// What kind of letter it is; the hook of that name is run for it. It becomes a file name, so:
/// `[A-Za-z0-9][A-Za-z0-9._-]*`, at most [`LETTER_TYPE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterType(Box<str>);

/// Types that begin so are thorp's own; nobody else may send them.
pub const OWN_TYPES: &str = "thorp.";

impl LetterType {
    /// A type; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<LetterType> {
        let allowed =
            |(at, c): (usize, char)| c.is_ascii_alphanumeric() || at > 0 && matches!(c, '.' | '_' | '-');
        let valid = !text.is_empty() && text.len() <= LETTER_TYPE_BYTES_MAX;
        (valid && text.char_indices().all(allowed)).then(|| LetterType(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of thorp's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0.starts_with(OWN_TYPES)
    }
}

impl fmt::Display for LetterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A letter on its way or delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Which.
    pub id: LetterId,
    /// What kind.
    pub kind: LetterType,
    /// Display name of the sender.
    pub source: Box<str>,
    /// Display name of the one addressee; `None` for all other machines.
    pub target: Option<Box<str>>,
    /// When it was sent, microseconds since 1970 by the sender's clock; within a sender no two
    /// letters have the same.
    pub created_us: u64,
    /// From when on nobody needs it any more, milliseconds since 1970.
    pub expires_ms: u64,
    /// JSON text of any value.
    pub payload: Box<str>,
    /// Names of files of the cluster that belong to it.
    pub attachments: Vec<FileName>,
    /// Who gets it, sorted; fixed when it is sent.
    pub addressees: Vec<NodeId>,
}

/// A letter as it is given to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLetter {
    /// Chosen by whoever gives it, so that giving it twice sends it once.
    pub id: LetterId,
    /// What kind.
    pub kind: LetterType,
    /// Display name or id of the one addressee; `None` for all other machines.
    pub target: Option<Box<str>>,
    /// How urgent.
    pub priority: Priority,
    /// How long it is of use, in milliseconds.
    pub lives_ms: u64,
    /// JSON text of any value.
    pub payload: Box<str>,
    /// Names of files of the cluster that belong to it.
    pub attachments: Vec<FileName>,
}

/// Whose letters, of which run, how urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// Who sends.
    pub sender: NodeId,
    /// The run of the node that numbers them: the sender's own, or of the node that a command gave
    /// them to.
    pub instance: InstanceId,
    /// How urgent.
    pub priority: Priority,
}

/// The place of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterPlace {
    /// In which stream.
    pub stream: StreamId,
    /// Its number there, from 1.
    pub number: u64,
}

/// Whether a text can be the display name of a node.
#[must_use]
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_file_names_and_nothing_else() {
        for good in ["deploy", "a", "build.done", "9-x_Y"] {
            assert_eq!(LetterType::parse(good).expect("a type").as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", ".", "..", "../../bin/x", "a/b", "-rf", "_a", "a b", "é", "a\0", "a\n", &long] {
            assert_eq!(LetterType::parse(bad), None, "{bad:?}");
        }
        assert!(LetterType::parse("thorp.node.lost").expect("a type").is_own());
    }

    #[test]
    fn ids_round_trip_and_refuse_the_rest() {
        let id = LetterId::from_random([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(LetterId::parse(&id.to_string()), Some(id));
        assert_eq!(LetterId::parse(&id.to_string().replace('-', "")), Some(id));
        for bad in
            ["", "x", "ffffffff-ffff-4fff-bfff-fffffffffff", "ffffffffffff-4fff-bfff-ffffffffffff-", "é"]
        {
            assert_eq!(LetterId::parse(bad), None, "{bad:?}");
        }
        let wide = "é".repeat(18);
        assert_eq!(LetterId::parse(&wide), None);
    }
}
