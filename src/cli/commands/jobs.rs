//! `thorp jobs`, `attach`, `logs`, `stop`: programs that run for somebody, or ran.

use super::run::{code_of, console, failure, outcome, several, stay};
use crate::cli::Context;
use crate::cli::arguments::{AttachArguments, JobsArguments, LogsArguments, StopArguments};
use crate::cli::failure::{ExitCode, Failure, Outcome};
use crate::cli::json::{JobDocument, StoppedDocument};
use crate::cli::printer::Style;
use crate::cli::session::{failure_of, with_identified_session};
use crate::cli::table::{Align, Table};
use crate::cli::units::format_duration;
use crate::client::Session;
use crate::client::run::{Target, Wanted};
use crate::clock;
use crate::types::JobId;
use crate::wire::run::JobRow;
use console::Lent;
use std::ffi::OsString;
use std::time::Duration;

/// Most characters of a command in the table.
const COMMAND_SHOWN: usize = 60;

/// Lists what runs and ran.
///
/// # Errors
/// When no proxy is found, or the machine that was named does not say.
pub fn list(context: &Context, arguments: &JobsArguments) -> Result<Outcome, Failure> {
    with_identified_session(context, async |mut session| {
        let mut rows: Vec<(String, JobRow)> = Vec::new();
        let mut denied = Vec::new();
        match &arguments.node {
            Some(node) => {
                let target = session.target(node).await.map_err(failure_of)?;
                let jobs = target.jobs().await.map_err(|error| failure(&error))?;
                rows.extend(jobs.into_iter().map(|row| (target.route.name.to_string(), row)));
            }
            None => {
                for (target, jobs) in
                    several::ask_all(&mut session, |target| async move { target.jobs().await }).await?
                {
                    match jobs {
                        Ok(jobs) => {
                            rows.extend(jobs.into_iter().map(|row| (target.route.name.to_string(), row)))
                        }
                        Err(error) => denied.push(error),
                    }
                }
                // A LAN on which nobody may run anything is told so, rather than that nothing runs.
                if rows.is_empty()
                    && !denied.is_empty()
                    && denied.len() == session.targets().await.map_err(failure_of)?.len()
                {
                    return Err(failure(&denied.swap_remove(0)));
                }
            }
        }
        rows.sort_by_key(|(_, row)| (row.end.is_some(), std::cmp::Reverse(row.started_ms)));
        show(context, &rows);
        Ok(Outcome::Done)
    })
}

fn show(context: &Context, rows: &[(String, JobRow)]) {
    let documents: Vec<JobDocument> = rows.iter().map(|(node, row)| JobDocument::new(node, row)).collect();
    context.printer.result(&documents, |printer| {
        if rows.is_empty() {
            return printer.note("nothing runs, and nothing ran");
        }
        let left = ["job", "node", "state", "started", "by", "command"].map(|heading| (heading, Align::Left));
        let mut table = Table::new(&left);
        let now = clock::wall().0;
        for ((node, row), document) in rows.iter().zip(&documents) {
            let ago = Duration::from_millis(now.saturating_sub(row.started_ms));
            let ago = Duration::from_secs(ago.as_secs());
            let state = match document.exit_code {
                None if row.sessions == 0 => "running, alone".to_owned(),
                None => "running".to_owned(),
                Some(code) if document.state == "exited" => format!("ended: {code}"),
                Some(code) => format!("{}: {code}", document.state.replace('_', " ")),
            };
            let command: String = row.command.chars().take(COMMAND_SHOWN).collect();
            let cells = vec![
                document.job.clone(),
                printer.name(node).into_owned(),
                state,
                format!("{} ago", format_duration(ago)),
                printer.name(&format!("{} ({})", row.user, row.from)).into_owned(),
                printer.name(&command).into_owned(),
            ];
            table.row(cells, row.end.is_some().then_some(Style::Dim));
        }
        printer.table(&table);
    });
}

/// Comes back to a job, as if it had been started here: output so far, then live; input and signals.
///
/// # Errors
/// When there is no such job, or its machine is lost.
pub fn attach(context: &Context, arguments: &AttachArguments) -> Result<Outcome, Failure> {
    with_identified_session(context, async |mut session| {
        let (target, row) = find(&mut session, &arguments.job).await?;
        let wanted = Wanted::Attach { job: row.job, input: row.end.is_none() };
        let running = row.end.is_none();
        let terminal =
            running && target.has_terminal(row.job).await.unwrap_or(false) && console::has_terminal();
        let lent = Lent { input: running && console::may_read_input(), signals: true, terminal };
        let end = stay(context, &target, wanted, lent).await?;
        outcome(&end, &[OsString::from(&*row.command)])
    })
}

/// Shows what a job has said so far.
///
/// # Errors
/// As [`attach`].
pub fn logs(context: &Context, arguments: &LogsArguments) -> Result<Outcome, Failure> {
    with_identified_session(context, async |mut session| {
        let (target, row) = find(&mut session, &arguments.job).await?;
        let wanted = if arguments.follow {
            Wanted::Attach { job: row.job, input: false }
        } else {
            Wanted::Past { job: row.job }
        };
        let lent = Lent { input: false, signals: false, terminal: false };
        stay(context, &target, wanted, lent).await?;
        Ok(Outcome::Done)
    })
}

/// Ends a job, and waits until it has ended.
///
/// # Errors
/// As [`attach`].
pub fn stop(context: &Context, arguments: &StopArguments) -> Result<Outcome, Failure> {
    with_identified_session(context, async |mut session| {
        let (target, row) = find(&mut session, &arguments.job).await?;
        if row.end.is_none() {
            target.stop(row.job).await.map_err(|error| failure(&error))?;
        }
        let end = target.end_of(row.job).await.map_err(|error| failure(&error))?;
        let document = StoppedDocument { job: row.job.to_string(), exit_code: code_of(&end) };
        context.printer.result(&document, |printer| {
            printer.line(format_args!("job {} has ended: {}", document.job, document.exit_code));
        });
        Ok(Outcome::Done)
    })
}

/// The job whose id begins so, wherever it is.
async fn find(session: &mut Session, prefix: &str) -> Result<(Target, JobRow), Failure> {
    let mut found: Vec<(Target, JobRow)> = Vec::new();
    let mut denied = None;
    for (target, jobs) in several::ask_all(session, |target| async move { target.jobs().await }).await? {
        match jobs {
            Ok(jobs) => {
                let meant = jobs.into_iter().filter(|row| row.job.to_string().starts_with(prefix));
                found.extend(meant.map(|row| (target.clone(), row)));
            }
            Err(error) => denied = Some(error),
        }
    }
    let ids: Vec<JobId> = found.iter().map(|(_, row)| row.job).collect();
    match (found.len(), denied) {
        (1, _) => found.pop().ok_or_else(|| Failure::not_found("it is gone")),
        (0, Some(error)) => {
            Err(Failure::not_found(format!("no machine that can be asked has job `{prefix}`"))
                .hint(format!("not every machine could be asked: {error}")))
        }
        (0, None) => Err(Failure::not_found(format!("there is no job `{prefix}`"))
            .hint_if(ExitCode::NotFound, "`thorp jobs` shows what runs and ran")),
        _ => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Err(Failure::usage(format!("`{prefix}` may be any of {}", ids.join(", ")))
                .hint("give more of the id"))
        }
    }
}
