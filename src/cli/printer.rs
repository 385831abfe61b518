//! The only place that writes to standard output and error.
//!
//! Results go to standard output: words for people, or one JSON document. All else (progress,
//! notes, warnings, logs, errors) goes to standard error. Invariants: with `--json` nothing but
//! the document reaches standard output; a pipe that its reader closed is no error, what follows
//! is dropped; text from elsewhere reaches a terminal escaped, and a pipe as it is.

use crate::cli::escape::escape;
use crate::cli::failure::Failure;
use crate::cli::json::{ErrorBody, ErrorDocument};
use crate::cli::progress::Progress;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the user wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verbosity {
    /// One JSON document instead of words.
    pub json: bool,
    /// How often `-q` was given: 1 drops progress and notes, 2 warnings too.
    pub quiet: u8,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// How a piece of text stands out, where colours are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Green: as it should be.
    Good,
    /// Yellow: needs attention.
    Warn,
    /// Red: lost or failed.
    Bad,
    /// Headings.
    Bold,
    /// Of lesser weight.
    Dim,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
            Style::Bold => "1",
            Style::Dim => "2",
        }
    }
}

/// Writes for one run of the program. Cheap to share: all methods take `&self`.
#[derive(Debug)]
pub struct Printer {
    verbosity: Verbosity,
    output: Stream,
    errors: Stream,
    bars: MultiProgress,
    closed: AtomicBool,
    broken: Mutex<Option<io::Error>>,
}

/// What one of the two streams can show.
#[derive(Clone, Copy, Debug)]
struct Stream {
    terminal: bool,
    colour: bool,
}

impl Stream {
    fn of(stream: &impl IsTerminal) -> Stream {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let terminal = stream.is_terminal();
        Stream { terminal, colour: terminal && !set("NO_COLOR") && !dumb }
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
    }

    fn safe(self, text: &str) -> Cow<'_, str> {
        if self.terminal { escape(text) } else { Cow::Borrowed(text) }
    }
}

impl Printer {
    /// For this process's own streams.
    #[must_use]
    pub fn new(verbosity: Verbosity) -> Printer {
        let errors = Stream::of(&io::stderr());
        let shown = errors.terminal && !verbosity.json && verbosity.quiet == 0;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Printer {
            verbosity,
            output: Stream::of(&io::stdout()),
            errors,
            bars: MultiProgress::with_draw_target(target),
            closed: AtomicBool::new(false),
            broken: Mutex::new(None),
        }
    }

