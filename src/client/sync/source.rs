//! What of this machine's disk is to be on the other one: walks folders by their ignore rules.
//!
//! Invariants: what is left out is either ignored by a rule or told with its reason; what could not
//! be looked at, or was left out, is never taken for something that is not there.

use super::SyncError;
use crate::clock;
use crate::limits::{SYNC_ENTRIES_MAX, SYNC_YOUNG_NS};
use crate::types::{TreePath, TreePathError};
use crate::wire::sync::{TreeEntry, TreeItem};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files with rules; what an earlier one says counts more.
const RULES: [&str; 2] = [".thorpignore", ".gitignore"];
/// Never comes unless everything does.
const REPOSITORY: &[u8] = b".git";

/// What is to be on the other machine.
#[derive(Clone, Debug)]
pub enum SyncSource {
    /// A folder.
    Folder {
        /// Which.
        folder: PathBuf,
        /// Files and folders in it that come although they are ignored.
        also: Vec<PathBuf>,
    },
    /// Only these files and folders, at their path relative to `base`; what is outside of it, under its own name.
    Files {
        /// See above.
        base: PathBuf,
        /// Which; relative ones are relative to `base`.
        paths: Vec<PathBuf>,
    },
}

/// Why something does not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// A symbolic link that leads out.
    #[error("it is a symbolic link that leads out of the folder, to `{0}`")]
    Link(String),
    /// Neither file, folder nor link.
    #[error("it is a device, pipe or socket")]
    Special,
    /// Its path.
    #[error("{0}")]
    Path(TreePathError),
    /// It cannot be looked at.
    #[error("{0}")]
    Unreadable(String),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Sorted.
    pub entries: Vec<TreeEntry>,
    /// Where each of them is here.
    pub places: Vec<PathBuf>,
    /// What does not come, and why.
    pub skipped: Vec<(PathBuf, Skipped)>,
    found: BTreeMap<TreePath, (TreeItem, PathBuf)>,
    rules: Option<Rules>,
    /// What is left alone there: it is here, and did not come.
    left_out: Vec<TreePath>,
    /// Only what is in these may be removed there; anything, if there are none.
    covers: Option<Vec<TreePath>>,
    now_ns: i64,
}

impl Scan {
    /// Walks `source`; `ignore` says whether its rules count.
    ///
    /// # Errors
    /// When the folder itself, a named path or a file with rules cannot be read, or two of the paths collide.
    pub fn of(source: &SyncSource, ignore: bool) -> Result<Scan, SyncError> {
        let now_ns = i64::try_from(clock::wall_us().saturating_mul(1_000)).unwrap_or(i64::MAX);
        let mut scan = Scan { now_ns, ..Scan::default() };
        match source {
            SyncSource::Folder { folder, also } => scan.folder(folder, also, ignore)?,
            SyncSource::Files { base, paths } => scan.files(base, paths)?,
        }
        for (path, (item, place)) in std::mem::take(&mut scan.found) {
            scan.entries.push(TreeEntry { path, item });
            scan.places.push(place);
        }
        Ok(scan)
    }

    /// Whether something that is there, and not here, may be removed there.
    pub fn may_remove(&mut self, path: &TreePath, folder: bool) -> bool {
        let covered = |covers: &Vec<TreePath>| covers.iter().any(|cover| path.is_within(cover));
        if !self.covers.as_ref().is_none_or(covered)
            || self.left_out.iter().any(|left_out| path.is_within(left_out))
        {
            return false;
        }
        match &mut self.rules {
            Some(rules) => rules.ignores(path, folder).is_ok_and(|ignored| !ignored),
            None => true,
        }
    }

