//! Performs what the engine decided. Shell.
//!
//! Invariant: nothing here waits. What takes time (disk, network) runs elsewhere and reports back
//! as an [`Input`], so the loop is always ready to hear.

use super::addresses::Addresses;
use super::channels::Standing;
use super::links::Links;
use super::mail::Mail;
use super::quiet::Quiet;
use super::{DRAINING_KEY, LINEAGE_KEY, Options, Shared};
use crate::channels::Heard;
use crate::clock::{self, Moment};
use crate::discovery::socket::DiscoverySocket;
use crate::engine::Engine;
use crate::engine::event::{Congestion, Effect, Input, Note};
use crate::limits::{ADDRESSES_PER_NODE_MAX, CONTACT_DIALS_MAX, PORT_DEFAULT, VERIFIES_AT_ONCE};
use crate::store::{Store, StoreError};
use crate::transfer::Doubts;
use crate::transfer::connection::{Connection, Endpoint, dial_any};
use crate::transfer::holder::{HolderContext, room_to_serve};
use crate::transfer::pool::HolderPool;
use crate::transfer::pull;
use crate::types::{ContentId, NodeId, NodeRoute, Presence};
use crate::wire::datagram::{Datagram, encode_datagram};
use crate::wire::message::{Message, Purpose};
use crate::wire::record::encode_record;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How often peers that were named or remembered, and are not heard, are dialled.
const CONTACT_INTERVAL_MS: u64 = 3_000;
/// How often the disk is measured.
const USAGE_INTERVAL_MS: u64 = 2_000;
/// How often addresses are remembered, if they changed.
const REMEMBER_INTERVAL_MS: u64 = 1_000;
/// A copy that was hashed whole within this time is believed to be whole.
const VERIFIED_LATELY_MS: u64 = 24 * 3_600_000;

/// Performs effects.
pub(super) struct Performer {
    shared: Arc<Shared>,
    socket: Arc<DiscoverySocket>,
    links: Links,
    mail: Mail,
    congestion: Congestion,
    pool: Arc<HolderPool>,
    reporter: Reporter,
    /// Goodbye is said: a beacon now would take it back.
    leaving: bool,
    data_dir: PathBuf,
    /// How long surplus copies stay in the trash.
    keep_removed: Duration,
    peers: Vec<String>,
    remembered: Addresses,
    tcp: SocketAddr,
    contacted: Option<Moment>,
    measured: Moment,
    saved: Moment,
    /// When the hub of channels was last told who leads.
    stood: Moment,
    contacts: Arc<Semaphore>,
    coming_and_going: Quiet,
}

impl Performer {
    pub(super) fn new(
        shared: Arc<Shared>,
        mail: Mail,
        socket: Arc<DiscoverySocket>,
        options: &Options,
        tcp: SocketAddr,
    ) -> Performer {
        let reporter = Reporter::new(shared.inputs.clone());
        let asking = reporter.clone();
        shared.store.on_room_wanted(move |bytes| report(&asking, Input::RoomWanted { bytes }));
        Performer {
            pool: Arc::new(HolderPool::new(Arc::clone(&shared.endpoint))),
            reporter,
            leaving: false,
            shared,
            mail,
            socket,
            links: Links::default(),
            congestion: Congestion::default(),
            remembered: Addresses::load(&options.data_dir),
            data_dir: options.data_dir.clone(),
            keep_removed: options.keep_removed,
            peers: options.peers.clone(),
            tcp,
            contacted: None,
            measured: Moment::default(),
            saved: Moment::default(),
            stood: Moment::default(),
            contacts: Arc::new(Semaphore::new(CONTACT_DIALS_MAX)),
            coming_and_going: Quiet::default(),
        }
    }

