//! What attackers have: sockets, raw TLS, and identities that are valid in the victim's cluster.

use crate::node::{Lan, Node, entropy};
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use thorp::discovery::socket::DiscoverySocket;
use thorp::identity::{ClusterSecret, Identity, peer_node_id};
use thorp::transfer::connection::{Connection, Endpoint, FrameReader, FrameWriter};
use thorp::types::{DiskId, DiskState, InstanceId, Lineage, MachineId, NodeId, Pin, Presence, Term};
use thorp::wire::datagram::{Datagram, encode_datagram, open_datagram};
use thorp::wire::message::{Hello, Message, Purpose, Reply, Request};
use thorp::wire::{Encode, PROTOCOL_VERSION, encode};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Runs an attack.
pub fn attack<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// Milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The victim's cluster uuid, which every beacon tells.
pub fn lineage_of(lan: &Lan, node: &Node) -> Lineage {
    let insider = Insider::new(lan, Lineage::default());
    attack(async {
        let (mut reader, mut writer) = insider.dial(node, Purpose::Command).await.split();
        match ask(&mut reader, &mut writer, &Request::Status).await {
            Some(Reply::Status(status)) => status.lineage,
            other => panic!("{other:?}"),
        }
    })
}

/// Asks and hears the answer, if there is one.
pub async fn ask(reader: &mut FrameReader, writer: &mut FrameWriter, request: &Request) -> Option<Reply> {
    writer.write(request, &[]).await.ok()?;
    writer.flush().await.ok()?;
    let read = tokio::time::timeout(ms(20_000), reader.read::<Reply>()).await.expect("an answer in time");
    read.ok()?.map(|(reply, _)| reply)
}

/// Somebody who has the cluster's key and a node key of their own.
pub struct Insider {
    pub identity: Identity,
    pub instance: InstanceId,
    pub lineage: Lineage,
    /// Where they say that they take connections; nobody does unless a test listens there.
    pub tcp_port: u16,
    endpoint: Arc<Endpoint>,
}

impl Insider {
    pub fn new(lan: &Lan, lineage: Lineage) -> Insider {
        Insider::with_secret(&lan.cluster, &lan.secret(), lineage)
    }

    pub fn with_secret(cluster: &str, secret: &ClusterSecret, lineage: Lineage) -> Insider {
        let identity = Identity::ephemeral(None, cluster, secret).expect("an identity");
        let instance = InstanceId(entropy());
        let endpoint = Endpoint {
            client: Arc::clone(&identity.tls.client),
            server: Arc::clone(&identity.tls.server),
            hello: Hello {
                protocol: PROTOCOL_VERSION,
                node: identity.node,
                instance,
                machine: MachineId::parse("insider").expect("a label"),
                purpose: Purpose::Member,
                lineage: vec![lineage],
                tcp_port: 9,
            },
            peer_node_id,
        };
        Insider { identity, instance, lineage, tcp_port: 9, endpoint: Arc::new(endpoint) }
    }

    pub fn id(&self) -> NodeId {
        self.identity.node
    }

    pub fn hello(&self, purpose: Purpose) -> Hello {
        Hello { purpose, ..self.endpoint.hello.clone() }
    }

    /// A presence like any other: of a node that keeps the catalog but stores nothing.
    pub fn presence(&self, sequence: u64) -> Presence {
        Presence {
            node: self.id(),
            instance: self.instance,
            generation: 1,
            sequence,
            machine: MachineId::parse("insider").expect("a label"),
            name: "insider".into(),
            tcp_port: self.tcp_port,
            http_port: 0,
            pin: Pin::Client,
            storage: false,
            draining: false,
            term: Term::default(),
            proxy: None,
            disk: DiskId::default(),
            disk_state: DiskState::Ok,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
            contents: 0,
            inventory_digest: 0,
            catalog_digest: 0,
            lineage: vec![self.lineage],
            established: true,
            wall_ms: 0,
            version: "0".into(),
        }
    }

    /// A datagram with the right seal.
    pub fn seal(&self, datagram: &Datagram) -> Vec<u8> {
        let keys = &self.identity.keys;
        encode_datagram(datagram, keys.tags, |bytes| keys.seal(bytes))
    }

    pub fn beacon(&self, presence: Presence) -> Vec<u8> {
        self.seal(&Datagram::Beacon(Box::new(presence)))
    }

