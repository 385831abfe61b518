//! Programs run for others: a session between a command and the node that runs its program, and
//! what that node and the supervisor of the program tell each other. See `docs/protocol.md`,
//! Running programs.
//!
//! Invariant: output and input are counted in bytes from the program's start, both streams of output
//! together, so that a session which broke goes on in another where it was: no byte is lost or doubled.

use super::message::ErrorCode;
use crate::types::{JobId, WorkspaceName};
use bincode::{Decode, Encode};

/// Bytes that need not be text: a path, an argument, a variable.
pub type Bytes = Box<[u8]>;

/// A program to be run.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Start {
    /// Drawn at random. One that is known already is not started again.
    pub job: JobId,
    /// The folder that it runs in.
    pub workspace: WorkspaceName,
    /// A path with a slash is taken from the workspace, a mere name is looked up in `PATH`.
    pub program: Bytes,
    /// Without the program's own name.
    pub arguments: Vec<Bytes>,
    /// Added to the environment.
    pub environment: Vec<(Bytes, Bytes)>,
    /// All of the node's environment, not just what every program needs.
    pub base_environment: bool,
    /// It gets a terminal of this size, and no streams of its own.
    pub terminal: Option<TerminalSize>,
    /// Input will come; else it reads an end at once.
    pub input: bool,
    /// It goes on without a session.
    pub detach: bool,
    /// How long it goes on when its last session was lost, in milliseconds; also how long it has
    /// between the request to end and the end.
    pub linger_ms: u64,
    /// Who starts it, as people are called.
    pub user: Box<str>,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Where output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum OutputStream {
    /// Standard output, or the terminal.
    Output,
    /// Standard error.
    Errors,
}

/// What is sent to all processes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum JobSignal {
    /// Ctrl-C.
    Interrupt,
    /// The request to end.
    Terminate,
    /// The end.
    Kill,
    /// The terminal is gone.
    Hangup,
    /// Ctrl-\.
    Quit,
    /// For the program to know.
    User1,
    /// For the program to know.
    User2,
    /// Ctrl-Z.
    Suspend,
    /// After Ctrl-Z.
    Continue,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum JobEnd {
    /// With this code.
    Exited(u8),
    /// By a signal.
    Signalled(u8),
    /// It was never started: the system's error number, and its words.
    NotStarted(i32, Box<str>),
    /// Its node ended, and it with it.
    Lost,
}

/// One frame of a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RunFrame {
    /// Command → node: run this. Answered by `Attached`, `Denied` or `Failed`.
    Start(Box<Start>),
    /// Command → node: go on with this job. Answered in the same way.
    Attach {
        /// Which.
        job: JobId,
        /// From here on; `None`: all that is still there.
        output_from: Option<u64>,
        /// This session gives its input from now on.
        input: bool,
    },
    /// Node → command: this session belongs to the job.
    Attached {
        /// Which.
        job: JobId,
        /// The output that comes begins here: later than asked for if that is not there any more.
        output_from: u64,
        /// Number of the byte after the last that is there.
        output_upto: u64,
        /// So many bytes of input have come.
        input_upto: u64,
        /// Whether it takes input.
        input: bool,
        /// Whether it has a terminal.
        terminal: bool,
    },
    /// Node → command: the program's output is the payload.
    Output {
        /// Which.
        stream: OutputStream,
        /// Number of its first byte.
        from: u64,
    },
    /// Command → node: all output before this one is where it belongs.
    OutputTaken {
        /// Number of the next byte.
        upto: u64,
    },
    /// Command → node: nobody reads this stream any more. The program finds it closed.
    OutputClosed {
        /// Which.
        stream: OutputStream,
    },
    /// Command → node: input for the program is the payload.
    Input {
        /// Number of its first byte.
        from: u64,
    },
    /// Command → node: the input ends.
    InputEnd {
        /// Number of its bytes.
        upto: u64,
    },
    /// Node → command: the program has been given its input so far.
    InputTaken {
        /// Number of the next byte.
        upto: u64,
    },
    /// Command → node: to all processes of the job.
    Signal {
        /// Which.
        signal: JobSignal,
    },
    /// Command → node: the terminal has another size.
    Resize {
        /// Which.
        size: TerminalSize,
    },
    /// Node → command: the program has ended, and all of its output was sent.
    Ended {
        /// How.
        end: JobEnd,
        /// Bytes of output.
        output_upto: u64,
    },
    /// Either way: still here.
    Working,
    /// Node → command: not allowed.
    Denied {
        /// Why.
        why: Denial,
    },
    /// Either way: this session is of no use any more, and why.
    Failed {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: Box<str>,
    },
    /// Command → node: what runs, and what ran? Answered by `Jobs`.
    List,
    /// Node → command.
    Jobs {
        /// The last first.
        jobs: Vec<JobRow>,
    },
    /// Command → node: end this job: the request, and after its time the end. Answered by `Stopping`.
    Stop {
        /// Which.
        job: JobId,
    },
    /// Node → command: it has been told.
    Stopping,
    /// Command → node: how busy are you? Answered by `Idle` or `Denied`.
    Ask,
    /// Node → command.
    Idle {
        /// Programs that run for others.
        jobs: u32,
        /// Processes that want a processor, on average of a minute, in thousandths of its processors.
        load_milli: u32,
    },
    /// Command → node: files of a workspace. Answered by `Entry`s, each regular one followed by its
    /// `Data`, and `Ended` or `Failed`.
    Collect {
        /// Which.
        workspace: WorkspaceName,
        /// Relative to it, with all that is below.
        path: Bytes,
    },
    /// Node → command: a file, folder or link.
    Entry {
        /// Relative to the workspace.
        path: Bytes,
        /// What it is.
        kind: EntryKind,
        /// Permission bits.
        mode: u16,
        /// Modification time, nanoseconds since 1970.
        modified_ns: i64,
    },
    /// Node → command: the next bytes of the last file are the payload.
    Data {
        /// Those are its last.
        last: bool,
    },
    /// Node → command: that was all that was to be collected.
    Collected,
}