    fn folder(&mut self, path: &Path, also: &[PathBuf], ignore: bool) -> Result<(), SyncError> {
        let top = canonical(path)?;
        if !fs::metadata(&top).map_err(|error| SyncError::file(path, error))?.is_dir() {
            return Err(SyncError::file(path, io::ErrorKind::NotADirectory.into()));
        }
        self.rules = ignore.then(|| Rules::new(top.clone()));
        self.walk(&top, None)?;
        let rules = self.rules.take();
        for path in also {
            let place = named(&top, path)?;
            let inside = place.strip_prefix(&top).ok().filter(|inside| !inside.as_os_str().is_empty());
            let Some(inside) = inside else { return Err(SyncError::Outside(path.clone())) };
            self.add_named(&top, inside, &place, path)?;
        }
        self.rules = rules;
        Ok(())
    }

    fn files(&mut self, base: &Path, paths: &[PathBuf]) -> Result<(), SyncError> {
        let top = canonical(base)?;
        let mut covers = Vec::new();
        for path in paths {
            let place = named(&top, path)?;
            let name = match place.strip_prefix(&top) {
                Ok(inside) if inside.as_os_str().is_empty() => {
                    self.walk(&top, None)?;
                    self.covers = None;
                    return Ok(());
                }
                Ok(inside) => inside.to_owned(),
                Err(_) => PathBuf::from(place.file_name().unwrap_or_default()),
            };
            covers.push(self.add_named(&top, &name, &place, path)?);
        }
        self.covers = Some(covers);
        Ok(())
    }

    /// Adds what somebody named, with the folders above it; a link is followed.
    fn add_named(
        &mut self,
        top: &Path,
        name: &Path,
        place: &Path,
        given: &Path,
    ) -> Result<TreePath, SyncError> {
        let name = name.as_os_str().as_bytes();
        let path = TreePath::parse(name).map_err(|why| SyncError::Path { path: given.to_owned(), why })?;
        let mut above = path.parent();
        while let Some(folder) = above {
            let here = top.join(folder.as_path());
            let mode = fs::metadata(&here).map_or(0o755, |data| mode_of(&data));
            self.put(folder.clone(), TreeItem::Folder { mode }, here, given)?;
            above = folder.parent();
        }
        let real = fs::canonicalize(place).map_err(|error| SyncError::file(given, error))?;
        let data = fs::metadata(&real).map_err(|error| SyncError::file(given, error))?;
        if data.is_dir() {
            self.put(path.clone(), TreeItem::Folder { mode: mode_of(&data) }, real.clone(), given)?;
            self.walk(&real, Some(&path))?;
        } else if data.is_file() {
            let item = self.file(&data);
            self.put(path.clone(), item, real, given)?;
        } else {
            self.skipped.push((given.to_owned(), Skipped::Special));
            self.left_out.push(path.clone());
        }
        Ok(path)
    }

    /// Two different things at one path are an error.
    fn put(&mut self, path: TreePath, item: TreeItem, place: PathBuf, given: &Path) -> Result<(), SyncError> {
        let folder = |item: &TreeItem| matches!(item, TreeItem::Folder { .. });
        if let Some((there, other)) = self.found.get(&path) {
            let same = *other == place || (folder(there) && folder(&item));
            return if same { Ok(()) } else { Err(SyncError::Collision(other.clone(), given.to_owned())) };
        }
        self.insert(path, item, place)
    }

    fn insert(&mut self, path: TreePath, item: TreeItem, place: PathBuf) -> Result<(), SyncError> {
        if self.found.len() >= SYNC_ENTRIES_MAX {
            return Err(SyncError::TooMany);
        }
        self.found.insert(path, (item, place));
        Ok(())
    }

    /// Everything in a folder that no rule leaves out.
    fn walk(&mut self, top: &Path, path: Option<&TreePath>) -> Result<(), SyncError> {
        let mut folders = vec![(top.to_owned(), path.cloned())];
        while let Some((folder, path)) = folders.pop() {
            let entries = match fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
                Ok(entries) => entries,
                Err(error) if folder == top => return Err(SyncError::file(top, error)),
                Err(error) => {
                    self.skip(path, folder, Skipped::Unreadable(error.to_string()));
                    continue;
                }
            };
            for entry in entries {
                let place = entry.path();
                let inside = match TreePath::below(path.as_ref(), entry.file_name().as_bytes()) {
                    Ok(inside) => inside,
                    Err(error) => {
                        self.skip(path.clone(), place, Skipped::Path(error));
                        continue;
                    }
                };
                let data = match fs::symlink_metadata(&place) {
                    Ok(data) => data,
                    // Removed while we walked.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        self.skip(Some(inside), place, Skipped::Unreadable(error.to_string()));
                        continue;
                    }
                };
                if let Some(rules) = &mut self.rules
                    && rules.ignores(&inside, data.is_dir())?
                {
                    continue;
                }
                if data.is_dir() {
                    folders.push((place.clone(), Some(inside.clone())));
                }
                self.add(inside, place, &data)?;
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: Option<TreePath>, place: PathBuf, why: Skipped) {
        self.left_out.extend(path);
        self.skipped.push((place, why));
    }

