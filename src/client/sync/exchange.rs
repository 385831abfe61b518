//! What is said on the connection of a sync, in its order.

use super::SyncError;
use super::source::{Scan, modified_ns};
use crate::limits::{IDLE_TIMEOUT, PAGE_BYTES_TARGET, PAGE_ROWS_MAX, STALL_TIMEOUT, SYNC_READS_MAX};
use crate::remote::hashing::hash;
use crate::transfer::Progress;
use crate::transfer::chain::{ChainSender, OpenSource, PutResult, Source};
use crate::transfer::connection::{ConnectionError, Endpoint, FrameReader, FrameWriter, dial_any};
use crate::types::{ContentId, NodeId, NodeRoute, TreePath, WorkspaceName};
use crate::wire::message::Purpose;
use crate::wire::sync::{Difference, DifferenceKind, Placed, Surplus, SyncFrame, TreeEntry, TreeItem};
use crate::wire::transfer::TransferFrame;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A node that works says so every 700 ms; a disk that hangs may keep it from that for a while.
const PATIENCE: Duration = STALL_TIMEOUT.saturating_mul(5);

/// What the node says is different.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) differences: Vec<Difference>,
    pub(super) surplus: Vec<Surplus>,
}

/// What became of the contents.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) placed: Vec<Placed>,
    pub(super) failed: Vec<(TreePath, String)>,
    pub(super) sent_bytes: u64,
    pub(super) reused_bytes: u64,
}

/// The connection of one sync.
pub(super) struct Exchange {
    node: NodeId,
    line: Option<(FrameReader, FrameWriter)>,
}

impl Exchange {
    /// Opens the workspace.
    pub(super) async fn open(
        route: &NodeRoute,
        endpoint: &Arc<Endpoint>,
        workspace: &WorkspaceName,
    ) -> Result<Exchange, SyncError> {
        let dialled = dial_any(&route.addresses, endpoint, Purpose::Sync, Some(route.node)).await?;
        let (mut reader, writer) = dialled.split();
        reader.set_timeout(Some(PATIENCE));
        let mut exchange = Exchange { node: route.node, line: Some((reader, writer)) };
        exchange.say(&SyncFrame::Open { workspace: workspace.clone() }).await?;
        exchange.flush().await?;
        match exchange.hear().await? {
            SyncFrame::Opened => Ok(exchange),
            SyncFrame::Denied { why } => Err(SyncError::Denied(why)),
            _ => Err(SyncError::Nonsense),
        }
    }

    fn line(&mut self) -> Result<&mut (FrameReader, FrameWriter), SyncError> {
        self.line.as_mut().ok_or(SyncError::Nonsense)
    }

