//! The output of a job: on disk, in files of [`JOB_SEGMENT_BYTES`] each, the oldest of which goes when there is too
//! much. Each run of bytes has a head that says from which stream it came.
//!
//! Invariants: bytes are numbered from the program's start, both streams together, in the order in which they came;
//! what a session has not taken is never thrown away: the program waits instead.

use crate::limits::{JOB_OUTPUT_BYTES_MAX, JOB_SEGMENT_BYTES};
use crate::wire::run::{OutputStream, RECORD_HEAD_BYTES, read_record_head, record_head};
use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Waits between two tries to write to a full disk.
const FULL_WAIT: Duration = Duration::from_millis(500);
/// How files of output begin; the number of their first byte follows.
const SEGMENT: &str = "output-";

/// The output of a job.
pub(super) struct Output {
    folder: PathBuf,
    inner: Mutex<Inner>,
    /// The floor has risen, or nothing is waited for any more.
    room: Condvar,
    end: watch::Sender<u64>,
}

struct Inner {
    /// Numbers of the first bytes of the files, the oldest first.
    segments: VecDeque<u64>,
    file: Option<File>,
    end: u64,
    /// Nothing from here on may be thrown away.
    floor: Option<u64>,
    warned: bool,
    /// The program has ended: what is in its pipes is kept at once or not at all.
    draining: bool,
}