    /// Whether the result is a JSON document.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.verbosity.json
    }

    /// How often `-v` was given.
    #[must_use]
    pub fn verbose(&self) -> u8 {
        self.verbosity.verbose
    }

    // ---- results ----

    /// The command's result: `document` with `--json`, otherwise what `words` prints.
    pub fn result<T: Serialize>(&self, document: &T, words: impl FnOnce(&Printer)) {
        if self.verbosity.json { self.json(document) } else { words(self) }
    }

    /// A line for people; nothing with `--json`. Escape what comes from elsewhere by [`Self::name`].
    pub fn line(&self, text: impl Display) {
        if !self.verbosity.json {
            self.write(format!("{text}\n").as_bytes());
        }
    }

    /// A JSON document, in one line.
    pub fn json<T: Serialize>(&self, document: &T) {
        match serde_json::to_vec(document) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                self.write(&bytes);
            }
            Err(error) => self.remember(io::Error::other(error)),
        }
    }

    /// Bytes as they are, whether or not `--json` is given: a file's contents, a manual page.
    /// `false` once nobody reads them, so that the caller can stop.
    pub fn write(&self, bytes: &[u8]) -> bool {
        if self.is_closed() {
            return false;
        }
        let written = self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        });
        match written {
            Ok(()) => true,
            Err(error) => {
                self.remember(error);
                false
            }
        }
    }

    /// Whether standard output takes nothing any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// What stopped standard output, if it was not merely closed by its reader.
    ///
    /// # Errors
    /// When some of the result could not be written (a full disk).
    pub fn finish(&self) -> Result<(), Failure> {
        match self.broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(Failure::local_file("write", Path::new("standard output"), &error)),
            None => Ok(()),
        }
    }

    fn remember(&self, error: io::Error) {
        self.closed.store(true, Ordering::Relaxed);
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// Text from elsewhere, for standard output: escaped on a terminal, as it is in a pipe.
    #[must_use]
    pub fn name<'text>(&self, text: &'text str) -> Cow<'text, str> {
        self.output.safe(text)
    }

    /// `text` in `style`, where standard output shows colours. Escape it first.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        self.output.paint(style, text)
    }

    /// A table for people; nothing with `--json`.
    pub fn table(&self, table: &super::table::Table) {
        if self.verbosity.json {
            return;
        }
        let mut text = String::new();
        for (line, style) in table.lines() {
            text.push_str(&style.map_or_else(|| line.clone(), |style| self.paint(style, &line)));
            text.push('\n');
        }
        self.write(text.as_bytes());
    }

    // ---- everything else ----

    /// Something to know, not part of the result. `-q` drops it.
    pub fn note(&self, text: impl Display) {
        if self.verbosity.quiet == 0 {
            self.tell("note", Style::Dim, &text.to_string());
        }
    }

    /// Something that needs attention. `-qq` drops it.
    pub fn warning(&self, text: impl Display) {
        if self.verbosity.quiet < 2 {
            self.tell("warning", Style::Warn, &text.to_string());
        }
    }

    /// Why the command failed: on standard error, or with `--json` as the document.
    pub fn failure(&self, failure: &Failure) {
        if self.verbosity.json {
            return self.json(&ErrorDocument {
                error: ErrorBody {
                    code: failure.json_code,
                    message: &failure.message,
                    hint: failure.hint.as_deref(),
                },
            });
        }
        self.tell("error", Style::Bad, &failure.message);
        if let Some(hint) = &failure.hint {
            self.tell("hint", Style::Dim, hint);
        }
    }

    /// What the parser says of wrong usage, or the help it was asked for, in its own colours.
    pub fn usage(&self, error: &clap::Error) {
        // Help that nobody reads to its end is no error.
        let _ = error.print();
    }

    /// One line on standard error, wholly escaped: parts of it may come from elsewhere.
    fn tell(&self, label: &str, style: Style, text: &str) {
        let line = format!("{}: {}\n", self.errors.paint(style, label), self.errors.safe(text));
        self.bars.suspend(|| write_error(line.as_bytes()));
    }

    // ---- progress ----

    /// A bar of bytes with rate and time left; `total` is `None` while it is not known.
    #[must_use]
    pub fn bytes_progress(&self, message: &str, total: Option<u64>) -> Progress {
        Progress::bytes(&self.bars, message, total)
    }

    /// A bar of bytes over `files` files, which also counts those that are done.
    #[must_use]
    pub fn files_progress(&self, message: &str, files: u64, total: Option<u64>) -> Progress {
        Progress::files(&self.bars, message, files, total)
    }

    /// A spinner for a wait.
    #[must_use]
    pub fn wait_progress(&self, message: &str) -> Progress {
        Progress::wait(&self.bars, message)
    }

    /// Standard output for bytes that another thread writes.
    #[must_use]
    pub fn raw_output(self: &Arc<Self>) -> RawOutput {
        RawOutput(Arc::clone(self))
    }

    /// Where logs go: standard error, between the bars.
    #[must_use]
    pub fn log_writer(&self) -> LogWriter {
        LogWriter { bars: self.bars.clone() }
    }
}

/// Standard output as a writer of bytes; fails with `BrokenPipe` once nobody reads them.
#[derive(Clone, Debug)]
pub struct RawOutput(Arc<Printer>);

impl Write for RawOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.write(bytes) { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to standard error without disturbing progress bars.
#[derive(Clone, Debug)]
pub struct LogWriter {
    bars: MultiProgress,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| write_error(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on a panic is told in two calm lines instead of a trace (`RUST_BACKTRACE` brings that
/// back for those who want it).
pub fn tell_panics_calmly() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            return default(panic);
        }
        let text = format!(
            "error: this is a bug in thorp {}: {}\nhint: please report this line to the project\n",
            env!("CARGO_PKG_VERSION"),
            escape(&panic.to_string().replace('\n', " ")),
        );
        write_error(text.as_bytes());
    }));
}

/// There is nowhere to tell that standard error is closed.
fn write_error(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}