    pub(super) fn perform(&mut self, effect: Effect, engine: &Engine) {
        if self.leaving
            && matches!(effect, Effect::Broadcast(_) | Effect::Send { .. } | Effect::Contact { .. })
        {
            return;
        }
        match effect {
            Effect::Broadcast(presence) => self.broadcast(&Datagram::Beacon(presence)),
            Effect::Send { to, message } => {
                self.links.send(to, *message, engine, &self.shared.endpoint);
            }
            // One more that somebody spoke of: if there is no room now, they will speak of it again.
            Effect::Contact { address } => {
                if let Ok(dialling) = Arc::clone(&self.contacts).try_acquire_owned() {
                    self.contact(vec![address], engine, Some(dialling));
                }
            }
            Effect::SaveCatalog { save, writes } => {
                let inputs = self.reporter.clone();
                let done = Box::new(move |result: Result<(), _>| {
                    report(&inputs, Input::CatalogSaved { save, durable: logged("catalog", result) });
                });
                self.shared.store.write_catalog(writes, done);
            }
            Effect::SaveTerm { term } => {
                let inputs = self.reporter.clone();
                let done = Box::new(move |result: Result<(), _>| {
                    report(&inputs, Input::TermSaved { term, durable: logged("term", result) });
                });
                self.shared.store.set_term(term, done);
            }
            Effect::SaveDraining { draining } => {
                let (store, inputs) = (self.shared.store.clone(), self.reporter.clone());
                tokio::task::spawn_blocking(move || {
                    let saved = store.meta_set(DRAINING_KEY, vec![u8::from(draining)]);
                    let durable = logged("order to drain", saved);
                    report(&inputs, Input::DrainingSaved { draining, durable });
                });
            }
            Effect::SaveLineage { lineage } => {
                let store = self.shared.store.clone();
                tokio::task::spawn_blocking(move || {
                    logged("cluster", store.meta_set(LINEAGE_KEY, encode_record(&lineage)));
                });
            }
            Effect::Answer { ask, reply } => self.shared.asks.answer(ask, *reply),
            Effect::Pull { content, size, from } => self.pull(content, size, from),
            Effect::Check { content, nonce, asker } => self.check(content, nonce, asker),
            Effect::Drop { content, until } => self.drop_content(content, until),
            Effect::StageLetters { letters } => self.mail.stage(letters),
            Effect::RevealLetters { ids } => self.mail.reveal(ids),
            Effect::Note(note) => {
                self.mail.tell(&note, engine);
                self.shared.insight.note(&note);
                if let Note::NodeJoined { node, .. } = note {
                    self.links.renew(node);
                }
                match note {
                    Note::NodeJoined { .. } | Note::NodeLost { .. } | Note::ClusterJoined { .. } => {
                        self.coming_and_going.warn(|| tell(&note));
                    }
                    note => tell(&note),
                }
            }
        }
    }

    /// What is done from time to time: measuring the disk, remembering addresses, dialling those
    /// that were named and are not heard.
    pub(super) fn housekeep(&mut self, engine: &Engine) {
        let now = clock::now();
        self.tend_channels(now, engine);
        self.shared.store.set_removed_bytes(engine.trash_bytes());
        if now.since(self.measured) >= USAGE_INTERVAL_MS {
            self.measured = now;
            let (store, inputs) = (self.shared.store.clone(), self.reporter.clone());
            let keep = self.keep_removed;
            report(&inputs, Input::WallClock { wall_ms: clock::wall().0 });
            report(&inputs, Input::OwnAddresses { addresses: self.own_addresses() });
            tokio::task::spawn_blocking(move || {
                store.tend();
                if let Err(error) = store.expire_asides(keep) {
                    tracing::debug!(%error, "the trash is as it was");
                }
                report(&inputs, usage(&store));
            });
        }
        if now.since(self.saved) >= REMEMBER_INTERVAL_MS {
            self.saved = now;
            self.remember(engine);
        }
        if self.contacted.is_none_or(|at| now.since(at) >= CONTACT_INTERVAL_MS) {
            let first = self.contacted.is_none();
            self.contacted = Some(now);
            self.contact_named(engine, first);
        }
    }

