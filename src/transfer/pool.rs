//! Connections to holders, kept open across contents, with requests pipelined.
//!
//! Invariant: every request is answered exactly once, with its part or with the reason why not,
//! whatever happens to the connection. A holder that could not be reached is not dialled again at
//! once, so that ten thousand files do not wait for it ten thousand times.

use super::connection::{ConnectionError, Endpoint, FrameReader, FrameWriter, dial_route};
use super::patience::Patience;
use crate::clock::{self, Moment};
use crate::limits::{DOUBT_WAIT, FETCH_WINDOW_REQUESTS, IDLE_TIMEOUT, PEER_GONE_TIMEOUT, WORKING_INTERVAL};
use crate::types::{ContentId, NodeId, NodeRoute};
use crate::wire::transfer::{FetchPart, TransferFrame};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Why a holder was left.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HolderFailure {
    /// It could not be reached, or the connection broke.
    #[error("{0}")]
    Connection(Arc<ConnectionError>),
    /// It sent nothing for [`STALL_TIMEOUT`](crate::limits::STALL_TIMEOUT).
    #[error("stalled")]
    Stalled,
    /// It closed the connection.
    #[error("closed the connection")]
    Closed,
    /// It does not have what was asked for.
    #[error("does not have it: {0}")]
    Missing(Box<str>),
    /// Its bytes have another hash than the content's.
    #[error("gave wrong bytes")]
    WrongBytes,
    /// It broke the protocol.
    #[error("broke the protocol")]
    Protocol,
}

type ReplyFn = Box<dyn FnOnce(Result<Bytes, HolderFailure>) + Send>;

/// Where an answer goes. Dropped unused, it says that the connection was closed.
struct Reply(Option<ReplyFn>);

impl Reply {
    fn give(mut self, result: Result<Bytes, HolderFailure>) {
        if let Some(reply) = self.0.take() {
            reply(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(HolderFailure::Closed));
        }
    }
}

/// What is said about a content.
enum What {
    /// Give me this part.
    Part(FetchPart),
    /// What you gave is wrong.
    Doubt,
}

struct Ask {
    content: ContentId,
    what: What,
    reply: Reply,
}

#[derive(Default)]
struct Outstanding {
    replies: VecDeque<(u32, Reply)>,
    patience: Patience,
    /// Why the connection ended.
    ended: Option<HolderFailure>,
}

type Shared = Arc<Mutex<Outstanding>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Outstanding> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection to one holder. It closes when it is dropped.
pub(super) struct Link {
    node: NodeId,
    asks: mpsc::Sender<Ask>,
    shared: Shared,
    _tasks: JoinSet<()>,
}

impl Link {
    fn new(node: NodeId, reader: FrameReader, writer: FrameWriter) -> Link {
        // Room for a striped get and as many small contents beside it.
        let (asks, receiver) = mpsc::channel(2 * FETCH_WINDOW_REQUESTS);
        let shared = Shared::default();
        let mut tasks = JoinSet::new();
        let (reading, writing) = (Arc::clone(&shared), Arc::clone(&shared));
        tasks.spawn(async move {
            let why = read_answers(reader, &reading).await;
            end(&reading, &why);
        });
        tasks.spawn(async move {
            if let Err(error) = write_asks(writer, receiver, &writing).await {
                end(&writing, &HolderFailure::Connection(Arc::new(error)));
            }
        });
        Link { node, asks, shared, _tasks: tasks }
    }

    /// Whose link this is.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// Why it ended, if it did.
    fn ended(&self) -> Option<HolderFailure> {
        lock(&self.shared).ended.clone()
    }

    /// Requests not yet answered.
    pub(super) fn outstanding(&self) -> usize {
        lock(&self.shared).replies.len()
    }

