//! `thorp sync`: makes a folder on another machine equal to one here.

use crate::cli::Context;
use crate::cli::arguments::SyncArguments;
use crate::cli::failure::{ExitCode, Failure, Outcome};
use crate::cli::json::{SyncChange, SyncDocument, SyncReason};
use crate::cli::session::{failure_of, with_identified_session};
use crate::cli::units::{format_bytes, format_duration};
use crate::client::sync::watch::Changes;
use crate::client::sync::{
    Change, ChangeKind, SyncError, SyncOptions, SyncReport, SyncSource, sync, workspace_of,
};
use crate::client::{ClientError, Session};
use crate::clock;
use crate::documents::chain;
use crate::limits::SYNC_AGAIN_MAX;
use crate::transfer::Progress;
use crate::transfer::connection::ConnectionError;
use crate::types::{MachineId, WorkspaceName};
use crate::wire::message::ErrorCode;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

/// Pause before the second try of a machine that does not answer; each that follows is twice as long.
const AGAIN: Duration = Duration::from_millis(300);

/// Syncs once, or with `--watch` again and again.
///
/// # Errors
/// When the folder cannot be read, or the machine is not there or does not allow it.
pub fn run(context: &Context, arguments: &SyncArguments) -> Result<Outcome, Failure> {
    let folder = &arguments.folder;
    let data = std::fs::metadata(folder).map_err(|error| Failure::local_file("read", folder, &error))?;
    if !data.is_dir() {
        return Err(Failure::usage(format!("`{}` is no folder", folder.display())));
    }
    let machine = crate::cli::session::access(&context.settings)?.machine;
    let work = Work::new(context, arguments, &machine);
    with_identified_session(context, async |mut session| {
        if arguments.watch {
            return work.watch(&mut session).await;
        }
        let (report, took) = work.once(&mut session).await.map_err(|failed| failed.failure)?;
        work.tell(&report, took);
        Ok(if report.failed.is_empty() { Outcome::Done } else { Outcome::Bad })
    })
}

struct Work<'c> {
    context: &'c Context,
    arguments: &'c SyncArguments,
    workspace: WorkspaceName,
    source: SyncSource,
    options: SyncOptions,
}

/// Why a sync was not done, and whether to try again.
struct Failed {
    failure: Failure,
    passing: bool,
}

