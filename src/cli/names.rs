//! Names as they are typed: of one file, or of everything under a folder. Pure.

use crate::types::FileName;
use crate::wire::message::Selector;
use std::fmt;

/// A name that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This one.
    File(FileName),
    /// `NAME/`: everything under it.
    Under(FileName),
}

impl NamePattern {
    /// The name, without the `/` at its end.
    #[must_use]
    pub fn name(&self) -> &FileName {
        match self {
            NamePattern::File(name) | NamePattern::Under(name) => name,
        }
    }

    /// How the proxy is asked for it.
    #[must_use]
    pub fn selector(&self) -> Selector {
        match self {
            NamePattern::File(name) => Selector::Name(name.clone()),
            NamePattern::Under(name) => Selector::Under(name.as_str().into()),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamePattern::File(name) => write!(f, "{name}"),
            NamePattern::Under(name) => write!(f, "{name}/"),
        }
    }
}

/// The name of a file.
///
/// # Errors
/// The rule that it breaks.
pub fn parse_name(text: &str) -> Result<FileName, String> {
    FileName::parse(text).map_err(|error| error.to_string())
}

/// The name of a folder, with or without a `/` at its end.
///
/// # Errors
/// The rule that it breaks.
pub fn parse_folder(text: &str) -> Result<FileName, String> {
    parse_name(text.strip_suffix('/').unwrap_or(text))
}

/// A name, or with a `/` at its end everything under it.
///
/// # Errors
/// The rule that it breaks.
pub fn parse_pattern(text: &str) -> Result<NamePattern, String> {
    match text.strip_suffix('/') {
        Some("") => Err("`/` is no name; `thorp ls` shows the names that there are".to_owned()),
        Some(folder) => parse_name(folder).map(NamePattern::Under),
        None => parse_name(text).map(NamePattern::File),
    }
}

/// `name` under the folder `into`, if there is one.
///
/// # Errors
/// When the two together are too long.
pub fn join(into: Option<&FileName>, name: &str) -> Result<FileName, String> {
    match into {
        Some(folder) => parse_name(&format!("{folder}/{name}")),
        None => parse_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_is_everything_under_it() {
        let folder = FileName::parse("a/b").expect("valid");
        assert_eq!(parse_pattern("a/b/"), Ok(NamePattern::Under(folder.clone())));
        assert_eq!(parse_pattern("a/b"), Ok(NamePattern::File(folder.clone())));
        assert_eq!(parse_folder("a/b/"), Ok(folder.clone()));
        assert_eq!(parse_folder("a/b"), Ok(folder));
        for text in ["/", "//", "a//", "/a", "../a", "", "a/../b/"] {
            assert!(parse_pattern(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn joined_names_are_names() {
        let folder = FileName::parse("a/b").expect("valid");
        assert_eq!(join(Some(&folder), "c/d").map(|name| name.to_string()), Ok("a/b/c/d".to_owned()));
        assert!(join(Some(&folder), &"x".repeat(255)).is_ok());
        assert!(join(Some(&folder), "").is_err());
        assert!(
            join(
                Some(&FileName::parse("y/".repeat(500).trim_end_matches('/')).expect("valid")),
                &"x".repeat(200)
            )
            .is_err()
        );
    }
}
