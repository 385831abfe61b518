//! The data folder: what lies where, how it is made, and who may use it.
//!
//! | path | what |
//! |---|---|
//! | `format` | one line, [`FORMAT`]; written first |
//! | `lock` | held exclusively while the store is open |
//! | `catalog.redb` | the database |
//! | `contents/ab/cdef…` | a content under its id |
//! | `incoming/` | contents in the making and broken-off ones |
//! | `reserve` | room for the catalog on a disk that others filled |
//! | `rebuilding` | only while a damaged catalog is being replaced |
//! | `quarantine/` | damaged contents and catalogs, for a person to look at |
//! | `aside/` | contents that were a copy too many, kept a while, no copies |
//! | `disk` | [`DiskId`]; written last, so it says that the folder was in use |
//!
//! Invariant: a folder that was in use is never taken for a new one. Where its database, contents
//! or id are missing (a disk that is not mounted) it is refused, not started empty.

use super::disk::{Disk, is_no_file};
use super::error::{StoreError, at};
use crate::limits::{QUARANTINE_HELD_KEEP_MS, QUARANTINE_KEEP_MS};
use crate::types::{ContentId, DiskId};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the `format` file says.
pub(super) const FORMAT: &str = "thorp data folder, format 1\n";
const FORMAT_STEM: &str = "thorp data folder, format ";

/// What may lie in a folder that is not a data folder yet: a mount point's own folder, the node's
/// key, what an interrupted first start left, hooks that were put there before.
const NEIGHBOURS: [&str; 6] = ["lost+found", "node.key", "lock", "format.new", "addresses.json", "messages"];

