//! A program's process: its streams, its terminal, its supervisor, and the threads between those and the job.
//!
//! Threads, because pipes and terminals block: one that reads output, one that gives
//! input, one that hears the supervisor. They end with the program, of which nothing is left then.

use super::Job;
use crate::limits::{FRAME_HEAD_BYTES_MAX, JOB_LINGER_MAX, JOB_OUTPUT_FRAME_BYTES};
use crate::remote::account::Account;
use crate::remote::supervisor::{OrderSender, ReportReader, WORD, pair};
use crate::wire::encode;
use crate::wire::run::{Bytes, JobEnd, OutputStream, Start, SupervisorOrder, SupervisorReport, TerminalSize};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Variables of the node that every program gets, if they are set.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];
/// What begins so is thorp's own, the cluster key among it.
const OWN: &[u8] = b"THORP_";
/// Variables that begin so make the system's loader load something else.
const LOADER: [&[u8]; 2] = [b"LD_", b"DYLD_"];
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// So long what a program has said last is waited for, once nothing of it is left.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(5);
/// What ends the input of a terminal (Ctrl-D).
const END_OF_INPUT: u8 = 4;
/// The variable that tells a program which job it is.
const JOB_VARIABLE: &str = "THORP_JOB";

/// Our ends of what a program has been given.
pub(super) struct Process {
    pub(super) orders: OrderSender,
    /// The terminal, where it has one.
    pub(super) terminal: Option<File>,
    reports: ReportReader,
    supervisor: Child,
    outputs: Vec<(OutputStream, File)>,
    input: Option<File>,
}

/// Starts a supervisor and gives it the program. Where the owner lists what may be run (`is_listed`), a name
/// means what it means here, whatever `PATH` is sent, and nothing that is sent changes what is loaded with it.
pub(super) fn start(
    start: &Start,
    directory: &Path,
    account: Option<&Account>,
    is_listed: bool,
) -> io::Result<Process> {
    // The supervisor works elsewhere, where a relative path would mean something else.
    let directory = &std::path::absolute(directory)?;
    let (mut orders, reports, theirs) = pair()?;
    let mut command = Command::new(own_program()?);
    command
        .arg(WORD)
        .env_clear()
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .current_dir("/");
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    let supervisor = command.spawn()?;
    drop(command); // it holds the other end of the socket
    let program = resolve(&start.program, directory);
    let program = if is_listed { look_up(program) } else { program };
    let linger_ms = start.linger_ms.min(u64::try_from(JOB_LINGER_MAX.as_millis()).unwrap_or(u64::MAX));
    let order = SupervisorOrder::Run {
        program,
        arguments: start.arguments.clone(),
        environment: environment(start, account, is_listed),
        directory: directory.as_os_str().as_bytes().into(),
        terminal: start.terminal.is_some(),
        linger_ms,
    };
    if encode(&order).len() > FRAME_HEAD_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::ArgumentListTooLong,
            "arguments and environment are too long",
        ));
    }
    let file = |descriptor: OwnedFd| File::from(descriptor);
    if let Some(size) = start.terminal {
        let (ours, theirs) = open_terminal(size, account)?;
        orders.first(&order, &[theirs.as_fd()])?;
        let (output, input) = (file(ours.try_clone()?), file(ours.try_clone()?));
        return Ok(Process {
            orders,
            terminal: Some(file(ours)),
            reports,
            supervisor,
            outputs: vec![(OutputStream::Output, output)],
            input: Some(input),
        });
    }
    let (output, output_theirs) = io::pipe()?;
    let (errors, errors_theirs) = io::pipe()?;
    let (input_theirs, input): (OwnedFd, _) = if start.input {
        let (theirs, ours) = io::pipe()?;
        (theirs.into(), Some(file(ours.into())))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    orders.first(&order, &[input_theirs.as_fd(), output_theirs.as_fd(), errors_theirs.as_fd()])?;
    let outputs =
        vec![(OutputStream::Output, file(output.into())), (OutputStream::Errors, file(errors.into()))];
    Ok(Process { orders, terminal: None, reports, supervisor, outputs, input })
}

/// This very program, also after its file was replaced by a newer one.
fn own_program() -> io::Result<std::path::PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.into()) } else { std::env::current_exe() }
}

/// A path is meant from the working directory; a mere name stays one.
fn resolve(program: &[u8], directory: &Path) -> Bytes {
    if !program.contains(&b'/') || program.starts_with(b"/") {
        return program.into();
    }
    let mut path = directory.as_os_str().as_bytes().to_vec();
    path.push(b'/');
    path.extend_from_slice(program.strip_prefix(b"./").unwrap_or(program));
    path.into()
}

/// The program of this name in the node's own `PATH`; the name itself if there is none.
fn look_up(program: Bytes) -> Bytes {
    if program.contains(&b'/') {
        return program;
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
    let found = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(std::ffi::OsStr::from_bytes(&program)))
        .find(|place| place.is_file());
    found.map_or(program, |place| place.into_os_string().into_vec().into())
}

