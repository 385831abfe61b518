//! One outgoing link a member, dialled when there is something to say. Shell.
//!
//! Links are one-way: what a member answers comes over its own link to this node. Invariant: a
//! link's queue is bounded, by pages and by messages, and a member that does not take its messages loses them; every exchange
//! of the engine is repeated or compared until it succeeds, so a lost message costs time only.

use crate::engine::Engine;
use crate::engine::event::Congestion;
use crate::limits::{LINK_DIALS_MAX, LINK_PAGES_MAX, LINK_QUEUE_MAX, LINKS_PAGES_MAX};
use crate::transfer::connection::{Endpoint, dial_any};
use crate::types::{NodeId, NodeRoute};
use crate::wire::message::{Message, Purpose};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// A link with nothing to say for this long is closed.
const QUIET: Duration = Duration::from_secs(30);
/// A peer that takes nothing for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The outgoing links of a node.
pub(super) struct Links {
    links: BTreeMap<NodeId, Link>,
    /// With this many, those that are closed are let go: members come and go for ever.
    prune_at: usize,
    dials: Arc<Semaphore>,
}

/// A link that is open or being dialled.
struct Link {
    queue: mpsc::Sender<Message>,
    /// Large messages in the queue.
    pages: Arc<AtomicUsize>,
}

/// Whether a message is one of many that may come to tens of megabytes.
fn is_page(message: &Message) -> bool {
    matches!(message, Message::SyncPage { .. } | Message::Inventory { .. })
}

impl Link {
    #[expect(clippy::result_large_err, reason = "the message comes back, as from the queue itself")]
    fn send(&self, message: Message) -> Result<(), mpsc::error::TrySendError<Message>> {
        let page = usize::from(is_page(&message));
        self.pages.fetch_add(page, Ordering::Relaxed);
        let sent = self.queue.try_send(message);
        if sent.is_err() {
            self.pages.fetch_sub(page, Ordering::Relaxed);
        }
        sent
    }

    fn pages(&self) -> usize {
        if self.queue.is_closed() { 0 } else { self.pages.load(Ordering::Relaxed) }
    }
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
            Some(link) => match link.send(message) {
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

    /// Which members have as many pages waiting as there is room for.
    pub(super) fn congestion(&self) -> Congestion {
        let pages = |link: &Link| link.pages();
        if self.links.values().map(pages).sum::<usize>() >= LINKS_PAGES_MAX {
            return Congestion::All;
        }
        let full = self.links.iter().filter(|(_, link)| link.pages() >= LINK_PAGES_MAX);
        Congestion::Of(full.map(|(node, _)| *node).collect())
    }

    fn open(&mut self, to: NodeId, engine: &Engine, endpoint: &Arc<Endpoint>, first: Message) {
        let Some(route) = engine.route(to) else {
            return;
        };
        if self.links.len() >= self.prune_at {
            self.links.retain(|_, link| !link.queue.is_closed());
            self.prune_at = 64.max(2 * self.links.len());
        }
        let (queue, receiver) = mpsc::channel(LINK_QUEUE_MAX);
        let link = Link { queue, pages: Arc::default() };
        // A member that does not know us yet would drop what we say, and has no way to answer: so
        // each link begins with who we are. The queue is empty: there is room.
        let who = Message::Announce(Box::new(engine.presence().clone()));
        for message in [who, first] {
            let _ = link.send(message);
        }
        let queue = Queue { messages: receiver, pages: Arc::clone(&link.pages) };
        self.links.insert(to, link);
        tokio::spawn(carry(route, queue, Arc::clone(endpoint), Arc::clone(&self.dials)));
    }

    /// Says goodbye on every link and closes them.
    pub(super) fn close(&mut self) {
        for (_, link) in std::mem::take(&mut self.links) {
            let _ = link.send(Message::Goodbye);
        }
    }
}

/// The other end of a [`Link`].
struct Queue {
    messages: mpsc::Receiver<Message>,
    pages: Arc<AtomicUsize>,
}

/// Dials, then writes what is queued, several messages a flush. Ends when the link breaks.
async fn carry(route: NodeRoute, mut queue: Queue, endpoint: Arc<Endpoint>, dials: Arc<Semaphore>) {
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
            message = tokio::time::timeout(QUIET, queue.messages.recv()) => message,
        };
        let Ok(Some(message)) = message else { break };
        let mut next = Some(message);
        while let Some(message) = next {
            if writer.write(&message, &[]).await.is_err() {
                return;
            }
            queue.pages.fetch_sub(usize::from(is_page(&message)), Ordering::Relaxed);
            next = queue.messages.try_recv().ok();
        }
        if writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{DiskId, Term};

    fn page() -> Message {
        let (term, disk) = (Term::default(), DiskId::default());
        Message::Inventory { term, disk, page: 0, contents: Vec::new(), last: true }
    }

    #[test]
    fn pages_that_wait_are_counted_until_they_are_gone() {
        let mut links = Links::default();
        let mut queues = Vec::new();
        let per_link = LINK_PAGES_MAX - 1;
        for number in 0..LINKS_PAGES_MAX.div_ceil(per_link) {
            assert_eq!(links.congestion(), Congestion::default(), "with {number} links");
            let (queue, messages) = mpsc::channel(LINK_QUEUE_MAX);
            let link = Link { queue, pages: Arc::default() };
            for _ in 0..per_link {
                link.send(page()).expect("room");
                link.send(Message::Goodbye).expect("room");
            }
            links.links.insert(NodeId([u8::try_from(number).expect("small"); 16]), link);
            queues.push(messages);
        }
        assert_eq!(links.congestion(), Congestion::All);
        queues.truncate(queues.len() - 2);
        assert_eq!(links.congestion(), Congestion::default(), "what waits on a dead link is gone");
        let first = NodeId([0; 16]);
        links.links[&first].send(page()).expect("room");
        assert_eq!(links.congestion(), Congestion::Of([first].into()));
        while links.links[&first].send(page()).is_ok() {}
        assert!(links.links[&first].pages() < LINK_QUEUE_MAX, "what found no room is not counted");
    }
}
