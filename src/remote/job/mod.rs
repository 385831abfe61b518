//! The programs that this node runs for others.
//!
//! Invariants: a job is written down before its program starts, so that its owner can always see who ran what; a
//! job is known by an id that its starter drew, so that a repeated start starts nothing twice; when a job has ended no
//! process of it is left, and its output and end stay for whoever comes back.
//!
//! | file | what it does |
//! |---|---|
//! | `session` | one connection of a command |
//! | `collect` | files of a workspace for a command |
//! | `process` | the program's streams and threads |
//! | `output` | its output, on disk |
//! | `record` | what is written down of it |

mod collect;
mod output;
mod process;
mod record;
mod session;

pub use session::serve;

use super::Consent;
use super::account::Account;
use super::supervisor::OrderSender;
use super::workspace::Workspaces;
use crate::clock;
use crate::limits::{JOB_INPUT_BYTES_MAX, JOB_LINGER_MAX, JOB_SESSIONS_MAX, JOBS_AT_ONCE_MAX, JOBS_KEPT_MAX};
use crate::types::JobId;
use crate::wire::message::ErrorCode;
use crate::wire::run::{
    Denial, JobEnd, JobRow, JobSignal, OutputStream, Start, SupervisorOrder, TerminalSize,
};
use bytes::Bytes;
use output::Output;
use record::Record;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// So long a node that ends waits until sessions have heard how their programs ended.
const TOLD_WAIT: Duration = Duration::from_millis(700);

