//! The daemon: selects one input, applies it to the engine, performs the effects. Shell.
//!
//! One task owns the engine. Everything else (datagrams, connections, the disk, pulls) runs in
//! tasks of its own that can only send [`Input`]s to it, so there is no lock around a decision.
//!
//! | file | what it does |
//! |---|---|
//! | [`addresses`] | remembers on disk where the others were |
//! | `answering` | takes connections and serves each by its purpose |
//! | [`channels`] | live state: holds it while this node leads, else asks the proxy |
//! | `effects` | performs what the engine decided |
//! | `hearing` | datagrams: opens, checks the seal, hands them over |
//! | `mail` | letters: the folders that people see, and what the engine knows |
//! | [`insight`] | what the process tells the HTTP interface beside it |
//! | `links` | one outgoing link a member, dialled when there is something to say |
//! | `places` | how many connections there may be, and whose goes when one too many comes |
//! | `quiet` | how many lines others can cause in the log |
//! | [`schedule`], `scrub` | when copies are hashed anew (pure); doing it |

pub mod addresses;
mod answering;
pub mod channels;
mod effects;
mod hearing;
pub mod insight;
mod links;
mod mail;
pub(crate) mod places;
mod quiet;
pub mod schedule;
mod scrub;

use crate::clock;
use crate::discovery::socket::{DiscoverySocket, SocketError};
use crate::engine::event::Input;
use crate::engine::{Config, Engine, Restored};
use crate::identity::{ClusterSecret, Identity, IdentityError, peer_node_id};
use crate::limits::{DATAGRAM_QUEUE_MAX, HEARD_QUEUE_MAX, INPUT_QUEUE_MAX, JOBS_STOP_GRACE, STOP_TIMEOUT};
use crate::messages::folders::Folders;
use crate::messages::mailbox::Mailbox;
use crate::messages::{self, MessagesError};
use crate::remote::job::Jobs;
use crate::remote::{self, Consent};
use crate::replication::{Catalog, CausalContext};
use crate::store::{Loaded, Store, StoreError};
use crate::transfer::connection::Endpoint;
use crate::transfer::holder::HolderContext;
use crate::types::{ContentId, InstanceId, Lineage, MachineId, NodeId, Origin, Pin};
use crate::wire::message::{Hello, Purpose};
use crate::wire::{DecodeError, PROTOCOL_VERSION};
use channels::Hub;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

pub(crate) use effects::resolve;

/// How a node is started.
#[derive(Debug)]
pub struct Options {
    /// All its state.
    pub data_dir: PathBuf,
    /// Which cluster.
    pub cluster: String,
    /// Its key.
    pub secret: ClusterSecret,
    /// Only this address and its network.
    pub bind: Option<Ipv4Addr>,
    /// UDP port, and TCP port if it is free.
    pub port: u16,
    /// Also look there: `HOST` or `HOST:PORT`.
    pub peers: Vec<String>,
    /// Where this process serves HTTP; 0 for nowhere.
    pub http_port: u16,
    /// Role.
    pub pin: Pin,
    /// Display name.
    pub name: String,
    /// Its machine.
    pub machine: MachineId,
    /// Most bytes it stores.
    pub capacity_bytes: Option<u64>,
    /// Silence after which a node's copies are replaced.
    pub heal_after: Duration,
    /// Every copy is hashed anew this often; `None`: never.
    pub scrub_every: Option<Duration>,
    /// How long removed and replaced versions are kept.
    pub keep_removed: Duration,
    /// What is done with messages.
    pub messages: messages::Options,
    /// Whether clients of channels must show their tokens, while this node leads.
    pub channels_strict: bool,
    /// What others may run here.
    pub run: RunOptions,
}

/// What the owner of a machine lets others run on it.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Whether at all.
    pub allow: bool,
    /// From where; everywhere if that is empty.
    pub from: Vec<Origin>,
    /// Which programs; every one if that is empty.
    pub programs: Vec<Box<str>>,
    /// As which user, if not as that of the node.
    pub user: Option<Box<str>>,
    /// The folder of all workspaces, if not `workspaces` in the data folder.
    pub folder: Option<PathBuf>,
}

/// Name of the folder of all workspaces in the data folder.
const WORKSPACES: &str = "workspaces";
/// Name of the folder of what ran for others.
const JOBS: &str = "jobs";

/// What a node says once it takes connections.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Its id.
    pub node: NodeId,
    /// Where it takes connections.
    pub tcp: SocketAddr,
    /// Whether the cluster has a key of its own.
    pub secured: bool,
}

