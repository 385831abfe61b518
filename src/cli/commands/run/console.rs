//! This process's own streams, signals and terminal, lent to a program elsewhere.
//!
//! Invariants: bytes go out as they came, at once, and are only then said to be taken; a terminal that was made raw is
//! put back however this ends.

use crate::client::run::{Console, RunEvent, RunOrder};
use crate::limits::JOB_OUTPUT_FRAME_BYTES;
use crate::wire::run::{JobSignal, OutputStream, TerminalSize};
use bytes::Bytes;
use rustix::process::Signal;
use rustix::termios::{OptionalActions, Termios};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Events and orders that wait.
const QUEUE: usize = 64;

/// Where output goes.
pub(in crate::cli::commands) enum Sink {
    /// As it is, to this process's own streams.
    Streams {
        /// Standard output; none once nobody reads it.
        output: Option<File>,
        /// The same of standard error.
        errors: Option<File>,
    },
    /// Line by line, each behind this name.
    Named {
        /// The name and what separates it.
        prefix: Vec<u8>,
        /// Lines of the two streams that have not ended.
        open: [Vec<u8>; 2],
    },
}

/// So long a command that is to be suspended waits until its program has been told.
const SUSPEND_WAIT: Duration = Duration::from_millis(100);
/// Longest line that is kept together behind a name.
const NAMED_LINE_BYTES_MAX: usize = 64 << 10;

impl Sink {
    pub(in crate::cli::commands) fn streams() -> io::Result<Sink> {
        // Their own descriptors: nothing is kept back until a line ends.
        let own = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map(File::from);
        Ok(Sink::Streams {
            output: Some(own(io::stdout().as_fd())?),
            errors: Some(own(io::stderr().as_fd())?),
        })
    }

    pub(in crate::cli::commands) fn named(name: &str) -> Sink {
        Sink::Named { prefix: format!("{name}: ").into_bytes(), open: [Vec::new(), Vec::new()] }
    }

    /// Writes; `false` once nobody reads that stream.
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> bool {
        match self {
            Sink::Streams { output, errors } => {
                let file = if stream == OutputStream::Output { output } else { errors };
                let written = file.as_mut().is_some_and(|file| file.write_all(bytes).is_ok());
                if !written {
                    *file = None;
                }
                written
            }
            Sink::Named { prefix, open } => {
                let open = &mut open[usize::from(stream == OutputStream::Errors)];
                open.extend_from_slice(bytes);
                let mut lines = Vec::new();
                while let Some(end) = open
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map(|at| at + 1)
                    .or_else(|| (open.len() > NAMED_LINE_BYTES_MAX).then_some(NAMED_LINE_BYTES_MAX))
                {
                    lines.extend_from_slice(prefix);
                    lines.extend(open.drain(..end));
                    if lines.last() != Some(&b'\n') {
                        lines.push(b'\n');
                    }
                }
                write_to(stream, &lines)
            }
        }
    }

    /// Lines that have not ended are ended.
    fn finish(&mut self) {
        if let Sink::Named { .. } = self {
            for stream in [OutputStream::Output, OutputStream::Errors] {
                let Sink::Named { open, .. } = self else { return };
                if !open[usize::from(stream == OutputStream::Errors)].is_empty() {
                    self.write(stream, b"\n");
                }
            }
        }
    }
}

fn write_to(stream: OutputStream, bytes: &[u8]) -> bool {
    let written = match stream {
        OutputStream::Output => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        OutputStream::Errors => io::stderr().lock().write_all(bytes),
    };
    written.is_ok()
}

/// What is told of a program besides its output.
pub(in crate::cli::commands) trait Tell: Send + 'static {
    /// Something has happened.
    fn tell(&mut self, event: &RunEvent);
}

impl<F: FnMut(&RunEvent) + Send + 'static> Tell for F {
    fn tell(&mut self, event: &RunEvent) {
        self(event);
    }
}

/// Which of this process's things a program gets.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::commands) struct Lent {
    /// Standard input.
    pub(in crate::cli::commands) input: bool,
    /// Signals: the first Ctrl-C is one, the second the request to end, the third the end.
    pub(in crate::cli::commands) signals: bool,
    /// The terminal.
    pub(in crate::cli::commands) terminal: bool,
}

/// Streams and signals lent to a program. Dropping it puts the terminal back.
pub(in crate::cli::commands) struct Lending {
    writer: Option<std::thread::JoinHandle<()>>,
    _raw: Option<Raw>,
    _keep: Option<mpsc::Sender<Bytes>>,
}

