//! Files to put, and looking at what lies on disks.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thorp::clock::Rng;

/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;

/// Makes a file of `bytes` bytes that follow from `seed`, and the folders above it.
#[track_caller]
pub fn random_file(path: &Path, bytes: u64, seed: u64) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of a file");
    fs::write(path, random_bytes(bytes, seed)).expect("a file");
}

/// `bytes` bytes that follow from `seed`.
pub fn random_bytes(bytes: u64, seed: u64) -> Vec<u8> {
    let mut data = vec![0; usize::try_from(bytes).expect("a size")];
    Rng::seeded(seed).fill(&mut data);
    data
}

/// Whether two files have the same bytes.
#[track_caller]
pub fn are_equal(a: &Path, b: &Path) -> bool {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    read(a) == read(b)
}

/// The files under a folder, and their sizes. What goes away meanwhile is left out.
pub fn files_under(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => drop(files.insert(entry.path(), data.len())),
                Err(_) => {}
            }
        }
    }
    files
}

/// Bytes that are really written of the files in a folder whose name ends like this.
pub fn written_bytes(folder: &Path, ending: &str) -> u64 {
    let files = files_under(folder);
    let parts = files.keys().filter(|path| path.to_string_lossy().ends_with(ending));
    parts.filter_map(|path| fs::metadata(path).ok()).map(|data| data.blocks() * 512).sum()
}

/// Everything under a folder, one line each: path, and target, or mode and bytes.
#[track_caller]
pub fn describe(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_symlink() {
                lines.push(format!("{name:?} -> {:?}", fs::read_link(&path).unwrap()));
            } else if data.is_dir() {
                lines.push(format!("{name:?}/"));
                folders.push(path);
            } else {
                let (bytes, hash) = (data.len(), digest(&path));
                lines.push(format!(
                    "{name:?} {:o} {}.{} {bytes} {hash}",
                    data.mode() & 0o777,
                    data.mtime(),
                    data.mtime_nsec()
                ));
            }
        }
    }
    lines.sort();
    lines
}

fn digest(path: &Path) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}