/// Why a node could not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The data folder cannot be used.
    #[error("the data folder cannot be used")]
    Store(#[from] StoreError),
    /// The folder of jobs or the user that runs them cannot be used.
    #[error("programs cannot be run for others")]
    Jobs(#[source] std::io::Error),
    /// The keys cannot be used.
    #[error("the keys cannot be used")]
    Identity(#[from] IdentityError),
    /// The folder's files belong to a closed cluster, and no key was given.
    #[error(
        "this folder was used with a cluster key; without one, everybody on the LAN could read its files"
    )]
    KeyMissing,
    /// The discovery port cannot be used.
    #[error("the discovery port cannot be used")]
    Socket(#[from] SocketError),
    /// No TCP port can be had.
    #[error("no connections can be taken on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folders for messages cannot be used.
    #[error("messages cannot be stored")]
    Messages(#[from] MessagesError),
    /// The stored catalog is not one.
    #[error("the stored catalog makes no sense: {0}")]
    Catalog(Box<str>),
    /// The stored cluster uuids are not any.
    #[error("the stored cluster uuids make no sense")]
    Lineage(#[source] DecodeError),
    /// The system gives no random bytes, or no signals.
    #[error("the system refuses what every program needs")]
    System(#[from] std::io::Error),
    /// A task of ours ended that never should.
    #[error("an internal task ended: {0}")]
    Internal(&'static str),
}

impl NodeError {
    /// What to do about it, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            NodeError::Store(error) => error.hint().map(str::to_owned),
            NodeError::Identity(error) => error.hint(),
            NodeError::Socket(error) => error.hint(),
            NodeError::Messages(error) => Some(error.hint().to_owned()),
            NodeError::KeyMissing => Some(
                "give the key with `--key-file FILE` or `THORP_KEY`, or use another `--data-dir`; to make the files \
                 public, get them with the key and put them into an open cluster"
                    .into(),
            ),
            NodeError::Listen { .. } => {
                Some("choose another address with `--bind`, or another `--port`".into())
            }
            NodeError::Catalog(_) | NodeError::Lineage(_) => {
                Some("move the data folder away and start again: the other machines fill it".into())
            }
            NodeError::Jobs(_) => {
                Some("check `run_user` and `run_folder`, and that the data folder can be written to".into())
            }
            NodeError::System(_) | NodeError::Internal(_) => None,
        }
    }
}

/// What the tasks of a node share.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) endpoint: Arc<Endpoint>,
    /// What this node's own tasks report.
    pub(crate) inputs: mpsc::Sender<Input>,
    /// What peers and commands say: a queue of their own, so that it never takes the room of ours.
    pub(crate) heard: mpsc::Sender<Input>,
    /// What datagrams say: the first to be left out.
    pub(crate) datagrams: mpsc::Sender<Input>,
    pub(crate) store: Store,
    pub(crate) holder: Arc<HolderContext>,
    pub(crate) asks: answering::Asks,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) quiet: quiet::Quiet,
    pub(crate) channels: Arc<Hub>,
    /// Folders of others that are kept equal here.
    pub(crate) syncs: remote::sync::Server,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) insight: Arc<insight::Insight>,
}

/// A node that is up, not yet running.
pub struct Node {
    shared: Arc<Shared>,
    engine: Engine,
    folders: Folders,
    inputs: mpsc::Receiver<Input>,
    heard: mpsc::Receiver<Input>,
    datagrams: mpsc::Receiver<Input>,
    socket: Arc<DiscoverySocket>,
    listener: Option<TcpListener>,
    options: Options,
    /// Contents to be verified first.
    doubtful: Vec<ContentId>,
    stop: watch::Sender<bool>,
    ready: Ready,
}

const LINEAGE_KEY: &str = "lineage";
const DRAINING_KEY: &str = "draining";
const CLOSED_KEY: &str = "closed";

