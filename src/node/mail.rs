//! Letters of this node: the folders that people see, and what the engine knows. Shell.
//!
//! Invariant: one task does all that touches the inbox, in the order in which the engine said it, so
//! letters appear, and their hooks are told, in the order of their streams.

use super::insight::Arrival;
use super::{Options, Shared};
use crate::engine::Engine;
use crate::engine::event::{Input, Note};
use crate::messages::folders::Folders;
use crate::messages::hooks::Hooks;
use crate::messages::mailbox::Mailbox;
use crate::messages::outbox::Posted;
use crate::messages::{MessagesError, cleaning, outbox};
use crate::types::{Letter, LetterId, LetterType, MachineId, NewLetter, Priority};
use crate::wire::message::{ErrorCode, Reply, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinHandle;

/// Orders that wait for the disk. The engine gives the next letters to stage only once the last are
/// staged, so there are few.
const ORDERS_MAX: usize = 1_024;

/// What the engine orders.
enum Order {
    Stage(Vec<(Priority, Letter)>),
    Reveal(Vec<LetterId>),
}

/// The node's side of its letters.
pub(super) struct Mail {
    orders: mpsc::Sender<Order>,
    hooks: Hooks,
    /// Something may go now that did not before.
    nudge: Arc<Notify>,
    ending: Vec<JoinHandle<()>>,
}

/// Opens the folders, and shows what was delivered when the run before ended.
pub(super) fn open(options: &Options, mailbox: &Mailbox) -> Result<Folders, MessagesError> {
    let folders = Folders::open(&options.data_dir)?;
    folders
        .recover(|id| mailbox.is_seen(id))
        .map_err(|source| MessagesError::Disk { path: options.data_dir.join("messages"), source })?;
    Ok(folders)
}

impl Mail {
    /// Starts what watches the outbox, fills the inbox and runs hooks.
    pub(super) fn start(shared: &Arc<Shared>, options: &Options, folders: Folders) -> Mail {
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let (hooks, running) = Hooks::new(folders.clone(), &options.name, options.messages);
        let nudge = Arc::new(Notify::new());
        let stopping = || shared.stopping.clone();
        let ending = vec![
            tokio::spawn(running.run(stopping())),
            tokio::spawn(fill_inbox(Arc::clone(shared), folders.clone(), hooks.clone(), received)),
        ];
        tokio::spawn(cleaning::run(folders.clone(), options.messages, stopping()));
        let name: Box<str> = options.name.as_str().into();
        let (shared, machine, source) = (Arc::clone(shared), options.machine.clone(), name.clone());
        let turn = Arc::new(Mutex::new(()));
        let give = move |letter| {
            post(Arc::clone(&shared), Arc::clone(&turn), machine.clone(), source.clone(), letter)
        };
        let stop = stopping();
        tokio::spawn(outbox::run(folders, name, give, Arc::clone(&nudge), stop));
        Mail { orders, hooks, nudge, ending }
    }

    pub(super) fn stage(&self, letters: Vec<(Priority, Letter)>) {
        self.order(Order::Stage(letters));
    }

    pub(super) fn reveal(&self, ids: Vec<LetterId>) {
        self.order(Order::Reveal(ids));
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::error!("the inbox does not keep up; what waits for it appears with the next start");
        }
    }

    /// What happened, for hooks that wait for it.
    pub(super) fn tell(&self, note: &Note, engine: &Engine) {
        let Some((kind, payload)) = event(note, engine, &self.hooks) else { return };
        self.hooks.event(kind, payload);
        if matches!(note, Note::ProxyChanged { .. } | Note::NodeJoined { .. }) {
            self.nudge.notify_one();
        }
    }

    /// Waits until hooks that run have been told to end.
    pub(super) async fn end(self) {
        drop(self.orders);
        for task in self.ending {
            let _ = task.await;
        }
    }
}

