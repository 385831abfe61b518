//! What has to be done to a workspace: a comparison of two lists. Pure.
//!
//! Invariant: a file is left alone only if it has the size and time of its source, has not been
//! touched since it was written from there, and its source could not have changed without a new time.

use crate::limits::{SYNC_ENTRIES_MAX, SYNC_PATHS_BYTES_MAX};
use crate::remote::workspace::index::Index;
use crate::remote::workspace::root::{Found, FoundKind, MODE_MASK};
use crate::types::TreePath;
use crate::wire::sync::{Difference, DifferenceKind, Surplus, TreeEntry, TreeItem};
use std::collections::BTreeMap;

/// The tree as it comes in: sorted, no path twice, nothing below a file or link.
#[derive(Debug, Default)]
pub struct Tree {
    /// Sorted.
    pub entries: Vec<TreeEntry>,
    bytes: usize,
    /// The folders that the last entry is in, outermost first.
    within: Vec<TreePath>,
}

impl Tree {
    /// Takes the next entries.
    ///
    /// # Errors
    /// What is wrong with them: nothing that is refused here is ever looked at again.
    pub fn extend(&mut self, entries: Vec<TreeEntry>) -> Result<(), &'static str> {
        for entry in entries {
            if self.entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err("the tree is not sorted");
            }
            let parent = entry.path.parent();
            while self.within.last().is_some_and(|folder| !entry.path.is_within(folder)) {
                self.within.pop();
            }
            if parent.as_ref() != self.within.last() {
                return Err("a path in the tree is in no folder of it");
            }
            self.bytes += entry.path.as_bytes().len();
            match &entry.item {
                TreeItem::Symlink { target } if !entry.path.link_stays_inside(target) => {
                    return Err("a symbolic link in the tree leaves it");
                }
                TreeItem::Symlink { target } => self.bytes += target.len(),
                TreeItem::Folder { .. } => self.within.push(entry.path.clone()),
                TreeItem::File { .. } => {}
            }
            if self.entries.len() >= SYNC_ENTRIES_MAX || self.bytes > SYNC_PATHS_BYTES_MAX {
                return Err("the tree is too large");
            }
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// What is different.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Of the tree.
    pub differences: Vec<Difference>,
    /// Beyond the tree.
    pub surplus: Vec<Surplus>,
}

/// Compares what is to be with what is there. `says` is what each symbolic link there says.
#[must_use]
pub fn plan(
    tree: &[TreeEntry],
    there: &BTreeMap<TreePath, Found>,
    says: &BTreeMap<TreePath, Vec<u8>>,
    index: &Index,
    checksum: bool,
) -> Plan {
    let mut plan = Plan::default();
    for (at, entry) in (0..).zip(tree) {
        let found = there.get(&entry.path);
        let Some(kind) = difference(entry, found, says, index, checksum) else { continue };
        let holds = match (&entry.item, found) {
            (TreeItem::File { size, .. }, Some(found))
                if found.kind == FoundKind::File && found.stamp.size == *size =>
            {
                index.valid(&entry.path, &found.stamp).map(|known| known.content)
            }
            _ => None,
        };
        plan.differences.push(Difference { at, kind, holds });
    }
    let mut wanted = tree.iter().map(|entry| &entry.path).peekable();
    for (path, found) in there {
        while wanted.next_if(|wanted| *wanted < path).is_some() {}
        if wanted.peek() != Some(&path) {
            let folder = matches!(found.kind, FoundKind::Folder { .. });
            plan.surplus.push(Surplus { path: path.clone(), folder });
        }
    }
    plan
}

