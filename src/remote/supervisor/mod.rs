//! The process that watches over one program: `thorp supervise`, started by a node.
//!
//! Invariant: when it reports the end, no process of the program is left, however it was made; and when
//! its node dies, even by SIGKILL, it ends the program in the same order as its node would. A program's
//! processes can leave its process group, but not their ancestor: orphans become children of this
//! process (a "subreaper", Linux), which goes on until it has none.
//!
//! It is a process of its own because a node that was killed can end nothing, and because what a
//! program leaves behind would else be the node's.

mod channel;
mod family;

pub use channel::{Order, OrderSender, ReportReader, pair};

use crate::clock::{self, Moment};
use crate::limits::JOB_REST_GRACE;
use crate::wire::run::{Bytes, JobEnd, JobSignal, SupervisorOrder, SupervisorReport};
use channel::{OrderReader, ReportSender};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::signal::unix::SignalKind;

/// The word by which the binary is told to be a supervisor.
pub const WORD: &str = "supervise";

/// Between two looks for processes that are to be killed.
const KILL_INTERVAL_MS: u64 = 20;
/// Waits for a program that somebody has just written and not closed yet.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// How often that is waited.
const BUSY_TRIES: u32 = 50;

/// What is to be run.
struct Program {
    program: Bytes,
    arguments: Vec<Bytes>,
    environment: Vec<(Bytes, Bytes)>,
    directory: Bytes,
    terminal: bool,
    linger_ms: u64,
    streams: Vec<OwnedFd>,
}

/// What happens to a supervisor.
enum Event {
    Order(SupervisorOrder),
    NodeGone,
    Reaped(Pid, WaitStatus),
    NobodyLeft,
}

/// Runs the program that the node at the other end of standard input orders.
///
/// # Errors
/// When standard input is no such socket, or the node says nothing that makes sense.
pub fn run() -> io::Result<()> {
    // The program may be of the same user: it is not to look into this process, nor to speak for it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let _handlers = outlive_signals()?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let mut orders = OrderReader::new(socket.try_clone()?.into());
    let reports = ReportSender::new(socket.into());
    let nonsense = || io::Error::other("the first order is to run a program");
    let (order, streams) = orders.first()?;
    let SupervisorOrder::Run { program, arguments, environment, directory, terminal, linger_ms } = order
    else {
        return Err(nonsense());
    };
    let program = Program { program, arguments, environment, directory, terminal, linger_ms, streams };
    // A session of its own: no terminal of the node's, and none that would hang it up.
    let _ = rustix::process::setsid();
    family::adopt_orphans();
    let (events, happening) = sync_channel(64);
    let (linger_ms, terminal) = (program.linger_ms, program.terminal);
    let group = match start(program) {
        Ok(group) => group,
        Err(error) => {
            let words = error.to_string().into();
            return reports.send(&SupervisorReport::Ended(JobEnd::NotStarted(
                error.raw_os_error().unwrap_or(0),
                words,
            )));
        }
    };
    reports.send(&SupervisorReport::Started(group.as_raw_nonzero().get().unsigned_abs()))?;
    listen(orders, events.clone());
    wait(events);
    let end =
        Watch { group, linger_ms, terminal, end: None, kill_at: None, kills: 0 }.until_the_end(&happening);
    // If the node is gone nobody wants to know.
    let _ = reports.send(&SupervisorReport::Ended(end));
    Ok(())
}

/// From now on no usual signal ends this process, a terminal that hangs up among them. They are caught, not
/// ignored: the program begins with the defaults.
fn outlive_signals() -> io::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    for number in
        [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2, Signal::TSTP]
    {
        // The handler stays when this goes.
        drop(tokio::signal::unix::signal(SignalKind::from_raw(number.as_raw()))?);
    }
    drop(entered);
    Ok(runtime)
}

fn start(mut program: Program) -> io::Result<Pid> {
    let few = || io::Error::other("a program needs its streams");
    let terminal = match program.terminal {
        true => {
            let terminal = program.streams.pop().ok_or_else(few)?;
            rustix::process::ioctl_tiocsctty(&terminal)?;
            for _ in 0..3 {
                program.streams.push(terminal.try_clone()?);
            }
            Some(terminal)
        }
        false => None,
    };
    let mut streams = program.streams.into_iter();
    let mut next = || streams.next().map(Stdio::from).ok_or_else(few);
    let mut command = Command::new(OsStr::from_bytes(&program.program));
    let os = |bytes: &Bytes| OsStr::from_bytes(bytes).to_owned();
    command
        .args(program.arguments.iter().map(os))
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (os(name), os(value))))
        .current_dir(OsStr::from_bytes(&program.directory))
        .stdin(next()?)
        .stdout(next()?)
        .stderr(next()?)
        .process_group(0);
    let mut tries = 0;
    let child = loop {
        match command.spawn() {
            Ok(child) => break child,
            // Just written by a sync; a process that was started meanwhile may have it open still.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::park_timeout(BUSY_WAIT);
            }
            Err(error) => return Err(error),
        }
    };
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or_else(|| io::Error::other("a process without a number"))?;
    if let Some(terminal) = terminal {
        // If it asked for the terminal before it was given it, it was stopped.
        let _ = rustix::termios::tcsetpgrp(&terminal, group);
        let _ = rustix::process::kill_process_group(group, Signal::CONT);
    }
    Ok(group)
}

