//! The files of a workspace, reached without ever following a symbolic link.
//!
//! Invariant (promise P9): every operation starts at the descriptor of the workspace's folder and
//! opens one part of the path after the other, links refused; so whatever programs have put there,
//! nothing outside is read, written, or given other permissions.

use super::owner::Owner;
use crate::types::TreePath;
use crate::wire::sync::Stamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The permission bits that are synced: set-user-id and the like are not.
pub const MODE_MASK: u16 = 0o777;
/// What a folder needs so that it can be changed.
const WORKABLE: u16 = 0o700;
/// What it needs so that it can be looked at.
const READABLE: u16 = 0o500;
const NANOS: i64 = 1_000_000_000;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// Permission bits.
    pub mode: u16,
    /// Changes when it is touched.
    pub stamp: Stamp,
    /// Names that it has: with more than one, changing it would change what may be elsewhere.
    pub names: u64,
}

/// What can be in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundKind {
    /// A file.
    File,
    /// A folder. `opaque`: with something in it that has no path here, being too deep.
    Folder {
        /// See above.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink,
    /// A device, a pipe, a socket.
    Other,
}

impl Found {
    #[allow(clippy::useless_conversion, reason = "the number of names is narrower on some machines")]
    fn of(stat: &Stat) -> Found {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FoundKind::File,
            FileType::Directory => FoundKind::Folder { opaque: false },
            FileType::Symlink => FoundKind::Symlink,
            _ => FoundKind::Other,
        };
        Found {
            kind,
            mode: u16::try_from(stat.st_mode & u32::from(MODE_MASK)).unwrap_or(0),
            stamp: stamp(stat),
            names: u64::from(stat.st_nlink),
        }
    }
}