/// Why a program was not started, or a job not found.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The owner does not allow it.
    #[error("not allowed")]
    Denied(#[from] Denial),
    /// There are [`JOBS_AT_ONCE_MAX`] of them.
    #[error("{JOBS_AT_ONCE_MAX} programs run here for others already")]
    TooMany,
    /// It was removed, or never was.
    #[error("there is no job `{0}`")]
    Unknown(JobId),
    /// [`JOB_SESSIONS_MAX`] are attached.
    #[error("{JOB_SESSIONS_MAX} sessions are attached to job `{0}` already")]
    Sessions(JobId),
    /// The node is being stopped.
    #[error("the node is being stopped")]
    Stopping,
    /// A folder or file of the job, or the supervisor.
    #[error("{what}")]
    System {
        /// What could not be done.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl JobError {
    fn code(&self) -> ErrorCode {
        match self {
            JobError::Denied(_) => ErrorCode::Denied,
            JobError::TooMany | JobError::Sessions(_) | JobError::Stopping => ErrorCode::NotReady,
            JobError::Unknown(_) => ErrorCode::NotFound,
            JobError::System { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorCode::NoSpace
            }
            JobError::System { .. } => ErrorCode::Disk,
        }
    }
}

/// All jobs of this node.
pub struct Jobs {
    consent: Arc<Consent>,
    workspaces: Workspaces,
    folder: PathBuf,
    account: Option<Account>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<JobId, Arc<Job>>,
    stopping: bool,
}

/// A program that runs or ran.
pub(super) struct Job {
    id: JobId,
    folder: PathBuf,
    output: Output,
    detached: bool,
    linger: Duration,
    has_input: bool,
    has_terminal: bool,
    terminal: Mutex<Option<File>>,
    orders: Mutex<Option<OrderSender>>,
    state: Mutex<State>,
    /// There is input, or none will come.
    input: Condvar,
    changed: watch::Sender<u64>,
}

struct State {
    record: Record,
    process: Option<u32>,
    end: Option<JobEnd>,
    /// Up to where each session has taken the output.
    sessions: BTreeMap<u64, u64>,
    sessions_begun: u64,
    /// Up to where the last session had taken it.
    taken: u64,
    /// The session whose input counts.
    input_session: u64,
    queue: VecDeque<Bytes>,
    input_upto: u64,
    input_taken: u64,
    input_ends: bool,
    /// The program does not read any more.
    deaf: bool,
    closed: [bool; 2],
    /// Whoever started it has suspended it.
    suspended: bool,
}

impl Jobs {
    /// The jobs that are written down in `folder`; none of them runs any more.
    ///
    /// # Errors
    /// When a folder cannot be used, or the user does not exist.
    pub fn open(consent: Arc<Consent>, folder: PathBuf) -> io::Result<Jobs> {
        let workspaces = Workspaces::open(&consent)?;
        let account = consent.user.as_deref().map(Account::of).transpose()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut jobs = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if let Some(job) = load(&path) {
                jobs.insert(job.id, Arc::new(job));
            } else {
                tracing::warn!(folder = %path.display(), "no job that makes sense; it is left alone");
            }
        }
        Ok(Jobs { consent, workspaces, folder, account, inner: Mutex::new(Inner { jobs, stopping: false }) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: JobId) -> Result<Arc<Job>, JobError> {
        self.inner().jobs.get(&id).cloned().ok_or(JobError::Unknown(id))
    }

    /// Starts a program, unless it was started before. Blocks.
    fn start(&self, start: &Start, node: String, from: String) -> Result<Arc<Job>, JobError> {
        if let Ok(known) = self.find(start.job) {
            return Ok(known);
        }
        self.consent.check_program(&String::from_utf8_lossy(&start.program))?;
        let system = |what| move |source| JobError::System { what, source };
        let directory =
            self.workspaces.root(&start.workspace).map_err(system("the workspace cannot be made"))?;
        let record = Record::new(start, node, from);
        let folder = self.folder.join(start.job.to_string());
        let mut inner = self.inner();
        if inner.stopping {
            return Err(JobError::Stopping);
        }
        if inner.jobs.values().filter(|job| job.end().is_none()).count() >= JOBS_AT_ONCE_MAX {
            return Err(JobError::TooMany);
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(system("the job's folder cannot be made"))?;
        let started = self.start_in(folder.clone(), start, record, &directory);
        match &started {
            Ok(job) => {
                inner.jobs.insert(start.job, Arc::clone(job));
                forget_oldest(&mut inner);
            }
            // Nothing runs, so nothing is to be found of it later.
            Err(_) => drop(fs::remove_dir_all(&folder)),
        }
        started
    }

    /// Writes a job down, and starts its program.
    fn start_in(
        &self,
        folder: PathBuf,
        start: &Start,
        record: Record,
        directory: &Path,
    ) -> Result<Arc<Job>, JobError> {
        let system = |what| move |source| JobError::System { what, source };
        record.save(&folder).map_err(system("the job cannot be written down"))?;
        tracing::info!(
            job = %start.job, user = ?record.user, from = %record.from, node = %record.node,
            command = ?record.command, workspace = %record.workspace, "runs a program"
        );
        let output = Output::open(&folder).map_err(system("the job's output cannot be kept"))?;
        let is_listed = !self.consent.programs.is_empty();
        let process = process::start(start, directory, self.account.as_ref(), is_listed);
        let process = process.map_err(system("the program's supervisor cannot be started"))?;
        let (orders, terminal, streams) = process.split();
        let linger = Duration::from_millis(start.linger_ms).min(JOB_LINGER_MAX);
        let has_input = start.input || start.terminal.is_some();
        let parts = Parts { folder, output, detached: start.detach, linger, has_input, terminal };
        let job = Arc::new(Job::new(start.job, record, parts, Some(orders)));
        job.set_floor();
        process::attend(&job, streams);
        Ok(job)
    }

    fn rows(&self) -> Vec<JobRow> {
        let jobs: Vec<Arc<Job>> = self.inner().jobs.values().cloned().collect();
        let mut rows: Vec<JobRow> = jobs.iter().filter_map(|job| job.row()).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.started_ms, row.job)));
        rows
    }

    fn running(&self) -> u32 {
        let running = self.inner().jobs.values().filter(|job| job.end().is_none()).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }

    /// Ends all programs, each in its own time but at most `grace`, and starts none any more.
    pub async fn stop(&self, grace: Duration) {
        let running: Vec<Arc<Job>> = {
            let mut inner = self.inner();
            inner.stopping = true;
            inner.jobs.values().filter(|job| job.end().is_none()).cloned().collect()
        };
        running.iter().for_each(|job| job.order(&SupervisorOrder::Stop));
        let all_over = async {
            for job in &running {
                job.over().await;
            }
        };
        if tokio::time::timeout(grace, all_over).await.is_err() {
            running.iter().for_each(|job| job.signal(JobSignal::Kill));
            let killed = async {
                for job in &running {
                    job.over().await;
                }
            };
            let _ = tokio::time::timeout(TOLD_WAIT, killed).await;
        }
        // Those who watched are told the end before the node is gone.
        let told = async {
            for job in &running {
                job.alone().await;
            }
        };
        let _ = tokio::time::timeout(TOLD_WAIT, told).await;
    }
}