async fn fill_inbox(shared: Arc<Shared>, folders: Folders, hooks: Hooks, mut orders: mpsc::Receiver<Order>) {
    let mut coming: BTreeMap<LetterId, Arrival> = BTreeMap::new();
    while let Some(order) = orders.recv().await {
        let folders = folders.clone();
        match order {
            Order::Stage(letters) => {
                coming.extend(letters.iter().map(|(_, letter)| (letter.id, Arrival::of(letter))));
                let staged = tokio::task::spawn_blocking(move || folders.stage(&letters)).await;
                let durable = logged("stored", staged).is_some();
                if shared.inputs.send(Input::LettersStaged { durable }).await.is_err() {
                    return;
                }
            }
            Order::Reveal(ids) => {
                let arrivals: Vec<Arrival> = ids.iter().filter_map(|id| coming.remove(id)).collect();
                let revealed = tokio::task::spawn_blocking(move || folders.reveal(&ids)).await;
                if let Some(waiting) = logged("shown", revealed) {
                    arrivals.into_iter().for_each(|arrival| shared.insight.arrived(arrival));
                    hooks.tell(waiting);
                }
            }
        }
    }
}

fn logged<T>(what: &str, done: Result<std::io::Result<T>, tokio::task::JoinError>) -> Option<T> {
    match done {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "messages could not be {what}");
            None
        }
        Err(_) => None,
    }
}

/// Gives a letter of the outbox to this node's own engine. Those that are given at once take turns, which are
/// in the order of asking for them: where there is little room, the one behind may find it first.
async fn post(
    shared: Arc<Shared>,
    turn: Arc<Mutex<()>>,
    machine: MachineId,
    source: Box<str>,
    letter: NewLetter,
) -> Posted {
    let sender = shared.identity.node;
    let request = Box::new(Request::Post { sender, source, letters: vec![letter], wait_ms: 0 });
    let (ask, answer) = shared.asks.begin();
    let given = {
        let _turn = turn.lock().await;
        shared.heard.send(Input::Asked { ask, machine, request }).await
    };
    let reply = match given {
        Ok(()) => answer.await.ok(),
        Err(_) => None,
    };
    shared.asks.end(ask);
    posted(reply)
}

fn posted(reply: Option<Reply>) -> Posted {
    match reply {
        Some(Reply::Posted { .. }) => Posted::Done,
        Some(Reply::Failed { code: ErrorCode::NotFound | ErrorCode::Invalid, message }) => {
            Posted::Refused(message.into())
        }
        Some(Reply::Failed { message, .. }) => Posted::Later(message.into()),
        _ => Posted::Later("the node is being stopped".into()),
    }
}

/// The event that hooks may wait for, and what they are told.
fn event(note: &Note, engine: &Engine, hooks: &Hooks) -> Option<(LetterType, Value)> {
    let kind = |text: &str| LetterType::parse(text);
    match note {
        Note::NodeJoined { name, node } => {
            Some((kind("thorp.node.joined")?, json!({"node": node.to_string(), "name": name})))
        }
        Note::NodeLost { name, node, left } => {
            let payload = json!({"node": node.to_string(), "name": name, "left": left});
            Some((kind("thorp.node.lost")?, payload))
        }
        Note::ProxyChanged { term, name } => {
            let payload = json!({"node": term.proxy.to_string(), "name": name, "term": term.number});
            Some((kind("thorp.proxy.changed")?, payload))
        }
        Note::FileStored { name, content, size, replicas } => {
            let payload = json!({
                "name": name.as_str(), "content": content.to_string(), "bytes": size, "replicas": replicas,
            });
            Some((kind("thorp.file.stored")?, payload))
        }
        Note::Healed { content, node } => {
            // Looking for the names goes through the whole catalog.
            let kind = kind("thorp.file.healed").filter(|kind| hooks.wants(kind))?;
            let names: Vec<String> = engine.names_of(content).map(|name| name.as_str().to_owned()).collect();
            let on = engine.route(*node).map(|route| route.name);
            Some((
                kind,
                json!({"content": content.to_string(), "names": names, "node": node.to_string(), "on": on}),
            ))
        }
        _ => None,
    }
}
