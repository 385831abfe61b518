//! The one way from the store to the file system.
//!
//! Invariant: every call that can fail goes through here, so each failure is judged in one place
//! ([`Health::judge`]) and can be made to happen in tests. Nothing is opened through a symbolic
//! link, and nothing but a plain file is opened at all: whoever opens a FIFO waits for ever.
//!
//! A test names the call that shall fail (`faults`); in the binary that hook is not there.

#[cfg(test)]
pub(super) mod faults;

use super::health::Health;
use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// What is asked of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Open,
    Look,
    List,
    Read,
    Room,
    Create,
    Write,
    Resize,
    Allocate,
    Sync,
    SyncContent,
    SyncFolder,
    Rename,
    Remove,
    MakeFolder,
    Lock,
}

impl Call {
    /// Whether it changes what is on the disk, or makes a change durable.
    pub(super) fn changes(self) -> bool {
        !matches!(self, Call::Open | Call::Look | Call::List | Call::Read | Call::Room | Call::Lock)
    }

    /// Whether it makes a change durable.
    pub(super) fn syncs(self) -> bool {
        matches!(self, Call::Sync | Call::SyncContent | Call::SyncFolder)
    }
}

/// How much room a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// In all.
    pub(super) bytes: u64,
    /// For us.
    pub(super) free_bytes: u64,
    /// Files that can still be made, if that is limited.
    pub(super) free_inodes: Option<u64>,
}

/// The file system as the store uses it.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    health: Arc<Health>,
}

impl Disk {
    pub(super) fn new(health: Arc<Health>) -> Disk {
        Disk { health }
    }

    pub(super) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    fn call<T>(&self, kind: Call, path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.health.call(kind, path, work)
    }

    fn opened(&self, path: &Path, file: File) -> DiskFile {
        DiskFile { file, path: path.into(), health: Arc::clone(&self.health) }
    }

    /// Opens a plain file.
    fn open(&self, path: &Path, options: &mut OpenOptions) -> io::Result<DiskFile> {
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
        let file = self.call(Call::Open, path, || {
            let file = options.custom_flags(flags).open(path)?;
            if file.metadata()?.is_file() {
                Ok(file)
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"))
            }
        })?;
        Ok(self.opened(path, file))
    }

    pub(super) fn open_to_read(&self, path: &Path) -> io::Result<DiskFile> {
        self.open(path, OpenOptions::new().read(true))
    }

    pub(super) fn open_to_write(&self, path: &Path) -> io::Result<DiskFile> {
        self.open(path, OpenOptions::new().read(true).write(true))
    }

