//! Takes connections and serves each by its purpose. Shell.
//!
//! Invariants: a connection that has not proved itself is bounded in number and time, and costs
//! nothing else; there is always a place for one more, and it is taken from the address that has most; a frame says who sent it only through TLS, never through its own words.

use super::places::Places;
use super::{Shared, channels};
use crate::channels::Heard;
use crate::engine::event::{AskId, Input, Via};
use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_UNPROVEN_MAX};
use crate::remote::job;
use crate::transfer::connection::{Connection, ConnectionError};
use crate::transfer::holder;
use crate::wire::message::{ErrorCode, Message, Purpose, Reply, Request};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Requests of commands that wait for their answers.
#[derive(Default)]
pub(crate) struct Asks {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<AskId, oneshot::Sender<Reply>>>,
}

impl Asks {
    pub(super) fn begin(&self) -> (AskId, oneshot::Receiver<Reply>) {
        let ask = AskId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(ask, sender);
        (ask, receiver)
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn answer(&self, ask: AskId, reply: Reply) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ask);
        if let Some(waiting) = waiting {
            let _ = waiting.send(reply);
        }
    }

    pub(super) fn end(&self, ask: AskId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ask);
    }
}

/// A member's link is silent at most this long: the proxy's heartbeats come every second, and the
/// other end closes a quiet link after half of this.
const MEMBER_SILENCE: Duration = Duration::from_secs(60);
/// A command may think this long between two requests (a put moves its bytes in between).
const COMMAND_SILENCE: Duration = Duration::from_secs(3600);

/// Takes connections for as long as the node runs.
pub(super) async fn answer(shared: Arc<Shared>, listener: TcpListener) {
    let unproven = Places::new(CONNECTIONS_UNPROVEN_MAX);
    let all = Places::new(CONNECTIONS_MAX);
    loop {
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: what is open goes on, new ones wait.
                shared.quiet.warn(|| tracing::warn!(%error, "a connection could not be taken"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let mut place = all.enter(address.ip());
        let mut proving = unproven.enter(address.ip());
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let proved = tokio::select! {
                proved = prove(tcp, &shared) => proved,
                () = proving.taken() => None,
                () = place.taken() => None,
            };
            drop(proving);
            let Some(connection) = proved else { return };
            let address = connection.address();
            tokio::select! {
                () = serve(connection, Arc::clone(&shared)) => {}
                () = place.taken() => shared.quiet.warn(|| {
                    tracing::warn!(%address, "too many connections: one of the address with the most was closed");
                }),
            }
        });
    }
}

async fn prove(tcp: TcpStream, shared: &Shared) -> Option<Connection> {
    match Connection::accept(tcp, &shared.endpoint).await {
        Ok(connection) => Some(connection),
        Err(error @ ConnectionError::OtherKey { .. }) => {
            shared.quiet.warn(|| tracing::warn!(%error, "a connection was refused"));
            None
        }
        Err(error) => {
            tracing::debug!(%error, "a connection did not come about");
            None
        }
    }
}

async fn serve(connection: Connection, shared: Arc<Shared>) {
    let address = connection.address();
    let ended = match connection.peer().purpose {
        Purpose::Member => hear_member(connection, &shared).await,
        Purpose::Command => serve_command(connection, &shared).await,
        Purpose::Transfer => {
            if let Err(error) = holder::serve(connection, Arc::clone(&shared.holder)).await {
                tracing::debug!(%address, %error, "a transfer ended");
            }
            Ok(())
        }
        Purpose::Channels => channels::serve(connection, &shared.channels).await,
        Purpose::Sync => shared.syncs.serve(connection).await,
        Purpose::Run => job::serve(connection, &shared.jobs).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "a connection ended");
    }
}

async fn hear_member(connection: Connection, shared: &Shared) -> Result<(), ConnectionError> {
    let peer = connection.peer().clone();
    let source = connection.address().ip();
    let (mut reader, _writer) = connection.split();
    reader.set_timeout(Some(MEMBER_SILENCE));
    reader.refuse_payloads();
    while let Some((message, _)) = reader.read::<Message>().await? {
        let input = match message {
            Message::Announce(presence) => {
                let proven = presence.node == peer.node && presence.instance == peer.instance;
                if !proven || crate::wire::message::check_presence(&presence).is_err() {
                    return Ok(());
                }
                Input::Announced { presence, source, via: Via::Link }
            }
            Message::ChannelsHeard { server_time_ms, expiry_ms_max } => {
                shared.channels.hear(Heard { server_time_ms, expiry_ms_max });
                continue;
            }
            Message::Goodbye => Input::GoodbyeHeard { node: peer.node, instance: peer.instance },
            message => Input::Told { from: peer.node, instance: peer.instance, message: Box::new(message) },
        };
        if shared.heard.send(input).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn serve_command(connection: Connection, shared: &Shared) -> Result<(), ConnectionError> {
    let (machine, peer) = (connection.peer().machine.clone(), connection.peer().node);
    let (mut reader, mut writer) = connection.split();
    reader.set_timeout(Some(COMMAND_SILENCE));
    reader.refuse_payloads();
    while let Some((mut request, _)) = reader.read::<Request>().await? {
        if let Request::Post { sender, .. } = &mut request {
            *sender = peer; // what TLS proved, not what it says
        }
        let (ask, answer) = shared.asks.begin();
        let input = Input::Asked { ask, machine: machine.clone(), request: Box::new(request) };
        if shared.heard.send(input).await.is_err() {
            return Ok(());
        }
        let mut stopping = shared.stopping.clone();
        let reply = tokio::select! {
            reply = answer => reply.ok(),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        };
        let reply = reply.unwrap_or_else(|| Reply::Failed {
            code: ErrorCode::Unknown,
            message: "the proxy is being stopped: the outcome is not known".into(),
        });
        shared.asks.end(ask);
        let sent = match writer.write(&reply, &[]).await {
            Ok(()) => writer.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            let _ = shared.inputs.send(Input::AskGone { ask }).await;
            return Err(error);
        }
    }
    Ok(())
}