impl Node {
    /// Opens the data folder, the keys and the ports.
    ///
    /// # Errors
    /// When one of them cannot be used; nothing is left behind but the files of the folder.
    pub async fn open(options: Options) -> Result<Node, NodeError> {
        let folder = options.data_dir.clone();
        let capacity = options.capacity_bytes;
        let (store, mut loaded) = blocking(move || Store::open(&folder, capacity)).await??;
        let (folder, cluster, secret) =
            (options.data_dir.clone(), options.cluster.clone(), options.secret.clone());
        let identity = blocking(move || Identity::load(&folder, &cluster, &secret)).await??;
        keep_closed(&store, identity.keys.secured)?;
        let socket = Arc::new(DiscoverySocket::open(options.bind, options.port)?);
        let listener = listen(options.bind, options.port).await?;
        let tcp = listener.local_addr()?;
        let instance = InstanceId(u64::from_le_bytes(clock::entropy()?));
        let lineage = load_lineage(&store)?;
        let endpoint = Arc::new(Endpoint {
            client: Arc::clone(&identity.tls.client),
            server: Arc::clone(&identity.tls.server),
            hello: Hello {
                protocol: PROTOCOL_VERSION,
                node: identity.node,
                instance,
                machine: options.machine.clone(),
                purpose: Purpose::Member,
                lineage: lineage.clone(),
                tcp_port: tcp.port(),
            },
            peer_node_id,
        });
        let doubtful = std::mem::take(&mut loaded.doubtful);
        let mailbox = Mailbox::load(std::mem::take(&mut loaded.mail).into_iter());
        let folders = mail::open(&options, &mailbox)?;
        let engine =
            make_engine(&options, &identity, instance, &store, (loaded, mailbox), lineage, tcp.port())?;
        let (sender, inputs) = mpsc::channel(INPUT_QUEUE_MAX * 8);
        let (heard_sender, heard) = mpsc::channel(HEARD_QUEUE_MAX);
        let (datagram_sender, datagrams) = mpsc::channel(DATAGRAM_QUEUE_MAX);
        let (stop, stopping) = watch::channel(false);
        let channels = Arc::new(Hub::new(Arc::clone(&endpoint), options.channels_strict));
        let holder = effects::holder_context(&store, &endpoint, identity.node, &sender);
        let ready = Ready { node: identity.node, tcp, secured: identity.keys.secured };
        let insight = Arc::new(insight::Insight::new(store.clone()));
        let run = options.run.clone();
        let consent = Arc::new(Consent {
            allow_run: run.allow,
            secured: identity.keys.secured,
            from: run.from,
            programs: run.programs,
            user: run.user,
            folder: run.folder.unwrap_or_else(|| options.data_dir.join(WORKSPACES)),
        });
        let (jobs_consent, folder) = (Arc::clone(&consent), options.data_dir.join(JOBS));
        let jobs = blocking(move || Jobs::open(jobs_consent, folder)).await?.map_err(NodeError::Jobs)?;
        let jobs = Arc::new(jobs);
        let shared = Shared {
            insight,
            identity,
            endpoint,
            inputs: sender,
            heard: heard_sender,
            datagrams: datagram_sender,
            store,
            holder,
            asks: answering::Asks::default(),
            stopping,
            quiet: quiet::Quiet::default(),
            channels,
            syncs: remote::sync::Server::new(consent),
            jobs,
        };
        Ok(Node {
            shared: Arc::new(shared),
            engine,
            folders,
            inputs,
            heard,
            datagrams,
            socket,
            listener: Some(listener),
            options,
            doubtful,
            stop,
            ready,
        })
    }

    /// What to tell whoever waits for it.
    #[must_use]
    pub fn ready(&self) -> Ready {
        self.ready
    }

    /// Its channels, for those who serve them otherwise.
    #[must_use]
    pub fn channels(&self) -> Arc<Hub> {
        Arc::clone(&self.shared.channels)
    }

    /// What it can tell of itself while it runs.
    #[must_use]
    pub fn insight(&self) -> Arc<insight::Insight> {
        Arc::clone(&self.shared.insight)
    }

    /// Runs until `stop` completes, then says goodbye, finishes what is being written and ends.
    ///
    /// # Errors
    /// When a part that everything needs ends by itself.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        let hearing = tokio::spawn(hearing::hear(Arc::clone(&self.shared), Arc::clone(&self.socket)));
        let listener = self.listener.take().ok_or(NodeError::Internal("the listener"))?;
        let answering = tokio::spawn(answering::answer(Arc::clone(&self.shared), listener));
        let scrub = scrub::Scrub::new(Arc::clone(&self.shared), self.options.scrub_every);
        let scrubbing = tokio::spawn(scrub.run(std::mem::take(&mut self.doubtful)));
        let sweeping = tokio::spawn(Arc::clone(&self.shared.channels).sweep());
        let mail = mail::Mail::start(&self.shared, &self.options, self.folders.clone());
        let mut performer = effects::Performer::new(
            Arc::clone(&self.shared),
            mail,
            Arc::clone(&self.socket),
            &self.options,
            self.ready.tcp,
        );
        let mut stop = std::pin::pin!(stop);
        performer.query();
        loop {
            let wakeup = Duration::from_millis(self.engine.next_wakeup().since(clock::now()));
            // In no fixed order: none of the queues may keep the others waiting.
            let input = tokio::select! {
                () = &mut stop => break,
                Some(input) = self.inputs.recv() => input,
                Some(input) = self.heard.recv() => input,
                Some(input) = self.datagrams.recv() => input,
                () = tokio::time::sleep(wakeup) => Input::Tick,
            };
            self.apply(input, &mut performer);
            performer.housekeep(&self.engine);
            if let Some(congestion) = performer.new_congestion() {
                self.apply(Input::Congested(congestion), &mut performer);
            }
        }
        self.stop.send_replace(true);
        let jobs = Arc::clone(&self.shared.jobs);
        let ending = tokio::spawn(async move { jobs.stop(JOBS_STOP_GRACE).await });
        performer.goodbye(&self.engine).await;
        answering.abort();
        hearing.abort();
        scrubbing.abort();
        sweeping.abort();
        self.wind_down(&mut performer).await;
        let _ = ending.await;
        performer.end().await;
        let store = self.shared.store.clone();
        if let Err(error) = blocking(move || store.end_well()).await? {
            tracing::warn!(%error, "the end of this run could not be written down");
        }
        Ok(())
    }

    fn apply(&mut self, input: Input, performer: &mut effects::Performer) {
        self.engine.handle(clock::now(), input);
        while let Some(effect) = self.engine.next_effect() {
            performer.perform(effect, &self.engine);
        }
    }

    /// Goes on applying what finishes until all transfers are done, or the time is up.
    async fn wind_down(&mut self, performer: &mut effects::Performer) {
        let deadline = clock::now().plus(u64::try_from(STOP_TIMEOUT.as_millis()).unwrap_or(5_000) * 4 / 5);
        while clock::now() < deadline && self.shared.holder.transfers.load(Ordering::Relaxed) > 0 {
            let step = Duration::from_millis(50);
            if let Ok(Some(input)) = tokio::time::timeout(step, self.inputs.recv()).await {
                self.apply(input, performer);
            }
        }
    }
}

