//! The workspaces of a node on its disk.
//!
//! | where | what |
//! |---|---|
//! | `<folder>/NAME/` | the workspace itself: programs run in it |
//! | `<folder>/.thorp/NAME/lock` | locked by the sync that is under way |
//! | `<folder>/.thorp/NAME/index` | which content each file is |
//! | `<folder>/.thorp/NAME/staging/` | contents on their way: a number while they come, then their id |
//! | `<folder>/.thorp/NAME/trash/` | what is being deleted |
//!
//! Invariant: one sync at a time has a workspace; all but the workspace itself is for us alone.

pub mod index;
mod owner;
pub mod root;
pub mod staging;

pub use owner::Owner;

use super::Consent;
use crate::clock;
use crate::limits::SYNC_LOCK_WAIT;
use crate::types::WorkspaceName;
use index::Index;
use root::{Root, open_folder};
use rustix::fs::FlockOperation;
use staging::Staging;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder with all that is not the workspaces themselves. No workspace is called like this.
const OWN: &str = ".thorp";
/// Time between two looks at a lock.
const LOOK: Duration = Duration::from_millis(50);

/// Why a workspace cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Another sync has it.
    #[error("another sync of workspace `{0}` is under way")]
    Busy(WorkspaceName),
    /// The disk.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// The workspaces of a node.
#[derive(Clone, Debug)]
pub struct Workspaces {
    folder: PathBuf,
    owner: Option<Owner>,
}

impl Workspaces {
    /// Touches nothing on the disk before there is a workspace.
    ///
    /// # Errors
    /// That the user who is to run programs does not exist.
    pub fn open(consent: &Consent) -> io::Result<Workspaces> {
        let owner = Owner::of(consent.user.as_deref())?;
        Ok(Workspaces { folder: consent.folder.clone(), owner })
    }

    /// Makes the folder of all workspaces.
    fn make(&self) -> io::Result<()> {
        let Some(owner) = self.owner else { return make_folder(&self.folder.join(OWN)) };
        // Before anything is done in it: whoever could put something else in its place would lead root there.
        make_folder(&self.folder)?;
        for way in [std::path::absolute(&self.folder)?, self.folder.canonicalize()?] {
            check_keeping(&way)?;
        }
        fs::set_permissions(&self.folder, Permissions::from_mode(0o711))?;
        check_way(&self.folder.canonicalize()?, owner)?;
        make_folder(&self.folder.join(OWN))
    }

    /// The folder of a workspace, which is made if it is not there.
    ///
    /// # Errors
    /// What the system says; that the user who is to run programs cannot get there.
    pub fn root(&self, name: &WorkspaceName) -> io::Result<PathBuf> {
        self.make()?;
        let path = self.folder.join(name.as_str());
        if !fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            make_folder(&path)?;
            if let Some(owner) = self.owner {
                let (user, group) = owner.ids();
                rustix::fs::chown(&path, Some(user), Some(group))?;
            }
        }
        // A link in its place is not followed.
        open_folder(&path)?;
        Ok(path)
    }

    /// As whom programs run, if not as this process.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Takes a workspace for a sync; waits a little for one that is under way.
    ///
    /// # Errors
    /// When another sync has it for long, or the disk fails.
    pub(super) fn take(&self, name: &WorkspaceName) -> Result<Workspace, WorkspaceError> {
        let own = self.folder.join(OWN).join(name.as_str());
        let (staging, trash) = (own.join("staging"), own.join("trash"));
        self.make()?;
        for folder in [&own, &staging, &trash] {
            make_folder(folder)?;
        }
        let lock = File::options().create(true).append(true).open(own.join("lock"))?;
        let deadline = clock::now().plus(u64::try_from(SYNC_LOCK_WAIT.as_millis()).unwrap_or(0));
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if clock::now() >= deadline {
                return Err(WorkspaceError::Busy(name.clone()));
            }
            pause();
        }
        let top = open_folder(&self.root(name)?)?;
        let mut root = Root::new(top, open_folder(&trash)?, self.owner);
        root.empty_trash()?;
        let index_path = own.join("index");
        let index = Index::load(&index_path);
        Ok(Workspace { root, index, index_path, staging: Staging::open(staging)?, _lock: lock })
    }
}

#[expect(clippy::disallowed_methods, reason = "on a thread of its own, between two looks at a lock")]
fn pause() {
    std::thread::sleep(LOOK);
}

/// A workspace that is ours for now.
pub struct Workspace {
    /// Its files.
    pub root: Root,
    /// What is known of them.
    pub index: Index,
    index_path: PathBuf,
    /// What comes.
    pub staging: Staging,
    _lock: File,
}

impl Workspace {
    /// Keeps what is known.
    ///
    /// # Errors
    /// What the system says.
    pub fn save_index(&self) -> io::Result<()> {
        self.index.save(&self.index_path)
    }
}

/// Makes a folder for us alone, and those above it, unless it is there.
fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::other(format!("`{}` is in the way", path.display())))
        }
        made => made,
    }
}

/// Whether nobody but root, or us, can put something else in the place of this folder or of one above it.
fn check_keeping(folder: &Path) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    for above in folder.ancestors() {
        let data = fs::symlink_metadata(above)?;
        let foreign = data.uid() != 0 && data.uid() != own;
        // A link's own bits mean nothing; in a sticky folder names are kept by who made them.
        let open = !data.is_symlink() && data.mode() & 0o022 != 0 && data.mode() & 0o1000 == 0;
        if foreign || open {
            let why = format!(
                "others than root could put something else in the place of `{}`: set `run_folder` to a folder that \
                 belongs to root, as do all above it",
                above.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    Ok(())
}

/// Whether `owner` may go through all folders down to this one.
fn check_way(folder: &Path, owner: Owner) -> io::Result<()> {
    let (user, group) = owner.ids();
    for above in folder.ancestors() {
        let data = fs::metadata(above)?;
        let bit = match (data.uid() == user.as_raw(), data.gid() == group.as_raw()) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if data.mode() & bit == 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "the user who runs programs may not go through `{}`: set `run_folder` to a folder that it can reach",
                    above.display()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_could_replace_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder");
        let check = || check_keeping(&inner.canonicalize().expect("there"));
        check().expect("ours alone; the system's folder for temporary files is sticky");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("permissions");
        assert!(check().is_err());
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).expect("permissions");
        check().expect("names are kept");
    }
}