/// Passes orders on, and that there will be no more.
fn listen(mut orders: OrderReader, events: SyncSender<Event>) {
    std::thread::spawn(move || {
        loop {
            let event = orders.hear().map_or(Event::NodeGone, Event::Order);
            let over = matches!(event, Event::NodeGone);
            if events.send(event).is_err() || over {
                return;
            }
        }
    });
}

/// Takes in whatever child ends, the program or an orphan, until there is none.
fn wait(events: SyncSender<Event>) {
    std::thread::spawn(move || {
        loop {
            let event = match rustix::process::wait(WaitOptions::UNTRACED) {
                Ok(Some((process, status))) => Event::Reaped(process, status),
                Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                Err(_) => Event::NobodyLeft,
            };
            let over = matches!(event, Event::NobodyLeft);
            if events.send(event).is_err() || over {
                return;
            }
        }
    });
}

/// A program that runs.
struct Watch {
    group: Pid,
    linger_ms: u64,
    terminal: bool,
    end: Option<JobEnd>,
    /// When what is left of it is killed; then again and again.
    kill_at: Option<Moment>,
    /// How often that was.
    kills: u32,
}

impl Watch {
    fn until_the_end(mut self, happening: &Receiver<Event>) -> JobEnd {
        loop {
            let event = match self.kill_at {
                None => happening.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => happening.recv_timeout(Duration::from_millis(at.since(clock::now()))),
            };
            match event {
                Ok(Event::Order(SupervisorOrder::Signal(signal))) => self.signal(signal),
                Ok(Event::Order(SupervisorOrder::Stop) | Event::NodeGone) => self.stop(self.linger_ms),
                Ok(Event::Order(SupervisorOrder::Run { .. })) => {}
                // Ctrl-Z in its terminal: nobody there could make it go on again.
                Ok(Event::Reaped(process, status)) if status.stopping_signal().is_some() => {
                    if self.terminal && process == self.group {
                        let _ = rustix::process::kill_process_group(self.group, Signal::CONT);
                    }
                }
                Ok(Event::Reaped(process, status)) if process == self.group => {
                    self.end = Some(end_of(status));
                    // It is over; what it has left behind is not to outlive it.
                    self.stop(u64::try_from(JOB_REST_GRACE.as_millis()).unwrap_or(u64::MAX));
                }
                Ok(Event::Reaped(..)) => {}
                Ok(Event::NobodyLeft) | Err(RecvTimeoutError::Disconnected) => {
                    return self.end.unwrap_or(JobEnd::Lost);
                }
                Err(RecvTimeoutError::Timeout) => {
                    family::signal_all(self.group, Signal::KILL);
                    // What cannot be killed is looked for less and less often.
                    self.kills = self.kills.saturating_add(1);
                    let pause = KILL_INTERVAL_MS << (self.kills / 16).min(6);
                    self.kill_at = Some(clock::now().plus(pause));
                }
            }
        }
    }

    /// The request to end, and later the end.
    fn stop(&mut self, grace_ms: u64) {
        let at = clock::now().plus(grace_ms);
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
        family::signal_all(self.group, Signal::TERM);
        // One that is stopped could not hear it.
        family::signal_all(self.group, Signal::CONT);
    }

    fn signal(&mut self, signal: JobSignal) {
        match signal {
            JobSignal::Kill => {
                self.kill_at = Some(clock::now());
            }
            signal => {
                let _ = rustix::process::kill_process_group(self.group, number(signal));
            }
        }
    }
}

fn number(signal: JobSignal) -> Signal {
    match signal {
        JobSignal::Interrupt => Signal::INT,
        JobSignal::Terminate => Signal::TERM,
        JobSignal::Kill => Signal::KILL,
        JobSignal::Hangup => Signal::HUP,
        JobSignal::Quit => Signal::QUIT,
        JobSignal::User1 => Signal::USR1,
        JobSignal::User2 => Signal::USR2,
        JobSignal::Suspend => Signal::TSTP,
        JobSignal::Continue => Signal::CONT,
    }
}

fn end_of(status: WaitStatus) -> JobEnd {
    let small = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => JobEnd::Exited(small(code)),
        (None, Some(signal)) => JobEnd::Signalled(small(signal)),
        (None, None) => JobEnd::Lost,
    }
}