/// A job in its folder that has ended, or ended with its node.
fn load(folder: &Path) -> Option<Job> {
    let mut record = Record::load(folder)?;
    let id = JobId::parse(&record.job).filter(|id| folder.ends_with(id.to_string()))?;
    if record.end.is_none() {
        record.end = Some((&JobEnd::Lost).into());
        record.ended_ms = clock::wall().0;
        if let Err(error) = record.save(folder) {
            tracing::warn!(%error, job = %id, "the end of a job cannot be written down");
        }
    }
    let end = record.end.as_ref().map(JobEnd::from);
    let output = Output::open(folder).ok()?;
    let (detached, folder) = (record.detached, folder.to_owned());
    let parts = Parts { folder, output, detached, linger: Duration::ZERO, has_input: false, terminal: None };
    let job = Job::new(id, record, parts, None);
    job.state().end = end;
    Some(job)
}

fn forget_oldest(inner: &mut Inner) {
    let ended = inner.jobs.values().filter(|job| job.end().is_some());
    let mut ended: Vec<(u64, JobId)> = ended.map(|job| (job.state().record.ended_ms, job.id)).collect();
    ended.sort_unstable();
    let surplus = ended.len().saturating_sub(JOBS_KEPT_MAX);
    for (_, id) in ended.into_iter().take(surplus) {
        if let Some(job) = inner.jobs.remove(&id)
            && let Err(error) = fs::remove_dir_all(&job.folder)
        {
            tracing::warn!(%error, job = %id, "an old job cannot be removed");
        }
    }
}

/// What makes a job, besides who started it.
struct Parts {
    folder: PathBuf,
    output: Output,
    detached: bool,
    linger: Duration,
    has_input: bool,
    terminal: Option<File>,
}

