//! What is written down of a job before it starts, and when it has ended: `job.json` in its folder.

use crate::clock;
use crate::types::{JobId, WorkspaceName};
use crate::wire::run::{JobEnd, JobRow, Start};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FILE: &str = "job.json";
const FILE_NEW: &str = "job.json.new";
/// Characters of the starter's name that are written down.
const USER_CHARACTERS_MAX: usize = 128;
/// Bytes of program and arguments that are written down.
const COMMAND_BYTES_MAX: usize = 2_000;

/// Who runs what, where and since when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) job: String,
    /// Program and arguments as people read them, perhaps cut.
    pub(super) command: String,
    pub(super) workspace: String,
    /// What the starter calls itself.
    pub(super) user: String,
    /// The starter's node, as TLS proves it.
    pub(super) node: String,
    /// The starter's address.
    pub(super) from: String,
    pub(super) detached: bool,
    pub(super) started_ms: u64,
    #[serde(default)]
    pub(super) ended_ms: u64,
    #[serde(default)]
    pub(super) end: Option<End>,
}

/// How it ended, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    Exited(u8),
    Signalled(u8),
    NotStarted(i32, String),
    Lost,
}

impl From<&JobEnd> for End {
    fn from(end: &JobEnd) -> End {
        match end {
            JobEnd::Exited(code) => End::Exited(*code),
            JobEnd::Signalled(signal) => End::Signalled(*signal),
            JobEnd::NotStarted(number, why) => End::NotStarted(*number, why.to_string()),
            JobEnd::Lost => End::Lost,
        }
    }
}

impl From<&End> for JobEnd {
    fn from(end: &End) -> JobEnd {
        match end {
            End::Exited(code) => JobEnd::Exited(*code),
            End::Signalled(signal) => JobEnd::Signalled(*signal),
            End::NotStarted(number, why) => JobEnd::NotStarted(*number, why.as_str().into()),
            End::Lost => JobEnd::Lost,
        }
    }
}

impl Record {
    pub(super) fn new(start: &Start, node: String, from: String) -> Record {
        let words = std::iter::once(&start.program).chain(&start.arguments);
        let words: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let mut command = words.join(" ");
        if command.len() > COMMAND_BYTES_MAX {
            let cut = (0..=COMMAND_BYTES_MAX).rev().find(|at| command.is_char_boundary(*at)).unwrap_or(0);
            command.truncate(cut);
            command.push('…');
        }
        Record {
            job: start.job.to_string(),
            command,
            workspace: start.workspace.to_string(),
            user: start.user.chars().take(USER_CHARACTERS_MAX).collect(),
            node,
            from,
            detached: start.detach,
            started_ms: clock::wall().0,
            ended_ms: 0,
            end: None,
        }
    }

    /// Reads the record in a job's folder; `None` if there is none that makes sense.
    pub(super) fn load(folder: &Path) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()?;
        let valid = JobId::parse(&record.job).is_some() && WorkspaceName::parse(&record.workspace).is_some();
        valid.then_some(record)
    }

    /// Writes it down, for good.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        let new = folder.join(FILE_NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, folder.join(FILE))?;
        File::open(folder)?.sync_all()
    }

    pub(super) fn row(&self, sessions: u32) -> Option<JobRow> {
        Some(JobRow {
            job: JobId::parse(&self.job)?,
            command: self.command.as_str().into(),
            workspace: WorkspaceName::parse(&self.workspace)?,
            user: self.user.as_str().into(),
            from: self.from.as_str().into(),
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            end: self.end.as_ref().map(JobEnd::from),
            sessions,
            detached: self.detached,
        })
    }
}
