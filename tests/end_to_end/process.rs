//! Processes with captured output, and the one place that waits.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use thorp::clock;

/// Time between two looks at a condition: short, because some tests act in the middle of a transfer.
const LOOK_EVERY: Duration = Duration::from_millis(4);

#[expect(clippy::disallowed_methods, reason = "the only sleep, between two looks at a condition")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// Waits for a condition with a deadline; `look` says what it sees while the condition is false.
#[track_caller]
pub fn wait_until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = clock::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(why) if u128::from(clock::now().since(start)) >= limit.as_millis() => {
                panic!("not within {:.1} s: {what}\n  last seen: {why}", limit.as_secs_f64())
            }
            Err(_) => pause(),
        }
    }
}

/// Seconds, for the deadlines in tests.
pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A process that was started here. It is killed when this goes; if a test is failing, the end of
/// what it said is shown.
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    what: String,
    started: clock::Moment,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in new files under `folder`; standard output goes
    /// elsewhere if `stdout` says so.
    #[track_caller]
    pub fn start(
        mut command: Command,
        what: &str,
        folder: &Path,
        stdin: Stdio,
        to: Option<Stdio>,
    ) -> Process {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let stdout = folder.join(format!("{number:04}.out"));
        let stderr = folder.join(format!("{number:04}.err"));
        let output = File::create(&stdout).expect("a file for stdout");
        command.stdin(stdin);
        command.stdout(to.unwrap_or_else(|| output.into()));
        command.stderr(File::create(&stderr).expect("a file for stderr"));
        let started = clock::now();
        let child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        Process { child, ended: None, what: what.to_owned(), started, stdout, stderr }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        fs::read(&self.stdout).unwrap_or_default()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Its exit code once it has ended; 128 and the signal's number if a signal ended it.
    pub fn code(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the state of a child");
        }
        self.ended.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Output {
        let what = format!("the end of `{}`", self.what);
        let code = wait_until(limit, &what, || self.code().ok_or_else(|| tail(&self.stderr())));
        let took = Duration::from_millis(clock::now().since(self.started));
        Output { what: self.what.clone(), code, took, bytes: self.stdout(), stderr: self.stderr() }
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        drop(self.child.kill());
        self.ended = self.child.wait().ok();
    }

    /// Sends a signal, if it still runs.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        if self.code().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
            kill_process(pid, signal).expect("a signal");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = self.code().map_or("running".to_owned(), |code| format!("ended with {code}"));
            eprintln!("---- {} ({state}), the end of its stderr:\n{}", self.what, tail(&self.stderr()));
        }
        self.kill9();
    }
}

/// The last lines of `text`.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// How a process ended and what it said.
pub struct Output {
    /// What was run, for messages.
    pub what: String,
    /// Its exit code.
    pub code: i32,
    /// How long it ran.
    pub took: Duration,
    /// Standard output.
    pub bytes: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).expect("text")
    }

    /// Itself, if it ended with `code`.
    #[track_caller]
    pub fn ended(self, code: i32) -> Output {
        assert!(self.code == code, "wanted {code}: {self}");
        self
    }

    /// Standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Standard output, which is one JSON document and nothing else.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error} in: {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, code) = (&self.what, self.code);
        write!(
            f,
            "`{what}` ended with {code}\nstdout: {}\nstderr: {}",
            tail(&self.stdout()),
            tail(&self.stderr)
        )
    }
}
