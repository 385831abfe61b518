//! Nodes on loopback, with real TLS and real stores, for the tests of this folder.

use super::chain::{ChainError, ChainSender, PutResult, Source};
use super::connection::{Connection, Endpoint};
use super::doubts::Doubts;
use super::holder::{HolderContext, serve};
use super::manifest::chunk_hash;
use crate::clock::Rng;
use crate::identity::{ClusterSecret, Identity, peer_node_id};
use crate::store::Store;
use crate::types::{ContentId, InstanceId, MachineId, NodeId, NodeRoute};
use crate::wire::PROTOCOL_VERSION;
use crate::wire::message::{Hello, Purpose};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

pub(super) fn endpoint(key: &str) -> Arc<Endpoint> {
    let secret = ClusterSecret::from_text(key, "a test").expect("valid");
    let identity = Identity::ephemeral(None, "test", &secret).expect("made");
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        node: identity.node,
        instance: InstanceId(1),
        machine: MachineId::parse("machine").expect("valid"),
        purpose: Purpose::Transfer,
        lineage: Vec::new(),
        tcp_port: 0,
    };
    Arc::new(Endpoint { client: identity.tls.client, server: identity.tls.server, hello, peer_node_id })
}

pub(super) const KEY: &str = "correct horse battery";

/// A node that serves transfers until it is dropped or killed.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) route: NodeRoute,
    pub(super) store: Store,
    pub(super) context: Arc<HolderContext>,
    pub(super) stored: Arc<Mutex<Vec<(ContentId, u64)>>>,
    pub(super) bad: Arc<Mutex<Vec<ContentId>>>,
    folder: TempDir,
    serving: JoinHandle<()>,
}

impl Node {
    pub(super) async fn start() -> Node {
        Node::with_capacity(None).await
    }

    pub(super) async fn with_capacity(capacity: Option<u64>) -> Node {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _) = Store::open(&folder.path().join("data"), capacity).expect("opened");
        let endpoint = endpoint(KEY);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let id = endpoint.hello.node;
        let stored = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&stored);
        let bad = Arc::new(Mutex::new(Vec::new()));
        let condemned = Arc::clone(&bad);
        let context = Arc::new(HolderContext {
            store: store.clone(),
            endpoint,
            node: id,
            on_stored: Box::new(move |content, size| told.lock().expect("sound").push((content, size))),
            on_bad: Box::new(move |content| condemned.lock().expect("sound").push(content)),
            transfers: AtomicU32::new(0),
            serving: super::holder::room_to_serve(),
            doubts: Doubts::default(),
            verifies: Semaphore::new(1),
        });
        let serving = tokio::spawn(accept_all(listener, Arc::clone(&context)));
        Node { id, route: route(id, address), store, context, stored, bad, folder, serving }
    }

    /// All its connections break.
    pub(super) async fn kill(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    /// The file in which a content lies.
    pub(super) fn file(&self, content: &ContentId) -> PathBuf {
        let id = content.to_string();
        self.folder.path().join("data/contents").join(&id[..2]).join(&id[2..])
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.route.addresses[0]
    }

    /// The bytes of a content that it holds.
    pub(super) fn bytes(&self, content: &ContentId) -> Vec<u8> {
        let size = self.store.holds(content).expect("held");
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let step = (size - bytes.len() as u64).min(1 << 20);
            let part = self.store.read(content, bytes.len() as u64, step as u32).expect("readable");
            bytes.extend_from_slice(&part);
        }
        bytes
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept_all(listener: TcpListener, context: Arc<HolderContext>) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.expect("accepts");
        let context = Arc::clone(&context);
        connections.spawn(async move {
            if let Ok(connection) = Connection::accept(tcp, &context.endpoint).await {
                let _ = serve(connection, context).await;
            }
        });
    }
}

pub(super) fn route(node: NodeId, address: SocketAddr) -> NodeRoute {
    let machine = MachineId::parse("machine").expect("valid");
    NodeRoute { node, name: "node".into(), machine, addresses: vec![address] }
}

/// A route to a node at an address where nobody listens.
pub(super) fn nowhere() -> NodeRoute {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    route(NodeId([9; 16]), listener.local_addr().expect("bound"))
}

/// The same node through a pipe that breaks once `limit` bytes have come from the node.
pub(super) async fn breaking(node: &Node, limit: u64) -> NodeRoute {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let route = route(node.id, listener.local_addr().expect("bound"));
    let target = node.address();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.expect("accepts");
        let mut far = TcpStream::connect(target).await.expect("connects");
        let (mut near_read, mut near_write) = near.split();
        let (far_read, mut far_write) = far.split();
        let mut limited = far_read.take(limit);
        tokio::select! {
            _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
            _ = tokio::io::copy(&mut limited, &mut near_write) => {}
        }
        let _ = near_write.shutdown().await;
    });
    route
}

pub(super) fn random(seed: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    Rng::seeded(seed).fill(&mut data);
    data
}

/// A string of known bytes is easier to compare by its hash when a test fails.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && chunk_hash(left) == chunk_hash(right)
}

/// Sends `sources` through one chain; results in the order of their tags.
pub(super) async fn put(
    chain: &mut ChainSender,
    sources: Vec<Source>,
) -> (Result<(), ChainError>, Vec<PutResult>) {
    let (to, from) = mpsc::channel(16);
    let (results_to, mut results) = mpsc::channel(16);
    let feeding = async move {
        for source in sources {
            if to.send(source).await.is_err() {
                break;
            }
        }
    };
    let collecting = async {
        let mut all = Vec::new();
        while let Some(result) = results.recv().await {
            all.push(result);
        }
        all.sort_by_key(|result: &PutResult| result.tag);
        all
    };
    let counted = Arc::new(AtomicU64::new(0));
    let progress = Arc::new(move |bytes: u64| {
        counted.fetch_add(bytes, Ordering::Relaxed);
    });
    let all = async {
        let (result, (), all) = tokio::join!(chain.put(from, results_to, progress), feeding, collecting);
        (result, all)
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("in time")
}

/// Puts one content on these nodes, and gives its id.
pub(super) async fn put_one(nodes: &[&Node], data: &[u8]) -> ContentId {
    let route: Vec<NodeRoute> = nodes.iter().map(|node| node.route.clone()).collect();
    let mut chain = ChainSender::open(&route, &endpoint(KEY)).await.expect("opened");
    let (result, mut results) =
        put(&mut chain, vec![Source::reader(1, std::io::Cursor::new(data.to_vec()))]).await;
    result.expect("put");
    let stored = results.pop().expect("one").outcome.expect("stored");
    assert_eq!(stored.nodes.len(), nodes.len());
    stored.content
}
