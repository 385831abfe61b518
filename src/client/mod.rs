//! What a command does on the network: finds the proxy, asks it, puts and gets contents. Shell.
//!
//! A command opens no database and sends no beacon; it is a client for as long as it runs, and no
//! member. Invariant: what a command is told of a change is what the proxy said is durable; a
//! connection that broke after a change was asked for is reported as "not known".

pub mod channel;
mod collect;
mod find;
pub mod get;
pub mod put;
pub mod run;
pub mod sync;
pub mod verify;

pub use find::Found;

use crate::clock::{self, Moment};
use crate::discovery::socket::SocketError;
use crate::identity::{ClusterKeys, ClusterSecret, Identity, IdentityError, peer_node_id};
use crate::limits::ADDRESSES_PER_NODE_MAX;
use crate::node::addresses::Addresses;
use crate::transfer::connection::{ConnectionError, Endpoint, FrameReader, FrameWriter, dial_any};
use crate::types::{InstanceId, MachineId, NodeId, NodeRoute};
use crate::wire::PROTOCOL_VERSION;
use crate::wire::message::{ErrorCode, Hello, Purpose, Reply, Request};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a command reaches its cluster.
#[derive(Clone, Debug)]
pub struct Access {
    /// Shared with the node on this machine, if there is one.
    pub data_dir: PathBuf,
    /// Which cluster.
    pub cluster: String,
    /// Its key.
    pub secret: ClusterSecret,
    /// Only this address and its network.
    pub bind: Option<Ipv4Addr>,
    /// Discovery port.
    pub port: u16,
    /// Also look there.
    pub peers: Vec<String>,
    /// How long to look for a proxy.
    pub timeout: Duration,
    /// The machine this command runs on.
    pub machine: MachineId,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody leads, as far as can be heard.
    #[error("no proxy was found within {} s", timeout.as_secs_f32())]
    NoProxy {
        /// How long it was looked for.
        timeout: Duration,
        /// Nodes were heard, but none that leads or knows who does.
        nodes_heard: bool,
        /// Why not even the network could be used, if so.
        network: Option<String>,
    },
    /// The nodes in sight have another cluster key.
    #[error("the thorp on this LAN has another cluster key")]
    OtherKey {
        /// Whether this command has a key at all.
        secured: bool,
        /// Whether those in sight have none.
        theirs_open: bool,
    },
    /// The keys cannot be used.
    #[error("the keys cannot be used")]
    Identity(#[from] IdentityError),
    /// No connection to a node that is needed.
    #[error("a connection failed")]
    Connection(#[from] ConnectionError),
    /// The proxy refused.
    #[error("{message}")]
    Refused {
        /// Why.
        code: ErrorCode,
        /// In words.
        message: String,
    },
    /// A change was asked for and the answer did not come.
    #[error("the connection broke before the answer came: the change may or may not have been made")]
    Unknown,
    /// The proxy answered something else than was asked.
    #[error("the proxy gave an answer that makes no sense")]
    Nonsense,
    /// A local file.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system refuses what every program needs.
    #[error("the system refuses what every program needs")]
    System(#[from] std::io::Error),
    /// The discovery port.
    #[error("the discovery port cannot be used")]
    Socket(#[from] SocketError),
    /// A content could not be had whole.
    #[error("`{name}` cannot be had")]
    Get {
        /// Which file.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A command's connection to the proxy.
pub struct Session {
    access: Access,
    identity: Arc<Identity>,
    endpoint: Arc<Endpoint>,
    link: Option<Link>,
    /// It speaks for the node of the data folder.
    of_node: bool,
}

struct Link {
    reader: FrameReader,
    writer: FrameWriter,
    proxy: NodeId,
    ip: IpAddr,
}

/// Longest wait for an answer: a pull that a put waits for may move many gigabytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(900);
/// Pause before a proxy that is not ready is asked again, and before another is looked for.
const AGAIN: Duration = Duration::from_millis(100);

impl Session {
    /// Reads the keys. Nothing is dialled before something is asked.
    ///
    /// # Errors
    /// When the keys cannot be used.
    pub fn new(access: Access) -> Result<Session, ClientError> {
        let cache = access.data_dir.is_dir().then_some(access.data_dir.as_path());
        let identity = Identity::ephemeral(cache, &access.cluster, &access.secret)?;
        Session::with(access, identity)
    }

    fn with(access: Access, identity: Identity) -> Result<Session, ClientError> {
        let endpoint = Endpoint {
            client: Arc::clone(&identity.tls.client),
            server: Arc::clone(&identity.tls.server),
            hello: Hello {
                protocol: PROTOCOL_VERSION,
                node: identity.node,
                instance: InstanceId(u64::from_le_bytes(clock::entropy()?)),
                machine: access.machine.clone(),
                purpose: Purpose::Command,
                lineage: Vec::new(),
                tcp_port: 0,
            },
            peer_node_id,
        };
        Ok(Session {
            access,
            identity: Arc::new(identity),
            endpoint: Arc::new(endpoint),
            link: None,
            of_node: false,
        })
    }

    /// With the identity of the node of the data folder, if there is one, whether it runs or not: so that others can
    /// tell who asks. Else as [`Session::new`].
    ///
    /// # Errors
    /// When the keys cannot be used.
    pub fn identified(access: Access) -> Result<Session, ClientError> {
        if !Identity::is_made(&access.data_dir) {
            return Session::new(access);
        }
        let identity = Identity::load(&access.data_dir, &access.cluster, &access.secret)?;
        Session::with(access, identity)
    }

    /// As the node of the data folder, and connected to it, if one runs there; else as [`Session::new`].
    ///
    /// # Errors
    /// When the keys cannot be used.
    pub async fn of_own_node(access: Access) -> Result<Session, ClientError> {
        if Identity::is_made(&access.data_dir) {
            let identity = Identity::load(&access.data_dir, &access.cluster, &access.secret)?;
            let mut session = Session::with(access.clone(), identity)?;
            let remembered = Addresses::load(&access.data_dir).nodes;
            let own = |address: &SocketAddr| address.ip().is_loopback() || access.bind.is_some();
            let near: Vec<SocketAddr> = remembered.into_iter().filter(own).collect();
            let node = Some(session.identity.node);
            if let Ok(connection) = dial_any(&near, &session.endpoint, Purpose::Command, node).await {
                session.use_connection(Found { connection });
                session.of_node = true;
                return Ok(session);
            }
        }
        Session::new(access)
    }

    /// Whether it speaks for the node of the data folder, which runs.
    #[must_use]
    pub fn is_of_node(&self) -> bool {
        self.of_node
    }

    /// Who asks, as TLS proves it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The keys of its cluster.
    #[must_use]
    pub fn keys(&self) -> &ClusterKeys {
        &self.identity.keys
    }

    /// What transfers of this command use.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Another session of the same command, for work at the same time.
    #[must_use]
    pub fn another(&self) -> Session {
        Session {
            access: self.access.clone(),
            identity: Arc::clone(&self.identity),
            endpoint: Arc::clone(&self.endpoint),
            link: None,
            of_node: self.of_node,
        }
    }

    /// Asks the proxy, finding it first if need be. A proxy that is new is asked again until it is
    /// ready; one that no longer leads is left for its successor. A refusal is an error.
    ///
    /// # Errors
    /// When no proxy is found in time, it refuses, or the outcome of a change is not known.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let deadline = clock::now().plus(millis(self.access.timeout));
        // A change was asked for, and whether it was made is not known.
        let mut open = false;
        loop {
            let reply = match self.ask_once(request, deadline).await {
                Ok(reply) => reply,
                Err(ClientError::Connection(error)) => {
                    // With no link left the question was never sent.
                    open |= self.link.take().is_some() && changes(request);
                    if open && !repeatable(request) {
                        return Err(ClientError::Unknown);
                    }
                    if clock::now() >= deadline {
                        return Err(if open { ClientError::Unknown } else { error.into() });
                    }
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(_) if open => return Err(ClientError::Unknown),
                Err(error) => return Err(error),
            };
            match reply {
                Reply::NotProxy { proxy } => match self.follow(proxy, deadline).await {
                    Err(_) if open => return Err(ClientError::Unknown),
                    followed => followed?,
                },
                Reply::Failed { code: ErrorCode::NotReady, .. } if clock::now() < deadline => {
                    tokio::time::sleep(AGAIN).await;
                }
                // Refused this time; whether it was made the time before is not known.
                Reply::Failed { .. } if open => return Err(ClientError::Unknown),
                Reply::Failed { code, message } => {
                    return Err(ClientError::Refused { code, message: message.into() });
                }
                reply => return Ok(reply),
            }
        }
    }

    async fn ask_once(&mut self, request: &Request, deadline: Moment) -> Result<Reply, ClientError> {
        if self.link.is_none() {
            let found = find::find(&self.access, &self.identity, &self.endpoint, deadline).await?;
            self.use_connection(found);
        }
        let Some(link) = &mut self.link else {
            return Err(ClientError::Nonsense);
        };
        link.reader.set_timeout(Some(ANSWER_TIMEOUT));
        link.writer.write(request, &[]).await?;
        link.writer.flush().await?;
        match link.reader.read::<Reply>().await? {
            Some((reply, _)) => Ok(reply),
            None => Err(ClientError::Connection(ConnectionError::Broken {
                address: link.reader.address(),
                source: std::io::ErrorKind::UnexpectedEof.into(),
            })),
        }
    }

    fn use_connection(&mut self, found: Found) {
        let (proxy, ip) = (found.connection.peer().node, found.connection.address().ip());
        let (reader, writer) = found.connection.split();
        self.link = Some(Link { reader, writer, proxy, ip });
    }

    /// Goes to the proxy that a node named; with none named, looks again a little later.
    async fn follow(&mut self, proxy: Option<NodeRoute>, deadline: Moment) -> Result<(), ClientError> {
        let via = self.link.take().map(|link| link.ip);
        if let Some(route) = proxy {
            let route = reachable(route, via);
            let dialled =
                dial_any(&route.addresses, &self.endpoint, Purpose::Command, Some(route.node)).await;
            if let Ok(connection) = dialled {
                self.use_connection(Found { connection });
                return Ok(());
            }
        }
        if clock::now() >= deadline {
            return Err(ClientError::NoProxy {
                timeout: self.access.timeout,
                nodes_heard: true,
                network: None,
            });
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }

    /// The routes of a reply, as they are good from here: a loopback address means the machine that
    /// the reply came from, and the proxy is where it was dialled.
    #[must_use]
    pub fn localise(&self, routes: Vec<NodeRoute>) -> Vec<NodeRoute> {
        let (proxy, ip) = match &self.link {
            Some(link) => (Some((link.proxy, link.reader.address())), Some(link.ip)),
            None => (None, None),
        };
        let mut routes: Vec<NodeRoute> = routes.into_iter().map(|route| reachable(route, ip)).collect();
        for route in &mut routes {
            if let Some((node, address)) = proxy
                && route.node == node
                && !route.addresses.contains(&address)
            {
                route.addresses.truncate(ADDRESSES_PER_NODE_MAX);
                route.addresses.push(address);
            }
        }
        routes
    }
}

fn reachable(mut route: NodeRoute, via: Option<IpAddr>) -> NodeRoute {
    if let Some(via) = via.filter(|via| !via.is_loopback()) {
        for address in &mut route.addresses {
            if address.ip().is_loopback() {
                address.set_ip(via);
            }
        }
        route.addresses.dedup();
    }
    route
}

/// Whether it changes something.
fn changes(request: &Request) -> bool {
    match request {
        Request::Commit { .. }
        | Request::SetReplicas { .. }
        | Request::Remove { .. }
        | Request::Restore { .. }
        | Request::Drain { .. }
        | Request::Merge { .. }
        | Request::Post { .. } => true,
        Request::PutOpen { .. }
        | Request::Extend { .. }
        | Request::List { .. }
        | Request::Why { .. }
        | Request::Watch { .. }
        | Request::Status => false,
    }
}

/// Whether asking twice does no more than asking once.
fn repeatable(request: &Request) -> bool {
    match request {
        Request::PutOpen { .. }
        | Request::Extend { .. }
        | Request::Commit { .. }
        | Request::List { .. }
        | Request::SetReplicas { .. }
        | Request::Drain { .. }
        | Request::Merge { .. }
        | Request::Why { .. }
        | Request::Post { .. } // its letters have ids
        | Request::Watch { .. }
        | Request::Status => true,
        Request::Remove { .. } | Request::Restore { .. } => false,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