/// The paths of a data folder, and its lock.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    disk: Disk,
    /// Which folders of `contents/` are known to be durable; at most 256.
    synced: Mutex<Vec<u8>>,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, checks that it is ours, and locks it.
    pub(super) fn lock(disk: &Disk, root: &Path) -> Result<Folder, StoreError> {
        let unwritable = |source| StoreError::NotWritable { folder: root.into(), source };
        let new = !root.exists();
        disk.make_folders(root).map_err(unwritable)?;
        if new && let Some(parent) = root.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            disk.sync_folder(parent).map_err(at(parent))?;
        }
        check_format(disk, root)?;
        let path = root.join("lock");
        let (lock, locked) = disk.lock(&path).map_err(|source| {
            let folder = if is_no_file(&source) { path.clone() } else { root.into() };
            StoreError::NotWritable { folder, source }
        })?;
        if !locked {
            return Err(StoreError::Locked { folder: root.into() });
        }
        // Another process may have made the folder between our look and our lock.
        if !check_format(disk, root)? {
            disk.write_whole(&root.join("format"), FORMAT.as_bytes()).map_err(unwritable)?;
        }
        Ok(Folder { root: root.into(), disk: disk.clone(), synced: Mutex::default(), _lock: lock })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn catalog(&self) -> PathBuf {
        self.root.join("catalog.redb")
    }

    pub(super) fn contents(&self) -> PathBuf {
        self.root.join("contents")
    }

    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Lies in the folder while it is being rebuilt.
    pub(super) fn rebuild_mark(&self) -> PathBuf {
        self.root.join("rebuilding")
    }

    pub(super) fn asides(&self) -> PathBuf {
        self.root.join("aside")
    }

    /// Where a content lies that is kept aside.
    pub(super) fn aside(&self, content: &ContentId) -> PathBuf {
        self.asides().join(content.to_string())
    }

    pub(super) fn quarantined(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(super) fn content(&self, content: &ContentId) -> PathBuf {
        let name = content.to_string();
        let (folder, rest) = name.split_at(2);
        self.contents().join(folder).join(rest)
    }

    /// The disk's id; `None` if the folder was never in use.
    pub(super) fn disk(&self) -> Result<Option<DiskId>, StoreError> {
        let path = self.root.join("disk");
        match self.disk.read_start(&path, 256) {
            Ok(bytes) => {
                match std::str::from_utf8(&bytes).ok().and_then(|text| DiskId::parse(text.trim_end())) {
                    Some(disk) => Ok(Some(disk)),
                    None => Err(StoreError::DiskId { path }),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_no_file(&error) => Err(StoreError::DiskId { path }),
            Err(error) => Err(StoreError::disk(&path, error)),
        }
    }

    /// Draws the disk's id: from now on the folder is in use.
    pub(super) fn draw_disk(&self) -> Result<DiskId, StoreError> {
        let path = self.root.join("disk");
        let disk = DiskId(crate::clock::entropy().map_err(at(&path))?);
        self.disk.write_whole(&path, format!("{disk}\n").as_bytes()).map_err(at(&path))?;
        Ok(disk)
    }

    /// Makes the folders of a new data folder.
    pub(super) fn make(&self) -> Result<(), StoreError> {
        for path in [self.contents(), self.incoming(), self.quarantined()] {
            self.disk.make_folder(&path).map_err(at(&path))?;
        }
        self.make_asides()?;
        self.disk.sync_folder(&self.root).map_err(at(&self.root))
    }

    /// Makes the folder for contents that are no copies any more, which older folders lack.
    pub(super) fn make_asides(&self) -> Result<(), StoreError> {
        let asides = self.asides();
        self.disk.make_folder(&asides).map_err(at(&asides))
    }

    /// Moves a complete and synced file to its place under `content`, durably.
    pub(super) fn place(&self, file: &Path, content: &ContentId) -> Result<(), StoreError> {
        let target = self.content(content);
        let parent = target.parent().unwrap_or(&self.root);
        {
            let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
            if !synced.contains(&content.0[0]) {
                self.disk.make_folder(parent).map_err(at(parent))?;
                self.disk.sync_folder(&self.contents()).map_err(at(parent))?;
                synced.push(content.0[0]);
            }
        }
        self.disk.rename(file, &target).map_err(at(&target))?;
        self.disk.sync_folder(parent).map_err(at(parent))
    }

    /// Puts a damaged content aside, whatever lies in its place.
    pub(super) fn quarantine(&self, content: &ContentId) -> Result<(), StoreError> {
        let path = self.content(content);
        let folder = self.quarantined();
        let target = folder.join(content.to_string());
        self.disk.make_folder(&folder).map_err(at(&folder))?;
        match self.disk.rename(&path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(at(&path)),
        }
    }

    /// Moves a damaged catalog aside, durably; gives where it is now.
    pub(super) fn quarantine_catalog(&self) -> Result<PathBuf, StoreError> {
        let folder = self.quarantined();
        self.disk.make_folder(&folder).map_err(at(&folder))?;
        let target = folder.join(format!("catalog-{}.redb", crate::clock::wall().0));
        self.disk.rename(&self.catalog(), &target).map_err(at(&target))?;
        self.disk.sync_folder(&folder).map_err(at(&folder))?;
        self.disk.sync_folder(&self.root).map_err(at(&self.root))?;
        Ok(target)
    }

    /// Removes contents that have been in quarantine for [`QUARANTINE_KEEP_MS`], or for
    /// [`QUARANTINE_HELD_KEEP_MS`] if they are `held` again; catalogs and what is not ours stay.
    pub(super) fn expire_quarantine(&self, wall_ms: u64, held: impl Fn(&ContentId) -> bool) {
        let folder = self.quarantined();
        for name in self.disk.list(&folder).unwrap_or_default() {
            let Some(content) = name.to_str().and_then(ContentId::parse) else { continue };
            let keep_ms = if held(&content) { QUARANTINE_HELD_KEEP_MS } else { QUARANTINE_KEEP_MS };
            let path = folder.join(&name);
            // Moving a file here changed its inode, and its bytes not.
            let moved_ms =
                |file: fs::Metadata| u64::try_from(file.ctime()).unwrap_or(0).saturating_mul(1_000);
            let old = self
                .disk
                .look(&path)
                .is_ok_and(|file| file.is_file() && wall_ms.saturating_sub(moved_ms(file)) > keep_ms);
            if old && let Err(error) = self.disk.remove(&path) {
                tracing::debug!(%error, "a damaged copy stays in quarantine");
            }
        }
    }
}

/// Whether `root` is a data folder already; an error if it is something else.
fn check_format(disk: &Disk, root: &Path) -> Result<bool, StoreError> {
    let path = root.join("format");
    let damaged = || Err(StoreError::Format { path: path.clone() });
    match disk.read_start(&path, 256) {
        Ok(bytes) if bytes == FORMAT.as_bytes() => Ok(true),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let number = text.strip_prefix(FORMAT_STEM).map(str::trim_end);
            if number.is_some_and(|number| number != "1" && number.parse::<u32>().is_ok()) {
                let found = text.trim_end().chars().take(80).collect::<String>().into();
                Err(StoreError::Newer { folder: root.into(), found })
            } else if was_in_use(disk, root) || FORMAT.as_bytes().starts_with(&bytes) {
                damaged()
            } else {
                Err(StoreError::Foreign { folder: root.into() })
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if was_in_use(disk, root) {
                return damaged();
            }
            for name in disk.list(root).map_err(at(root))? {
                // What commands keep, or left when they were stopped, where no node ran yet.
                let kept = ["derived-", ".key-", ".addresses"];
                let is_kept =
                    name.to_str().is_some_and(|name| kept.iter().any(|kept| name.starts_with(kept)));
                if !is_kept && !NEIGHBOURS.iter().any(|known| name == *known) {
                    return Err(StoreError::Foreign { folder: root.into() });
                }
            }
            Ok(false)
        }
        Err(error) if is_no_file(&error) => damaged(),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(StoreError::NotWritable { folder: root.into(), source: error })
        }
        Err(error) => Err(StoreError::disk(&path, error)),
    }
}

/// Whether a database, or the id that is written last, lies in a folder.
fn was_in_use(disk: &Disk, root: &Path) -> bool {
    ["catalog.redb", "disk"].iter().any(|name| disk.look(&root.join(name)).is_ok())
}