    async fn say(&mut self, frame: &SyncFrame) -> Result<(), SyncError> {
        let (_, writer) = self.line()?;
        match writer.write(frame, &[]).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why(error).await),
        }
    }

    async fn flush(&mut self) -> Result<(), SyncError> {
        let (_, writer) = self.line()?;
        match writer.flush().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why(error).await),
        }
    }

    /// A node that refuses says why before it closes.
    async fn why(&mut self, error: ConnectionError) -> SyncError {
        match self.hear().await {
            Err(refused @ SyncError::Refused { .. }) => refused,
            _ => error.into(),
        }
    }

    async fn hear(&mut self) -> Result<SyncFrame, SyncError> {
        let (reader, _) = self.line()?;
        let address = reader.address();
        loop {
            match reader.read::<SyncFrame>().await? {
                Some((SyncFrame::Working, _)) => {}
                Some((SyncFrame::Failed { code, message }, _)) => {
                    return Err(SyncError::Refused { code, message: message.into() });
                }
                Some((frame, _)) => return Ok(frame),
                None => {
                    let source = io::ErrorKind::UnexpectedEof.into();
                    return Err(ConnectionError::Broken { address, source }.into());
                }
            }
        }
    }

    /// Says what is to be there, and hears what is different.
    pub(super) async fn compare(&mut self, tree: &[TreeEntry], checksum: bool) -> Result<Plan, SyncError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        for entry in tree {
            bytes += 32 + entry.path.as_bytes().len();
            if let TreeItem::Symlink { target } = &entry.item {
                bytes += target.len();
            }
            page.push(entry.clone());
            if bytes >= PAGE_BYTES_TARGET {
                self.say(&SyncFrame::Tree { entries: std::mem::take(&mut page) }).await?;
                bytes = 0;
            }
        }
        if !page.is_empty() {
            self.say(&SyncFrame::Tree { entries: page }).await?;
        }
        self.say(&SyncFrame::TreeEnd { checksum }).await?;
        self.flush().await?;
        let mut plan = Plan::default();
        loop {
            match self.hear().await? {
                SyncFrame::Plan { differences, surplus } => {
                    plan.differences.extend(differences);
                    plan.surplus.extend(surplus);
                    if plan.differences.len() > tree.len() {
                        return Err(SyncError::Nonsense);
                    }
                }
                SyncFrame::PlanEnd => return Ok(plan),
                _ => return Err(SyncError::Nonsense),
            }
        }
    }

    /// Hashes files of which the node has a content of the same size: gives those that are the same.
    pub(super) async fn compare_contents(
        &mut self,
        scan: &Scan,
        plan: &Plan,
    ) -> Result<BTreeMap<u32, Placed>, SyncError> {
        let mut doubtful = Vec::new();
        for difference in plan.differences.iter().filter(|is| is.kind == DifferenceKind::Content) {
            if let (Some(holds), Some(place)) = (difference.holds, scan.places.get(difference.at as usize)) {
                doubtful.push((difference.at, holds, place.clone()));
            }
        }
        if doubtful.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut hashing = tokio::task::spawn_blocking(move || {
            let mut buffer = Vec::new();
            let same = doubtful.into_iter().filter_map(|(at, holds, place)| {
                let modified_ns = same_content(&place, holds, &mut buffer).ok().flatten()?;
                Some((at, Placed { at, content: holds, modified_ns }))
            });
            same.collect()
        });
        loop {
            tokio::select! {
                same = &mut hashing => return same.map_err(|_| SyncError::Interrupted),
                () = tokio::time::sleep(IDLE_TIMEOUT / 4) => {
                    self.say(&SyncFrame::Working).await?;
                    self.flush().await?;
                }
            }
        }
    }

    /// Sends what the node lacks; a file that changes while it is read is read again.
    pub(super) async fn send(
        &mut self,
        scan: &Scan,
        plan: &Plan,
        known: &BTreeMap<u32, Placed>,
        progress: Arc<dyn Progress>,
    ) -> Result<Sent, SyncError> {
        let mut sent = Sent { placed: known.values().cloned().collect(), ..Sent::default() };
        let is_file = |at: u32| {
            scan.entries.get(at as usize).is_some_and(|is| matches!(is.item, TreeItem::File { .. }))
        };
        let lacks = plan.differences.iter().filter(|is| is.kind != DifferenceKind::Attributes);
        let mut waiting: Vec<u32> =
            lacks.map(|is| is.at).filter(|at| is_file(*at) && !known.contains_key(at)).collect();
        if waiting.is_empty() {
            return Ok(sent);
        }
        self.say(&SyncFrame::Contents).await?;
        self.flush().await?;
        let (reader, writer) = self.line.take().ok_or(SyncError::Nonsense)?;
        let mut chain = ChainSender::over(self.node, reader, writer);
        for round in 1..=SYNC_READS_MAX {
            let unread = send_round(&mut chain, scan, &waiting, Arc::clone(&progress), &mut sent).await?;
            waiting.clear();
            for (at, error) in unread {
                // Gone since the folder was looked at, or not to be read: that does not change.
                if round == SYNC_READS_MAX || error.raw_os_error().is_some() {
                    if let Some(entry) = scan.entries.get(at as usize) {
                        sent.failed.push((entry.path.clone(), error.to_string()));
                    }
                } else {
                    waiting.push(at);
                }
            }
            if waiting.is_empty() {
                break;
            }
        }
        let (mut reader, mut writer) = chain.into_connection();
        writer.write(&TransferFrame::ContentsEnd, &[]).await?;
        writer.flush().await?;
        reader.set_timeout(Some(PATIENCE));
        loop {
            match reader.read::<TransferFrame>().await? {
                Some((TransferFrame::ContentsEnd, _)) => break,
                Some((TransferFrame::Working, _)) => {}
                Some((TransferFrame::Failed { code, message }, _)) => {
                    return Err(SyncError::Refused { code, message: message.into() });
                }
                _ => return Err(SyncError::Nonsense),
            }
        }
        self.line = Some((reader, writer));
        Ok(sent)
    }

    /// Has it done; gives what could not be.
    pub(super) async fn apply(
        &mut self,
        placed: &[Placed],
        remove: &[u32],
    ) -> Result<Vec<(TreePath, String)>, SyncError> {
        for page in placed.chunks(PAGE_ROWS_MAX) {
            self.say(&SyncFrame::Placed { files: page.to_vec() }).await?;
        }
        for page in remove.chunks(8 * PAGE_ROWS_MAX) {
            self.say(&SyncFrame::Remove { surplus: page.to_vec() }).await?;
        }
        self.say(&SyncFrame::Apply).await?;
        self.flush().await?;
        let mut problems = Vec::new();
        loop {
            match self.hear().await? {
                SyncFrame::Problem { path, message } => problems.push((path, message.into())),
                SyncFrame::Applied => return Ok(problems),
                _ => return Err(SyncError::Nonsense),
            }
        }
    }

    pub(super) async fn close(mut self) {
        if let Some((_, writer)) = &mut self.line {
            let _ = writer.close().await;
        }
    }
}

