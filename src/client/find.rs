//! Finds the proxy: asks on every interface and dials what is remembered, all at once; whoever
//! proves itself first wins. Shell.

use super::{Access, ClientError};
use crate::clock::{self, Moment};
use crate::discovery::socket::DiscoverySocket;
use crate::identity::{Identity, open_tags};
use crate::node::addresses::Addresses;
use crate::roles::election;
use crate::transfer::connection::{Connection, ConnectionError, Endpoint};
use crate::wire::datagram::{Datagram, encode_datagram, open_datagram};
use crate::wire::message::Purpose;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A node that answers; it leads, or knows who does.
pub struct Found {
    /// The connection to it.
    pub connection: Connection,
}

/// How often the question is repeated: broadcasts get lost.
const QUERY_INTERVAL: Duration = Duration::from_millis(400);
/// Nodes that do not lead are dialled after this long without a proxy: they may know it.
const FOLLOWERS_AFTER_MS: u64 = 1_200;
/// With none of ours heard for this long, but some with another key, it is the key.
const OTHER_KEY_AFTER_MS: u64 = 3_000;

struct Search<'a> {
    identity: &'a Identity,
    endpoint: &'a Arc<Endpoint>,
    attempts: JoinSet<(SocketAddr, Result<Connection, ConnectionError>)>,
    tried: BTreeSet<SocketAddr>,
    followers: BTreeSet<SocketAddr>,
    nodes_heard: bool,
    /// Nodes with our cluster's name and another key: whether theirs is the open one.
    other_key: Option<bool>,
    open_tag: [u8; 8],
}

impl Search<'_> {
    fn dial(&mut self, address: SocketAddr) {
        if self.tried.insert(address) {
            let endpoint = Arc::clone(self.endpoint);
            self.attempts.spawn(async move {
                (address, Connection::dial(address, &endpoint, Purpose::Command, None).await)
            });
        }
    }

    fn hear(&mut self, bytes: &[u8], source: IpAddr) {
        let Ok(sealed) = open_datagram(bytes) else {
            return;
        };
        let ours = self.identity.keys.tags;
        if sealed.tags.name != ours.name {
            return;
        }
        if sealed.tags.key != ours.key {
            self.other_key = Some(sealed.tags.key == self.open_tag);
            return;
        }
        if !self.identity.keys.check(&sealed.sealed_bytes(), &sealed.seal) {
            return;
        }
        if let Ok(Datagram::Beacon(presence)) = sealed.datagram() {
            self.nodes_heard = true;
            let address = SocketAddr::new(source, presence.tcp_port);
            if election::leads(&presence) {
                self.dial(address);
            } else {
                self.followers.insert(address);
            }
        }
    }
}

/// Looks for a node that answers until `deadline`.
pub(super) async fn find(
    access: &Access,
    identity: &Identity,
    endpoint: &Arc<Endpoint>,
    deadline: Moment,
) -> Result<Found, ClientError> {
    let mut search = Search {
        identity,
        endpoint,
        attempts: JoinSet::new(),
        tried: BTreeSet::new(),
        followers: BTreeSet::new(),
        nodes_heard: false,
        other_key: None,
        open_tag: open_tags(&access.cluster).key,
    };
    let remembered = Addresses::load(&access.data_dir);
    for address in remembered.proxy.iter().chain(remembered.nodes.iter().take(8)) {
        search.dial(*address);
    }
    let socket = DiscoverySocket::open(access.bind, access.port);
    let network = socket.as_ref().err().map(ToString::to_string);
    let socket = socket.ok();
    for peer in &access.peers {
        for address in crate::node::resolve(peer).await {
            search.dial(address);
        }
    }
    let started = clock::now();
    let mut query = tokio::time::interval(QUERY_INTERVAL);
    loop {
        let now = clock::now();
        if now.since(started) >= FOLLOWERS_AFTER_MS {
            for address in std::mem::take(&mut search.followers) {
                search.dial(address);
            }
        }
        let silent = search.attempts.is_empty() && !search.nodes_heard;
        let other_key = search.other_key.filter(|_| silent);
        if now >= deadline || (other_key.is_some() && now.since(started) >= OTHER_KEY_AFTER_MS) {
            return Err(not_found(access, identity, &search, network));
        }
        tokio::select! {
            Some(attempt) = search.attempts.join_next() => match attempt {
                Ok((_, Ok(connection))) => {
                    remember(access, &remembered, connection.address());
                    return Ok(Found { connection });
                }
                Ok((_, Err(ConnectionError::OtherKey { .. }))) => {
                    search.other_key.get_or_insert(false);
                }
                // It may lead by the time it is heard again.
                Ok((address, Err(_))) => {
                    search.tried.remove(&address);
                }
                Err(_) => {}
            },
            (bytes, source) = hear(socket.as_ref()) => search.hear(&bytes, source),
            _ = query.tick() => {
                if let Some(socket) = &socket {
                    ask(socket, identity);
                }
            }
        }
    }
}

async fn hear(socket: Option<&DiscoverySocket>) -> (bytes::Bytes, IpAddr) {
    match socket {
        Some(socket) => {
            let (bytes, source) = socket.recv().await;
            (bytes::Bytes::from(bytes), IpAddr::V4(*source.ip()))
        }
        None => std::future::pending().await,
    }
}

fn ask(socket: &DiscoverySocket, identity: &Identity) {
    let nonce = clock::entropy().map_or(0, u64::from_le_bytes);
    let keys = &identity.keys;
    let bytes = encode_datagram(&Datagram::Query { nonce }, keys.tags, |bytes| keys.seal(bytes));
    socket.send(&bytes);
}

fn not_found(
    access: &Access,
    identity: &Identity,
    search: &Search<'_>,
    network: Option<String>,
) -> ClientError {
    match search.other_key {
        Some(theirs_open) if !search.nodes_heard => {
            ClientError::OtherKey { secured: identity.keys.secured, theirs_open }
        }
        _ => ClientError::NoProxy { timeout: access.timeout, nodes_heard: search.nodes_heard, network },
    }
}

/// Remembers who answered, if this folder has no node of its own that does it better.
fn remember(access: &Access, remembered: &Addresses, address: SocketAddr) {
    let known = remembered.proxy.contains(&address) || remembered.nodes.contains(&address);
    if !known && access.data_dir.is_dir() && !access.data_dir.join("catalog.redb").exists() {
        let mut addresses = remembered.clone();
        addresses.proxy.insert(0, address);
        addresses.proxy.truncate(4);
        // A hint: if it cannot be kept, the next command asks the LAN again.
        let _ = addresses.save(&access.data_dir);
    }
}