fn environment(start: &Start, account: Option<&Account>, is_listed: bool) -> Vec<(Bytes, Bytes)> {
    let bytes = |text: &str| Bytes::from(text.as_bytes());
    let mut all: std::collections::BTreeMap<Bytes, Bytes> = [(bytes("PATH"), bytes(PATH_DEFAULT))].into();
    let raw = |text: OsString| Bytes::from(text.into_vec());
    let kept =
        |name: &OsString| start.base_environment || name.to_str().is_some_and(|name| KEPT.contains(&name));
    let inherited = std::env::vars_os().filter(|(name, _)| kept(name) && !name.as_bytes().starts_with(OWN));
    all.extend(inherited.map(|(name, value)| (raw(name), raw(value))));
    if let Some(account) = account {
        all.remove(&b"XDG_RUNTIME_DIR"[..]);
        let own = [
            ("HOME", &account.home),
            ("USER", &account.name),
            ("LOGNAME", &account.name),
            ("SHELL", &account.shell),
        ];
        all.extend(own.map(|(name, value)| (bytes(name), bytes(value))));
    }
    all.insert(bytes(JOB_VARIABLE), bytes(&start.job.to_string()));
    let changes_programs =
        |name: &[u8]| name == b"PATH" || LOADER.iter().any(|prefix| name.starts_with(prefix));
    let sent = start.environment.iter().filter(|(name, _)| !(is_listed && changes_programs(name)));
    all.extend(sent.cloned());
    all.into_iter().collect()
}

/// Our end of a new terminal, and the program's.
fn open_terminal(size: TerminalSize, account: Option<&Account>) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    if let Some(account) = account {
        std::os::unix::fs::chown(path, Some(account.uid), None)?;
    }
    let no_controlling = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap_or(0);
    let theirs = OpenOptions::new().read(true).write(true).custom_flags(no_controlling).open(path)?;
    resize(&ours, size)?;
    Ok((ours, theirs.into()))
}

/// Gives a terminal another size; its foreground processes are told by the system.
pub(super) fn resize(terminal: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Moves bytes between the program and its job until it has ended, on threads of its own.
pub(super) fn attend(job: &Arc<Job>, process: ProcessStreams) {
    let ProcessStreams { mut reports, mut supervisor, outputs, input, terminal } = process;
    if let Some(mut input) = input {
        let job = Arc::clone(job);
        std::thread::spawn(move || {
            while let Some(bytes) = job.next_input() {
                // One that does not read is not waited for once it is over; see `next_input`.
                let taken = input.write_all(&bytes).is_ok();
                job.input_written(bytes.len(), taken);
            }
            if terminal {
                let _ = input.write_all(&[END_OF_INPUT]);
            }
        });
    }
    let (reading, all_read) = std::sync::mpsc::channel::<()>();
    {
        let job = Arc::clone(job);
        std::thread::spawn(move || {
            read_outputs(&job, outputs);
            drop(reading);
        });
    }
    let job = Arc::clone(job);
    std::thread::spawn(move || {
        let mut group = None;
        let end = loop {
            match reports.hear() {
                Some(SupervisorReport::Started(process)) => {
                    group = i32::try_from(process).ok().and_then(Pid::from_raw);
                    job.set_process(process);
                }
                Some(SupervisorReport::Ended(end)) => break Some(end),
                None => break None,
            }
        };
        let _ = supervisor.wait();
        if end.is_some() {
            // Nothing of it is left that could write; what was written comes to its end. Whoever else has the
            // pipe open is not waited for.
            job.output.drain();
            let _ = all_read.recv_timeout(LAST_WORDS_WAIT);
        } else if let Some(group) = group.filter(|group| is_of(*group, supervisor.id())) {
            // The supervisor was killed: what it watched over must not be left alone.
            let _ = kill_process_group(group, Signal::KILL);
        }
        job.finish(end.unwrap_or(JobEnd::Lost));
    });
}

/// Whether a process group is of the session that a supervisor began: a number may be another's by now.
fn is_of(group: Pid, supervisor: u32) -> bool {
    let session = rustix::process::getsid(Some(group)).map(|session| session.as_raw_nonzero().get());
    session.is_ok_and(|session| u32::try_from(session) == Ok(supervisor))
}

/// One thread for both streams, so that what was said one after the other mostly stays so.
fn read_outputs(job: &Job, mut outputs: Vec<(OutputStream, File)>) {
    let mut buffer = vec![0; JOB_OUTPUT_FRAME_BYTES];
    while !outputs.is_empty() {
        let mut waiting: Vec<PollFd<'_>> =
            outputs.iter().map(|(_, file)| PollFd::new(file, PollFlags::IN)).collect();
        if poll(&mut waiting, None).is_err() {
            continue; // interrupted
        }
        let ready: Vec<bool> = waiting.iter().map(|file| !file.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        outputs.retain_mut(|(stream, file)| {
            !ready.next().unwrap_or(false) || read_output(job, *stream, file, &mut buffer)
        });
    }
}

/// Reads what there is; `false` if there will be no more.
fn read_output(job: &Job, stream: OutputStream, file: &mut File, buffer: &mut [u8]) -> bool {
    match file.read(buffer) {
        Ok(0) => false,
        Ok(count) => {
            job.output.append(stream, buffer.get(..count).unwrap_or_default());
            // The program finds out as it would here; after its end nobody else is heard.
            !job.is_closed(stream) && job.end().is_none()
        }
        // Else a terminal that nobody has open any more.
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}

/// What the threads need of a process.
pub(super) struct ProcessStreams {
    reports: ReportReader,
    supervisor: Child,
    outputs: Vec<(OutputStream, File)>,
    input: Option<File>,
    terminal: bool,
}

impl Process {
    /// What the job keeps, and what its threads need.
    pub(super) fn split(self) -> (OrderSender, Option<File>, ProcessStreams) {
        let streams = ProcessStreams {
            reports: self.reports,
            supervisor: self.supervisor,
            outputs: self.outputs,
            input: self.input,
            terminal: self.terminal.is_some(),
        };
        (self.orders, self.terminal, streams)
    }
}
