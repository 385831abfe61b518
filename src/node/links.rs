//! One outgoing link a member, dialled when there is something to say. Shell.
//!
//! Links are one-way: what a member answers comes over its own link to this node. Invariant: a
//! link's queue is bounded, and a member that does not take its messages loses them; every exchange
//! of the engine is repeated or compared until it succeeds, so a lost message costs time only.

use crate::engine::Engine;
use crate::limits::{LINK_DIALS_MAX, LINK_QUEUE_MAX};
use crate::transfer::connection::{Endpoint, dial_any};
use crate::types::{NodeId, NodeRoute};
use crate::wire::message::{Message, Purpose};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// A link with nothing to say for this long is closed.
const QUIET: Duration = Duration::from_secs(30);
/// A peer that takes nothing for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The outgoing links of a node.
pub(super) struct Links {
    links: BTreeMap<NodeId, mpsc::Sender<Message>>,
    /// With this many, those that are closed are let go: members come and go for ever.
    prune_at: usize,
    dials: Arc<Semaphore>,
}

impl Default for Links {
    fn default() -> Links {
        Links { links: BTreeMap::new(), prune_at: 64, dials: Arc::new(Semaphore::new(LINK_DIALS_MAX)) }
    }
}

impl Links {
    /// Queues a message, dialling if there is no link.
    pub(super) fn send(&mut self, to: NodeId, message: Message, engine: &Engine, endpoint: &Arc<Endpoint>) {
        let message = match self.links.get(&to) {
            None => message,
            Some(link) => match link.try_send(message) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::debug!(%to, "a member does not take its messages; one is lost");
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(message)) => message,
            },
        };
        self.open(to, engine, endpoint, message);
    }

    /// Ends the link to a node that came back: what is said on the old one reaches nobody.
    pub(super) fn renew(&mut self, to: NodeId) {
        self.links.remove(&to);
    }

    fn open(&mut self, to: NodeId, engine: &Engine, endpoint: &Arc<Endpoint>, first: Message) {
        let Some(route) = engine.route(to) else {
            return;
        };
        if self.links.len() >= self.prune_at {
            self.links.retain(|_, link| !link.is_closed());
            self.prune_at = 64.max(2 * self.links.len());
        }
        let (sender, receiver) = mpsc::channel(LINK_QUEUE_MAX);
        // A member that does not know us yet would drop what we say, and has no way to answer: so
        // each link begins with who we are. The queue is empty: there is room.
        let who = Message::Announce(Box::new(engine.presence().clone()));
        for message in [who, first] {
            let _ = sender.try_send(message);
        }
        self.links.insert(to, sender);
        tokio::spawn(carry(route, receiver, Arc::clone(endpoint), Arc::clone(&self.dials)));
    }

    /// Says goodbye on every link and closes them.
    pub(super) fn close(&mut self) {
        for (_, link) in std::mem::take(&mut self.links) {
            let _ = link.try_send(Message::Goodbye);
        }
    }
}

/// Dials, then writes what is queued, several messages a flush. Ends when the link breaks.
async fn carry(
    route: NodeRoute,
    mut queue: mpsc::Receiver<Message>,
    endpoint: Arc<Endpoint>,
    dials: Arc<Semaphore>,
) {
    let Ok(dialling) = dials.acquire().await else {
        return;
    };
    let connection = match dial_any(&route.addresses, &endpoint, Purpose::Member, Some(route.node)).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(node = %route.node, name = %route.name, %error, "no link to a member");
            return;
        }
    };
    drop(dialling);
    let (mut reader, mut writer) = connection.split();
    reader.set_timeout(None);
    writer.set_timeout(Some(WRITE_TIMEOUT));
    loop {
        let message = tokio::select! {
            biased;
            // Nothing comes this way but the end. A write would only notice it one message later.
            _ = reader.read::<Message>() => return,
            message = tokio::time::timeout(QUIET, queue.recv()) => message,
        };
        let Ok(Some(message)) = message else { break };
        let mut next = Some(message);
        while let Some(message) = next {
            if writer.write(&message, &[]).await.is_err() {
                return;
            }
            next = queue.try_recv().ok();
        }
        if writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.close().await;
}
