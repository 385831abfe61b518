//! Files of uploads, in `uploads/` of the data folder, until the cluster has them. Shell: blocking.
//!
//! | file | what |
//! |---|---|
//! | `put-…` | an upload that comes in one go; goes with it |
//! | `HASH.part`, `HASH.json` | a resumable one: its bytes, and how many of them are sure ([`Note`]) |
//!
//! Invariants: a file's name is drawn here or is a hash, never what a client says; one upload has
//! one writer; what a note says is on the disk, so a power cut costs what came after it at most; the
//! headroom of the disk is never filled.

use super::super::refusal::Refusal;
use crate::clock;
use crate::limits::{UPLOAD_KEEP_MS, UPLOAD_NOTE_BYTES, UPLOADS_MAX, headroom_bytes};
use axum::http::StatusCode;
use rustix::fs::{OFlags, statvfs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

/// Bytes read at once to hash a file.
const HASH_BYTES: usize = 1 << 20;
/// Largest note, in bytes: a name may be 1 KiB, and escaped.
const NOTE_BYTES_MAX: u64 = 16 << 10;

/// Why an upload cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(in crate::web) enum SpoolError {
    #[error("this node's disk has no room for it")]
    Full,
    #[error("another request is writing this upload")]
    Busy,
    #[error("the upload of this id has another name or size")]
    Other,
    #[error("nothing is known of this upload")]
    Unknown,
    #[error("there are {UPLOADS_MAX} unfinished uploads already")]
    TooMany,
    #[error("the upload cannot be kept")]
    File(#[from] io::Error),
}

impl From<SpoolError> for Refusal {
    fn from(error: SpoolError) -> Refusal {
        let words = error.to_string();
        match error {
            SpoolError::Full => no_space(words),
            SpoolError::File(source) if source.kind() == io::ErrorKind::StorageFull => no_space(words),
            SpoolError::Busy => Refusal::new(StatusCode::CONFLICT, "busy", words)
                .hint("it ends within half a minute; try again"),
            SpoolError::Other => Refusal::new(StatusCode::CONFLICT, "conflict", words),
            SpoolError::Unknown => {
                Refusal::not_found(words).hint("it is stored, or was never begun: look for the file")
            }
            SpoolError::TooMany => Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many", words)
                .hint("finish one, or `DELETE /api/uploads/ID`; what nobody goes on with goes after a day"),
            SpoolError::File(source) => {
                tracing::warn!(error = %source, "an upload cannot be kept");
                Refusal::internal(format!("{words}: {source}"))
            }
        }
    }
}

fn no_space(words: String) -> Refusal {
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", words).hint(
        "ask another node: what comes over HTTP is kept by the one that is asked until the cluster has it",
    )
}

/// How far a resumable upload is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Of the file that it will be.
    pub(super) name: String,
    /// Bytes of all of it.
    pub(super) total: u64,
    /// Bytes that are on the disk.
    pub(super) offset: u64,
}

/// The folder of uploads.
#[derive(Clone)]
pub(in crate::web) struct Spool {
    folder: PathBuf,
    claims: Arc<Mutex<BTreeSet<String>>>,
}

/// The right to write one upload.
struct Claim {
    claims: Arc<Mutex<BTreeSet<String>>>,
    key: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims).remove(&self.key);
    }
}