    fn add(&mut self, path: TreePath, place: PathBuf, data: &Metadata) -> Result<(), SyncError> {
        let item = if data.is_dir() {
            TreeItem::Folder { mode: mode_of(data) }
        } else if data.is_symlink() {
            let target = match fs::read_link(&place) {
                Ok(target) => target.into_os_string().into_vec(),
                Err(error) => {
                    self.skip(Some(path), place, Skipped::Unreadable(error.to_string()));
                    return Ok(());
                }
            };
            if !path.link_stays_inside(&target) {
                let target = String::from_utf8_lossy(&target).into_owned();
                self.skip(Some(path), place, Skipped::Link(target));
                return Ok(());
            }
            TreeItem::Symlink { target }
        } else if data.is_file() {
            self.file(data)
        } else {
            self.skip(Some(path), place, Skipped::Special);
            return Ok(());
        };
        self.insert(path, item, place)
    }

    fn file(&self, data: &Metadata) -> TreeItem {
        let modified_ns = modified_ns(data);
        let young = self.now_ns.saturating_sub(modified_ns) < SYNC_YOUNG_NS;
        TreeItem::File { size: data.len(), modified_ns, mode: mode_of(data), young }
    }
}

/// When a file was changed, nanoseconds since 1970.
#[must_use]
pub fn modified_ns(data: &Metadata) -> i64 {
    data.mtime().saturating_mul(1_000_000_000).saturating_add(data.mtime_nsec())
}

fn mode_of(data: &Metadata) -> u16 {
    u16::try_from(data.mode() & 0o777).unwrap_or(0)
}

fn canonical(path: &Path) -> Result<PathBuf, SyncError> {
    fs::canonicalize(path).map_err(|error| SyncError::file(path, error))
}

/// Where a named path is: no link on the way, the last part as it was named.
fn named(top: &Path, path: &Path) -> Result<PathBuf, SyncError> {
    let place = top.join(path);
    match (place.parent(), place.file_name()) {
        (Some(parent), Some(name)) => {
            Ok(fs::canonicalize(parent).map_err(|error| SyncError::file(path, error))?.join(name))
        }
        _ => canonical(&place),
    }
}

/// The ignore rules of a folder, read as they are needed. As in git: what a deeper file says counts
/// more, and nothing in a folder that is ignored comes back.
#[derive(Debug)]
struct Rules {
    top: PathBuf,
    of: BTreeMap<PathBuf, Vec<Gitignore>>,
    /// What was found out about folders.
    folders: BTreeMap<TreePath, bool>,
}

impl Rules {
    fn new(top: PathBuf) -> Rules {
        Rules { top, of: BTreeMap::new(), folders: BTreeMap::new() }
    }

    fn ignores(&mut self, path: &TreePath, folder: bool) -> Result<bool, SyncError> {
        if folder && let Some(known) = self.folders.get(path) {
            return Ok(*known);
        }
        let parent = path.parent();
        let ignored = path.name() == REPOSITORY
            || match &parent {
                Some(parent) => self.ignores(parent, true)?,
                None => false,
            }
            || self.says(path, parent, folder)?;
        if folder {
            self.folders.insert(path.clone(), ignored);
        }
        Ok(ignored)
    }

