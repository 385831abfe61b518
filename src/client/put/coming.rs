//! A file that is still being written while it is put: who reads it waits for what comes. Shell.
//!
//! Invariant: it ends for its readers only when its writer says that it is whole and right; a writer that
//! goes before has broken it off, and nothing of it is stored.

use crate::transfer::chain::Source;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
struct Stage {
    bytes: u64,
    whole: bool,
}

/// The writer's side. Dropped before [`Growing::end`] it breaks the file off.
#[derive(Debug)]
pub struct Growing(watch::Sender<Stage>);

/// The readers' side.
#[derive(Clone, Debug)]
pub struct Coming(watch::Receiver<Stage>);

/// A file of which nothing is there yet.
#[must_use]
pub fn begin() -> (Growing, Coming) {
    let (growing, coming) = watch::channel(Stage::default());
    (Growing(growing), Coming(coming))
}

impl Growing {
    /// So many bytes of it are written.
    pub fn grow_to(&self, bytes: u64) {
        self.0.send_modify(|stage| stage.bytes = bytes);
    }

    /// All of it is written, and it is what it should be.
    pub fn end(self) {
        self.0.send_modify(|stage| stage.whole = true);
    }
}

impl Coming {
    /// Whether its writer has said that it is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.borrow().whole
    }

    /// The file at `path`, to be read from its beginning, on a thread that may wait.
    pub(super) fn source(&self, tag: u64, path: PathBuf) -> Source {
        let (stages, runtime) = (self.0.clone(), Handle::current());
        let open = move || {
            let reader = Reader { file: File::open(path)?, at: 0, stages, runtime };
            let reader: Box<dyn Read + Send> = Box::new(reader);
            Ok((reader, None))
        };
        Source { tag, open: Box::new(open) }
    }
}

struct Reader {
    file: File,
    at: u64,
    stages: watch::Receiver<Stage>,
    runtime: Handle,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let stage = self.runtime.block_on(self.stages.wait_for(|stage| stage.whole || stage.bytes > at));
        let stage = *stage.map_err(|_| io::Error::other("it was broken off while it came"))?;
        let most = usize::try_from(stage.bytes - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn it_is_read_as_it_comes_and_ends_when_it_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, b"hello world").expect("written");
        for is_right in [true, false] {
            let (growing, coming) = begin();
            let source = coming.source(7, path.clone());
            let reading = tokio::task::spawn_blocking(move || {
                let (mut reader, _) = (source.open)().expect("a file");
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            });
            growing.grow_to(5);
            growing.grow_to(11);
            assert!(!coming.is_whole());
            if is_right {
                growing.end();
            } else {
                drop(growing);
            }
            let read = reading.await.expect("an end");
            assert_eq!(read.ok().as_deref(), is_right.then_some(b"hello world".as_slice()));
            assert_eq!(coming.is_whole(), is_right);
        }
    }
}