impl Job {
    fn new(id: JobId, record: Record, parts: Parts, orders: Option<OrderSender>) -> Job {
        let Parts { folder, output, detached, linger, has_input, terminal } = parts;
        let state = State {
            record,
            process: None,
            end: None,
            sessions: BTreeMap::new(),
            sessions_begun: 0,
            taken: 0,
            input_session: 0,
            queue: VecDeque::new(),
            input_upto: 0,
            input_taken: 0,
            input_ends: false,
            deaf: false,
            closed: [false; 2],
            suspended: false,
        };
        let (state, orders) = (Mutex::new(state), Mutex::new(orders));
        let (has_terminal, terminal) = (terminal.is_some(), Mutex::new(terminal));
        let (changed, _) = watch::channel(0);
        Job {
            id,
            folder,
            output,
            detached,
            linger,
            has_input,
            has_terminal,
            terminal,
            orders,
            state,
            input: Condvar::new(),
            changed,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn row(&self) -> Option<JobRow> {
        let state = self.state();
        state.record.row(u32::try_from(state.sessions.len()).unwrap_or(u32::MAX))
    }

    fn end(&self) -> Option<JobEnd> {
        self.state().end.clone()
    }

    /// Comes back when the program has ended.
    async fn over(&self) {
        let mut changed = self.changed.subscribe();
        while self.end().is_none() && changed.changed().await.is_ok() {}
    }

    /// Comes back when no session is attached.
    async fn alone(&self) {
        let attached = || !self.state().sessions.is_empty();
        let mut changed = self.changed.subscribe();
        while attached() && changed.changed().await.is_ok() {}
    }

    fn order(&self, order: &SupervisorOrder) {
        if let Some(orders) = &mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = orders.send(order); // a supervisor that is gone says so otherwise
        }
    }

    fn signal(&self, signal: JobSignal) {
        self.order(&SupervisorOrder::Signal(signal));
    }

    /// A signal of whoever follows it.
    fn pass(&self, signal: JobSignal) {
        match signal {
            JobSignal::Suspend => self.state().suspended = true,
            JobSignal::Continue => self.state().suspended = false,
            _ => {}
        }
        self.signal(signal);
    }

    fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &*self.terminal.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = process::resize(terminal, size);
        }
    }

    fn set_process(&self, process: u32) {
        self.state().process = Some(process);
        self.tell_change();
    }

    /// It has ended, and all of its output is there.
    fn finish(&self, end: JobEnd) {
        tracing::info!(job = %self.id, ?end, "a program has ended");
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.terminal.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let record = {
            let mut state = self.state();
            state.record.end = Some((&end).into());
            state.record.ended_ms = clock::wall().0;
            state.end = Some(end);
            state.record.clone()
        };
        self.output.set_floor(None);
        self.input.notify_all();
        self.tell_change();
        // Nobody waits for this: if the power fails first, it was lost with its node, as far as is known.
        if let Err(error) = record.save(&self.folder) {
            tracing::warn!(%error, job = %self.id, "the end of a job cannot be written down");
        }
    }

    // ---- sessions ----

    fn join(&self, from: u64, input: bool) -> Result<u64, JobError> {
        let mut state = self.state();
        if state.sessions.len() >= JOB_SESSIONS_MAX {
            return Err(JobError::Sessions(self.id));
        }
        state.sessions_begun += 1;
        let session = state.sessions_begun;
        state.sessions.insert(session, from);
        if input {
            state.input_session = session;
        }
        drop(state);
        self.set_floor();
        self.tell_change();
        Ok(session)
    }

    fn taken(&self, session: u64, upto: u64) {
        let end = *self.output.end().borrow();
        if let Some(taken) = self.state().sessions.get_mut(&session) {
            *taken = upto.min(end).max(*taken);
        }
        self.set_floor();
        self.tell_change();
    }

    fn taken_by(&self, session: u64) -> u64 {
        self.state().sessions.get(&session).copied().unwrap_or(0)
    }

    /// A session is over. A job that needs one ends some time after its last.
    fn leave(self: &Arc<Job>, session: u64, silent: bool) {
        let alone_since = {
            let mut state = self.state();
            let taken = state.sessions.remove(&session).unwrap_or(0);
            state.taken = state.taken.max(taken);
            // A command that was suspended with its program says nothing, and comes back when it goes on.
            let linger = if silent && state.suspended { JOB_LINGER_MAX } else { self.linger };
            (state.sessions.is_empty() && state.end.is_none()).then_some((state.sessions_begun, linger))
        };
        self.set_floor();
        self.tell_change();
        if let Some((begun, linger)) = alone_since.filter(|_| !self.detached) {
            tokio::spawn(Arc::clone(self).linger(begun, linger));
        }
    }

    async fn linger(self: Arc<Job>, begun: u64, time: Duration) {
        let waits = || {
            let state = self.state();
            state.sessions_begun == begun && state.end.is_none()
        };
        let came_back = async {
            let mut changed = self.changed.subscribe();
            while waits() && changed.changed().await.is_ok() {}
        };
        if tokio::time::timeout(time, came_back).await.is_err() {
            tracing::info!(job = %self.id, "nobody has come back for a program: it is ended");
            self.output.set_floor(None);
            self.order(&SupervisorOrder::Stop);
        }
    }

    fn set_floor(&self) {
        let state = self.state();
        let slowest = state.sessions.values().copied().min();
        let floor = slowest.or((!self.detached).then_some(state.taken)).filter(|_| state.end.is_none());
        // Still locked: an older floor must not come after a newer one.
        self.output.set_floor(floor);
        drop(state);
    }

    fn close(&self, stream: OutputStream) {
        self.state().closed[usize::from(stream == OutputStream::Errors)] = true;
    }

    fn is_closed(&self, stream: OutputStream) -> bool {
        self.state().closed[usize::from(stream == OutputStream::Errors)]
    }

    // ---- input ----

    /// Input came. What came before is passed over; what does not follow is refused.
    fn add_input(&self, session: u64, from: u64, mut bytes: Bytes) -> Result<(), &'static str> {
        let mut state = self.state();
        if state.input_session != session || !self.has_input {
            return Ok(()); // another session gives it now
        }
        let known = state.input_upto.checked_sub(from).ok_or("input that does not follow")?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        bytes::Buf::advance(&mut bytes, known);
        let waiting = state.input_upto - state.input_taken;
        if waiting + bytes.len() as u64 > JOB_INPUT_BYTES_MAX as u64 {
            return Err("more input than may be on its way");
        }
        if bytes.is_empty() {
            return Ok(());
        }
        state.input_upto += bytes.len() as u64;
        if state.deaf || state.input_ends || state.end.is_some() {
            state.input_taken = state.input_upto;
            drop(state);
            self.tell_change();
            return Ok(());
        }
        state.queue.push_back(bytes);
        self.input.notify_all();
        Ok(())
    }

    fn end_input(&self, session: u64, upto: u64) {
        let mut state = self.state();
        if state.input_session == session && upto == state.input_upto {
            state.input_ends = true;
            self.input.notify_all();
        }
    }

    /// The next input for the program; `None` when there is no more, or it has ended. Blocks.
    fn next_input(&self) -> Option<Bytes> {
        let mut state = self.state();
        loop {
            if state.end.is_some() || state.deaf {
                return None;
            }
            if let Some(bytes) = state.queue.pop_front() {
                return Some(bytes);
            }
            if state.input_ends {
                return None;
            }
            state = self.input.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The program was given so many bytes, or does not read any more.
    fn input_written(&self, count: usize, taken: bool) {
        let mut state = self.state();
        state.input_taken = (state.input_taken + count as u64).min(state.input_upto);
        if !taken {
            state.deaf = true;
            state.queue.clear();
            state.input_taken = state.input_upto;
        }
        drop(state);
        self.tell_change();
    }
}
