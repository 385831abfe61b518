//! `thorp run`: syncs what is needed to another machine, runs a program there, and is like that program itself.
//!
//! | file | what it does |
//! |---|---|
//! | `console` | this process's streams, signals and terminal |
//! | `place` | what is synced, and where the program is there |
//! | `results` | files fetched back |
//! | `several` | on all machines at once |

pub(in crate::cli::commands) mod console;
mod place;
mod results;
pub(in crate::cli::commands) mod several;

use crate::cli::Context;
use crate::cli::arguments::RunArguments;
use crate::cli::failure::{ExitCode, Failure, Outcome};
use crate::cli::json::DetachedDocument;
use crate::cli::session::{failure_of, with_identified_session};
use crate::client::Session;
use crate::client::run::{RunError, RunEvent, Target, Wanted};
use crate::clock;
use crate::documents::chain;
use crate::limits::JOB_LINGER_DEFAULT;
use crate::types::JobId;
use crate::wire::message::ErrorCode;
use crate::wire::run::{Bytes, JobEnd, Start};
use console::{Lent, Sink, lend};
use place::Place;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// The word for the machine that has least to do.
const ANY: &str = "any";
/// The word for every machine that allows it.
const ALL: &str = "all";
/// What is added to a signal's number, as shells do.
const SIGNALLED: u8 = 128;
/// The system's number for "no such file".
const NO_SUCH_FILE: i32 = 2;
/// That for "permission denied", and "not a program".
const NOT_EXECUTABLE: [i32; 2] = [13, 8];

/// Runs a program elsewhere.
///
/// # Errors
/// When it cannot be started, or its machine is lost.
pub fn run(context: &Context, arguments: &RunArguments) -> Result<Outcome, Failure> {
    let variables = arguments.variables().map_err(Failure::usage)?;
    if arguments.tty && (arguments.on == ALL || (!console::has_terminal() && !arguments.detach)) {
        return Err(Failure::usage("`--tty` needs a terminal here, and one machine there")
            .hint("leave it out, or run it from a terminal"));
    }
    if context.printer.is_json() && !arguments.detach {
        return Err(Failure::usage("`--json` goes with `--detach`: else the output is the program's own"));
    }
    with_identified_session(context, async |mut session| {
        let place = Place::of(arguments, &context.settings)?;
        if arguments.on == ALL {
            return several::run(context, arguments, &mut session, &place, &variables).await;
        }
        let target = match arguments.on.as_str() {
            ANY => idlest(&mut session).await?,
            node => session.target(node).await.map_err(|error| {
                failure_of(error).hint_if(ExitCode::NotFound, "`thorp status` shows the machines")
            })?,
        };
        place.sync(context, arguments, &target).await?;
        let start = start(arguments, &place, &variables)?;
        if arguments.detach {
            return detach(context, &target, start).await;
        }
        let end = follow(context, &target, start, arguments).await?;
        tokio::select! {
            fetched = results::fetch(context, arguments, &mut session, &target, &place) => fetched?,
            code = console::interrupted() => return Ok(Outcome::Program(code)),
        }
        outcome(&end, &arguments.command)
    })
}

/// The program as it is sent.
fn start(
    arguments: &RunArguments,
    place: &Place,
    variables: &[(OsString, OsString)],
) -> Result<Start, Failure> {
    let raw = |text: &OsString| Bytes::from(text.as_bytes());
    let mut environment: Vec<(Bytes, Bytes)> = Vec::new();
    if arguments.tty
        && let Some(kind) = std::env::var_os("TERM")
    {
        environment.push((raw(&"TERM".into()), raw(&kind)));
    }
    environment.extend(variables.iter().map(|(name, value)| (raw(name), raw(value))));
    let id = clock::entropy()
        .map_err(|error| Failure::failed(format!("the system gives no randomness: {error}")))?;
    let linger = arguments.linger.unwrap_or(JOB_LINGER_DEFAULT);
    Ok(Start {
        job: JobId(id),
        workspace: place.workspace.clone(),
        program: place.program.clone().into_vec().into(),
        arguments: arguments.command.iter().skip(1).map(raw).collect(),
        environment,
        base_environment: arguments.base_env,
        terminal: arguments.tty.then(console::terminal_size),
        input: !arguments.detach && arguments.on != ALL,
        detach: arguments.detach,
        linger_ms: u64::try_from(linger.as_millis()).unwrap_or(u64::MAX),
        user: who().into(),
    })
}

/// How whoever starts a program is called there.
fn who() -> String {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| format!("uid-{}", rustix::process::getuid().as_raw()));
    let user: String = user.chars().filter(|c| !c.is_control()).take(64).collect();
    format!("{user}@{}", crate::config::host_name())
}

async fn follow(
    context: &Context,
    target: &Target,
    start: Start,
    arguments: &RunArguments,
) -> Result<JobEnd, Failure> {
    let lent = Lent { input: console::may_read_input(), signals: true, terminal: arguments.tty };
    stay(context, target, Wanted::Start(Box::new(start)), lent).await
}

