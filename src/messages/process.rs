//! Runs one hook: a program in a clean environment and a process group of its own, with a time limit.
//!
//! Invariants: nothing of the group is left when this returns; the group is killed before its leader
//! is reaped, so its number cannot have become another's; what a hook reads is whole before it starts,
//! so one that outlives a killed node is not given half a letter; neither what it does not read nor what
//! it leaves open keeps us waiting.

use super::letter_file::format_time;
use super::records::Attempt;
use super::stopped;
use crate::limits::{HOOK_OUTPUT_BYTES, HOOK_PIPE_WAIT, HOOK_STOP_GRACE, HOOK_TERM_GRACE};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::ffi::OsString;
use std::io::{self, PipeReader, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Variables of ours that a hook gets as well, if they are set.
const KEPT: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];
/// Waits for a program that somebody has just written and not closed yet.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// How often that is waited.
const BUSY_TRIES: u32 = 25;

/// What is run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The program.
    pub program: PathBuf,
    /// Where it runs.
    pub folder: PathBuf,
    /// Variables besides those that every hook gets.
    pub variables: Vec<(&'static str, OsString)>,
    /// What it reads.
    pub input: String,
    /// How long it may run.
    pub timeout: Duration,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by its time limit.
    Over(Attempt),
    /// The node ends, so it was told to end: it does not count.
    Stopped,
}

impl Run {
    /// Runs it to its end.
    pub async fn run(self, stopping: &mut watch::Receiver<bool>) -> Ended {
        let (started_us, started) = (crate::clock::wall_us(), crate::clock::now());
        let mut attempt = Attempt { started_at: format_time(started_us), ..Attempt::default() };
        match self.start().await {
            Err(error) => attempt.error = Some(format!("it cannot be started: {error}")),
            Ok((child, output)) => {
                if !self.follow(child, output, stopping, &mut attempt).await {
                    return Ended::Stopped;
                }
            }
        }
        attempt.duration_ms = crate::clock::now().since(started);
        Ended::Over(attempt)
    }

    /// Starts the program; both its streams are one pipe, so what it wrote stays in order.
    async fn start(&self) -> io::Result<(Child, PipeReader)> {
        let mut tries = 0;
        loop {
            match self.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(BUSY_WAIT).await;
                }
                started => return started,
            }
        }
    }

    /// The command, and with it our ends of the pipe that the program writes to, are gone when this
    /// returns.
    fn spawn(&self) -> io::Result<(Child, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        let mut input = tempfile::tempfile_in(&self.folder)?;
        input.write_all(self.input.as_bytes())?;
        input.rewind()?;
        let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let child = Command::new(&self.program)
            .env_clear()
            .envs(kept)
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .current_dir(&self.folder)
            .process_group(0)
            .stdin(input)
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()?;
        Ok((child, reader))
    }

    /// Waits for the end; `false` if the node ends first.
    async fn follow(
        &self,
        mut child: Child,
        output: PipeReader,
        stopping: &mut watch::Receiver<bool>,
        attempt: &mut Attempt,
    ) -> bool {
        let group = Group(Pid::from_child(&child));
        let (tail_sender, mut tail) = watch::channel(Tail::default());
        let reading = tokio::spawn(read(output, tail_sender));
        let mut exited = tokio::task::spawn_blocking(move || group.wait_for_leader());
        let mut told = false;
        tokio::select! {
            _ = &mut exited => {}
            () = tokio::time::sleep(self.timeout) => {
                attempt.error = Some(format!("it ran longer than {} and was ended", seconds(self.timeout)));
                group.end(&mut exited, HOOK_TERM_GRACE).await;
            }
            () = stopped(stopping) => {
                told = true;
                group.end(&mut exited, HOOK_STOP_GRACE).await;
            }
        }
        // Whatever it has started and left.
        group.signal(Signal::KILL);
        let status = tokio::task::spawn_blocking(move || child.wait()).await;
        if let Ok(Ok(status)) = status {
            (attempt.exit, attempt.signal) = (status.code(), status.signal());
        }
        let _ = tokio::time::timeout(HOOK_PIPE_WAIT, tail.wait_for(|tail| tail.ended)).await;
        reading.abort();
        attempt.output = tail.borrow().text();
        !told
    }
}

/// A hook and all that it has started, unless that left the group on purpose.
#[derive(Clone, Copy, Debug)]
struct Group(Pid);

impl Group {
    fn signal(self, signal: Signal) {
        // The group may be gone: then there is nothing to do.
        let _ = kill_process_group(self.0, signal);
    }

    /// Blocks until the leader has ended, and leaves it to be reaped.
    fn wait_for_leader(self) {
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(self.0), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
    }

    /// Asks it to end, and ends it if it does not.
    async fn end(self, exited: &mut tokio::task::JoinHandle<()>, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, &mut *exited).await.is_err() {
            self.signal(Signal::KILL);
            let _ = exited.await;
        }
    }
}

/// The end of what a hook wrote.
#[derive(Clone, Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    ended: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let surplus = self.bytes.len().saturating_sub(HOOK_OUTPUT_BYTES);
        self.bytes.drain(..surplus);
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        // A character that was cut in two becomes longer than it was.
        let surplus = text.len().saturating_sub(HOOK_OUTPUT_BYTES);
        let start = (surplus..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text[start..].to_owned()
    }
}

/// Reads on to the end, so that a hook that writes much is not kept waiting.
async fn read(output: PipeReader, tail: watch::Sender<Tail>) {
    let mut buffer = [0_u8; 4096];
    if let Ok(mut receiver) = pipe::Receiver::from_owned_fd(OwnedFd::from(output)) {
        while let Ok(count @ 1..) = receiver.read(&mut buffer).await {
            tail.send_modify(|tail| tail.push(&buffer[..count]));
        }
    }
    tail.send_modify(|tail| tail.ended = true);
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