    /// A new file of ours alone.
    pub(super) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = self.call(Call::Create, path, || options.open(path))?;
        Ok(self.opened(path, file))
    }

    /// A new file without a name.
    pub(super) fn scratch(&self, folder: &Path) -> io::Result<DiskFile> {
        let file = self.call(Call::Create, folder, || tempfile::tempfile_in(folder))?;
        Ok(self.opened(folder, file))
    }

    /// The file of the lock, made if it is not there, and whether the lock could be had.
    pub(super) fn lock(&self, path: &Path) -> io::Result<(File, bool)> {
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(flags);
        let file = self.call(Call::Create, path, || options.open(path))?;
        let locked = self.call(Call::Lock, path, || {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(true),
                Err(Errno::WOULDBLOCK) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })?;
        Ok((file, locked))
    }

    /// The first `limit` bytes of a plain file.
    pub(super) fn read_start(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let file = self.open_to_read(path)?;
        let mut bytes = vec![0; limit.min(usize::try_from(file.len()?).unwrap_or(limit))];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// What lies at `path` itself.
    pub(super) fn look(&self, path: &Path) -> io::Result<Metadata> {
        self.call(Call::Look, path, || fs::symlink_metadata(path))
    }

    /// The names in a folder.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.call(Call::List, path, || {
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
        })
    }

    /// How much room there is.
    pub(super) fn room(&self, path: &Path) -> io::Result<Room> {
        let room = self.call(Call::Room, path, || {
            let disk = rustix::fs::statvfs(path)?;
            Ok(Room {
                bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
                free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
                // Some file systems make inodes as they need them, and tell of none.
                free_inodes: (disk.f_files > 0).then_some(disk.f_favail),
            })
        })?;
        #[cfg(test)]
        let room = self.health.faults.room().unwrap_or(room);
        Ok(room)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, to, || fs::rename(from, to))
    }

    /// Removes a file that may be gone already.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, path, || match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        })
    }

    /// Makes a folder that may be there already, for its owner alone.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.call(Call::MakeFolder, path, || match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        })
    }

    /// Makes a folder and those above it.
    pub(super) fn make_folders(&self, path: &Path) -> io::Result<()> {
        self.call(Call::MakeFolder, path, || DirBuilder::new().recursive(true).mode(0o700).create(path))
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call(Call::SyncFolder, path, || File::open(path)?.sync_all())
    }

    /// Writes a small file so that it appears whole and durable, or not at all.
    pub(super) fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = path.with_extension("new");
        self.remove(&draft)?;
        let file = self.create(&draft)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        self.rename(&draft, path)?;
        self.sync_folder(path.parent().unwrap_or(path))
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    path: Arc<Path>,
    health: Arc<Health>,
}

impl DiskFile {
    fn call<T>(&self, kind: Call, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.health.call(kind, &self.path, work)
    }

    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.call(Call::Read, || self.file.read_exact_at(bytes, offset))
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(part) = self.health.faults.torn(Call::Write, &self.path, bytes.len()) {
            self.file.write_all_at(&bytes[..part], offset)?;
        }
        self.call(Call::Write, || self.file.write_all_at(bytes, offset))
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.call(Call::Look, || Ok(self.file.metadata()?.len()))
    }

    pub(super) fn resize(&self, bytes: u64) -> io::Result<()> {
        self.call(Call::Resize, || self.file.set_len(bytes))
    }

    /// Takes room for `bytes` bytes.
    pub(super) fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.call(Call::Allocate, || {
            rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes).map_err(Into::into)
        })
    }

    /// Makes the bytes durable. Once it failed, nothing is known of them.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.call(Call::Sync, || self.file.sync_data())
    }

    /// As [`DiskFile::sync`], of a file that is thrown away if it fails: nothing else hangs on it.
    pub(super) fn sync_content(&self) -> io::Result<()> {
        self.call(Call::SyncContent, || self.file.sync_data())
    }

    /// Lets the system forget what it holds in memory of a part of the file (0 bytes: of all from
    /// `offset` on), as far as it is on the disk: after a failed sync, or a bit that rotted, memory
    /// and disk differ without anybody's knowing. A hint: without it less is found.
    pub(super) fn forget_cached(&self, offset: u64, bytes: u64) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let length = std::num::NonZeroU64::new(bytes);
            let _ = rustix::fs::fadvise(&self.file, offset, length, rustix::fs::Advice::DontNeed);
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (offset, bytes);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The system's file, for the database, whose backend makes its calls through [`Health::call`].
    pub(super) fn into_file(self) -> File {
        self.file
    }
}

/// Whether a call failed because something else than a plain file lies there.
pub(super) fn is_no_file(error: &io::Error) -> bool {
    let other = [Errno::LOOP, Errno::ISDIR, Errno::NOTDIR, Errno::NXIO];
    error.kind() == io::ErrorKind::InvalidInput
        || other.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Bytes that a file takes on the disk.
pub(super) fn bytes_on_disk(file: &Metadata) -> u64 {
    file.blocks().saturating_mul(512)
}

/// When a file was last written, wall milliseconds.
pub(super) fn modified_ms(file: &Metadata) -> u64 {
    u64::try_from(file.mtime()).unwrap_or(0).saturating_mul(1_000)
}
