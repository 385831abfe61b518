//! File names: the key of the catalog. A name is never a path of ours; contents lie under their
//! hash, and a name touches a file system only where `get` writes its output.

use crate::limits::{NAME_BYTES_MAX, NAME_PART_BYTES_MAX};
use std::fmt;

/// A valid name: UTF-8, `/` between parts, at most 1,024 bytes, parts at most 255; no empty, `.`
/// or `..` part, no control character, no backslash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Box<str>);

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Over [`NAME_BYTES_MAX`].
    #[error("the name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A part over [`NAME_PART_BYTES_MAX`].
    #[error("a part of the name is longer than {NAME_PART_BYTES_MAX} bytes")]
    PartTooLong,
    /// Starts with `/`.
    #[error("the name starts with `/`; names are relative")]
    Absolute,
    /// `a//b`, or a `/` at the end.
    #[error("the name has an empty part (`//`, or `/` at its end)")]
    EmptyPart,
    /// `.` or `..`.
    #[error("the name has a part `.` or `..`")]
    DotPart,
    /// A control character.
    #[error("the name has a control character")]
    Control,
    /// A backslash, which is a separator on some systems.
    #[error("the name has a backslash, which some systems take for a separator")]
    Backslash,
}

impl FileName {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &str) -> Result<FileName, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if text.starts_with('/') {
            return Err(NameError::Absolute);
        }
        if text.contains('\\') {
            return Err(NameError::Backslash);
        }
        if text.chars().any(is_refused) {
            return Err(NameError::Control);
        }
        for part in text.split('/') {
            match part {
                "" => return Err(NameError::EmptyPart),
                "." | ".." => return Err(NameError::DotPart),
                _ if part.len() > NAME_PART_BYTES_MAX => return Err(NameError::PartTooLong),
                _ => {}
            }
        }
        Ok(FileName(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folders the name lies in, outermost first: `a`, `a/b` for `a/b/c`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// Whether the name is `folder` or lies under it. An empty `folder` holds everything.
    #[must_use]
    pub fn is_under(&self, folder: &str) -> bool {
        let folder = folder.strip_suffix('/').unwrap_or(folder);
        folder.is_empty()
            || self.0.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Line and paragraph separators end a line as a control character does.
fn is_refused(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_and_spaces_are_names() {
        for name in ["a", "a.tar.gz", "with space/ünï", "日本語/文書.txt", "🦀", "-rf", "~root", "..."]
        {
            assert_eq!(FileName::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn paths_and_control_characters_are_refused() {
        for (name, why) in [
            ("", NameError::Empty),
            ("/etc/passwd", NameError::Absolute),
            ("../x", NameError::DotPart),
            ("a/./b", NameError::DotPart),
            ("a//b", NameError::EmptyPart),
            ("a/", NameError::EmptyPart),
            ("a\\b", NameError::Backslash),
            ("a\nb", NameError::Control),
            ("a\u{1b}[2J", NameError::Control),
            ("a\u{2028}b", NameError::Control),
        ] {
            assert_eq!(FileName::parse(name), Err(why), "{name:?}");
        }
        assert_eq!(FileName::parse(&"a".repeat(256)), Err(NameError::PartTooLong));
        assert_eq!(FileName::parse(&"a/".repeat(600)), Err(NameError::TooLong));
        assert!(FileName::parse(&"é".repeat(127)).is_ok());
    }

    #[test]
    fn under_a_folder_is_by_whole_parts() {
        let name = FileName::parse("a/b/c").expect("valid");
        assert!(name.is_under("a") && name.is_under("a/b/") && name.is_under("") && name.is_under("a/b/c"));
        assert!(!name.is_under("a/bb") && !name.is_under("b"));
        assert_eq!(name.folders().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(name.base(), "c");
    }
}
