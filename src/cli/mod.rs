//! Commands, printing, exit codes: what a person and a script see. Shell.
//!
//! [`main`] parses what was typed, starts logs, resolves settings and runs one command. Invariants:
//! only [`printer`] writes to standard output and error; what was typed is checked before anything
//! is done; every end of the program has one of the exit codes of [`failure::ExitCode`].

pub mod arguments;
pub mod commands;
pub mod escape;
pub mod failure;
pub mod http_address;
pub mod json;
pub mod letters;
pub mod names;
pub mod printer;
pub mod progress;
pub mod session;
pub mod table;
pub use crate::documents::units;

use crate::config::{Folders, Settings, UnitParsers, key_in_environment};
use crate::remote::supervisor;
use arguments::{Arguments, Command, Sources};
use clap::{CommandFactory, FromArgMatches};
use failure::{ExitCode, Failure, Outcome};
use printer::{Printer, Verbosity};
use std::ffi::{OsStr, OsString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// The variable with a filter for logs.
const LOG_VARIABLE: &str = "THORP_LOG";

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// Resolved from options, environment, file and defaults.
    pub settings: Settings,
    /// Whether `--timeout` was given, rather than left at its default.
    pub timeout_given: bool,
    /// Which of the settings were given by option or variable.
    pub sources: Sources,
    /// The only way to the screen; shared, so that tasks can have it too.
    pub printer: Arc<Printer>,
}

/// Runs the command line of this process.
pub fn main() -> std::process::ExitCode {
    printer::tell_panics_calmly();
    let typed: Vec<OsString> = std::env::args_os().collect();
    // Not a command: a node starts it for itself, with nothing in its environment.
    if typed.get(1).is_some_and(|word| word == supervisor::WORD) && typed.len() == 2 {
        return commands::supervise::run();
    }
    catch_unwind(AssertUnwindSafe(|| run(&typed))).unwrap_or_else(|_| {
        // The hook has told people; a script gets its document.
        if asks_for_json(&typed) {
            let failure = Failure::failed("this is a bug in thorp; standard error has more").json_code("bug");
            Printer::new(Verbosity { json: true, ..Verbosity::default() }).failure(&failure);
        }
        ExitCode::Failed.into()
    })
}

fn run(typed: &[OsString]) -> std::process::ExitCode {
    let (arguments, sources) = match parse(typed) {
        Ok(parsed) => parsed,
        Err(error) => return end_of_parsing(&error, asks_for_json(typed)).into(),
    };
    let verbosity = Verbosity {
        json: arguments.global.json,
        quiet: arguments.global.quiet,
        verbose: arguments.global.verbose,
    };
    let printer = Arc::new(Printer::new(verbosity));
    let ended = start_logs(&arguments, &printer, verbosity)
        .and_then(|()| arguments.check())
        .and_then(|()| dispatch(&arguments, sources, &printer));
    match ended {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            printer.failure(&failure);
            failure.code.into()
        }
    }
}

/// An empty variable is as good as none. Not so for the key file: whoever sets that wants a closed
/// LAN, and must not get an open one by mistake.
fn parse(typed: &[OsString]) -> Result<(Arguments, Sources), clap::Error> {
    let mut command = without_empty_variables(Arguments::command());
    let mut matches = command.try_get_matches_from_mut(typed)?;
    let sources = Sources::new(&command, &matches);
    let arguments =
        Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok((arguments, sources))
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let name = argument.get_env().unwrap_or_default().to_owned();
            let empty = std::env::var_os(&name).is_some_and(|value| value.is_empty());
            if empty && name != "THORP_KEY_FILE" { argument.env(None::<&'static str>) } else { argument }
        })
        .mut_subcommands(without_empty_variables)
}

/// Help and version are no errors; wrong usage is told in the parser's words.
fn end_of_parsing(error: &clap::Error, json: bool) -> ExitCode {
    let wrong = error.use_stderr();
    let printer = Printer::new(Verbosity { json: json && wrong, ..Verbosity::default() });
    if json && wrong {
        printer.failure(&usage_failure(&error.render().to_string()));
    } else {
        printer.usage(error);
    }
    if wrong { ExitCode::Usage } else { ExitCode::Done }
}

/// The parser's text, which is made for people, as a message and a hint.
fn usage_failure(text: &str) -> Failure {
    let text = text.trim_start().strip_prefix("error: ").unwrap_or("a command is missing");
    let message = text.split("\n\n").next().unwrap_or_default();
    let message: Vec<&str> = message.lines().map(str::trim).collect();
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let hint = tips.chain(std::iter::once("see `thorp --help`")).collect::<Vec<_>>().join("; ");
    Failure::usage(message.join(" ")).hint(hint)
}

