//! A node's side of a sync: takes a tree, says what is different, takes what is missing, and makes a
//! workspace equal. Shell, but for [`plan`].
//!
//! | file | what it does |
//! |---|---|
//! | [`plan`] | compares the tree with what is there (pure) |
//! | [`receiver`] | takes contents |
//! | [`session`] | one sync from its opening to its end, on a thread of its own |
//! | here | the connection: frames to the thread and from it |
//!
//! Invariants: nobody gets further than the first frame without consent; what waits for the disk
//! is bounded; while the disk works, the command hears that it does.

pub mod plan;
pub mod receiver;
pub mod session;

use super::Consent;
use super::workspace::WorkspaceError;
use crate::limits::{OFFER_WINDOW_BYTES, STALL_TIMEOUT, SYNC_QUEUE_MAX, SYNC_SESSIONS_MAX, WORKING_INTERVAL};
use crate::transfer::connection::{Connection, ConnectionError, FrameReader, FrameWriter};
use crate::types::WorkspaceName;
use crate::wire::Decode;
use crate::wire::message::ErrorCode;
use crate::wire::sync::SyncFrame;
use crate::wire::transfer::TransferFrame;
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// Why a sync ended early, seen from the node.
#[derive(Debug, thiserror::Error)]
pub enum SyncFailure {
    /// The command broke the protocol.
    #[error("{0}")]
    Refused(&'static str),
    /// The workspace cannot be had.
    #[error("{0}")]
    Workspace(#[from] WorkspaceError),
    /// The disk.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The command has gone.
    #[error("the command has gone")]
    Gone,
}

impl SyncFailure {
    /// What the command is told.
    fn code(&self) -> ErrorCode {
        match self {
            SyncFailure::Refused(_) => ErrorCode::Invalid,
            SyncFailure::Workspace(WorkspaceError::Busy(_)) => ErrorCode::NotReady,
            SyncFailure::Workspace(WorkspaceError::Disk(error)) | SyncFailure::Disk(error) => {
                match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
                    _ => ErrorCode::Disk,
                }
            }
            SyncFailure::Gone => ErrorCode::Connection,
        }
    }

    fn words(&self) -> Box<str> {
        match self.code() {
            ErrorCode::NoSpace => "the disk of the workspace is full".into(),
            _ => self.to_string().into(),
        }
    }
}

/// Something for the thread of a sync.
pub enum Job {
    /// A frame of the sync.
    Sync(SyncFrame),
    /// A frame of a transfer, with its payload.
    Transfer(TransferFrame, Bytes, OwnedSemaphorePermit),
}

/// Something for the command.
pub enum Answer {
    /// A frame of the sync.
    Sync(SyncFrame),
    /// A frame of a transfer.
    Transfer(TransferFrame),
    /// From now on it hears that we work, in frames of this kind; or nothing, because it is its turn.
    Turn(Turn),
}

/// Whose turn it is, and in which kind of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The command's.
    Command,
    /// Ours.
    Sync,
    /// Ours, while contents come.
    Transfer,
}

/// Serves syncs.
pub struct Server {
    consent: Arc<Consent>,
    sessions: Semaphore,
}

impl Server {
    /// Nothing is touched before somebody comes who may.
    #[must_use]
    pub fn new(consent: Arc<Consent>) -> Server {
        Server { consent, sessions: Semaphore::new(SYNC_SESSIONS_MAX) }
    }