/// What is collected.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EntryKind {
    /// A regular file; its bytes follow.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Bytes,
    },
}

/// A job as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobRow {
    /// Which.
    pub job: JobId,
    /// Program and arguments as people read them, perhaps cut.
    pub command: Box<str>,
    /// Where it runs.
    pub workspace: WorkspaceName,
    /// Who started it.
    pub user: Box<str>,
    /// From where.
    pub from: Box<str>,
    /// When, wall milliseconds.
    pub started_ms: u64,
    /// When it ended; 0 while it runs.
    pub ended_ms: u64,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// Sessions that are attached.
    pub sessions: u32,
    /// Whether it goes on without one.
    pub detached: bool,
}

/// Why a node does not take folders and programs from a peer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Denial {
    /// The LAN is open.
    #[error("its cluster has no key, so anybody on the LAN could run programs")]
    Open,
    /// The owner has not allowed it.
    #[error("it was not started with `--allow-run`")]
    NotAllowed,
    /// The owner has not allowed it from there.
    #[error("its owner lets other machines alone run programs (`run_from`)")]
    NotFrom,
    /// The owner has not allowed this program.
    #[error("its owner lets certain programs alone be run (`run_programs`), and `{0}` is none of them")]
    NotProgram(Box<str>),
}

/// What a node tells the supervisor of a program, over a socket that only they have.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SupervisorOrder {
    /// First, with the program's three streams, or its terminal, beside it: run this.
    Run {
        /// The program.
        program: Bytes,
        /// Its arguments.
        arguments: Vec<Bytes>,
        /// All of its environment.
        environment: Vec<(Bytes, Bytes)>,
        /// Its working directory.
        directory: Bytes,
        /// It gets a terminal.
        terminal: bool,
        /// Between the request to end and the end, in milliseconds.
        linger_ms: u64,
    },
    /// To all of its processes.
    Signal(JobSignal),
    /// End it: the request, and after its time the end.
    Stop,
}

/// What a supervisor tells its node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SupervisorReport {
    /// It runs as this process.
    Started(u32),
    /// It has ended, and no process of it is left.
    Ended(JobEnd),
}

/// Bytes of a [`record_head`].
pub const RECORD_HEAD_BYTES: usize = 5;

/// What precedes each run of bytes in the file of a job's output: from where, and how many bytes, little-endian.
#[must_use]
pub fn record_head(stream: OutputStream, bytes: u32) -> [u8; RECORD_HEAD_BYTES] {
    let [a, b, c, d] = bytes.to_le_bytes();
    [u8::from(stream == OutputStream::Errors), a, b, c, d]
}

/// Reads a [`record_head`]; `None` if it is none.
#[must_use]
pub fn read_record_head(head: [u8; RECORD_HEAD_BYTES]) -> Option<(OutputStream, u32)> {
    let [stream, a, b, c, d] = head;
    let stream = match stream {
        0 => OutputStream::Output,
        1 => OutputStream::Errors,
        _ => return None,
    };
    Some((stream, u32::from_le_bytes([a, b, c, d])))
}
