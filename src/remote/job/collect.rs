//! Files of a workspace for a command: what a program has made is fetched back.
//!
//! Invariant: nothing outside the workspace is read: each folder is opened from the one before, and no link is
//! followed (the program there may have made some).

use super::session::say;
use crate::limits::JOB_OUTPUT_FRAME_BYTES;
use crate::remote::workspace::Workspaces;
use crate::transfer::connection::{ConnectionError, FrameWriter};
use crate::types::WorkspaceName;
use crate::wire::message::ErrorCode;
use crate::wire::run::{Bytes, EntryKind, RunFrame};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Folders within folders.
const DEPTH_MAX: usize = 128;
/// Entries in one collection.
const ENTRIES_MAX: usize = 1_000_000;

/// A file or folder that is to be told of.
struct Found {
    path: Vec<u8>,
    folder: std::sync::Arc<OwnedFd>,
    name: OsString,
    depth: usize,
}

/// Sends `path` of a workspace, and all that is below it.
pub(super) async fn collect(
    workspaces: &Workspaces,
    workspace: &WorkspaceName,
    path: Bytes,
    owner: Option<u32>,
    writer: &mut FrameWriter,
) -> Result<(), ConnectionError> {
    let found = workspaces.root(workspace).and_then(|root| find(&root, &path));
    let mut waiting = match found {
        Ok(found) => vec![found],
        Err(error) => {
            let path = String::from_utf8_lossy(&path);
            let (code, message) = match error.kind() {
                io::ErrorKind::NotFound => {
                    (ErrorCode::NotFound, format!("there is no `{path}` in the workspace"))
                }
                _ => (ErrorCode::Disk, format!("`{path}` cannot be read: {error}")),
            };
            return say(writer, &RunFrame::Failed { code, message: message.into() }).await;
        }
    };
    let mut entries = 0;
    while let Some(found) = waiting.pop() {
        entries += 1;
        let name = String::from_utf8_lossy(&found.path).into_owned();
        let sent = if entries > ENTRIES_MAX || found.depth > DEPTH_MAX {
            Ok(Err(io::Error::other("too many files, or folders too deep")))
        } else {
            send(found, &mut waiting, owner, writer).await
        };
        if let Err(error) = sent? {
            let message = format!("`{name}` cannot be read: {error}").into();
            return say(writer, &RunFrame::Failed { code: ErrorCode::Disk, message }).await;
        }
    }
    say(writer, &RunFrame::Collected).await
}

fn find(root: &std::path::Path, path: &[u8]) -> io::Result<Found> {
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut at = openat(rustix::fs::CWD, root, folder, Mode::empty())?;
    let mut parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| *part != b"." && !part.is_empty()).collect();
    if parts.contains(&&b".."[..]) || path.contains(&0) {
        return Err(io::Error::other("it leads out of the workspace"));
    }
    let Some(last) = parts.pop() else {
        return Ok(Found { path: Vec::new(), folder: at.into(), name: ".".into(), depth: 0 });
    };
    for part in &parts {
        at = openat(&at, OsStr::from_bytes(part), folder, Mode::empty())?;
    }
    let name = OsStr::from_bytes(last).to_owned();
    statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    parts.push(last);
    Ok(Found { path: parts.join(&b'/'), folder: at.into(), name, depth: parts.len() })
}

/// Sends one; what is in a folder is to be sent next. The inner error is the disk's.
async fn send(
    found: Found,
    waiting: &mut Vec<Found>,
    owner: Option<u32>,
    writer: &mut FrameWriter,
) -> Result<io::Result<()>, ConnectionError> {
    let Found { path, folder, name, depth } = found;
    let look = || -> io::Result<(EntryKind, u16, i64, Option<OwnedFd>)> {
        let stat = statat(&*folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = u16::try_from(stat.st_mode & 0o7777).unwrap_or(0);
        let modified_ns = stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let open = |flags| openat(&*folder, &name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let (kind, file) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => (EntryKind::File, Some(open(OFlags::RDONLY | OFlags::NONBLOCK)?)),
            FileType::Directory => (EntryKind::Folder, Some(open(OFlags::RDONLY | OFlags::DIRECTORY)?)),
            FileType::Symlink => {
                let target = readlinkat(&*folder, &name, Vec::new())?.into_bytes().into();
                (EntryKind::Symlink { target }, None)
            }
            _ => return Err(io::Error::other("it is no file, folder or link")),
        };
        if let Some(file) = &file {
            // What was looked at may not be what was opened, and a program's user may have moved here what it
            // could not read itself.
            let opened = fstat(file)?;
            let same = FileType::from_raw_mode(opened.st_mode) == FileType::from_raw_mode(stat.st_mode);
            if !same || owner.is_some_and(|owner| opened.st_uid != owner) {
                return Err(io::Error::other("it is not of the user that programs run as"));
            }
        }
        Ok((kind, mode, modified_ns, file))
    };
    let (kind, mode, modified_ns, file) = match look() {
        Ok(looked) => looked,
        Err(error) => return Ok(Err(error)),
    };
    let is_file = kind == EntryKind::File;
    writer.write(&RunFrame::Entry { path: path.clone().into(), kind, mode, modified_ns }, &[]).await?;
    let Some(file) = file else { return Ok(Ok(())) };
    if is_file {
        return send_bytes(file.into(), writer).await;
    }
    Ok(list(file, &path, depth, waiting))
}

fn list(folder: OwnedFd, path: &[u8], depth: usize, waiting: &mut Vec<Found>) -> io::Result<()> {
    let folder = std::sync::Arc::new(folder);
    for entry in Dir::read_from(&*folder)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let mut below = path.to_vec();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name.as_bytes());
        waiting.push(Found { path: below, folder: folder.clone(), name, depth: depth + 1 });
    }
    Ok(())
}

async fn send_bytes(mut file: File, writer: &mut FrameWriter) -> Result<io::Result<()>, ConnectionError> {
    let mut last = false;
    while !last {
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::with_capacity(JOB_OUTPUT_FRAME_BYTES);
            let read = (&mut file).take(JOB_OUTPUT_FRAME_BYTES as u64).read_to_end(&mut bytes);
            (file, read.map(|_| bytes))
        });
        let Ok((back, bytes)) = read.await else { return Ok(Err(io::Error::other("the reading stopped"))) };
        file = back;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        last = bytes.len() < JOB_OUTPUT_FRAME_BYTES;
        writer.write(&RunFrame::Data { last }, &bytes).await?;
    }
    Ok(Ok(()))
}