    /// Asks for a part; `reply` is called with the answer and must not block. `false` if there is
    /// no room for another request now, then `reply` is not called.
    pub(super) fn try_ask(
        &self,
        content: ContentId,
        part: FetchPart,
        reply: impl FnOnce(Result<Bytes, HolderFailure>) + Send + 'static,
    ) -> bool {
        let ask = Ask { content, what: What::Part(part), reply: Reply(Some(Box::new(reply))) };
        match self.asks.try_send(ask) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(mut ask)) => {
                ask.reply.0 = None;
                false
            }
        }
    }

    /// Asks for a part and waits for it.
    pub(super) async fn ask(&self, content: ContentId, part: FetchPart) -> Result<Bytes, HolderFailure> {
        self.say(content, What::Part(part)).await
    }

    /// Says that what the holder gave of `content` is wrong, and waits a moment for it to note that:
    /// it is for the holder's good, not ours.
    pub(super) async fn doubt(&self, content: ContentId) {
        let _ = timeout(DOUBT_WAIT, self.say(content, What::Doubt)).await;
    }

    async fn say(&self, content: ContentId, what: What) -> Result<Bytes, HolderFailure> {
        let (sender, receiver) = oneshot::channel();
        let reply: ReplyFn = Box::new(move |result| {
            let _ = sender.send(result);
        });
        // A send that fails drops the ask, and that answers it.
        let _ = self.asks.send(Ask { content, what, reply: Reply(Some(reply)) }).await;
        receiver.await.unwrap_or(Err(HolderFailure::Closed))
    }
}

fn end(shared: &Shared, why: &HolderFailure) {
    let replies = {
        let mut outstanding = lock(shared);
        outstanding.ended.get_or_insert_with(|| why.clone());
        std::mem::take(&mut outstanding.replies)
    };
    for (_, reply) in replies {
        reply.give(Err(why.clone()));
    }
}

async fn write_asks(
    mut writer: FrameWriter,
    mut asks: mpsc::Receiver<Ask>,
    shared: &Shared,
) -> Result<(), ConnectionError> {
    writer.set_timeout(Some(IDLE_TIMEOUT));
    let mut tag = 0_u32;
    loop {
        let ask = match asks.try_recv() {
            Ok(ask) => ask,
            Err(_) => {
                writer.flush().await?;
                match asks.recv().await {
                    Some(ask) => ask,
                    None => return writer.close().await,
                }
            }
        };
        tag = tag.wrapping_add(1);
        {
            let mut outstanding = lock(shared);
            if outstanding.ended.is_some() {
                // Dropping the receiver answers whatever is still in it.
                return Ok(());
            }
            outstanding.replies.push_back((tag, ask.reply));
            outstanding.patience.begin(clock::now());
        }
        let content = ask.content;
        let frame = match ask.what {
            What::Part(part) => TransferFrame::Fetch { tag, content, part },
            What::Doubt => TransferFrame::Doubt { tag, content },
        };
        writer.write(&frame, &[]).await?;
    }
}

async fn read_answers(mut reader: FrameReader, shared: &Shared) -> HolderFailure {
    reader.set_timeout(Some(WORKING_INTERVAL));
    let mut received = 0;
    loop {
        let frame = reader.read::<TransferFrame>().await;
        let mut outstanding = lock(shared);
        if reader.received() != received {
            received = reader.received();
            outstanding.patience.heard(clock::now());
        }
        let (tag, result) = match frame {
            Ok(Some((TransferFrame::Data { tag }, bytes))) => (tag, Ok(bytes)),
            Ok(Some((TransferFrame::Missing { tag, message }, _))) => {
                (tag, Err(HolderFailure::Missing(message)))
            }
            Ok(Some((TransferFrame::Working, _))) => continue,
            Ok(Some(_)) => return HolderFailure::Protocol,
            Ok(None) => return HolderFailure::Closed,
            Err(ConnectionError::Timeout { .. }) if outstanding.patience.is_over(clock::now()) => {
                return HolderFailure::Stalled;
            }
            Err(ConnectionError::Timeout { .. }) => continue,
            Err(error) => return HolderFailure::Connection(Arc::new(error)),
        };
        let reply = match outstanding.replies.pop_front() {
            Some((expected, reply)) if expected == tag => reply,
            other => {
                outstanding.replies.extend(other);
                return HolderFailure::Protocol;
            }
        };
        outstanding.patience.end();
        drop(outstanding);
        reply.give(result);
    }
}

