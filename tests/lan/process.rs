//! Processes with captured output, and the one place that waits.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use thorp::clock;

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` gives a value. The last look starts no later than `limit` after the call;
/// what it said last is the error.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = clock::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(why) if u128::from(clock::now().since(start)) >= limit.as_millis() => return Err(why),
            Err(_) => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the only sleep, between two looks at a condition")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// Waits for a condition with a deadline; `look` says what it sees while the condition is false.
#[track_caller]
pub fn wait_until<T>(limit: Duration, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    match poll(limit, look) {
        Ok(value) => value,
        Err(why) => panic!("not within {:.1} s: {what}\n  last seen: {why}", limit.as_secs_f64()),
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
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in new files under `folder`.
    #[track_caller]
    pub fn start(mut command: Command, what: &str, folder: &Path) -> Process {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        fs::create_dir_all(folder).expect("a folder for the output");
        let stdout = folder.join(format!("{number:04}.out"));
        let stderr = folder.join(format!("{number:04}.err"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).expect("a file for stdout"));
        command.stderr(File::create(&stderr).expect("a file for stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        Process { child, ended: None, what: what.to_owned(), stdout, stderr }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
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
        Output { what: self.what.clone(), code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        drop(self.child.kill());
        self.ended = self.child.wait().ok();
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: rustix::process::Signal) {
        if self.code().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
            rustix::process::kill_process(pid.expect("a process id"), signal).expect("a signal");
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
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// How a process ended and what it said.
pub struct Output {
    /// What was run, for messages.
    pub what: String,
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Itself, if it ended with 0.
    #[track_caller]
    pub fn ok(self) -> Output {
        assert!(self.code == 0, "{self}");
        self
    }

    /// Standard output as one JSON document.
    pub fn json(&self) -> Result<serde_json::Value, String> {
        serde_json::from_str(&self.stdout).map_err(|error| format!("{error} in: {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { what, code, stdout, stderr } = self;
        write!(f, "`{what}` ended with {code}\nstdout: {}\nstderr: {}", tail(stdout), tail(stderr))
    }
}

/// Ends every other process of the process namespace, but its first one.
pub fn end_everything() {
    let this = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let is_other = pid > 1 && u32::try_from(pid) != Ok(this);
        if let Some(pid) = rustix::process::Pid::from_raw(pid).filter(|_| is_other) {
            // It may have ended by itself just now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