    /// Says who leads, and as the proxy tells the others what a successor needs.
    fn tend_channels(&mut self, now: Moment, engine: &Engine) {
        let channels = Arc::clone(&self.shared.channels);
        let leads = engine.leads() && !self.leaving;
        let proxy =
            engine.presence().proxy.filter(|proxy| !engine.leads() && *proxy != engine.presence().node);
        let known = channels.stands(leads, proxy);
        if !known || now.since(self.stood) >= REMEMBER_INTERVAL_MS {
            self.stood = now;
            channels.stand(Standing { leads, proxy: proxy.and_then(|proxy| engine.route(proxy)) });
        }
        if let Some(Heard { server_time_ms, expiry_ms_max }) = channels.due(now, engine.members_known()) {
            for route in engine.routes() {
                let message = Message::ChannelsHeard { server_time_ms, expiry_ms_max };
                self.links.send(route.node, message, engine, &self.shared.endpoint);
            }
        }
    }

    /// Which links have no room for pages, if that has changed.
    pub(super) fn new_congestion(&mut self) -> Option<Congestion> {
        let congestion = self.links.congestion();
        let changed = congestion != self.congestion;
        self.congestion.clone_from(&congestion);
        changed.then_some(congestion)
    }

    fn broadcast(&self, datagram: &Datagram) {
        let keys = &self.shared.identity.keys;
        let bytes = encode_datagram(datagram, keys.tags, |bytes| keys.seal(bytes));
        self.socket.send(&bytes);
    }

    /// Where this node takes connections; those that only this machine can use come last.
    fn own_addresses(&self) -> Vec<SocketAddr> {
        if !self.tcp.ip().is_unspecified() {
            return vec![self.tcp];
        }
        let mut interfaces = self.socket.interfaces();
        interfaces.sort_by_key(|interface| interface.loopback);
        let addresses = interfaces.iter().map(|interface| (interface.address, self.tcp.port()).into());
        addresses.take(ADDRESSES_PER_NODE_MAX).collect()
    }

    /// Asks who is there: the proxy's beacon comes at once.
    pub(super) fn query(&self) {
        let nonce = clock::entropy().map_or(0, u64::from_le_bytes);
        self.broadcast(&Datagram::Query { nonce });
    }

