//! Files of a workspace, fetched by a command. Shell.
//!
//! Invariants: each file appears whole or not at all; nothing is written outside the folder that the command chose, nor
//! through a link in it: what comes is a peer's word.

use super::run::{RunError, Target};
use crate::types::WorkspaceName;
use crate::wire::run::{EntryKind, RunFrame};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// An entry on its way.
struct Arriving {
    path: PathBuf,
    mode: u16,
    modified_ns: i64,
}

/// A file that is being written.
struct Open {
    arriving: Arriving,
    file: tempfile::NamedTempFile,
}

impl Target {
    /// Fetches `path` of a workspace, with all that is below it, to the same place below `into`. Gives what came.
    /// `told` hears of bytes.
    ///
    /// # Errors
    /// When it is not there, cannot be read there or written here, or the connection is lost.
    pub async fn collect(
        &self,
        workspace: &WorkspaceName,
        path: &[u8],
        into: &Path,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<PathBuf>, RunError> {
        let (mut reader, mut writer) = self.dial().await.map_err(|error| self.lost(error, false))?;
        let ask = RunFrame::Collect { workspace: workspace.clone(), path: path.into() };
        let asked = async {
            writer.write(&ask, &[]).await?;
            writer.flush().await
        };
        asked.await.map_err(|error| self.lost(error, false))?;
        let (mut came, mut folders, mut open): (Vec<PathBuf>, Vec<Arriving>, Option<Open>) =
            (Vec::new(), Vec::new(), None);
        loop {
            let frame = reader.read::<RunFrame>().await.map_err(|error| self.lost(error, false))?;
            let (frame, payload) = frame.ok_or_else(|| self.nonsense())?;
            match frame {
                RunFrame::Entry { path, kind, mode, modified_ns } if open.is_none() => {
                    let name = OsStr::from_bytes(&path);
                    let failed = |source| RunError::File { path: into.join(name), source };
                    let path = inside(into, &path).map_err(failed)?;
                    came.push(path.clone());
                    let arriving = Arriving { path, mode, modified_ns };
                    match kind {
                        EntryKind::File => open = Some(begin(arriving).map_err(failed)?),
                        EntryKind::Folder => {
                            // One that was here keeps what it had, the working directory above all.
                            if make_folder(&arriving.path).map_err(failed)? {
                                folders.push(arriving);
                            }
                        }
                        EntryKind::Symlink { target } => {
                            make_link(&arriving.path, OsStr::from_bytes(&target)).map_err(failed)?;
                        }
                    }
                }
                RunFrame::Data { last } => {
                    let Some(Open { arriving, file }) = &mut open else { return Err(self.nonsense()) };
                    let failed = |source| RunError::File { path: arriving.path.clone(), source };
                    file.write_all(&payload).map_err(failed)?;
                    told(payload.len() as u64);
                    if last && let Some(open) = open.take() {
                        let path = open.arriving.path.clone();
                        end(open).map_err(|source| RunError::File { path, source })?;
                    }
                }
                RunFrame::Collected if open.is_none() => break,
                RunFrame::Denied { why } => {
                    return Err(RunError::Denied { name: self.route.name.clone(), why });
                }
                RunFrame::Failed { code, message } => return Err(RunError::Refused { code, message }),
                RunFrame::Working => {}
                _ => return Err(self.nonsense()),
            }
        }
        // Deepest first, as what was written into a folder has changed its time.
        for folder in folders.iter().rev() {
            let set = File::open(&folder.path).and_then(|file| set_attributes(&file, folder));
            set.map_err(|source| RunError::File { path: folder.path.clone(), source })?;
        }
        Ok(came)
    }
}

/// The path below `into` that a peer means; no part of it may be a link.
fn inside(into: &Path, path: &[u8]) -> io::Result<PathBuf> {
    let refused = |why: &str| Err(io::Error::other(why.to_owned()));
    let mut at = into.to_owned();
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    for (index, part) in parts.iter().enumerate() {
        if matches!(*part, b"." | b"..") || part.contains(&0) {
            return refused("the other side names a path that leads elsewhere");
        }
        at.push(OsStr::from_bytes(part));
        if index + 1 < parts.len() {
            match fs::symlink_metadata(&at) {
                Ok(data) if data.is_dir() => {}
                Ok(_) => return refused("something that is no folder is in its way here"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&at)?,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(at)
}

/// Whether it was not there before.
fn make_folder(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => Ok(false),
        Ok(_) => Err(io::Error::other("something that is no folder is in its way here")),
        Err(_) => fs::create_dir(path).map(|()| true),
    }
}

fn make_link(path: &Path, target: &OsStr) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, path)
}

fn begin(arriving: Arriving) -> io::Result<Open> {
    let folder = arriving.path.parent().unwrap_or(Path::new("."));
    if arriving.path.is_dir() {
        return Err(io::Error::other("a folder is in its way here"));
    }
    let file = tempfile::Builder::new().prefix(".thorp-").tempfile_in(folder)?;
    Ok(Open { arriving, file })
}

fn end(open: Open) -> io::Result<()> {
    set_attributes(open.file.as_file(), &open.arriving)?;
    open.file.persist(&open.arriving.path)?;
    Ok(())
}

fn set_attributes(file: &File, arriving: &Arriving) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(u32::from(arriving.mode & 0o777)))?;
    let since = Duration::from_nanos(u64::try_from(arriving.modified_ns).unwrap_or(0));
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_elsewhere_nor_through_a_link() {
        let (folder, outside) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let into = folder.path();
        for wrong in [&b"../x"[..], b"a/../../x", b"./x", b"a\0"] {
            assert!(inside(into, wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        assert_eq!(inside(into, b"/etc/passwd").expect("below"), into.join("etc/passwd"));
        symlink(outside.path(), into.join("link")).expect("a link");
        assert!(inside(into, b"link/x").is_err());
        assert!(make_folder(&into.join("link")).is_err());
    }
}