fn lock(claims: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    claims.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    /// Under `data_dir`; nothing is made before it is needed.
    pub(super) fn new(data_dir: &Path) -> Spool {
        Spool { folder: data_dir.join("uploads"), claims: Arc::default() }
    }

    /// A file for an upload that comes in one go.
    pub(super) fn begin(&self, bytes: u64) -> Result<SpoolFile, SpoolError> {
        self.make()?;
        self.check_room(bytes)?;
        let random: [u8; 8] = clock::entropy()?;
        let key = format!("put-{:016x}", u64::from_le_bytes(random));
        let claim = self.claim(&key)?;
        let path = self.folder.join(&key);
        let file = options().create_new(true).open(&path)?;
        Ok(SpoolFile {
            spool: self.clone(),
            path,
            file,
            bytes: 0,
            from: 0,
            hasher: Sha256::new(),
            note: None,
            _claim: claim,
        })
    }

    /// The file of the resumable upload `id`, at the end of what is sure of it; a new one if there is none and
    /// that may be.
    pub(super) fn resume(
        &self,
        id: &str,
        name: &str,
        total: u64,
        may_begin: bool,
    ) -> Result<SpoolFile, SpoolError> {
        self.make()?;
        let key = key_of(id);
        let claim = self.claim(&key)?;
        let path = self.part(&key);
        let (note, file) = match self.note(&key)? {
            Some(note) if note.name != name || note.total != total => return Err(SpoolError::Other),
            Some(note) => (note, options().open(&path)?),
            None if !may_begin => return Err(SpoolError::Unknown),
            None => {
                self.check_room(total)?;
                let all = fs::read_dir(&self.folder)?.flatten();
                if all.filter(|entry| entry.path().extension().is_some_and(|end| end == "json")).count()
                    >= UPLOADS_MAX
                {
                    return Err(SpoolError::TooMany);
                }
                let file = options().create(true).open(&path)?;
                (Note { name: name.to_owned(), total, offset: 0 }, file)
            }
        };
        file.set_len(note.offset)?;
        let mut file = SpoolFile {
            spool: self.clone(),
            path,
            file,
            bytes: note.offset,
            from: note.offset,
            hasher: Sha256::new(),
            note: Some((key, note)),
            _claim: claim,
        };
        file.note()?;
        Ok(file)
    }

    /// How far the resumable upload `id` is, if there is one.
    pub(super) fn look(&self, id: &str) -> Result<Option<Note>, SpoolError> {
        self.note(&key_of(id))
    }

    /// Throws the resumable upload `id` away; says whether there was one.
    pub(super) fn forget(&self, id: &str) -> Result<bool, SpoolError> {
        let key = key_of(id);
        let _claim = self.claim(&key)?;
        let there = self.note(&key)?.is_some();
        self.remove(&key)?;
        Ok(there)
    }

    /// Removes what nobody goes on with: of an earlier run all that came in one go, and resumable ones
    /// that are older than [`UPLOAD_KEEP_MS`]. Files that are not ours stay.
    pub(in crate::web) fn clean(&self, wall_ms: u64) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let (key, end) = name.split_once('.').unwrap_or((name, ""));
            let is_ours = key.strip_prefix("put-").is_some_and(is_hex) || is_hex(key);
            if !is_ours || !["", "part", "json", "new"].contains(&end) {
                continue;
            }
            let Ok(_claim) = self.claim(key) else { continue };
            let modified = entry.metadata().and_then(|data| data.modified()).ok();
            let age_ms = modified
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .map(|since| wall_ms.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)));
            // A part without a note is not known to be of any length.
            let is_noted =
                end == "json" || (end == "part" && self.folder.join(format!("{key}.json")).exists());
            if !is_noted {
                let _ = fs::remove_file(entry.path());
            } else if end == "json" && age_ms.is_some_and(|age| age > UPLOAD_KEEP_MS) {
                let _ = self.remove(key);
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether so many bytes more leave the headroom free.
    fn check_room(&self, bytes: u64) -> Result<(), SpoolError> {
        let disk = statvfs(&self.folder).map_err(io::Error::from)?;
        let (all, free) =
            (disk.f_blocks.saturating_mul(disk.f_frsize), disk.f_bavail.saturating_mul(disk.f_frsize));
        let is_room = free.saturating_sub(headroom_bytes(all)) >= bytes;
        if is_room { Ok(()) } else { Err(SpoolError::Full) }
    }

    fn claim(&self, key: &str) -> Result<Claim, SpoolError> {
        let is_new = lock(&self.claims).insert(key.to_owned());
        if is_new {
            Ok(Claim { claims: Arc::clone(&self.claims), key: key.to_owned() })
        } else {
            Err(SpoolError::Busy)
        }
    }

    fn part(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.part"))
    }

    fn note(&self, key: &str) -> Result<Option<Note>, SpoolError> {
        let path = self.folder.join(format!("{key}.json"));
        let mut text = Vec::new();
        match OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
            Ok(file) => file.take(NOTE_BYTES_MAX).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A note that cannot be read says nothing: the upload begins anew.
        Ok(serde_json::from_slice(&text).ok())
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        // The note first: a part without one is thrown away.
        for end in ["json", "part"] {
            match fs::remove_file(self.folder.join(format!("{key}.{end}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// An upload that is being written.
pub(super) struct SpoolFile {
    spool: Spool,
    path: PathBuf,
    file: File,
    bytes: u64,
    /// How many there were when it was opened; the hash is of what came since.
    from: u64,
    hasher: Sha256,
    /// Of a resumable one.
    note: Option<(String, Note)>,
    _claim: Claim,
}

impl SpoolFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that came so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds to it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.spool.check_room(bytes.len() as u64)?;
        self.file.write_all_at(bytes, self.bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        if self.note.as_ref().is_some_and(|(_, note)| self.bytes - note.offset >= UPLOAD_NOTE_BYTES) {
            self.note()?;
        }
        Ok(())
    }

    /// Makes sure of what came, and notes how much that is.
    pub(super) fn note(&mut self) -> Result<(), SpoolError> {
        let Some((key, note)) = &mut self.note else { return Ok(()) };
        self.file.sync_data()?;
        note.offset = self.bytes;
        let folder = &self.spool.folder;
        let new = folder.join(format!("{key}.new"));
        let text = serde_json::to_vec(note).map_err(io::Error::other)?;
        let file = options().create(true).truncate(true).open(&new)?;
        file.write_all_at(&text, 0)?;
        file.sync_all()?;
        fs::rename(&new, folder.join(format!("{key}.json")))?;
        File::open(folder)?.sync_all()?;
        Ok(())
    }

    /// Throws away what came since it was opened.
    pub(super) fn undo(&mut self) -> Result<(), SpoolError> {
        self.file.set_len(self.from)?;
        self.bytes = self.from;
        self.hasher = Sha256::new();
        self.note()
    }

    /// SHA-256 of what came since it was opened.
    pub(super) fn part_hash(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// SHA-256 of all of it.
    pub(super) fn hash(&mut self) -> Result<[u8; 32], SpoolError> {
        if self.from == 0 {
            return Ok(self.part_hash());
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; HASH_BYTES];
        self.file.seek(SeekFrom::Start(0))?;
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(hasher.finalize().into());
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
    }

    /// It is done with.
    pub(super) fn remove(&mut self) -> Result<(), SpoolError> {
        match self.note.take() {
            Some((key, _)) => Ok(self.spool.remove(&key)?),
            None => Ok(()),
        }
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if self.note.is_none() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(no_follow());
    options
}

fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

/// What the files of an upload are called.
fn key_of(id: &str) -> String {
    let hash = Sha256::new().chain_update(b"thorp upload 1").chain_update(id).finalize();
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn is_hex(text: &str) -> bool {
    matches!(text.len(), 16 | 32) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(folder.path());
        (folder, spool)
    }

    fn files(spool: &Spool) -> usize {
        fs::read_dir(&spool.folder).map_or(0, Iterator::count)
    }

    #[test]
    fn an_upload_goes_with_its_end() {
        let (_folder, spool) = spool();
        let mut file = spool.begin(5).expect("room");
        file.write(b"hello").expect("room");
        assert_eq!(fs::read(file.path()).expect("a file"), b"hello");
        assert_eq!(file.hash().expect("a hash"), file.part_hash());
        assert_eq!(files(&spool), 1);
        drop(file);
        assert_eq!(files(&spool), 0);
        assert!(matches!(spool.begin(u64::MAX), Err(SpoolError::Full)));
    }

    #[test]
    fn a_resumable_one_goes_on_where_it_is_sure() {
        let (folder, spool) = spool();
        let mut file = spool.resume(ID, "a", 10, true).expect("room");
        assert!(matches!(spool.resume(ID, "a", 10, true), Err(SpoolError::Busy)));
        assert!(matches!(spool.forget(ID), Err(SpoolError::Busy)));
        file.write(b"hello").expect("room");
        file.note().expect("a note");
        file.write(b"lost").expect("room");
        drop(file);
        // As after a power cut.
        let spool = Spool::new(folder.path());
        spool.clean(clock::wall().0);
        assert_eq!(spool.look(ID).expect("a note").map(|note| note.offset), Some(5));
        assert!(matches!(spool.resume(ID, "b", 10, true), Err(SpoolError::Other)));
        assert!(matches!(spool.resume("another", "a", 10, false), Err(SpoolError::Unknown)));
        assert!(matches!(spool.resume(ID, "a", 11, true), Err(SpoolError::Other)));
        let mut file = spool.resume(ID, "a", 10, true).expect("room");
        assert_eq!(file.bytes(), 5);
        file.write(b"wrong").expect("room");
        file.undo().expect("undone");
        file.write(b"world").expect("room");
        let whole: [u8; 32] = Sha256::digest(b"helloworld").into();
        assert_eq!(file.hash().expect("a hash"), whole);
        file.remove().expect("removed");
        drop(file);
        assert_eq!(files(&spool), 0);
        assert!(!spool.forget(ID).expect("an answer"));
    }

    #[test]
    fn what_nobody_goes_on_with_goes() {
        let (_folder, spool) = spool();
        let now = clock::wall().0;
        drop(spool.resume(ID, "a", 10, true).expect("room"));
        let running = spool.begin(0).expect("room");
        for (name, ours) in
            [("put-0123456789abcdef", true), ("notes.txt", false), ("put-me", false), (".part", false)]
        {
            fs::write(spool.folder.join(name), b"").expect("a file");
            spool.clean(now);
            assert_eq!(spool.folder.join(name).exists(), !ours, "{name}");
        }
        assert!(running.path().exists());
        spool.clean(now + UPLOAD_KEEP_MS / 2);
        assert!(spool.look(ID).expect("an answer").is_some());
        spool.clean(now + UPLOAD_KEEP_MS + 60_000);
        assert!(spool.look(ID).expect("an answer").is_none());
    }

    #[test]
    fn there_are_only_so_many() {
        let (_folder, spool) = spool();
        for number in 0..UPLOADS_MAX {
            drop(spool.resume(&format!("{ID}{number}"), "a", 10, true).expect("room"));
        }
        assert!(matches!(spool.resume(ID, "a", 10, true), Err(SpoolError::TooMany)));
        assert!(spool.forget(&format!("{ID}1")).expect("an answer"));
        assert!(spool.resume(ID, "a", 10, true).is_ok());
    }
}
