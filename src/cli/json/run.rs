//! Documents of `thorp run`, `jobs` and `stop`.

use crate::documents::format_rfc3339_seconds;
use crate::wire::run::{JobEnd, JobRow};
use serde::Serialize;

/// A job that goes on by itself.
#[derive(Debug, Serialize)]
pub struct DetachedDocument {
    /// Its id.
    pub job: String,
    /// Where it runs.
    pub node: String,
}

/// One row of `thorp jobs`.
#[derive(Debug, Serialize)]
pub struct JobDocument {
    /// Its id.
    pub job: String,
    /// Where it runs.
    pub node: String,
    /// `running`, `exited`, `signalled`, `not_started` or `lost`.
    pub state: &'static str,
    /// What `thorp run` ended or would end with; `null` while it runs.
    pub exit_code: Option<u8>,
    /// Program and arguments.
    pub command: String,
    /// The folder that it runs in.
    pub workspace: String,
    /// Who started it.
    pub user: String,
    /// From which address.
    pub from: String,
    /// When.
    pub started_at: String,
    /// When it ended; `null` while it runs.
    pub ended_at: Option<String>,
    /// How many commands are attached to it.
    pub sessions: u32,
    /// Whether it goes on without one.
    pub detached: bool,
}

impl JobDocument {
    /// The row of a job at a node of this name.
    #[must_use]
    pub fn new(node: &str, row: &JobRow) -> JobDocument {
        let state = match row.end {
            None => "running",
            Some(JobEnd::Exited(_)) => "exited",
            Some(JobEnd::Signalled(_)) => "signalled",
            Some(JobEnd::NotStarted(..)) => "not_started",
            Some(JobEnd::Lost) => "lost",
        };
        JobDocument {
            job: row.job.to_string(),
            node: node.to_owned(),
            state,
            exit_code: row.end.as_ref().map(crate::cli::commands::run::code_of),
            command: row.command.to_string(),
            workspace: row.workspace.to_string(),
            user: row.user.to_string(),
            from: row.from.to_string(),
            started_at: time(row.started_ms),
            ended_at: (row.ended_ms > 0).then(|| time(row.ended_ms)),
            sessions: row.sessions,
            detached: row.detached,
        }
    }
}

fn time(wall_ms: u64) -> String {
    format_rfc3339_seconds(i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

/// `thorp stop`.
#[derive(Debug, Serialize)]
pub struct StoppedDocument {
    /// Its id.
    pub job: String,
    /// What `thorp run` ended or would end with.
    pub exit_code: u8,
}