fn difference(
    entry: &TreeEntry,
    found: Option<&Found>,
    says: &BTreeMap<TreePath, Vec<u8>>,
    index: &Index,
    checksum: bool,
) -> Option<DifferenceKind> {
    let Some(found) = found else { return Some(DifferenceKind::New) };
    let same = match (&entry.item, found.kind) {
        (TreeItem::File { size, modified_ns, .. }, FoundKind::File) => {
            let known = index.valid(&entry.path, &found.stamp);
            !checksum
                && found.stamp.size == *size
                && found.stamp.modified_ns == *modified_ns
                && found.names == 1
                && known.is_some_and(|known| !known.young)
        }
        (TreeItem::Folder { .. }, FoundKind::Folder { .. }) => true,
        (TreeItem::Symlink { target }, FoundKind::Symlink) => says.get(&entry.path) == Some(target),
        _ => false,
    };
    let bits = match entry.item {
        TreeItem::File { mode, .. } | TreeItem::Folder { mode } => mode & MODE_MASK,
        TreeItem::Symlink { .. } => found.mode,
    };
    match same {
        false => Some(DifferenceKind::Content),
        true => (bits != found.mode).then_some(DifferenceKind::Attributes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::workspace::index::Known;
    use crate::types::ContentId;
    use crate::wire::sync::Stamp;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).expect("a path")
    }

    fn file(text: &str) -> TreeEntry {
        let item = TreeItem::File { size: 5, modified_ns: 7, mode: 0o644, young: false };
        TreeEntry { path: path(text), item }
    }

    fn folder(text: &str) -> TreeEntry {
        TreeEntry { path: path(text), item: TreeItem::Folder { mode: 0o755 } }
    }

    fn link(text: &str, target: &str) -> TreeEntry {
        TreeEntry { path: path(text), item: TreeItem::Symlink { target: target.into() } }
    }

    fn found(kind: FoundKind) -> Found {
        let stamp = Stamp { size: 5, modified_ns: 7, changed_ns: 8, inode: 9 };
        let mode = if kind == FoundKind::File { 0o644 } else { 0o755 };
        Found { kind, mode, stamp, names: 1 }
    }

    fn known(found: &Found, young: bool) -> Known {
        Known { stamp: found.stamp, content: ContentId([3; 32]), young, chunks: Vec::new() }
    }

    const FOLDER: FoundKind = FoundKind::Folder { opaque: false };

    #[test]
    fn a_tree_has_no_way_out() {
        let refused = |entries: Vec<TreeEntry>| Tree::default().extend(entries).is_err();
        assert!(!refused(vec![folder("a"), folder("a/b"), file("a/b/c"), file("a/d"), file("b")]));
        assert!(refused(vec![file("a/b")]), "in no folder");
        assert!(refused(vec![link("a", "b"), file("a/b")]), "through a link");
        assert!(refused(vec![file("a"), file("a/b")]), "below a file");
        assert!(refused(vec![folder("a"), file("a/b/c")]), "a folder is missing");
        assert!(refused(vec![folder("a"), folder("b"), file("a/c")]), "not sorted");
        assert!(refused(vec![file("a"), file("a")]), "twice");
        assert!(refused(vec![folder("a"), folder("ab"), link("ab/l", "../../x")]), "a link that leaves");
        let mut pages = Tree::default();
        pages.extend(vec![folder("a"), folder("a/b")]).expect("right");
        pages.extend(vec![file("a/b/c"), file("a/c"), file("b")]).expect("right, over pages");
    }

    #[test]
    fn only_what_is_sure_is_left_alone() {
        let there = found(FoundKind::File);
        let kind = |entry: TreeEntry, there: Found, known: Option<Known>, checksum: bool| {
            let mut index = Index::default();
            if let Some(known) = known {
                index.insert(entry.path.clone(), known);
            }
            let all = BTreeMap::from([(entry.path.clone(), there)]);
            let says = BTreeMap::from([(path("l"), b"x".to_vec())]);
            let plan = plan(&[entry], &all, &says, &index, checksum);
            assert!(plan.surplus.is_empty());
            plan.differences.first().map(|difference| (difference.kind, difference.holds.is_some()))
        };
        let sure = || Some(known(&there, false));
        let content = DifferenceKind::Content;
        assert_eq!(kind(file("f"), there, sure(), false), None);
        assert_eq!(kind(file("f"), there, sure(), true), Some((content, true)), "checksum");
        assert_eq!(kind(file("f"), there, Some(known(&there, true)), false), Some((content, true)), "young");
        assert_eq!(kind(file("f"), there, None, false), Some((content, false)), "not known");
        let touched = Found { stamp: Stamp { changed_ns: 99, ..there.stamp }, ..there };
        assert_eq!(kind(file("f"), touched, sure(), false), Some((content, false)), "touched there");
        let older = Found { stamp: Stamp { modified_ns: 1, ..there.stamp }, ..there };
        assert_eq!(kind(file("f"), older, Some(known(&older, false)), false), Some((content, true)));
        let larger = Found { stamp: Stamp { size: 6, ..there.stamp }, ..there };
        assert_eq!(kind(file("f"), larger, Some(known(&larger, false)), false), Some((content, false)));
        let two_names = Found { names: 2, ..there };
        assert_eq!(kind(file("f"), two_names, sure(), false), Some((content, true)), "a second name");
        let closed = Found { mode: 0o600, ..there };
        assert_eq!(kind(file("f"), closed, sure(), false), Some((DifferenceKind::Attributes, true)));
        assert_eq!(kind(file("f"), found(FoundKind::Symlink), sure(), false), Some((content, false)));
        assert_eq!(kind(folder("d"), found(FOLDER), None, false), None);
        assert_eq!(kind(folder("d"), found(FoundKind::Symlink), None, false), Some((content, false)));
        assert_eq!(kind(link("l", "x"), found(FoundKind::Symlink), None, false), None);
        assert_eq!(kind(link("l", "y"), found(FoundKind::Symlink), None, false), Some((content, false)));
    }

    #[test]
    fn what_is_not_in_the_tree_is_surplus() {
        let tree = [file("a"), folder("b"), file("b/x"), file("d")];
        let names = ["a", "a.old", "b", "b/w", "b/x", "b/y", "c", "c/q"];
        let there = names.map(|name| {
            let kind = if matches!(name, "b" | "c") { FOLDER } else { FoundKind::File };
            (path(name), found(kind))
        });
        let plan = plan(&tree, &BTreeMap::from(there), &BTreeMap::new(), &Index::default(), false);
        let surplus: Vec<String> = plan.surplus.iter().map(|surplus| surplus.path.to_string()).collect();
        assert_eq!(surplus, ["a.old", "b/w", "b/y", "c", "c/q"]);
        assert!(plan.surplus[3].folder);
        let new: Vec<u32> = plan
            .differences
            .iter()
            .filter(|difference| difference.kind == DifferenceKind::New)
            .map(|difference| difference.at)
            .collect();
        assert_eq!(new, [3]);
    }
}
