//! Requests to the proxy, several on their way on each of a few connections. Shell.
//!
//! Invariant: every request ends within [`CHANNEL_FORWARD_TIMEOUT`], with an answer or without; a
//! connection that broke is dialled anew by the next one.

use crate::limits::{CHANNEL_FORWARD_TIMEOUT, CHANNEL_LINK_QUEUE_MAX, CHANNEL_LINKS};
use crate::transfer::connection::{Endpoint, FrameReader, dial_any};
use crate::types::{NodeId, NodeRoute};
use crate::wire::channel::{ChannelAsk, ChannelReply};
use crate::wire::message::Purpose;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A connection with nothing to ask for this long is closed.
const QUIET: Duration = Duration::from_secs(30);

type Answer = (ChannelReply, Bytes);

/// A request, and where its answer goes.
struct Job {
    ask: ChannelAsk,
    answer: oneshot::Sender<Answer>,
}

struct Link {
    proxy: NodeId,
    jobs: mpsc::Sender<Job>,
}

/// The connections to the proxy.
pub(super) struct Upstream {
    endpoint: Arc<Endpoint>,
    links: [Mutex<Option<Link>>; CHANNEL_LINKS],
    turn: AtomicUsize,
}

impl Upstream {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Upstream {
        Upstream { endpoint, links: Default::default(), turn: AtomicUsize::new(0) }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Asks the proxy. A connection that turns out to be broken is tried anew once: to post, or to
    /// leave, a second time does no more than once, and a new client that has posted already is known by
    /// the token that was drawn for it.
    pub(super) async fn ask(&self, route: &NodeRoute, ask: &ChannelAsk) -> Option<Answer> {
        let asking = async {
            match self.send(route, ask.clone())?.await {
                Ok(answer) => Some(answer),
                Err(_) => self.send(route, ask.clone())?.await.ok(),
            }
        };
        timeout(CHANNEL_FORWARD_TIMEOUT, asking).await.ok().flatten()
    }

    fn send(&self, route: &NodeRoute, ask: ChannelAsk) -> Option<oneshot::Receiver<Answer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut link = self.links[turn % CHANNEL_LINKS].lock().unwrap_or_else(PoisonError::into_inner);
        let open = link.as_ref().filter(|link| link.proxy == route.node && !link.jobs.is_closed());
        let jobs = match open {
            Some(link) => link.jobs.clone(),
            None => {
                let (jobs, received) = mpsc::channel(CHANNEL_LINK_QUEUE_MAX);
                tokio::spawn(carry(route.clone(), Arc::clone(&self.endpoint), received));
                *link = Some(Link { proxy: route.node, jobs: jobs.clone() });
                jobs
            }
        };
        drop(link);
        let (answer, answered) = oneshot::channel();
        jobs.try_send(Job { ask, answer }).ok()?;
        Some(answered)
    }
}

/// Dials, then writes what is asked, several requests a flush. What has no answer when it ends gets
/// none.
async fn carry(route: NodeRoute, endpoint: Arc<Endpoint>, mut jobs: mpsc::Receiver<Job>) {
    let connection = match dial_any(&route.addresses, &endpoint, Purpose::Channels, Some(route.node)).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "the proxy cannot be asked about channels");
            return;
        }
    };
    let (reader, mut writer) = connection.split();
    writer.set_timeout(Some(CHANNEL_FORWARD_TIMEOUT));
    let (asked, answers) = mpsc::channel(CHANNEL_LINK_QUEUE_MAX);
    let mut hearing = tokio::spawn(hear(reader, answers));
    loop {
        let job = tokio::select! {
            biased;
            _ = &mut hearing => return,
            job = timeout(QUIET, jobs.recv()) => job,
        };
        let Ok(Some(job)) = job else { break };
        let mut next = Some(job);
        while let Some(job) = next {
            // Before the request goes: its answer must find it.
            if asked.send(job.answer).await.is_err() || writer.write(&job.ask, &[]).await.is_err() {
                hearing.abort();
                return;
            }
            next = if asked.capacity() > 0 { jobs.try_recv().ok() } else { None };
        }
        if writer.flush().await.is_err() {
            hearing.abort();
            return;
        }
    }
    jobs.close();
    hearing.abort();
    let _ = writer.close().await;
}

/// Answers come in the order of the requests.
async fn hear(mut reader: FrameReader, mut answers: mpsc::Receiver<oneshot::Sender<Answer>>) {
    loop {
        reader.set_timeout(None);
        let answer = tokio::select! {
            biased;
            answer = answers.recv() => answer,
            // The end, or something that nobody asked for.
            _ = reader.read::<ChannelReply>() => return,
        };
        let Some(answer) = answer else { return };
        reader.set_timeout(Some(CHANNEL_FORWARD_TIMEOUT));
        match reader.read::<ChannelReply>().await {
            Ok(Some(reply)) => drop(answer.send(reply)),
            Ok(None) | Err(_) => return,
        }
    }
}