type Unread = Vec<(u32, io::Error)>;

/// Sends these files once; gives those that could not be read.
async fn send_round(
    chain: &mut ChainSender,
    scan: &Scan,
    files: &[u32],
    progress: Arc<dyn Progress>,
    sent: &mut Sent,
) -> Result<Unread, SyncError> {
    let times: Arc<Mutex<BTreeMap<u32, i64>>> = Arc::default();
    let (to_chain, sources) = mpsc::channel(16);
    let (to_us, mut results) = mpsc::channel::<PutResult>(64);
    let feed = async {
        for at in files {
            let Some(place) = scan.places.get(*at as usize) else { continue };
            if to_chain.send(source(*at, place.clone(), Arc::clone(&times))).await.is_err() {
                break;
            }
        }
        drop(to_chain);
    };
    let mut unread = Vec::new();
    let collect = async {
        while let Some(PutResult { tag, outcome }) = results.recv().await {
            let at = u32::try_from(tag).unwrap_or(u32::MAX);
            match outcome {
                Ok(stored) => {
                    let modified_ns =
                        times.lock().unwrap_or_else(PoisonError::into_inner).remove(&at).unwrap_or_default();
                    sent.sent_bytes = sent.sent_bytes.saturating_add(stored.sent_bytes);
                    sent.reused_bytes = sent.reused_bytes.saturating_add(stored.reused_bytes);
                    sent.placed.push(Placed { at, content: stored.content, modified_ns });
                }
                Err(error) => unread.push((at, error.source)),
            }
        }
    };
    let (ended, (), ()) = tokio::join!(chain.put(sources, to_us, progress), feed, collect);
    ended?;
    Ok(unread)
}

/// A file, and the note of when it was changed, as of when it was read.
fn source(at: u32, place: PathBuf, times: Arc<Mutex<BTreeMap<u32, i64>>>) -> Source {
    let open = move || -> io::Result<OpenSource> {
        let file = open_file(&place)?;
        let before = file.metadata()?;
        times.lock().unwrap_or_else(PoisonError::into_inner).insert(at, modified_ns(&before));
        let again = file.try_clone()?;
        let check = move |read: u64| {
            let after = again.metadata()?;
            let same = read == before.len()
                && after.len() == before.len()
                && modified_ns(&after) == modified_ns(&before);
            if same { Ok(()) } else { Err(io::Error::other("the file changed while it was read")) }
        };
        let opened: OpenSource = (Box::new(file), Some(Box::new(check)));
        Ok(opened)
    };
    Source { tag: u64::from(at), open: Box::new(open) }
}

/// Opens what was a file when the folder was looked at: a link or pipe that took its place is refused.
fn open_file(place: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(place, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file any more")) }
}

/// When the file was changed, if it is this content.
fn same_content(place: &Path, content: ContentId, buffer: &mut Vec<u8>) -> io::Result<Option<i64>> {
    let mut file = open_file(place)?;
    let before = modified_ns(&file.metadata()?);
    let hashed = hash(&mut file, buffer)?;
    let same = hashed.content == content && modified_ns(&file.metadata()?) == before;
    Ok(same.then_some(before))
}
