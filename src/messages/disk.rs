//! Files as this folder writes and reads them: whole or not at all, and never through a link.

use crate::limits::SYNCS_AT_ONCE;
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How names of files in the making begin; nobody lists those.
pub(super) const SCRATCH: &str = ".new-";
/// Names that are tried for a file whose own is taken.
const NAMES_MAX: u32 = 10_000;

/// Writes a file under another name in `scratch`, syncs it, and puts it in place of whatever is at
/// `target`. The caller syncs the folder.
pub(super) fn write_whole(scratch: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = scratch.join(format!("{SCRATCH}{}-{number}", std::process::id()));
    let written = write_synced(&path, bytes).and_then(|()| fs::rename(&path, target));
    if written.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&path);
    }
    written
}

/// Writes and syncs a file of ours alone.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = options().open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// How a file of ours alone is made.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags());
    options
}

/// Writes files of ours alone, and syncs them several at once: a file system commits what is asked of it
/// together in one go, so that 64 files cost little more than one.
pub(super) fn write_all_synced(files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    let (at_once, mut open) = (SYNCS_AT_ONCE.min(files.len()), Vec::new());
    for (path, bytes) in files {
        let mut file = options().open(path)?;
        file.write_all(bytes)?;
        open.push(file);
    }
    let sync = |files: &[File]| files.iter().try_for_each(File::sync_all);
    if at_once <= 1 {
        return sync(&open);
    }
    std::thread::scope(|scope| {
        let shares = open.chunks(open.len().div_ceil(at_once));
        let syncing: Vec<_> = shares.map(|files| scope.spawn(move || sync(files))).collect();
        syncing.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a file could not be synced")))
        })
    })
}

/// Makes what was done to a folder's entries durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A plain file's bytes, but not more than one above `max`.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(flags()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Nothing is opened through a symbolic link, and whoever opens a FIFO does not wait.
fn flags() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
}

/// Moves a file into `folder` under `name`, in place of nothing.
pub(super) fn move_into(file: &Path, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let target = folder.join(name);
    match renameat_with(CWD, file, CWD, &target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(target),
        // A file system that cannot do that in one step.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if fs::symlink_metadata(&target).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(file, &target).map(|()| target)
        }
        Err(error) => Err(error.into()),
    }
}

/// `name`, or one like it that nothing in `folder` has.
pub(super) fn free_name(folder: &Path, name: &str) -> io::Result<String> {
    let (stem, extension) = name.rsplit_once('.').map_or((name, ""), |(stem, extension)| (stem, extension));
    let names =
        std::iter::once(name.to_owned()).chain((2..NAMES_MAX).map(|n| format!("{stem}~{n}.{extension}")));
    names
        .into_iter()
        .find(|name| fs::symlink_metadata(folder.join(name)).is_err())
        .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
}

/// Removes a file if it is there; whether it was.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Names in a folder that are UTF-8, sorted; none if it is not there.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
