//! The name of a workspace: a folder on another machine that is kept like one here, and in which
//! programs run.

use std::fmt;

/// 1 to 64 characters of `A-Z a-z 0-9 - _ .`, the first no dot: so it can be a folder's name everywhere, and
/// is never a way out of the folder that it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkspaceName(Box<str>);

impl WorkspaceName {
    /// Longest name in bytes.
    pub const BYTES_MAX: usize = 64;

    /// A name; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<WorkspaceName> {
        let valid = !text.is_empty()
            && text.len() <= WorkspaceName::BYTES_MAX
            && !text.starts_with('.')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        valid.then(|| WorkspaceName(text.into()))
    }

    /// That of a folder which was not given one: its own name as far as it may be in one, and 8 hexadecimal
    /// digits that tell folders of one name apart.
    #[must_use]
    pub fn derive(folder: &str, distinction: u32) -> WorkspaceName {
        let mut name: String = folder
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
            .skip_while(|c| *c == '.')
            .take(WorkspaceName::BYTES_MAX - 9)
            .collect();
        if name.is_empty() {
            name.push_str("root");
        }
        WorkspaceName(format!("{name}-{distinction:08x}").into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_way_out() {
        for wrong in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert_eq!(WorkspaceName::parse(wrong), None, "{wrong}");
        }
        for folder in ["game", "", "..", "/", "my game", "日本", &"x".repeat(300)] {
            let name = WorkspaceName::derive(folder, 7);
            assert_eq!(WorkspaceName::parse(name.as_str()), Some(name));
        }
        assert_eq!(WorkspaceName::derive("my game", 0xAB).as_str(), "my_game-000000ab");
    }
}