    /// What the files with rules say, those next to the path first.
    fn says(
        &mut self,
        path: &TreePath,
        mut within: Option<TreePath>,
        folder: bool,
    ) -> Result<bool, SyncError> {
        let place = self.top.join(path.as_path());
        loop {
            let of = match &within {
                Some(within) => self.top.join(within.as_path()),
                None => self.top.clone(),
            };
            for rules in self.read(of)? {
                match rules.matched(&place, folder) {
                    Match::Ignore(_) => return Ok(true),
                    Match::Whitelist(_) => return Ok(false),
                    Match::None => {}
                }
            }
            let Some(next) = within else { return Ok(false) };
            within = next.parent();
        }
    }

    fn read(&mut self, folder: PathBuf) -> Result<&[Gitignore], SyncError> {
        if !self.of.contains_key(&folder) {
            let mut all = Vec::new();
            for name in RULES {
                let path = folder.join(name);
                let text = match fs::read(&path) {
                    Ok(text) => text,
                    Err(error) if absent(&error) => continue,
                    Err(error) => return Err(SyncError::file(&path, error)),
                };
                let mut builder = GitignoreBuilder::new(&folder);
                for line in String::from_utf8_lossy(&text).lines() {
                    // As git does, a line that is no pattern is passed over.
                    let _ = builder.add_line(None, line);
                }
                all.extend(builder.build());
            }
            self.of.insert(folder.clone(), all);
        }
        Ok(self.of.get(&folder).map_or(&[], Vec::as_slice))
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top() -> tempfile::TempDir {
        let top = tempfile::tempdir().expect("a folder");
        for name in
            ["project/src/a.rs", "project/target/debug/game", "project/assets/x.png", "other/x.png", "game"]
        {
            let path = top.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(path, name).expect("a file");
        }
        fs::write(top.path().join("project/.gitignore"), "target/\n").expect("a file");
        top
    }

    fn paths(scan: &Scan) -> Vec<String> {
        scan.entries.iter().map(|entry| entry.path.to_string()).collect()
    }

    #[test]
    fn an_ignored_program_comes_when_it_is_named() {
        let top = top();
        let folder = top.path().join("project");
        let also = vec![folder.join("target/debug/game")];
        let source = SyncSource::Folder { folder: folder.clone(), also };
        let scan = Scan::of(&source, true).expect("scanned");
        let expected = [".gitignore", "assets", "assets/x.png", "src", "src/a.rs", "target", "target/debug"];
        assert_eq!(paths(&scan)[..7], expected);
        assert_eq!(paths(&scan)[7..], ["target/debug/game"]);
        let outside = SyncSource::Folder { folder, also: vec![top.path().join("game")] };
        assert!(matches!(Scan::of(&outside, true), Err(SyncError::Outside(_))));
    }

    #[test]
    fn named_files_keep_their_path_or_take_their_name_and_never_each_others() {
        let top = top();
        let base = top.path().join("project");
        let files = |paths: &[&Path]| {
            let paths = paths.iter().map(|path| path.to_path_buf()).collect();
            Scan::of(&SyncSource::Files { base: base.clone(), paths }, true)
        };
        let game = top.path().join("game");
        let mut scan = files(&[Path::new("assets"), Path::new("target/debug/game"), &game]).expect("scanned");
        let expected = ["assets", "assets/x.png", "game", "target", "target/debug", "target/debug/game"];
        assert_eq!(paths(&scan), expected);
        let may = |scan: &mut Scan, path: &str| {
            scan.may_remove(&TreePath::parse(path.as_bytes()).expect("a path"), false)
        };
        assert!(may(&mut scan, "assets/old.png") && !may(&mut scan, "target/old") && !may(&mut scan, "old"));
        let twice = files(&[&game, &top.path().join("other/../game")]);
        assert_eq!(paths(&twice.expect("one file, named twice")), ["game"]);
        fs::create_dir(top.path().join("more")).expect("a folder");
        fs::write(top.path().join("more/game"), "another").expect("a file");
        let collide = files(&[&game, &top.path().join("more/game")]);
        assert!(matches!(collide, Err(SyncError::Collision(..))));
    }
}
