//! The data folder: what lies where, how it is made, and who may use it.
//!
//! | path | what |
//! |---|---|
//! | `format` | one line, [`FORMAT`]; written first |
//! | `lock` | held exclusively while the store is open |
//! | `catalog.redb` | the database |
//! | `contents/ab/cdef…` | a content under its id |
//! | `incoming/` | contents in the making and broken-off ones |
//! | `quarantine/` | damaged contents, for a person to look at |
//! | `trash/` | contents that were a copy too many, kept a while, no copies |
//! | `disk` | [`DiskId`]; written last, so it says that the folder was in use |
//!
//! Invariant: a folder that was in use is never taken for a new one. Where its database, contents
//! or id are missing (a disk that is not mounted) it is refused, not started empty.

use super::error::{StoreError, at};
use crate::types::{ContentId, DiskId};
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the `format` file says.
pub(super) const FORMAT: &str = "thorp data folder, format 1\n";
const FORMAT_STEM: &str = "thorp data folder, format ";

/// What may lie in a folder that is not a data folder yet: a mount point's own folder, the node's
/// key, what an interrupted first start left.
const NEIGHBOURS: [&str; 5] = ["lost+found", "node.key", "lock", "format.new", "addresses.json"];

/// The paths of a data folder, and its lock.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Which folders of `contents/` are known to be durable; at most 256.
    synced: Mutex<Vec<u8>>,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, checks that it is ours, and locks it.
    pub(super) fn lock(root: &Path) -> Result<Folder, StoreError> {
        let unwritable = |source| StoreError::NotWritable { folder: root.into(), source };
        let new = !root.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(unwritable)?;
        if new && let Some(parent) = root.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_folder(parent)?;
        }
        check_format(root)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(root.join("lock"))
            .map_err(unwritable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked { folder: root.into() }),
            Err(error) => return Err(StoreError::disk(&root.join("lock"), error.into())),
        }
        // Another process may have made the folder between our look and our lock.
        if !check_format(root)? {
            write_whole(&root.join("format"), FORMAT.as_bytes()).map_err(|error| match error {
                StoreError::Disk { source, .. } => StoreError::NotWritable { folder: root.into(), source },
                other => other,
            })?;
        }
        Ok(Folder { root: root.into(), synced: Mutex::default(), _lock: lock })
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

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Where a content lies that is kept aside.
    pub(super) fn aside(&self, content: &ContentId) -> PathBuf {
        self.trash().join(content.to_string())
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
        match fs::read_to_string(&path) {
            Ok(text) => match DiskId::parse(text.trim_end()) {
                Some(disk) => Ok(Some(disk)),
                None => Err(StoreError::DiskId { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(StoreError::DiskId { path }),
            Err(error) => Err(StoreError::disk(&path, error)),
        }
    }

    /// Draws the disk's id: from now on the folder is in use.
    pub(super) fn draw_disk(&self) -> Result<DiskId, StoreError> {
        let path = self.root.join("disk");
        let disk = DiskId(crate::clock::entropy().map_err(at(&path))?);
        write_whole(&path, format!("{disk}\n").as_bytes())?;
        Ok(disk)
    }

    /// Makes the folders of a new data folder.
    pub(super) fn make(&self) -> Result<(), StoreError> {
        for path in [self.contents(), self.incoming(), self.quarantined()] {
            make_folder(&path)?;
        }
        self.make_trash()?;
        sync_folder(&self.root)
    }

    /// Makes the folder for contents that are no copies any more, which older folders lack.
    pub(super) fn make_trash(&self) -> Result<(), StoreError> {
        make_folder(&self.trash())
    }

    /// Moves a complete and synced file to its place under `content`, durably.
    pub(super) fn place(&self, file: &Path, content: &ContentId) -> Result<(), StoreError> {
        let target = self.content(content);
        let parent = target.parent().unwrap_or(&self.root);
        {
            let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
            if !synced.contains(&content.0[0]) {
                make_folder(parent)?;
                sync_folder(&self.contents())?;
                synced.push(content.0[0]);
            }
        }
        fs::rename(file, &target).map_err(at(&target))?;
        sync_folder(parent)
    }

    /// Puts a damaged content aside.
    pub(super) fn quarantine(&self, content: &ContentId) -> Result<(), StoreError> {
        let path = self.content(content);
        let target = self.quarantined().join(content.to_string());
        match fs::rename(&path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(at(&path)),
        }
    }
}

/// Whether `root` is a data folder already; an error if it is something else.
fn check_format(root: &Path) -> Result<bool, StoreError> {
    let path = root.join("format");
    match fs::read(&path) {
        Ok(bytes) if bytes == FORMAT.as_bytes() => Ok(true),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            if text.starts_with(FORMAT_STEM) {
                let found = text.trim_end().chars().take(80).collect::<String>().into();
                Err(StoreError::Newer { folder: root.into(), found })
            } else {
                Err(StoreError::Foreign { folder: root.into() })
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for entry in fs::read_dir(root).map_err(at(root))? {
                let name = entry.map_err(at(root))?.file_name();
                // What commands keep in a folder that no node has used yet.
                let kept_key = name.to_str().is_some_and(|name| name.starts_with("derived-"));
                if !kept_key && !NEIGHBOURS.iter().any(|known| name == *known) {
                    return Err(StoreError::Foreign { folder: root.into() });
                }
            }
            Ok(false)
        }
        Err(source) => Err(StoreError::NotWritable { folder: root.into(), source }),
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(at(path)),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = File::open(path).map_err(at(path))?;
    folder.sync_all().map_err(at(path))
}

/// A new file of ours alone.
pub(super) fn create_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(at(path))
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(at(path)),
    }
}

/// Writes a small file so that it appears whole and durable, or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let draft = path.with_extension("new");
    remove_file(&draft)?;
    let mut file = create_file(&draft)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&draft))?;
    fs::rename(&draft, path).map_err(at(path))?;
    sync_folder(path.parent().unwrap_or(path))
}