    /// Serves one connection to its end.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn serve(&self, connection: Connection) -> Result<(), ConnectionError> {
        let allowed = self.consent.check(connection.peer(), connection.address().ip());
        let (peer, address) = (connection.peer().node, connection.address());
        let (mut reader, mut writer) = connection.split();
        let Some((SyncFrame::Open { workspace }, _)) = reader.read::<SyncFrame>().await? else {
            return Ok(());
        };
        let place = self.sessions.try_acquire();
        let refusal = match (allowed, &place) {
            (Err(why), _) => Some(SyncFrame::Denied { why }),
            (Ok(()), Err(_)) => Some(SyncFrame::Failed {
                code: ErrorCode::NotReady,
                message: "too many syncs are under way here".into(),
            }),
            (Ok(()), Ok(_)) => None,
        };
        if let Some(refusal) = refusal {
            tracing::info!(%peer, %address, %workspace, "a sync was refused");
            writer.write(&refusal, &[]).await?;
            return writer.close().await;
        }
        tracing::debug!(%peer, %address, %workspace, "a sync begins");
        self.run(reader, writer, workspace).await
    }

    async fn run(
        &self,
        mut reader: FrameReader,
        writer: FrameWriter,
        workspace: WorkspaceName,
    ) -> Result<(), ConnectionError> {
        let (to_thread, jobs) = mpsc::channel(SYNC_QUEUE_MAX);
        let (answers, to_command) = mpsc::channel(SYNC_QUEUE_MAX);
        let consent = Arc::clone(&self.consent);
        let name = workspace.clone();
        // The thread ends when either channel is closed: both are, once this returns.
        let thread = tokio::task::spawn_blocking(move || session::run(&consent, &name, jobs, answers));
        let ours = AtomicBool::new(true);
        let ended = tokio::select! {
            read = feed(&mut reader, to_thread, &ours) => read,
            written = tell(writer, to_command, &ours) => {
                // A socket closed with unread bytes is reset, and that would overtake what was said.
                reader.set_timeout(Some(WORKING_INTERVAL));
                let unread = async { while let Ok(Some(_)) = reader.read::<SyncFrame>().await {} };
                let _ = timeout(STALL_TIMEOUT, unread).await;
                written
            }
        };
        if let Ok(Err(error)) = thread.await
            && !matches!(error, SyncFailure::Gone)
        {
            tracing::warn!(%workspace, %error, "a sync failed");
        }
        ended
    }
}

/// Hands frames to the thread, until the command or the thread has gone.
async fn feed(
    reader: &mut FrameReader,
    to: mpsc::Sender<Job>,
    ours: &AtomicBool,
) -> Result<(), ConnectionError> {
    let window = Arc::new(Semaphore::new(OFFER_WINDOW_BYTES));
    let mut contents = false;
    loop {
        let job = if contents {
            let Some((frame, payload)) = next::<TransferFrame>(reader, ours).await? else { return Ok(()) };
            contents = frame != TransferFrame::ContentsEnd;
            let weight = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            let Ok(room) = Arc::clone(&window).acquire_many_owned(weight).await else { return Ok(()) };
            Job::Transfer(frame, payload, room)
        } else {
            let Some((frame, _)) = next::<SyncFrame>(reader, ours).await? else { return Ok(()) };
            contents = frame == SyncFrame::Contents;
            Job::Sync(frame)
        };
        if to.send(job).await.is_err() {
            // The thread has ended; what it said last is on its way.
            std::future::pending::<()>().await;
        }
    }
}

/// The next frame. Silence is no fault of the command's while it is our turn.
async fn next<T: Decode<()>>(
    reader: &mut FrameReader,
    ours: &AtomicBool,
) -> Result<Option<(T, Bytes)>, ConnectionError> {
    loop {
        match reader.read::<T>().await {
            Err(ConnectionError::Timeout { .. }) if ours.load(Ordering::Relaxed) => {}
            read => return read,
        }
    }
}

/// Tells the command what the thread says, and meanwhile that it works.
async fn tell(
    mut writer: FrameWriter,
    mut from: mpsc::Receiver<Answer>,
    ours: &AtomicBool,
) -> Result<(), ConnectionError> {
    let mut turn = Turn::Sync;
    loop {
        match timeout(WORKING_INTERVAL, from.recv()).await {
            Ok(Some(Answer::Sync(frame))) => writer.write(&frame, &[]).await?,
            Ok(Some(Answer::Transfer(frame))) => writer.write(&frame, &[]).await?,
            Ok(Some(Answer::Turn(next))) => {
                turn = next;
                ours.store(turn == Turn::Sync, Ordering::Relaxed);
            }
            Ok(None) => return writer.close().await,
            Err(_) => match turn {
                Turn::Command => {}
                Turn::Sync => writer.write(&SyncFrame::Working, &[]).await?,
                Turn::Transfer => writer.write(&TransferFrame::Working, &[]).await?,
            },
        }
        if from.is_empty() {
            writer.flush().await?;
        }
    }
}