/// Runs something that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| NodeError::Internal("a disk task"))
}

/// The wanted port, or another free one when it is taken.
async fn listen(bind: Option<Ipv4Addr>, port: u16) -> Result<TcpListener, NodeError> {
    let ip = IpAddr::V4(bind.unwrap_or(Ipv4Addr::UNSPECIFIED));
    let wanted = SocketAddr::new(ip, port);
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let any = SocketAddr::new(ip, 0);
            TcpListener::bind(any).await.map_err(|source| NodeError::Listen { address: any, source })
        }
        Err(source) => Err(NodeError::Listen { address: wanted, source }),
    }
}

/// A folder that was used with a cluster key is not opened to everybody by leaving the key out.
fn keep_closed(store: &Store, secured: bool) -> Result<(), NodeError> {
    let closed = store.meta_get(CLOSED_KEY)?.is_some();
    if closed && !secured {
        return Err(NodeError::KeyMissing);
    }
    if secured && !closed {
        store.meta_set(CLOSED_KEY, vec![1])?;
    }
    Ok(())
}

fn load_lineage(store: &Store) -> Result<Vec<Lineage>, NodeError> {
    if let Some(bytes) = store.meta_get(LINEAGE_KEY)? {
        return crate::wire::record::decode_record(&bytes).map_err(NodeError::Lineage);
    }
    let lineage = vec![Lineage(clock::entropy()?)];
    store.meta_set(LINEAGE_KEY, crate::wire::record::encode_record(&lineage))?;
    Ok(lineage)
}

fn make_engine(
    options: &Options,
    identity: &Identity,
    instance: InstanceId,
    store: &Store,
    (loaded, mailbox): (Loaded, Mailbox),
    lineage: Vec<Lineage>,
    tcp_port: u16,
) -> Result<Engine, NodeError> {
    let context = CausalContext::from_wire(&loaded.context)
        .map_err(|error| NodeError::Catalog(error.to_string().into()))?;
    let catalog =
        Catalog::load(context, loaded.names).map_err(|error| NodeError::Catalog(error.to_string().into()))?;
    let config = Config {
        node: identity.node,
        instance,
        generation: loaded.generation,
        disk: store.disk(),
        machine: options.machine.clone(),
        name: options.name.as_str().into(),
        tcp_port,
        http_port: options.http_port,
        pin: options.pin,
        heal_after_ms: u64::try_from(options.heal_after.as_millis()).unwrap_or(u64::MAX),
        keep_removed_ms: u64::try_from(options.keep_removed.as_millis()).unwrap_or(u64::MAX),
        secured: identity.keys.secured,
        version: env!("CARGO_PKG_VERSION").into(),
        // Its own address is remembered, too.
        met_others: addresses::Addresses::load(&options.data_dir).nodes.len() > 1,
    };
    let draining = store.meta_get(DRAINING_KEY)?.is_some_and(|bytes| bytes == [1]);
    let held = loaded.contents.into_iter().map(|(content, _)| content).collect();
    let restored = Restored { catalog, held, term: loaded.term, lineage, draining, mailbox };
    let mut engine = Engine::new(clock::now(), config, restored);
    engine.handle(clock::now(), Input::WallClock { wall_ms: clock::wall().0 });
    engine.handle(clock::now(), effects::usage(store));
    Ok(engine)
}
