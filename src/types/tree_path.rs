//! The path of something in a folder that is kept equal on another machine: bytes, because names on
//! a disk are bytes.
//!
//! Invariant: a path that exists stays below the folder as long as no part of it is a symbolic
//! link: it is relative, and no part is empty, `.` or `..`, or has a NUL or a `/` in it.

use crate::limits::{NAME_PART_BYTES_MAX, TREE_DEPTH_MAX, TREE_PATH_BYTES_MAX};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Relative, of 1 to [`TREE_DEPTH_MAX`] parts. Sorted part by part: a folder comes right before all
/// that is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct TreePath(Box<[u8]>);

/// Why bytes are no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreePathError {
    /// More bytes than [`TREE_PATH_BYTES_MAX`].
    #[error("it is longer than {TREE_PATH_BYTES_MAX} bytes")]
    TooLong,
    /// More parts than [`TREE_DEPTH_MAX`].
    #[error("it is deeper than {TREE_DEPTH_MAX} folders")]
    TooDeep,
    /// A part that no path may have.
    #[error("a part of it is empty, `.`, `..`, has a NUL, or is longer than {NAME_PART_BYTES_MAX} bytes")]
    Part,
}

impl TreePath {
    /// A path.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<TreePath, TreePathError> {
        if bytes.len() > TREE_PATH_BYTES_MAX {
            return Err(TreePathError::TooLong);
        }
        let mut depth = 0;
        for part in bytes.split(|byte| *byte == b'/') {
            let wrong = matches!(part, b"" | b"." | b"..") || part.contains(&0);
            if wrong || part.len() > NAME_PART_BYTES_MAX {
                return Err(TreePathError::Part);
            }
            depth += 1;
        }
        if depth > TREE_DEPTH_MAX {
            return Err(TreePathError::TooDeep);
        }
        Ok(TreePath(bytes.into()))
    }

    /// What is called `name` in this folder.
    ///
    /// # Errors
    /// When that is no path.
    pub fn join(&self, name: &[u8]) -> Result<TreePath, TreePathError> {
        TreePath::parse(&[&self.0, b"/".as_slice(), name].concat())
    }

    /// What is called `name` in `folder`; at the top if there is none.
    ///
    /// # Errors
    /// When that is no path.
    pub fn below(folder: Option<&TreePath>, name: &[u8]) -> Result<TreePath, TreePathError> {
        match folder {
            Some(folder) => folder.join(name),
            None => TreePath::parse(name),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of the file system.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Its parts: at least one.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The folder that it is in, if that is not the top.
    #[must_use]
    pub fn parent(&self) -> Option<TreePath> {
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(TreePath(self.0[..end].into()))
    }

    /// Its last part.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// How many parts it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.parts().count()
    }

    /// Whether it is `folder` or in it.
    #[must_use]
    pub fn is_within(&self, folder: &TreePath) -> bool {
        match self.0.strip_prefix(&*folder.0) {
            Some(rest) => rest.first().is_none_or(|byte| *byte == b'/'),
            None => false,
        }
    }

    /// Whether a symbolic link here that says `target` stays in the folder, whatever other such
    /// links it goes through: it is relative, climbs at most to the folder, and only at its start.
    #[must_use]
    pub fn link_stays_inside(&self, target: &[u8]) -> bool {
        let mut climbed = 0;
        let mut descended = false;
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b".." if descended => return false,
                b".." => climbed += 1,
                b"" | b"." => {}
                _ => descended = true,
            }
        }
        let fits = !target.is_empty() && target.len() <= TREE_PATH_BYTES_MAX && !target.contains(&0);
        fits && target[0] != b'/' && climbed < self.depth()
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &TreePath) -> Ordering {
        self.parts().cmp(other.parts())
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &TreePath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).expect("a path")
    }

    #[test]
    fn what_could_lead_out_is_no_path() {
        let long = "x".repeat(256);
        let deep = vec!["d"; TREE_DEPTH_MAX + 1].join("/");
        for wrong in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/./b", "a\0b", &long, &deep]
        {
            assert!(TreePath::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        for right in ["a", "a/b", "...", "..a/b..", " ", "a\nb", "-", "~"] {
            assert!(TreePath::parse(right.as_bytes()).is_ok(), "{right:?}");
        }
        assert!(TreePath::parse(b"\xff\xfe/\x80").is_ok());
    }

    #[test]
    fn a_folder_comes_right_before_what_is_in_it() {
        let mut all = ["a.b", "a/z", "a", "a-b", "a/b/c", "a/b"].map(path);
        all.sort();
        let texts: Vec<String> = all.iter().map(TreePath::to_string).collect();
        assert_eq!(texts, ["a", "a/b", "a/b/c", "a/z", "a-b", "a.b"]);
    }

    #[test]
    fn links_stay_inside_or_are_known_not_to() {
        for (link, target) in
            [("l", "x"), ("l", "x/y"), ("a/l", "../x"), ("a/b/l", "../../x/y"), ("l", "."), ("a/l", "..")]
        {
            assert!(path(link).link_stays_inside(target.as_bytes()), "{link} -> {target}");
        }
        for (link, target) in [
            ("l", ".."),
            ("l", "../x"),
            ("l", "/etc/passwd"),
            ("a/l", "../../x"),
            ("l", "x/../../y"),
            ("l", "x/.."),
            ("a/l", "./../../x"),
            ("l", ""),
            ("l", "a\0b"),
        ] {
            assert!(!path(link).link_stays_inside(target.as_bytes()), "{link} -> {target}");
        }
    }

    proptest! {
        #[test]
        fn a_path_never_climbs(bytes in prop::collection::vec(prop::sample::select(b"ab./\0".to_vec()), 0..12)) {
            if let Ok(path) = TreePath::parse(&bytes) {
                let climbs = path.as_path().components()
                    .any(|part| !matches!(part, std::path::Component::Normal(_)));
                prop_assert!(!climbs, "{path}");
                prop_assert_eq!(path.as_path().components().count(), path.depth());
                let parent = path.parent();
                prop_assert_eq!(TreePath::below(parent.as_ref(), path.name()), Ok(path.clone()));
                prop_assert!(parent.is_none_or(|parent| parent < path && path.is_within(&parent)));
            }
        }

        /// Walked step by step, a link that is said to stay inside is never above the folder.
        #[test]
        fn no_link_that_stays_inside_climbs_out(
            depth in 1_usize..4,
            target in prop::collection::vec(prop::sample::select(vec!["..", ".", "", "x"]), 0..6),
        ) {
            let link = path(&vec!["d"; depth].join("/"));
            let text = target.join("/");
            if link.link_stays_inside(text.as_bytes()) {
                prop_assert!(!text.starts_with('/'));
                let mut level = i64::try_from(depth).unwrap_or(0) - 1;
                for part in &target {
                    level += match *part { ".." => -1, "x" => 1, _ => 0 };
                    prop_assert!(level >= 0, "{}", text);
                }
            }
        }
    }
}