/// Lends this process's streams to a program until it has ended.
pub(in crate::cli::commands) async fn stay(
    context: &Context,
    target: &Target,
    wanted: Wanted,
    lent: Lent,
) -> Result<JobEnd, Failure> {
    let (printer, name) = (Arc::clone(&context.printer), target.route.name.clone());
    let tell = move |event: &RunEvent| match event {
        RunEvent::Lost => {
            printer.warning(format_args!("the connection to {name} is lost; trying to get it back"))
        }
        RunEvent::Back => printer.note(format_args!("the connection to {name} is back")),
        RunEvent::Attached { lost, .. } if *lost > 0 => {
            printer.warning(format_args!("the first {lost} bytes of its output are not there any more"));
        }
        RunEvent::Attached { .. } | RunEvent::Output { .. } => {}
    };
    let (sink, streams) = (Sink::streams(), "the standard streams cannot be used");
    let sink = sink.map_err(|error| Failure::failed(format!("{streams}: {error}")))?;
    let lending = lend(lent, sink, tell);
    let (console, lending) = lending.map_err(|error| Failure::failed(format!("{streams}: {error}")))?;
    let ended = target.follow(wanted, console).await;
    lending.finish();
    ended.map_err(|error| failure(&error))
}

async fn detach(context: &Context, target: &Target, start: Start) -> Result<Outcome, Failure> {
    let job = target.start(start).await.map_err(|error| failure(&error))?;
    let document = DetachedDocument { job: job.to_string(), node: target.route.name.to_string() };
    context.printer.result(&document, |printer| printer.line(&document.job));
    context.printer.note(format_args!("`thorp attach {job}` comes back to it, `thorp stop {job}` ends it"));
    Ok(Outcome::Done)
}

/// Of the machines that allow it, the one that has least to do.
async fn idlest(session: &mut Session) -> Result<Target, Failure> {
    let mut best: Option<((u32, u32), Target)> = None;
    let mut denied = None;
    for (target, idle) in several::ask_all(session, |target| async move { target.idle().await }).await? {
        match idle {
            Ok((jobs, load_milli)) => {
                let busy = (load_milli.saturating_add(jobs.saturating_mul(1_000)), jobs);
                if best.as_ref().is_none_or(|(least, _)| busy < *least) {
                    best = Some((busy, target));
                }
            }
            Err(error) => denied = Some(error),
        }
    }
    match (best, denied) {
        (Some((_, target)), _) => Ok(target),
        (None, Some(error)) => Err(failure(&error)),
        (None, None) => Err(Failure::not_found("no machine is up")),
    }
}

/// What this process ends with, for a program that ended so.
#[must_use]
pub fn code_of(end: &JobEnd) -> u8 {
    match end {
        JobEnd::Exited(code) => *code,
        JobEnd::Signalled(signal) => SIGNALLED.saturating_add(*signal),
        JobEnd::NotStarted(NO_SUCH_FILE, _) => ExitCode::NoSuchProgram as u8,
        JobEnd::NotStarted(number, _) if NOT_EXECUTABLE.contains(number) => ExitCode::NotExecutable as u8,
        JobEnd::NotStarted(..) | JobEnd::Lost => ExitCode::NotStarted as u8,
    }
}

pub(in crate::cli::commands) fn outcome(end: &JobEnd, command: &[OsString]) -> Result<Outcome, Failure> {
    let program = command.first().map(|program| program.display().to_string()).unwrap_or_default();
    let cannot =
        |code: ExitCode, why: &str| Failure::new(code, format!("`{program}` cannot be started there: {why}"));
    match end {
        JobEnd::Exited(_) | JobEnd::Signalled(_) => Ok(Outcome::Program(code_of(end))),
        JobEnd::NotStarted(NO_SUCH_FILE, _) => Err(cannot(
            ExitCode::NoSuchProgram,
            "there is no such program, or what it needs to be run is missing",
        )
        .hint("a program that is to be synced has a slash in it, like `./game`; it must be made for that machine")),
        JobEnd::NotStarted(number, why) if NOT_EXECUTABLE.contains(number) => {
            Err(cannot(ExitCode::NotExecutable, why).hint("`chmod +x` it; it must be made for that machine"))
        }
        JobEnd::NotStarted(_, why) => Err(cannot(ExitCode::NotStarted, why)),
        JobEnd::Lost => Err(Failure::new(ExitCode::NotStarted, "its node was stopped, and the program with it")
            .hint("`thorp jobs` shows what was left; start it again")),
    }
}

/// An error of running, in words.
pub(in crate::cli::commands) fn failure(error: &RunError) -> Failure {
    match error {
        RunError::Denied { why, .. } => Failure::denied(error.to_string(), why),
        RunError::Refused { code: ErrorCode::NotFound, message } => {
            Failure::not_found(message.to_string()).hint("`thorp jobs` shows what runs and ran")
        }
        RunError::Refused { message, .. } => Failure::new(ExitCode::NotStarted, message.to_string()),
        RunError::Connection { running: true, .. } => Failure::new(ExitCode::NotStarted, chain(error)).hint(
            "the program is ended there after its `--linger`, unless it was started with `--detach`; `thorp jobs` shows it",
        ),
        RunError::Connection { running: false, .. } | RunError::Nonsense { .. } => {
            Failure::new(ExitCode::NotStarted, chain(error)).json_code("connection").hint("try again")
        }
        RunError::File { path, source } => Failure::local_file("write", path, source),
    }
}
