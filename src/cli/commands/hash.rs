//! `thorp hash`: the content id of local files, which is the one that `ls` shows for them.

use crate::cli::arguments::{HashArguments, is_standard};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::HashRow;
use crate::cli::printer::Printer;
use crate::cli::progress::Progress;
use crate::limits::CHUNK_BYTES_MAX;
use crate::transfer::chunking::Chunker;
use crate::transfer::manifest::{Manifest, ManifestBuilder, chunk_hash};
use crate::types::ChunkRef;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes read ahead of the chunker: two of the largest chunks, so that few bytes are moved.
const BUFFER_BYTES: usize = 2 * CHUNK_BYTES_MAX;

/// Hashes each file, and each regular file below each folder, in the order of names. Needs neither
/// settings nor a node.
///
/// # Errors
/// At the first that cannot be read.
pub fn run(printer: &Printer, arguments: &HashArguments) -> Result<Outcome, Failure> {
    let mut files = Vec::new();
    for path in &arguments.paths {
        files.extend(files_at(path)?);
    }
    let sizes: Option<Vec<u64>> = files.iter().map(|file| size_of(file)).collect();
    let total = sizes.map(|sizes| sizes.iter().sum());
    let progress = printer.files_progress("hash", files.len() as u64, total);
    let mut rows = Vec::new();
    for file in &files {
        let manifest = hash_file(file, &progress)?;
        progress.file_done();
        let row = HashRow {
            path: file.display().to_string(),
            bytes: manifest.size,
            content: manifest.content.to_string(),
        };
        printer.line(format_args!("{}  {}", row.content, printer.name(&row.path)));
        if printer.is_closed() {
            return Ok(Outcome::Done);
        }
        rows.push(row);
    }
    if printer.is_json() {
        printer.json(&rows);
    }
    Ok(Outcome::Done)
}

/// Bytes of a regular file; of standard input, a pipe or a device it is not known.
fn size_of(path: &Path) -> Option<u64> {
    if is_standard(path) {
        return None;
    }
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// The file itself, or the regular files below a folder; links there are not followed.
fn files_at(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let refuse = |path: &Path, error: &io::Error| Failure::local_file("read", path, error);
    if is_standard(path) || !fs::metadata(path).map_err(|error| refuse(path, &error))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| refuse(&folder, &error))? {
            let entry = entry.map_err(|error| refuse(&folder, &error))?;
            let kind = entry.file_type().map_err(|error| refuse(&entry.path(), &error))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn hash_file(path: &Path, progress: &Progress) -> Result<Manifest, Failure> {
    let manifest = if is_standard(path) {
        manifest_of(&mut io::stdin().lock(), progress)
    } else {
        File::open(path).and_then(|mut file| manifest_of(&mut file, progress))
    };
    manifest.map_err(|error| Failure::local_file("read", path, &error))
}

/// The manifest of all that `reader` gives; holds a few chunks at a time.
///
/// # Errors
/// When reading fails, or there is more than a content can have.
pub fn manifest_of(reader: &mut impl Read, progress: &Progress) -> io::Result<Manifest> {
    let (mut chunker, mut builder) = (Chunker::new(), ManifestBuilder::new());
    let mut buffer = Vec::new();
    loop {
        let wanted = BUFFER_BYTES - buffer.len();
        let read = reader.by_ref().take(wanted as u64).read_to_end(&mut buffer)?;
        let at_end = read < wanted;
        let mut start = 0;
        while let Some(length) = chunker.cut(&buffer[start..], at_end) {
            if builder.is_full() {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "it has more chunks than a file can have",
                ));
            }
            let bytes = u32::try_from(length).map_err(io::Error::other)?;
            builder.push(ChunkRef { hash: chunk_hash(&buffer[start..start + length]), bytes });
            start += length;
            progress.add(u64::from(bytes));
        }
        buffer.drain(..start);
        if at_end {
            return Ok(builder.finish());
        }
    }
}