fn stamp(stat: &Stat) -> Stamp {
    let at = |seconds: i64, nanos: i64| seconds.saturating_mul(NANOS).saturating_add(nanos);
    Stamp {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: at(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        changed_ns: at(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        inode: stat.st_ino,
    }
}

/// How an open file looks now.
///
/// # Errors
/// What the system says.
pub fn stamp_of(file: &File) -> io::Result<Stamp> {
    Ok(stamp(&rustix::fs::fstat(file)?))
}

/// Sets when a file was changed.
///
/// # Errors
/// What the system says.
pub fn set_modified(file: &File, modified_ns: i64) -> io::Result<()> {
    let (seconds, nanos) = (modified_ns.div_euclid(NANOS), modified_ns.rem_euclid(NANOS));
    let modified = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: modified,
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Permission bits as the system wants them.
#[must_use]
pub fn mode(bits: u16) -> Mode {
    Mode::from_raw_mode(u32::from(bits & MODE_MASK))
}

/// A folder of ours, opened; a link is not followed.
///
/// # Errors
/// What the system says.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The folder that is the workspace.
pub struct Root {
    top: OwnedFd,
    /// Where what is in the way goes before it is deleted: on the same disk.
    trash: OwnedFd,
    trashed: u64,
    owner: Option<Owner>,
    /// The folder that was opened last.
    last: Option<(TreePath, OwnedFd)>,
    /// Folders that were made workable, and what they were before.
    loosened: BTreeMap<TreePath, u16>,
    /// What every folder needs that is gone through.
    needs: u16,
}

/// Where a folder is made that is not the program's yet.
const NEW_FOLDER: &[u8] = b"new-folder";

impl Root {
    /// `trash` must be on the disk of `top` and ours alone.
    #[must_use]
    pub fn new(top: OwnedFd, trash: OwnedFd, owner: Option<Owner>) -> Root {
        Root { top, trash, trashed: 0, owner, last: None, loosened: BTreeMap::new(), needs: READABLE }
    }

    /// From now on folders are changed, and not merely looked at.
    pub fn begin_changes(&mut self) {
        self.needs = WORKABLE;
        self.last = None;
    }

    /// The descriptor of a folder; of the top if there is no path.
    fn folder(&mut self, path: Option<&TreePath>) -> io::Result<BorrowedFd<'_>> {
        let Some(path) = path else { return Ok(self.top.as_fd()) };
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            self.last = None;
            let mut opened: Option<OwnedFd> = None;
            let mut end = 0;
            for part in path.parts() {
                end += part.len();
                let at = opened.as_ref().map_or(self.top.as_fd(), AsFd::as_fd);
                let (next, before) = open_workable(at, part, self.needs)?;
                if let Some(before) = before
                    && let Ok(path) = TreePath::parse(&path.as_bytes()[..end])
                {
                    self.loosened.entry(path).or_insert(before);
                }
                end += 1;
                opened = Some(next);
            }
            let Some(opened) = opened else { return Err(io::ErrorKind::NotFound.into()) };
            self.last = Some((path.clone(), opened));
        }
        match &self.last {
            Some((_, folder)) => Ok(folder.as_fd()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn place_of<'p>(&mut self, path: &'p TreePath) -> io::Result<(BorrowedFd<'_>, &'p [u8])> {
        Ok((self.folder(path.parent().as_ref())?, path.name()))
    }

    /// What is at this path, if anything is.
    ///
    /// # Errors
    /// What the system says.
    pub fn look(&mut self, path: &TreePath) -> io::Result<Option<Found>> {
        let (folder, name) = self.place_of(path)?;
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The file at this path, for reading.
    ///
    /// # Errors
    /// When it is none, or the system refuses.
    pub fn open_file(&mut self, path: &TreePath) -> io::Result<File> {
        let (folder, name) = self.place_of(path)?;
        // A pipe that nobody writes to would keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no file"));
        }
        Ok(file)
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_link(&mut self, path: &TreePath) -> io::Result<Vec<u8>> {
        let (folder, name) = self.place_of(path)?;
        Ok(rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes())
    }

    /// Everything that is there, without going through links. Fails once there is more than `most`.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn list(&mut self, most: usize) -> io::Result<BTreeMap<TreePath, Found>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![None];
        while let Some(folder) = folders.pop() {
            let mut opaque = false;
            let (descriptor, entries) = match self.folder(folder.as_ref()) {
                Ok(descriptor) => (descriptor, Dir::read_from(descriptor)),
                // Gone meanwhile, or of somebody else: what cannot be done there will say why.
                Err(error) if folder.is_some() => {
                    tracing::debug!(?folder, %error, "not looked into");
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in entries? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let Ok(path) = TreePath::below(folder.as_ref(), name) else {
                    opaque = true;
                    continue;
                };
                let stat = match rustix::fs::statat(descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                };
                let found = Found::of(&stat);
                if matches!(found.kind, FoundKind::Folder { .. }) {
                    folders.push(Some(path.clone()));
                }
                all.insert(path, found);
                if all.len() > most {
                    return Err(io::Error::other(format!(
                        "there are more than {most} files in the workspace"
                    )));
                }
            }
            if opaque && let Some(found) = folder.as_ref().and_then(|folder| all.get_mut(folder)) {
                found.kind = FoundKind::Folder { opaque };
            }
        }
        Ok(all)
    }

    /// Makes a folder; what is in its way and is none goes.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_folder(&mut self, path: &TreePath) -> io::Result<()> {
        match self.look(path)? {
            Some(Found { kind: FoundKind::Folder { .. }, .. }) => return Ok(()),
            Some(_) => self.discard(path)?,
            None => {}
        }
        let owner = self.owner;
        if owner.is_none() {
            let (folder, name) = self.place_of(path)?;
            return Ok(rustix::fs::mkdirat(folder, name, mode(WORKABLE))?);
        }
        // Made where the user cannot put something else in its place before it is given away.
        let trash = self.trash.try_clone()?;
        let _ = rustix::fs::unlinkat(&trash, NEW_FOLDER, AtFlags::REMOVEDIR);
        rustix::fs::mkdirat(&trash, NEW_FOLDER, mode(WORKABLE))?;
        give(trash.as_fd(), NEW_FOLDER, owner)?;
        let (folder, name) = self.place_of(path)?;
        Ok(rustix::fs::renameat(&trash, NEW_FOLDER, folder, name)?)
    }

    /// What another user owns is not the program's: somebody moved it here.
    fn check_owner(&self, file: impl AsFd) -> io::Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        if rustix::fs::fstat(file)?.st_uid == owner.ids().0.as_raw() {
            return Ok(());
        }
        Err(io::Error::other("it belongs to another user than programs run as"))
    }

    /// Puts a file or link that was made in `from`, a folder of ours, in its place: whole, at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn place(&mut self, path: &TreePath, from: BorrowedFd<'_>, staged: &[u8]) -> io::Result<()> {
        if let Some(Found { kind: FoundKind::Folder { .. }, .. }) = self.look(path)? {
            self.discard(path)?;
        }
        let owner = self.owner;
        give(from, staged, owner)?;
        let (folder, name) = self.place_of(path)?;
        Ok(rustix::fs::renameat(from, staged, folder, name)?)
    }

    /// Sets the permission bits of the file at this path, and when it was changed; gives how it then looks.
    ///
    /// # Errors
    /// When it is no file, or has other names as well.
    pub fn set_attributes(&mut self, path: &TreePath, bits: u16, modified_ns: i64) -> io::Result<Stamp> {
        let file = match self.open_file(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (folder, name) = self.place_of(path)?;
                loosen(folder, name, WORKABLE)?;
                self.open_file(path)?
            }
            Err(error) => return Err(error),
        };
        if rustix::fs::fstat(&file)?.st_nlink != 1 {
            return Err(io::Error::other("it has a second name"));
        }
        self.check_owner(&file)?;
        rustix::fs::fchmod(&file, mode(bits))?;
        set_modified(&file, modified_ns)?;
        stamp_of(&file)
    }

    /// Sets the permission bits of a folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_folder_mode(&mut self, path: &TreePath, bits: u16) -> io::Result<()> {
        self.loosened.remove(path);
        let owner = self.owner;
        let folder = self.folder(Some(path))?;
        if owner.is_some_and(|owner| {
            rustix::fs::fstat(folder).is_ok_and(|stat| stat.st_uid != owner.ids().0.as_raw())
        }) {
            return Err(io::Error::other("it belongs to another user than programs run as"));
        }
        let set = rustix::fs::fchmod(folder, mode(bits));
        self.loosened.remove(path);
        self.last = None;
        Ok(set?)
    }

    /// Removes what is at this path; a folder only if it is empty, or has in it what has no path.
    ///
    /// # Errors
    /// What the system says; `DirectoryNotEmpty` of a folder with something in it.
    pub fn remove(&mut self, path: &TreePath) -> io::Result<()> {
        let Some(found) = self.look(path)? else { return Ok(()) };
        let flags = match found.kind {
            FoundKind::Folder { .. } => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        self.last = self.last.take().filter(|(last, _)| !last.is_within(path));
        let (folder, name) = self.place_of(path)?;
        rustix::fs::unlinkat(folder, name, flags)?;
        self.loosened.remove(path);
        Ok(())
    }

    /// Takes away what is at this path with all that is in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn discard(&mut self, path: &TreePath) -> io::Result<()> {
        let Some(found) = self.look(path)? else { return Ok(()) };
        if !matches!(found.kind, FoundKind::Folder { .. }) {
            return self.remove(path);
        }
        self.last = None;
        self.loosened.retain(|loosened, _| !loosened.is_within(path));
        let name = self.next_trash();
        let trash = self.trash.try_clone()?;
        let (folder, part) = self.place_of(path)?;
        if rustix::fs::renameat(folder, part, &trash, name.as_str()).is_err() {
            // A folder that may not be written to cannot be moved either.
            loosen(folder, part, WORKABLE)?;
            rustix::fs::renameat(folder, part, &trash, name.as_str())?;
        }
        Ok(())
    }

    fn next_trash(&mut self) -> String {
        self.trashed += 1;
        format!("{:016x}", self.trashed)
    }

    /// Deletes what was discarded, however deep it is: each folder in a folder becomes one of the trash itself.
    ///
    /// # Errors
    /// What the system says; the rest is tried again next time.
    pub fn empty_trash(&mut self) -> io::Result<()> {
        let trash = self.trash.try_clone()?;
        let names = |folder: BorrowedFd<'_>| -> io::Result<Vec<Vec<u8>>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(folder)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if !matches!(name.as_slice(), b"." | b"..") {
                    names.push(name);
                }
            }
            Ok(names)
        };
        let mut waiting = names(trash.as_fd())?;
        while let Some(name) = waiting.pop() {
            if rustix::fs::unlinkat(&trash, name.as_slice(), AtFlags::REMOVEDIR).is_ok()
                || rustix::fs::unlinkat(&trash, name.as_slice(), AtFlags::empty()).is_ok()
            {
                continue;
            }
            let (folder, _) = open_workable(trash.as_fd(), &name, WORKABLE)?;
            for inner in names(folder.as_fd())? {
                if rustix::fs::unlinkat(&folder, inner.as_slice(), AtFlags::empty()).is_ok()
                    || rustix::fs::unlinkat(&folder, inner.as_slice(), AtFlags::REMOVEDIR).is_ok()
                {
                    continue;
                }
                let _ = loosen(folder.as_fd(), &inner, WORKABLE);
                // Names left by a sync that was cut short are not overwritten: a folder that is there is in the way.
                let mut moved = Err(Errno::NOTEMPTY);
                while matches!(moved, Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR)) {
                    let outer = self.next_trash();
                    moved = rustix::fs::renameat(&folder, inner.as_slice(), &trash, outer.as_str());
                    if moved.is_ok() {
                        waiting.push(outer.into_bytes());
                    }
                }
                moved?;
            }
            rustix::fs::unlinkat(&trash, name.as_slice(), AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// Gives folders that were made workable the permission bits that they had.
    pub fn restore_modes(&mut self) {
        self.last = None;
        self.needs = READABLE;
        // The way to a folder may have to be loosened once more: what is above it comes later.
        while let Some((path, bits)) = self.loosened.pop_last() {
            if self.set_folder_mode(&path, bits).is_err() {
                tracing::debug!(%path, "a folder's permissions could not be set back");
            }
        }
        self.last = None;
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.restore_modes();
    }
}