    /// Says goodbye on every way.
    pub(super) async fn goodbye(&mut self, engine: &Engine) {
        let presence = engine.presence();
        self.broadcast(&Datagram::Goodbye {
            node: presence.node,
            instance: presence.instance,
            sequence: presence.sequence + 1,
        });
        self.leaving = true;
        self.links.close();
        // The links' tasks write their last message while this one waits its turn.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Ends what was started with it.
    pub(super) async fn end(self) {
        self.mail.end().await;
    }

    fn pull(&self, content: ContentId, size: u64, from: Vec<NodeRoute>) {
        let shared = Arc::clone(&self.shared);
        let pool = Arc::clone(&self.pool);
        tokio::spawn(async move {
            let progress = Arc::new(|_: u64| ());
            let result = pull::pull(&shared.store, content, size, from, &pool, progress).await;
            let stored = match &result {
                Ok(_) => true,
                Err(error) => {
                    shared.quiet.warn(|| tracing::warn!(%content, %error, "a copy could not be made here"));
                    false
                }
            };
            shared.insight.pulled(stored.then_some(size));
            if stored {
                let _ = shared.inputs.send(Input::ContentStored { content, size }).await;
            }
            let _ = shared.inputs.send(Input::PullEnded { content, stored }).await;
        });
    }

    fn check(&self, content: ContentId, nonce: u64, asker: NodeId) {
        let (store, inputs) = (self.shared.store.clone(), self.reporter.clone());
        tokio::task::spawn_blocking(move || {
            let good = check(&store, &content);
            report(&inputs, Input::Checked { content, nonce, asker, good });
            if !good && store.holds(&content).is_none() {
                report(&inputs, Input::ContentLost { content });
            }
        });
    }

    fn drop_content(&self, content: ContentId, until: Option<Moment>) {
        let (store, inputs) = (self.shared.store.clone(), self.reporter.clone());
        let insight = Arc::clone(&self.shared.insight);
        tokio::task::spawn_blocking(move || {
            let dropped = match remove(&store, &content, until) {
                Ok(_) => store.holds(&content).is_none(),
                Err(error) => {
                    tracing::warn!(%content, %error, "a copy could not be removed");
                    false
                }
            };
            if dropped {
                insight.dropped();
            }
            report(&inputs, Input::DropEnded { content, dropped });
        });
    }

    /// Announces this node at addresses where somebody may not hear its broadcasts.
    fn contact(&self, addresses: Vec<SocketAddr>, engine: &Engine, dialling: Option<OwnedSemaphorePermit>) {
        let endpoint = Arc::clone(&self.shared.endpoint);
        let presence = engine.presence().clone();
        tokio::spawn(async move {
            announce_at(&addresses, &endpoint, presence).await;
            drop(dialling);
        });
    }

    fn contact_named(&self, engine: &Engine, first: bool) {
        let known: Vec<SocketAddr> = engine.routes().into_iter().flat_map(|route| route.addresses).collect();
        if first {
            let me = self.tcp.port();
            for address in self.remembered.proxy.iter().chain(&self.remembered.nodes) {
                if !(address.ip().is_loopback() && address.port() == me) {
                    self.contact(vec![*address], engine, None);
                }
            }
        }
        for peer in self.peers.clone() {
            let endpoint = Arc::clone(&self.shared.endpoint);
            let presence = engine.presence().clone();
            let known = known.clone();
            tokio::spawn(async move {
                let addresses = resolve(&peer).await;
                if addresses.is_empty() {
                    tracing::warn!(%peer, "this peer's name is not known");
                } else if !addresses.iter().any(|address| known.contains(address)) {
                    announce_at(&addresses, &endpoint, presence).await;
                }
            });
        }
    }

    fn remember(&mut self, engine: &Engine) {
        let proxy = engine.presence().proxy;
        let own = SocketAddr::new(loopback_or(self.tcp), self.tcp.port());
        let mut addresses = Addresses { proxy: Vec::new(), nodes: vec![own] };
        if engine.leads() {
            addresses.proxy.push(own);
        }
        for route in engine.routes() {
            if Some(route.node) == proxy {
                addresses.proxy.extend(&route.addresses);
            }
            addresses.nodes.extend(&route.addresses);
        }
        for list in [&mut addresses.proxy, &mut addresses.nodes] {
            list.sort();
            list.dedup();
        }
        if addresses != self.remembered && addresses.nodes.len() + addresses.proxy.len() > 1 {
            if let Err(error) = addresses.save(&self.data_dir) {
                tracing::debug!(%error, "addresses are not remembered");
            }
            self.remembered = addresses;
        }
    }
}

/// Removes a copy: garbage for good, one that was too many into the trash, unless it is too late.
fn remove(store: &Store, content: &ContentId, until: Option<Moment>) -> Result<bool, StoreError> {
    match until {
        None => store.remove(content),
        Some(until) if clock::now() >= until => Ok(false),
        Some(_) => store.set_aside(content),
    }
}

/// Whether a copy is there and whole: read anew unless that was done within a day.
fn check(store: &Store, content: &ContentId) -> bool {
    let Ok(record) = store.record(content) else {
        return false;
    };
    if clock::wall().0.saturating_sub(record.verified_ms) >= VERIFIED_LATELY_MS {
        return store.verify(content).unwrap_or(false);
    }
    record.size == 0 || store.read(content, record.size - 1, 1).is_ok()
}

/// `HOST` or `HOST:PORT`, looked up.
pub(crate) async fn resolve(peer: &str) -> Vec<SocketAddr> {
    let with_port = match peer.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => peer.to_owned(),
        _ => format!("{peer}:{PORT_DEFAULT}"),
    };
    match tokio::net::lookup_host(with_port).await {
        Ok(addresses) => addresses.filter(SocketAddr::is_ipv4).collect(),
        Err(_) => Vec::new(),
    }
}

async fn announce_at(addresses: &[SocketAddr], endpoint: &Arc<Endpoint>, presence: Presence) {
    match dial_any(addresses, endpoint, Purpose::Member, None).await {
        Ok(connection) => {
            if connection.peer().node != presence.node
                && let Err(error) = announce_on(connection, presence).await
            {
                tracing::debug!(%error, "an announcement did not arrive");
            }
        }
        Err(error) => tracing::debug!(%error, "nobody answers there"),
    }
}

