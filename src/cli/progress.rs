//! Progress bars: on standard error, only on a terminal, gone when they are done.

use crate::cli::escape::escape;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a spinner turns, and rate and time left are shown anew.
const TICK: Duration = Duration::from_millis(120);

/// How a wait looks.
const WAIT_TEMPLATE: &str = "{spinner} {msg} ({elapsed})";

/// Something under way. Dropping it takes it off the screen. All methods take `&self`, so that
/// several tasks can report; where nothing is shown they cost next to nothing.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    files: u64,
    files_done: AtomicU64,
}

impl Progress {
    pub(super) fn bytes(bars: &MultiProgress, message: &str, total: Option<u64>) -> Progress {
        Progress::start(bars, message, 0, total, bytes_template(total.is_some()))
    }

    pub(super) fn files(bars: &MultiProgress, message: &str, files: u64, total: Option<u64>) -> Progress {
        Progress::start(bars, message, files, total, bytes_template(total.is_some()))
    }

    pub(super) fn wait(bars: &MultiProgress, message: &str) -> Progress {
        Progress::start(bars, message, 0, None, WAIT_TEMPLATE)
    }

    /// The bar is set up hidden and then shown, so that no half of it is ever drawn.
    fn start(
        bars: &MultiProgress,
        message: &str,
        files: u64,
        total: Option<u64>,
        template: &'static str,
    ) -> Progress {
        let bar =
            ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden()).with_style(style(template));
        bar.set_message(escape(message).into_owned());
        let progress = Progress { bar, files, files_done: AtomicU64::new(0) };
        if files > 0 {
            progress.show_files(0);
        }
        if !bars.is_hidden() {
            bars.add(progress.bar.clone());
            progress.bar.enable_steady_tick(TICK);
        }
        progress
    }

    fn show_files(&self, done: u64) {
        let word = if self.files == 1 { "file" } else { "files" };
        self.bar.set_prefix(format!("{done} of {} {word} ", self.files));
    }

    /// `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// `bytes` are done in all.
    pub fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// The total turned out to be `bytes`.
    pub fn set_total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_style(style(bytes_template(true)));
    }

    /// One more file is done.
    pub fn file_done(&self) {
        let done = self.files_done.fetch_add(1, Ordering::Relaxed) + 1;
        self.show_files(done);
    }

    /// What is going on; may name what comes from elsewhere.
    pub fn message(&self, message: &str) {
        self.bar.set_message(escape(message).into_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bytes_template(total_known: bool) -> &'static str {
    if total_known {
        "{msg} {prefix}[{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left"
    } else {
        "{spinner} {msg} {prefix}{binary_bytes} {binary_bytes_per_sec}"
    }
}

/// The templates are constants of this file; a wrong one would show as a plain bar.
fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for template in [bytes_template(true), bytes_template(false), WAIT_TEMPLATE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn files_are_counted_and_nothing_is_shown_where_nothing_may_be() {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let progress = Progress::files(&bars, "put \u{1b}", 3, Some(10));
        assert_eq!((&*progress.bar.prefix(), &*progress.bar.message()), ("0 of 3 files ", "put \\u{1b}"));
        progress.file_done();
        progress.file_done();
        progress.add(7);
        assert_eq!((&*progress.bar.prefix(), progress.bar.position()), ("2 of 3 files ", 7));
        assert!(progress.bar.is_hidden());
    }
}