/// What is known of the way to one holder.
#[derive(Default)]
struct Slot {
    link: Option<Arc<Link>>,
    failed: Option<(Moment, HolderFailure)>,
}

impl Slot {
    /// The connection, or why there is none; `None` if it is worth dialling.
    fn known(&mut self) -> Option<Result<Arc<Link>, HolderFailure>> {
        if let Some(link) = &self.link {
            match link.ended() {
                None => return Some(Ok(Arc::clone(link))),
                // Closed while idle: the holder is fine, dial it again.
                Some(HolderFailure::Closed) => {}
                Some(why) => self.failed = Some((clock::now(), why)),
            }
            self.link = None;
        }
        let (when, why) = self.failed.as_ref()?;
        let lately = u128::from(clock::now().since(*when)) < PEER_GONE_TIMEOUT.as_millis();
        lately.then(|| Err(why.clone()))
    }
}

/// Connections to holders, shared by all gets of a command or a node.
pub struct HolderPool {
    endpoint: Arc<Endpoint>,
    slots: Mutex<BTreeMap<NodeId, Arc<tokio::sync::Mutex<Slot>>>>,
}

impl HolderPool {
    /// A pool without connections.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> HolderPool {
        HolderPool { endpoint, slots: Mutex::default() }
    }

    /// The connections to those of `routes` that have one. The others are dialled meanwhile; they
    /// are waited for only if there is no connection at all. Those that cannot be had go to
    /// `failed`.
    pub(super) async fn any(
        self: &Arc<Self>,
        routes: &[NodeRoute],
        failed: &mut Vec<(NodeId, HolderFailure)>,
    ) -> Vec<Arc<Link>> {
        let mut links = Vec::new();
        let mut dialling = JoinSet::new();
        for route in routes {
            let slot = self.slot(route.node);
            // Locked: it is being dialled.
            let known = slot.try_lock().ok().and_then(|mut slot| slot.known());
            match known {
                Some(Ok(link)) => links.push(link),
                Some(Err(why)) => failed.push((route.node, why)),
                None => {
                    let (pool, route) = (Arc::clone(self), route.clone());
                    dialling.spawn(async move { (route.node, pool.link(&route).await) });
                }
            }
        }
        while links.is_empty() {
            match dialling.join_next().await {
                Some(Ok((_, Ok(link)))) => links.push(link),
                Some(Ok((node, Err(why)))) => failed.push((node, why)),
                Some(Err(_)) => {}
                None => break,
            }
        }
        // The rest is ready, or known to have failed, for the next content.
        dialling.detach_all();
        links
    }

    fn slot(&self, node: NodeId) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(node).or_default())
    }

    /// The connection to the node of `route`, dialled if there is none.
    pub(super) async fn link(&self, route: &NodeRoute) -> Result<Arc<Link>, HolderFailure> {
        let slot = self.slot(route.node);
        let mut slot = slot.lock().await;
        if let Some(known) = slot.known() {
            return known;
        }
        match dial_route(route, &self.endpoint).await {
            Ok(connection) => {
                let (reader, writer) = connection.split();
                let link = Arc::new(Link::new(route.node, reader, writer));
                *slot = Slot { link: Some(Arc::clone(&link)), failed: None };
                Ok(link)
            }
            Err(error) => {
                let why = HolderFailure::Connection(Arc::new(error));
                slot.failed = Some((clock::now(), why.clone()));
                Err(why)
            }
        }
    }
}