impl Output {
    /// That of a new job, or of one that has ended, in the job's folder.
    pub(super) fn open(folder: &Path) -> io::Result<Output> {
        let mut starts = BTreeSet::new();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            let start: Option<u64> =
                name.to_str().and_then(|name| name.strip_prefix(SEGMENT)).and_then(|text| text.parse().ok());
            starts.extend(start);
        }
        let (mut segments, mut end) = (VecDeque::new(), 0);
        for start in starts.into_iter().rev() {
            let upto = start + length(&folder.join(format!("{SEGMENT}{start}")))?;
            match segments.front() {
                None => end = upto,
                // After a power cut one may be shorter than it was: what comes before it cannot be reached.
                Some(next) if *next != upto => break,
                Some(_) => {}
            }
            segments.push_front(start);
        }
        let inner = Inner { segments, file: None, end, floor: None, warned: false, draining: false };
        let (end, _) = watch::channel(end);
        Ok(Output { folder: folder.into(), inner: Mutex::new(inner), room: Condvar::new(), end })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, start: u64) -> PathBuf {
        self.folder.join(format!("{SEGMENT}{start}"))
    }

    /// Number of the byte after the last, as it grows.
    pub(super) fn end(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// Number of the oldest byte that is there.
    pub(super) fn begin(&self) -> u64 {
        self.inner().segments.front().copied().unwrap_or(0)
    }

    /// Nothing from `floor` on may be thrown away; `None`: everything may.
    pub(super) fn set_floor(&self, floor: Option<u64>) {
        self.inner().floor = floor;
        self.room.notify_all();
    }

    /// From now on nothing waits for room.
    pub(super) fn drain(&self) {
        self.inner().draining = true;
        self.room.notify_all();
    }

    /// Keeps what the program has said. Waits while there is no room.
    pub(super) fn append(&self, stream: OutputStream, bytes: &[u8]) {
        let count = bytes.len() as u64;
        let mut inner = self.inner();
        while !inner.draining
            && inner
                .floor
                .is_some_and(|floor| inner.end + count > floor + JOB_OUTPUT_BYTES_MAX - JOB_SEGMENT_BYTES)
        {
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        while let Err(error) = self.write(&mut inner, stream, bytes) {
            if inner.draining {
                return;
            }
            // The program waits, as it would for a slow terminal.
            if !std::mem::replace(&mut inner.warned, true) {
                tracing::warn!(%error, folder = %self.folder.display(), "output of a job cannot be kept");
            }
            (inner, _) = self.room.wait_timeout(inner, FULL_WAIT).unwrap_or_else(PoisonError::into_inner);
        }
        inner.end += count;
        self.drop_oldest(&mut inner);
        let end = inner.end;
        drop(inner);
        self.end.send_replace(end);
    }

    fn write(&self, inner: &mut Inner, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        let last = inner.segments.back().copied();
        if inner.file.is_none() || last.is_none_or(|start| inner.end - start >= JOB_SEGMENT_BYTES) {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(inner.end))?;
            inner.file = Some(file);
            if last != Some(inner.end) {
                inner.segments.push_back(inner.end);
            }
        }
        let Some(file) = &mut inner.file else { return Ok(()) };
        let before = file.metadata()?.len();
        let head = record_head(stream, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let written = file.write_all(&[&head[..], bytes].concat());
        if written.is_err() {
            file.set_len(before)?; // else it would be there twice
        }
        written
    }

    fn drop_oldest(&self, inner: &mut Inner) {
        while let (Some(first), Some(second)) = (inner.segments.front(), inner.segments.get(1))
            && inner.end - first > JOB_OUTPUT_BYTES_MAX
            && inner.floor.is_none_or(|floor| *second <= floor)
        {
            let _ = std::fs::remove_file(self.path(*first));
            inner.segments.pop_front();
        }
    }

    /// Reads from the byte `from` on; from the oldest that is there, or the next that comes, if that is not there.
    pub(super) fn reader(&self, from: u64) -> OutputReader {
        let begin = self.begin();
        OutputReader { position: from.min(*self.end.borrow()).max(begin), open: None }
    }
}

/// Payload bytes of a file of output. A record that was cut off counts as far as it goes.
fn length(path: &Path) -> io::Result<u64> {
    let (mut file, mut bytes) = (File::open(path)?, 0);
    let size = file.metadata()?.len();
    let mut at = 0;
    while let Some((_, count)) = head(&mut file)? {
        at += RECORD_HEAD_BYTES as u64 + u64::from(count);
        bytes += u64::from(count).saturating_sub(at.saturating_sub(size));
        file.seek(SeekFrom::Start(at))?;
    }
    Ok(bytes)
}

fn head(file: &mut File) -> io::Result<Option<(OutputStream, u32)>> {
    let mut head = [0; RECORD_HEAD_BYTES];
    match file.read_exact(&mut head) {
        Ok(()) => Ok(read_record_head(head)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads output that is there.
pub(super) struct OutputReader {
    position: u64,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Number of the first byte of the next file, if there is one.
    ends: Option<u64>,
    stream: OutputStream,
    /// Bytes of the record that are still to be read.
    left: u64,
}

impl OutputReader {
    /// Number of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// At most `most` bytes of one stream; `None` if there are no more for now.
    pub(super) fn next(
        &mut self,
        output: &Output,
        most: usize,
    ) -> io::Result<Option<(OutputStream, Vec<u8>)>> {
        loop {
            let end = *output.end.borrow();
            if self.position >= end {
                return Ok(None);
            }
            let at_end = |open: &Open| open.left == 0 && open.ends.is_some_and(|ends| ends <= self.position);
            let fresh = self.open.as_ref().is_none_or(at_end);
            if fresh {
                self.open = Some(self.seek(output)?);
            }
            let Some(open) = &mut self.open else { continue };
            if open.left == 0 {
                match head(&mut open.file)? {
                    Some((stream, count)) => (open.stream, open.left) = (stream, u64::from(count)),
                    None if fresh => return Err(io::ErrorKind::UnexpectedEof.into()),
                    // The file was the last when it was opened, and is not any more.
                    None => self.open = None,
                }
                continue;
            }
            let count = usize::try_from(open.left).unwrap_or(usize::MAX).min(most);
            let mut bytes = vec![0; count];
            let read = open.file.read(&mut bytes)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.truncate(read);
            open.left -= read as u64;
            self.position += read as u64;
            return Ok(Some((open.stream, bytes)));
        }
    }

    /// Opens the file that has the next byte, at the record that has it.
    fn seek(&mut self, output: &Output) -> io::Result<Open> {
        let (start, ends) = {
            let inner = output.inner();
            let at = inner.segments.partition_point(|start| *start <= self.position);
            let start = at.checked_sub(1).and_then(|at| inner.segments.get(at)).copied();
            (start, inner.segments.get(at).copied())
        };
        let start = start.ok_or(io::ErrorKind::NotFound)?;
        let mut file = File::open(output.path(start))?;
        let mut skip = self.position - start;
        loop {
            let Some((stream, count)) = head(&mut file)? else {
                return Ok(Open { file, ends, stream: OutputStream::Output, left: 0 });
            };
            let count = u64::from(count);
            let passed = skip.min(count);
            file.seek(SeekFrom::Current(i64::try_from(passed).unwrap_or(0)))?;
            if passed < count {
                return Ok(Open { file, ends, stream, left: count - passed });
            }
            skip -= passed;
            if skip == 0 {
                return Ok(Open { file, ends, stream, left: 0 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Errors, Output as Out};

    fn read(output: &Output, from: u64, most: usize) -> Vec<(OutputStream, Vec<u8>)> {
        let mut reader = output.reader(from);
        let mut all: Vec<(OutputStream, Vec<u8>)> = Vec::new();
        while let Some((stream, bytes)) = reader.next(output, most).expect("readable") {
            match all.last_mut() {
                Some((last, before)) if *last == stream => before.extend(bytes),
                _ => all.push((stream, bytes)),
            }
        }
        assert_eq!(reader.position(), *output.end().borrow());
        all
    }

    #[test]
    fn output_is_read_from_any_byte_on_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Output::open(folder.path()).expect("new");
        output.append(Out, b"one ");
        output.append(Errors, b"two ");
        output.append(Out, b"three");
        let all = vec![(Out, b"one ".to_vec()), (Errors, b"two ".to_vec()), (Out, b"three".to_vec())];
        let again = Output::open(folder.path()).expect("there");
        for output in [&output, &again] {
            for most in [1, 3, 100] {
                assert_eq!(read(output, 0, most), all);
                assert_eq!(read(output, 6, most), [(Errors, b"o ".to_vec()), (Out, b"three".to_vec())]);
                assert_eq!(read(output, 13, most), []);
                assert_eq!(read(output, u64::MAX, most), [], "what is not there yet begins at the end");
            }
        }
        again.append(Errors, b"!");
        assert_eq!(read(&again, 12, 9), [(Out, b"e".to_vec()), (Errors, b"!".to_vec())]);
    }

    /// As a power cut may leave it: a file in the middle is shorter than the next one's number says.
    #[test]
    fn what_cannot_be_reached_any_more_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Output::open(folder.path()).expect("new");
        let piece = vec![7; 1 << 20];
        (0..12).for_each(|_| output.append(Out, &piece));
        assert_eq!(output.inner().segments.len(), 3);
        drop(output);
        File::create(folder.path().join("output-4194304")).expect("emptied");
        let output = Output::open(folder.path()).expect("there");
        assert_eq!((output.begin(), *output.end().borrow()), (8 << 20, 12 << 20));
        assert_eq!(read(&output, 0, 1 << 20).len(), 1);
        File::create(folder.path().join("output-8388608")).expect("emptied while it is open");
        assert!(output.reader(9 << 20).next(&output, 10).is_err(), "no endless search");
    }

    #[test]
    fn after_the_end_nothing_waits_for_who_does_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Output::open(folder.path()).expect("new");
        output.set_floor(Some(0));
        let piece = vec![7; 1 << 20];
        (0..(JOB_OUTPUT_BYTES_MAX - JOB_SEGMENT_BYTES) >> 20).for_each(|_| output.append(Out, &piece));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| output.append(Out, &piece));
            output.drain();
            writer.join().expect("it goes on");
        });
    }

    #[test]
    fn the_oldest_goes_but_nothing_that_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Output::open(folder.path()).expect("new");
        let piece = vec![7; 1 << 20];
        let pieces = JOB_OUTPUT_BYTES_MAX / piece.len() as u64;
        for _ in 0..pieces + 20 {
            output.append(Out, &piece);
        }
        let begin = output.begin();
        assert!(begin > 0 && *output.end().borrow() - begin <= JOB_OUTPUT_BYTES_MAX + JOB_SEGMENT_BYTES);
        output.set_floor(Some(*output.end().borrow()));
        let (output, piece) = (&output, &piece);
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for _ in 0..pieces {
                    output.append(Errors, piece);
                }
            });
            let mut end = output.end();
            let full = JOB_OUTPUT_BYTES_MAX - JOB_SEGMENT_BYTES;
            let floor = output.inner().floor.expect("set");
            while *end.borrow_and_update() < floor + full {
                std::thread::yield_now();
            }
            assert_eq!(*end.borrow(), floor + full, "it waits");
            assert!(output.begin() <= floor);
            output.set_floor(None);
            writer.join().expect("it goes on");
        });
    }
}