/// Whether `--json` was asked for, where parsing failed and cannot tell.
fn asks_for_json(typed: &[OsString]) -> bool {
    let variable = std::env::var("THORP_JSON").unwrap_or_default().to_ascii_lowercase();
    let options = typed.iter().skip(1).take_while(|typed| *typed != OsStr::new("--"));
    options.into_iter().any(|typed| typed == OsStr::new("--json"))
        || matches!(variable.as_str(), "1" | "true" | "yes" | "on" | "y" | "t")
}

/// Logs go to standard error: warnings for commands, what happens for a node; `-q` and `-v` change
/// that, `THORP_LOG` decides it.
fn start_logs(arguments: &Arguments, printer: &Printer, verbosity: Verbosity) -> Result<(), Failure> {
    let is_node = matches!(arguments.command, Command::Up(_));
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(&filter).map_err(|error| {
            Failure::usage(format!("`{LOG_VARIABLE}` is no filter: {error}"))
                .hint("for example `debug`, or `warn,thorp::discovery=trace`")
        })?,
        _ => EnvFilter::new(match (verbosity.quiet, verbosity.verbose.saturating_add(u8::from(is_node))) {
            (0, 0) => "warn",
            (0, 1) => "warn,thorp=info",
            (0, 2) => "warn,thorp=debug",
            (0, _) => "debug,thorp=trace",
            (1, _) if is_node => "warn",
            _ => "error",
        }),
    };
    let logs = printer.log_writer();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || logs.clone());
    // Only a node runs long enough for the time to matter.
    let started = if is_node {
        builder.try_init()
    } else {
        builder.without_time().with_target(verbosity.verbose > 0).try_init()
    };
    // Only a second start in one process fails: then the first goes on.
    started.or(Ok(()))
}

fn dispatch(arguments: &Arguments, sources: Sources, printer: &Arc<Printer>) -> Result<Outcome, Failure> {
    let settings = match &arguments.command {
        // These need no settings, so that no wrong file can stop them.
        Command::Key(key) => return finish(printer, commands::key::run(printer, key)),
        Command::Completions(shell) => return finish(printer, commands::completions::run(printer, shell)),
        Command::Man(man) => return finish(printer, commands::man::run(printer, man)),
        Command::Hash(hash) => return finish(printer, commands::hash::run(printer, hash)),
        _ => settings(arguments)?,
    };
    let timeout_given = arguments.global.timeout.is_some();
    let context = Context { settings, timeout_given, sources, printer: Arc::clone(printer) };
    let ended = match &arguments.command {
        Command::Up(up) => commands::up::run(&context, up),
        Command::Status(status) => commands::status::run(&context, status),
        Command::Open(open) => commands::open::run(&context, open),
        Command::Config(_) => commands::config::run(&context),
        Command::Demo(demo) => commands::demo::run(&context, demo),
        Command::Put(put) => commands::put::run(&context, put),
        Command::Get(get) => commands::get::run(&context, get),
        Command::Verify(verify) => commands::verify::run(&context, verify),
        Command::Ls(ls) => commands::ls::run(&context, ls),
        Command::Replicas(replicas) => commands::replicas::run(&context, replicas),
        Command::Rm(rm) => commands::rm::run(&context, rm),
        Command::Send(send) => commands::send::run(&context, send),
        Command::Inbox(inbox) => commands::inbox::run(&context, inbox),
        Command::List(list) => commands::list::run(&context, list),
        Command::Retry(retry) => commands::retry::run(&context, retry),
        Command::Flush(flush) => commands::flush::run(&context, flush),
        Command::Channel(channel) => commands::channel::run(&context, channel),
        Command::Why(why) => commands::why::run(&context, why),
        Command::Drain(drain) => commands::drain::run(&context, drain),
        Command::Merge(merge) => commands::merge::run(&context, merge),
        Command::Restore(restore) => commands::restore::run(&context, restore),
        Command::Sync(sync) => commands::sync::run(&context, sync),
        Command::Share(share) => commands::share::run(&context, share),
        Command::Run(run) => commands::run::run(&context, run),
        Command::Jobs(jobs) => commands::jobs::list(&context, jobs),
        Command::Attach(attach) => commands::jobs::attach(&context, attach),
        Command::Logs(logs) => commands::jobs::logs(&context, logs),
        Command::Stop(stop) => commands::jobs::stop(&context, stop),
        Command::Key(_) | Command::Completions(_) | Command::Man(_) | Command::Hash(_) => Ok(Outcome::Done),
    };
    finish(printer, ended)
}

fn settings(arguments: &Arguments) -> Result<Settings, Failure> {
    let given = crate::config::Given { key: key_in_environment()?, ..arguments.given() };
    let parsers = UnitParsers { size: units::parse_size, duration: units::parse_duration };
    Ok(Settings::load(given, &Folders::of_platform(), parsers)?)
}

/// A result that could not be written is no success.
fn finish(printer: &Printer, ended: Result<Outcome, Failure>) -> Result<Outcome, Failure> {
    let outcome = ended?;
    printer.finish()?;
    Ok(outcome)
}