/// Whose it becomes, where that is set.
fn give(folder: BorrowedFd<'_>, name: &[u8], owner: Option<Owner>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let (user, group) = owner.ids();
    Ok(rustix::fs::chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Opens a folder in a folder so that it can be read and written; gives its permission bits if they
/// had to be changed for that.
fn open_workable(at: BorrowedFd<'_>, name: &[u8], needs: u16) -> io::Result<(OwnedFd, Option<u16>)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (folder, mut before) = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(folder) => (folder, None),
        Err(Errno::ACCESS) => {
            let before = loosen(at, name, needs)?;
            (rustix::fs::openat(at, name, flags, Mode::empty())?, Some(before))
        }
        Err(error) => return Err(error.into()),
    };
    let bits = Found::of(&rustix::fs::fstat(&folder)?).mode;
    if bits & needs != needs {
        // Not ours to change, perhaps; then what needs it says so.
        if rustix::fs::fchmod(&folder, mode(bits | needs)).is_ok() {
            before = before.or(Some(bits));
        }
    }
    Ok((folder, before))
}

/// Adds permission bits to a file or folder, of which a link is none; gives those that it had.
fn loosen(at: BorrowedFd<'_>, name: &[u8], more: u16) -> io::Result<u16> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::openat(at, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&held)?;
    let found = Found::of(&stat);
    let ours = match found.kind {
        FoundKind::Folder { .. } => true,
        FoundKind::File => found.names == 1,
        FoundKind::Symlink | FoundKind::Other => false,
    };
    if !ours {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // What the descriptor means cannot be exchanged for a link meanwhile.
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    rustix::fs::chmod(path, mode(found.mode | more))?;
    Ok(found.mode)
}