async fn announce_on(
    connection: Connection,
    presence: Presence,
) -> Result<(), crate::transfer::connection::ConnectionError> {
    let (_reader, mut writer) = connection.split();
    writer.write(&Message::Announce(Box::new(presence)), &[]).await?;
    writer.flush().await?;
    writer.close().await
}

fn loopback_or(tcp: SocketAddr) -> std::net::IpAddr {
    if tcp.ip().is_unspecified() { std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) } else { tcp.ip() }
}

/// What the disk can take now.
pub(super) fn usage(store: &Store) -> Input {
    let usage = store.usage();
    Input::Usage {
        capacity_bytes: usage.capacity_bytes,
        used_bytes: usage.used_bytes,
        free_bytes: usage.free_bytes,
        disk: store.disk_state(),
        usable: store.is_usable(),
    }
}

/// What the transfer side needs to serve, and how it reports.
pub(super) fn holder_context(
    store: &Store,
    endpoint: &Arc<Endpoint>,
    node: NodeId,
    inputs: &mpsc::Sender<Input>,
) -> Arc<HolderContext> {
    let stored = Reporter::new(inputs.clone());
    let bad = stored.clone();
    Arc::new(HolderContext {
        store: store.clone(),
        endpoint: Arc::clone(endpoint),
        node,
        on_stored: Box::new(move |content, size| report(&stored, Input::ContentStored { content, size })),
        on_bad: Box::new(move |content| report(&bad, Input::ContentLost { content })),
        transfers: AtomicU32::new(0),
        serving: room_to_serve(),
        doubts: Doubts::default(),
        verifies: Semaphore::new(VERIFIES_AT_ONCE),
    })
}

/// Reports from wherever it is called, without waiting. No report may get lost: the engine believes
/// what it was told. If the queue is full, a task waits for room; reports are bounded by the work
/// that is under way.
fn report(reporter: &Reporter, input: Input) {
    if let Err(mpsc::error::TrySendError::Full(input)) = reporter.inputs.try_send(input) {
        let inputs = reporter.inputs.clone();
        reporter.runtime.spawn(async move { inputs.send(input).await });
    }
}

/// Where reports go, from threads of the runtime and others.
#[derive(Clone)]
pub(super) struct Reporter {
    inputs: mpsc::Sender<Input>,
    runtime: tokio::runtime::Handle,
}

impl Reporter {
    /// Must be made inside the runtime.
    pub(super) fn new(inputs: mpsc::Sender<Input>) -> Reporter {
        Reporter { inputs, runtime: tokio::runtime::Handle::current() }
    }
}

fn logged<E: std::error::Error>(what: &str, result: Result<(), E>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "the {what} could not be saved");
            false
        }
    }
}

fn tell(note: &Note) {
    match note {
        Note::NodeJoined { name, node } => tracing::info!(%node, "{name} is here"),
        Note::NodeLost { name, node, left: true } => tracing::info!(%node, "{name} left"),
        Note::NodeLost { name, node, left: false } => tracing::warn!(%node, "{name} has fallen silent"),
        Note::ProxyChanged { term, name } => tracing::info!(term = term.number, "{name} leads"),
        Note::Ready { term } => tracing::info!(term = term.number, "heard from everybody"),
        Note::NodeCloned { source } => tracing::error!(
            %source,
            "another machine uses this node's identity: its data folder was copied; remove `node.key` there"
        ),
        Note::Healed { content, node } => tracing::info!(%content, %node, "a lost copy was replaced"),
        Note::FileStored { name, content, .. } => tracing::debug!(%content, "stored: {name}"),
        Note::ClockDiffers => tracing::warn!(
            "this machine's clock is more than an hour from the others': nothing expires; set it right"
        ),
        Note::SaveFailed => {
            tracing::error!("the disk refuses; this node acknowledges nothing until it is started again")
        }
        Note::ClusterJoined { lineage } => tracing::info!(cluster = %lineage, "joined a cluster"),
    }
}
