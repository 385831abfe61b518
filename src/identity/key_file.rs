//! Files that hold keys: how they are read and written.
//!
//! Invariant: a key is only taken from a file that its owner alone can read, and a key file is
//! there whole or not at all, with mode 0600 from its first byte on.

use super::IdentityError;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Bits of a mode that let others at a file.
const OTHERS: u32 = 0o077;

/// The bytes of the key file at `path`, at most `limit + 1` of them.
///
/// # Errors
/// [`IdentityError::Read`], [`IdentityError::Exposed`].
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, so it cannot be another one by the time it is read.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(IdentityError::Exposed { path: path.into(), mode });
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// What to do with a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it: the write fails with `AlreadyExists`.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// Writes `bytes` to `path`, whole or not at all. With [`Existing::Keep`] it is durable when this
/// returns; with [`Existing::Replace`] it is not synced, that is for what can be made again.
///
/// # Errors
/// What the system says; `AlreadyExists` only with [`Existing::Keep`].
pub fn write(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made with O_EXCL and mode 0600; removed again if anything below fails.
    let mut file = tempfile::Builder::new().prefix(".key-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    match existing {
        Existing::Keep => {
            file.as_file().sync_all()?;
            file.persist_noclobber(path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()
        }
        Existing::Replace => file.persist(path).map(drop).map_err(|error| error.error),
    }
}

/// Makes `folder` and what is above it, for its owner alone, unless it is there.
///
/// # Errors
/// [`IdentityError::Write`].
pub fn make_folder(folder: &Path) -> Result<(), IdentityError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| IdentityError::Write { path: folder.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_its_owners_alone_and_never_replaced_by_chance() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.key");
        write(&path, b"one", Existing::Keep).expect("written");
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let again = write(&path, b"two", Existing::Keep).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path, 10).expect("readable"), b"one");
        write(&path, b"three", Existing::Replace).expect("written");
        assert_eq!(
            read(&path, 2).expect("readable"),
            b"thr",
            "one byte over the limit shows that it is over"
        );
        assert_eq!(folder.path().read_dir().expect("readable").count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.key");
        write(&path, b"one", Existing::Keep).expect("written");
        for mode in [0o640, 0o604, 0o660, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
            match read(&path, 10) {
                Err(IdentityError::Exposed { mode: told, .. }) => assert_eq!(told, mode),
                other => panic!("mode {mode:o} gave {other:?}"),
            }
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("ours");
        assert!(read(&path, 10).is_ok());
    }
}