    /// A proven connection.
    pub async fn dial(&self, node: &Node, purpose: Purpose) -> Connection {
        self.try_dial(node, purpose).await.expect("a connection")
    }

    pub async fn try_dial(&self, node: &Node, purpose: Purpose) -> Option<Connection> {
        Connection::dial(node.tcp, &self.endpoint, purpose, Some(node.id)).await.ok()
    }

    /// A member's link to the node, announced.
    pub async fn join(&self, node: &Node) -> FrameWriter {
        self.join_as(node, self.presence(1)).await
    }

    pub async fn join_as(&self, node: &Node, presence: Presence) -> FrameWriter {
        let (_, mut writer) = self.dial(node, Purpose::Member).await.split();
        writer.write(&Message::Announce(Box::new(presence)), &[]).await.expect("announced");
        writer.flush().await.expect("announced");
        writer
    }

    /// TLS with this identity and nothing said yet.
    pub async fn tls(&self, node: &Node) -> TlsStream<TcpStream> {
        tls(node.tcp, Arc::clone(&self.identity.tls.client)).await.expect("a handshake")
    }

    /// TLS and both hellos; from here on the bytes are the attacker's.
    pub async fn raw(&self, node: &Node, purpose: Purpose) -> TlsStream<TcpStream> {
        let mut stream = self.tls(node).await;
        stream.write_all(&frame(&self.hello(purpose), &[])).await.expect("said");
        stream.flush().await.expect("said");
        stream
    }
}

/// A TLS handshake with any configuration.
pub async fn tls(
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("thorp").expect("a name"), tcp).await
}

/// A whole frame.
pub fn frame<T: Encode>(head: &T, payload: &[u8]) -> Vec<u8> {
    frame_of(&encode(head), payload)
}

/// A frame whose head is any bytes.
pub fn frame_of(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = prefix(head.len() as u32, payload.len() as u32);
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(payload);
    bytes
}

/// The eight bytes before a frame.
pub fn prefix(head: u32, payload: u32) -> Vec<u8> {
    [head.to_le_bytes(), payload.to_le_bytes()].concat()
}

/// Tells a member all of `messages`; it may hang up at any of them.
pub async fn tell(writer: &mut FrameWriter, messages: impl IntoIterator<Item = Message>) -> bool {
    writer.set_timeout(Some(ms(10_000)));
    for message in messages {
        if writer.write(&message, &[]).await.is_err() {
            return false;
        }
    }
    writer.flush().await.is_ok()
}

/// Whether the other side closes this within `limit`.
pub async fn is_closed(stream: &mut TlsStream<TcpStream>, limit: Duration) -> bool {
    use tokio::io::AsyncReadExt;
    let mut buffer = [0; 4096];
    let draining = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(limit, draining).await.is_ok()
}

/// The digests of catalogs that beacons told of within a little more than a second.
pub async fn digests_heard(insider: &Insider, lan: &Lan) -> BTreeMap<NodeId, u64> {
    let socket = DiscoverySocket::open(Some(Ipv4Addr::LOCALHOST), lan.port).expect("a socket");
    let mut digests = BTreeMap::new();
    let hearing = async {
        loop {
            let (bytes, _) = socket.recv().await;
            let Ok(sealed) = open_datagram(&bytes) else { continue };
            let right = insider.identity.keys.check(&sealed.sealed_bytes(), &sealed.seal);
            if let (true, Ok(Datagram::Beacon(presence))) = (right, sealed.datagram()) {
                digests.insert(presence.node, presence.catalog_digest);
            }
        }
    };
    let _: Result<(), _> = tokio::time::timeout(ms(1_300), hearing).await;
    digests
}

/// A socket for datagrams to the node.
pub async fn udp(lan: &Lan) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(("127.0.0.1", lan.port)).await.expect("connected");
    socket
}

/// Sends, and lets the victim have a little of the machine now and then.
pub async fn send_all(socket: &UdpSocket, datagrams: impl IntoIterator<Item = Vec<u8>>) {
    for (number, datagram) in datagrams.into_iter().enumerate() {
        drop(socket.send(&datagram).await);
        if number % 64 == 63 {
            tokio::time::sleep(ms(1)).await;
        }
    }
}