impl<'c> Work<'c> {
    fn new(context: &'c Context, arguments: &'c SyncArguments, machine: &MachineId) -> Work<'c> {
        let named = arguments.to.workspace.clone();
        Work {
            context,
            arguments,
            workspace: named.unwrap_or_else(|| workspace_of(&arguments.folder, machine)),
            source: SyncSource::Folder { folder: arguments.folder.clone(), also: Vec::new() },
            options: SyncOptions {
                delete: arguments.delete,
                dry_run: arguments.dry_run,
                checksum: arguments.checksum,
                ignore: !arguments.no_ignore,
                force: arguments.force,
            },
        }
    }

    async fn once(&self, session: &mut Session) -> Result<(SyncReport, Duration), Failed> {
        let started = clock::now();
        let target = session.target(&self.arguments.to.node).await.map_err(|error| {
            let passing = matches!(
                error,
                ClientError::NoProxy { .. }
                    | ClientError::Connection(_)
                    | ClientError::Refused { code: ErrorCode::NotReady | ErrorCode::NotFound, .. }
            );
            let machines = "`thorp status` shows the machines";
            Failed { failure: failure_of(error).hint_if(ExitCode::NotFound, machines), passing }
        })?;
        let bar = Arc::new(self.context.printer.bytes_progress("syncing", None));
        let told = Arc::clone(&bar);
        let progress: Arc<dyn Progress> = Arc::new(move |bytes: u64| told.add(bytes));
        let synced =
            sync(&target.route, &target.endpoint, &self.workspace, &self.source, &self.options, progress)
                .await;
        drop(bar);
        let report = synced.map_err(|error| {
            let passing = error.is_passing();
            Failed { failure: failure(&error), passing }
        })?;
        Ok((report, Duration::from_millis(clock::now().since(started))))
    }

    /// Stays until it is interrupted, or nobody reads what it says.
    async fn watch(&self, session: &mut Session) -> Result<Outcome, Failure> {
        let printer = &self.context.printer;
        let folder = &self.arguments.folder;
        // Before the first sync: what changes during it is not missed.
        let mut changes = Changes::of(folder).map_err(|error| {
            Failure::failed(format!("`{}` cannot be watched: {error}", folder.display()))
                .hint("on Linux the limits are in `/proc/sys/fs/inotify`")
        })?;
        let (mut first, mut pause) = (true, AGAIN);
        loop {
            match self.once(session).await {
                Ok((report, took)) => {
                    if first || !report.changes.is_empty() || !report.failed.is_empty() {
                        self.tell(&report, took);
                    }
                    (first, pause) = (false, AGAIN);
                    changes.settled().await;
                }
                Err(failed) if failed.passing && !first => {
                    printer.warning(format_args!("{}; it is tried again", failed.failure));
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(SYNC_AGAIN_MAX);
                }
                Err(failed) => return Err(failed.failure),
            }
            if printer.is_closed() {
                return Ok(Outcome::Done);
            }
        }
    }

    fn tell(&self, report: &SyncReport, took: Duration) {
        let printer = &self.context.printer;
        for (path, why) in &report.skipped {
            printer.warning(format_args!("`{}` was left out: {why}", printer.name(&path.to_string_lossy())));
        }
        for (path, why) in &report.failed {
            printer.warning(format_args!("`{}` was not synced: {why}", printer.name(&path.to_string())));
        }
        printer.result(&self.document(report, took), |printer| {
            for change in &report.changes {
                let (sign, end) = (sign(change.kind), if change.folder { "/" } else { "" });
                printer.line(format_args!("{sign} {}{end}", printer.name(&change.path.to_string())));
            }
            printer.line(self.summary(report, took));
        });
    }

    fn document(&self, report: &SyncReport, took: Duration) -> SyncDocument {
        let reason = |path: &dyn Display, why: &dyn Display| SyncReason {
            path: path.to_string(),
            reason: why.to_string(),
        };
        let skipped = report.skipped.iter().map(|(path, why)| reason(&path.display(), why));
        SyncDocument {
            node: self.arguments.to.node.to_string(),
            workspace: self.workspace.to_string(),
            dry_run: self.options.dry_run,
            changes: report.changes.iter().map(row).collect(),
            skipped: skipped.collect(),
            failed: report.failed.iter().map(|(path, why)| reason(path, why)).collect(),
            files: report.files,
            bytes: report.bytes,
            sent_bytes: report.sent_bytes,
            reused_bytes: report.reused_bytes,
            seconds: took.as_secs_f64(),
        }
    }

    fn summary(&self, report: &SyncReport, took: Duration) -> String {
        let place = format!("{}:{}", self.context.printer.name(&self.arguments.to.node), self.workspace);
        let (files, took) = (report.files, format_duration(took));
        let (changes, bytes) = (report.changes.len(), format_bytes(report.bytes));
        match (self.options.dry_run, changes) {
            (_, 0) => format!("{place} is equal: {files} files, {bytes} ({took})"),
            (true, _) => format!("{changes} would change on {place}; nothing was done ({took})"),
            (false, _) => format!(
                "{changes} changed on {place}: {} had to travel, {} was there ({took})",
                format_bytes(report.sent_bytes),
                format_bytes(report.reused_bytes)
            ),
        }
    }
}

fn row(change: &Change) -> SyncChange {
    SyncChange {
        path: change.path.to_string(),
        change: match change.kind {
            ChangeKind::New => "new",
            ChangeKind::Changed => "changed",
            ChangeKind::Attributes => "attributes",
            ChangeKind::Removed => "removed",
        },
        folder: change.folder,
        bytes: change.bytes,
    }
}

fn sign(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::New => '+',
        ChangeKind::Changed => '~',
        ChangeKind::Attributes => '.',
        ChangeKind::Removed => '-',
    }
}

/// A sync's error in words.
#[must_use]
pub fn failure(error: &SyncError) -> Failure {
    match error {
        SyncError::Denied(why) => Failure::denied(format!("the machine does not allow it: {why}"), why),
        SyncError::Connection(ConnectionError::OtherKey { address }) => {
            failure_of(ClientError::Connection(ConnectionError::OtherKey { address: *address }))
        }
        SyncError::Refused { code, message } => match code {
            ErrorCode::NotReady => Failure::failed(message.clone())
                .json_code("not_ready")
                .hint("try again in some seconds"),
            ErrorCode::NoSpace => Failure::failed(message.clone())
                .json_code("no_space")
                .hint("make room there, or set `run_folder` to a folder on a larger disk"),
            ErrorCode::Disk => Failure::failed(format!("the other machine's disk: {message}")).json_code("disk"),
            code => Failure::from_reply(*code, message),
        },
        SyncError::File { path, source } => Failure::local_file("read", path, source),
        SyncError::Collision(..) | SyncError::Outside(_) | SyncError::Path { .. } => {
            Failure::usage(error.to_string())
        }
        SyncError::Emptied { .. } => Failure::failed(error.to_string())
            .json_code("emptied")
            .hint("if that is meant, `--force` removes them; else look at whether it is the right folder"),
        SyncError::Connection(_) | SyncError::Contents(_) => {
            Failure::failed(chain(error)).json_code("connection").hint(
                "`thorp status` shows whether it is up; what arrived is kept, and another sync goes on from there",
            )
        }
        _ => Failure::failed(chain(error)),
    }
}