impl Lending {
    /// Waits until all that came is written. The console must be gone.
    pub(in crate::cli::commands) fn finish(mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Lends what is asked for.
pub(in crate::cli::commands) fn lend(
    lent: Lent,
    mut sink: Sink,
    mut tell: impl Tell,
) -> io::Result<(Console, Lending)> {
    let (events, mut happening) = mpsc::channel::<RunEvent>(QUEUE);
    let (taken_sender, taken) = watch::channel(0);
    let (orders_sender, orders) = mpsc::channel(QUEUE);
    let (input_sender, input) = mpsc::channel::<Bytes>(4);
    let raw = if lent.terminal { Some(Raw::new()?) } else { None };
    let closing = orders_sender.clone();
    let mut reading = lent.input.then(|| input_sender.clone());
    let writer = std::thread::spawn(move || {
        while let Some(event) = happening.blocking_recv() {
            if let RunEvent::Attached { input: true, .. } = event
                && let Some(sender) = reading.take()
            {
                std::thread::spawn(move || read_input(&sender));
            }
            tell.tell(&event);
            if let RunEvent::Output { stream, bytes, upto } = event {
                if !sink.write(stream, &bytes) {
                    // Who merely looks on does not end the program by looking away.
                    if !lent.signals {
                        return;
                    }
                    let _ = closing.blocking_send(RunOrder::Close(stream));
                }
                taken_sender.send_replace(upto);
            }
        }
        sink.finish();
    });
    if lent.terminal {
        let _ = orders_sender.try_send(RunOrder::Resize(terminal_size())); // it may have had another one
    }
    if lent.signals {
        pass_signals(&orders_sender, lent.terminal)?;
    }
    // Without a sender the input would have ended.
    let keep = (!lent.input).then_some(input_sender);
    Ok((Console { events, taken, input, orders }, Lending { writer: Some(writer), _raw: raw, _keep: keep }))
}

fn read_input(sender: &mpsc::Sender<Bytes>) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; JOB_OUTPUT_FRAME_BYTES];
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
                if sender.blocking_send(bytes).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Whether standard input may be read: a command in the background of a terminal would be stopped.
pub(in crate::cli::commands) fn may_read_input() -> bool {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return true;
    }
    // One that is not this session's own stops nobody.
    rustix::termios::tcgetpgrp(&stdin).map_or(true, |foreground| foreground == rustix::process::getpgrp())
}

/// Whether this process has a terminal to lend.
pub(in crate::cli::commands) fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of this process's terminal.
pub(in crate::cli::commands) fn terminal_size() -> TerminalSize {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => TerminalSize { rows: size.ws_row, columns: size.ws_col },
        _ => TerminalSize { rows: 24, columns: 80 },
    }
}

/// Comes back with an exit code when the user interrupts what goes on after the program: signals do nothing by
/// themselves any more.
pub(in crate::cli::commands) async fn interrupted() -> u8 {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}

/// From now on signals go to the program.
fn pass_signals(orders: &mpsc::Sender<RunOrder>, terminal: bool) -> io::Result<()> {
    let plain = [
        (SignalKind::terminate(), JobSignal::Terminate),
        (SignalKind::hangup(), JobSignal::Hangup),
        (SignalKind::quit(), JobSignal::Quit),
        (SignalKind::user_defined1(), JobSignal::User1),
        (SignalKind::user_defined2(), JobSignal::User2),
    ];
    for (kind, passed) in plain {
        let (mut heard, orders) = (signal(kind)?, orders.clone());
        tokio::spawn(async move {
            while heard.recv().await.is_some() && orders.send(RunOrder::Signal(passed)).await.is_ok() {}
        });
    }
    let (mut heard, to) = (signal(SignalKind::interrupt())?, orders.clone());
    tokio::spawn(async move {
        let ladder = [JobSignal::Interrupt, JobSignal::Terminate]
            .into_iter()
            .chain(std::iter::repeat(JobSignal::Kill));
        for step in ladder {
            if heard.recv().await.is_none() || to.send(RunOrder::Signal(step)).await.is_err() {
                return;
            }
        }
    });
    let (mut heard, to) = (signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?, orders.clone());
    tokio::spawn(async move {
        while heard.recv().await.is_some() {
            let passed = to.send(RunOrder::Signal(JobSignal::Suspend)).await.is_ok();
            tokio::time::sleep(SUSPEND_WAIT).await;
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
            // Here it goes on.
            if !passed || to.send(RunOrder::Signal(JobSignal::Continue)).await.is_err() {
                return;
            }
        }
    });
    if terminal {
        let (mut heard, orders) = (signal(SignalKind::window_change())?, orders.clone());
        tokio::spawn(async move {
            while heard.recv().await.is_some() && orders.send(RunOrder::Resize(terminal_size())).await.is_ok()
            {
            }
        });
    }
    Ok(())
}

/// The terminal passes every byte on: Ctrl-C means something to the terminal of the program.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Raw> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
