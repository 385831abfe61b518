//! Connections: TCP, TLS 1.3 and both hellos, then frames.
//!
//! Invariant: a [`Connection`] that exists has proved itself. The peer holds this cluster's key
//! (TLS), its certificate hashes to the node id in its hello, and it speaks our protocol version.
//! Nothing is allocated for a peer beyond what it has really sent: a length is checked before it
//! is believed, and the buffer grows with the bytes that arrive.

mod frames;

pub use frames::{FrameReader, FrameWriter};

use crate::limits::{
    CONNECTIONS_UNPROVEN_MAX, HANDSHAKE_TIMEOUT, HELLO_BYTES_MAX, IDLE_TIMEOUT, PEER_GONE_TIMEOUT,
    READ_BUFFER_BYTES,
};
use crate::types::{NodeId, NodeRoute};
use crate::wire::frame::{FRAME_PREFIX_BYTES, FramePrefix};
use crate::wire::message::{Hello, Purpose};
use crate::wire::{DecodeError, PROTOCOL_VERSION, decode, encode};
use bytes::{Buf, BytesMut};
use rustls::pki_types::{CertificateDer, ServerName};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Why a connection did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody takes connections there, or there is no way there.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system said; `ConnectionRefused` means that the machine is up.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("{address} does not answer")]
    Timeout {
        /// Where.
        address: SocketAddr,
    },
    /// The peer's certificate is not of our cluster key, or ours is not of the peer's.
    #[error("{address} has another cluster key")]
    OtherKey {
        /// Where.
        address: SocketAddr,
    },
    /// The handshake failed: no thorp answers there.
    #[error("{address} is not a thorp")]
    NotThorp {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Another node than expected answers, or the hello names another node than the certificate.
    #[error("node {found} answers at {address}, not {expected}")]
    WrongNode {
        /// Where.
        address: SocketAddr,
        /// Who should have answered.
        expected: NodeId,
        /// Who did.
        found: NodeId,
    },
    /// The peer speaks a protocol that we do not.
    #[error("{address} speaks protocol version {version}, this program {ours}", ours = PROTOCOL_VERSION)]
    OtherVersion {
        /// Where.
        address: SocketAddr,
        /// The peer's version.
        version: u8,
    },
    /// There is nothing to dial.
    #[error("no address of node {node} is known")]
    NoAddress {
        /// Whose.
        node: NodeId,
    },
    /// The connection broke.
    #[error("the connection to {address} broke")]
    Broken {
        /// To whom.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The peer sent something that is not a frame.
    #[error("{address} sent a frame that makes no sense")]
    Malformed {
        /// Who.
        address: SocketAddr,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

impl ConnectionError {
    /// How much the error tells: of several attempts the most telling one is reported.
    fn weight(&self) -> u8 {
        match self {
            ConnectionError::OtherKey { .. } => 6,
            ConnectionError::OtherVersion { .. } => 5,
            ConnectionError::Malformed { .. } | ConnectionError::Broken { .. } => 4,
            ConnectionError::WrongNode { .. } => 3,
            ConnectionError::NotThorp { .. } => 2,
            ConnectionError::Timeout { .. } => 1,
            ConnectionError::Unreachable { .. } | ConnectionError::NoAddress { .. } => 0,
        }
    }
}

/// What a node needs to dial and to answer: its TLS configurations and who it says it is.
pub struct Endpoint {
    /// For dialling: our certificate, and the cluster's as the only root.
    pub client: Arc<rustls::ClientConfig>,
    /// For answering: the same, and a client certificate is demanded.
    pub server: Arc<rustls::ServerConfig>,
    /// Our hello; the purpose is filled in for each connection.
    pub hello: Hello,
    /// The node id that a peer's certificates prove; `None` if they prove none.
    pub peer_node_id: fn(&[CertificateDer<'_>]) -> Option<NodeId>,
}

type Stream = TlsStream<BufReader<TcpStream>>;

/// A proven connection.
pub struct Connection {
    peer: Hello,
    address: SocketAddr,
    reader: FrameReader,
    writer: FrameWriter,
}

impl Connection {
    /// Connects to `address`, and says hello for `purpose`. With `expect`, only that node will do.
    /// Takes at most [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// One of each way this can fail, see [`ConnectionError`].
    pub async fn dial(
        address: SocketAddr,
        endpoint: &Endpoint,
        purpose: Purpose,
        expect: Option<NodeId>,
    ) -> Result<Connection, ConnectionError> {
        match timeout(HANDSHAKE_TIMEOUT, dial(address, endpoint, purpose, expect)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::Timeout { address }),
        }
    }

    /// Answers one accepted TCP connection. Takes at most [`HANDSHAKE_TIMEOUT`]: bytes that are
    /// not TLS, or none at all, do not hold it longer.
    ///
    /// # Errors
    /// One of each way this can fail, see [`ConnectionError`].
    pub async fn accept(tcp: TcpStream, endpoint: &Endpoint) -> Result<Connection, ConnectionError> {
        let address = tcp.peer_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        match timeout(HANDSHAKE_TIMEOUT, accept(tcp, address, endpoint)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::Timeout { address }),
        }
    }

    /// What the peer said of itself; its node id is proved.
    #[must_use]
    pub fn peer(&self) -> &Hello {
        &self.peer
    }

    /// The peer's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The two directions, to be used by two tasks.
    #[must_use]
    pub fn split(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }

    fn new(stream: Stream, address: SocketAddr, peer: Hello, buffer: BytesMut) -> Connection {
        let (read, write) = tokio::io::split(stream);
        let reader = FrameReader::new(read, buffer, address);
        let writer = FrameWriter::new(write, address);
        Connection { peer, address, reader, writer }
    }
}

/// Dials all of `addresses` at once; the first that proves itself wins, the others are dropped.
/// At most [`CONNECTIONS_UNPROVEN_MAX`] addresses are tried.
///
/// # Errors
/// The most telling of the errors: another key before another node before silence.
pub async fn dial_any(
    addresses: &[SocketAddr],
    endpoint: &Arc<Endpoint>,
    purpose: Purpose,
    expect: Option<NodeId>,
) -> Result<Connection, ConnectionError> {
    let mut attempts = JoinSet::new();
    for &address in addresses.iter().take(CONNECTIONS_UNPROVEN_MAX) {
        let endpoint = Arc::clone(endpoint);
        attempts.spawn(async move { Connection::dial(address, &endpoint, purpose, expect).await });
    }
    let mut telling = ConnectionError::NoAddress { node: expect.unwrap_or_default() };
    while let Some(result) = attempts.join_next().await {
        match result {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if error.weight() >= telling.weight() => telling = error,
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(telling)
}

/// Dials the node of `route` for a transfer, by all its addresses at once.
///
/// # Errors
/// As [`dial_any`].
pub async fn dial_route(route: &NodeRoute, endpoint: &Arc<Endpoint>) -> Result<Connection, ConnectionError> {
    dial_any(&route.addresses, endpoint, Purpose::Transfer, Some(route.node)).await
}

async fn dial(
    address: SocketAddr,
    endpoint: &Endpoint,
    purpose: Purpose,
    expect: Option<NodeId>,
) -> Result<Connection, ConnectionError> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|source| ConnectionError::Unreachable { address, source })?;
    prepare(&tcp);
    let name = ServerName::try_from("thorp")
        .map_err(|error| ConnectionError::NotThorp { address, source: io::Error::other(error) })?;
    let stream = TlsConnector::from(Arc::clone(&endpoint.client))
        .connect(name, BufReader::with_capacity(READ_BUFFER_BYTES, tcp))
        .await
        .map_err(|error| refused(address, error))?;
    let mut stream = TlsStream::from(stream);
    say_hello(&mut stream, address, endpoint, purpose).await?;
    let mut buffer = BytesMut::new();
    let hello = hear_hello(&mut stream, &mut buffer, address).await?;
    let proved = prove(&stream, address, endpoint, &hello)?;
    match expect {
        Some(expected) if expected != proved => {
            Err(ConnectionError::WrongNode { address, expected, found: proved })
        }
        _ if hello.purpose != purpose => Err(ConnectionError::Malformed {
            address,
            source: DecodeError::Malformed("the hello is for another purpose".into()),
        }),
        _ => Ok(Connection::new(stream, address, hello, buffer)),
    }
}

async fn accept(
    tcp: TcpStream,
    address: SocketAddr,
    endpoint: &Endpoint,
) -> Result<Connection, ConnectionError> {
    prepare(&tcp);
    let accepting = TlsAcceptor::from(Arc::clone(&endpoint.server))
        .accept(BufReader::with_capacity(READ_BUFFER_BYTES, tcp));
    let stream = match accepting.into_fallible().await {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            linger(tcp).await;
            return Err(refused(address, error));
        }
    };
    let mut stream = TlsStream::from(stream);
    let mut buffer = BytesMut::new();
    let heard = hear_hello(&mut stream, &mut buffer, address).await;
    // Our hello goes out even to another version, so that the other side can name the cause.
    let purpose = match &heard {
        Ok(hello) => hello.purpose,
        Err(ConnectionError::OtherVersion { .. }) => Purpose::Member,
        Err(_) => return heard.map(|hello| Connection::new(stream, address, hello, buffer)),
    };
    say_hello(&mut stream, address, endpoint, purpose).await?;
    let hello = heard?;
    prove(&stream, address, endpoint, &hello)?;
    Ok(Connection::new(stream, address, hello, buffer))
}

/// Small frames go at once; a vanished peer is noticed even where nothing is being sent. All of
/// it is a help where the system has it: failure is not an error.
pub(crate) fn prepare(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let socket = socket2::SockRef::from(tcp);
    let keepalive =
        socket2::TcpKeepalive::new().with_time(PEER_GONE_TIMEOUT).with_interval(PEER_GONE_TIMEOUT / 4);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(IDLE_TIMEOUT));
}

/// Lets the alert arrive: closing a socket with unread bytes resets it, and a reset would
/// overtake the alert that tells the peer what was wrong.
async fn linger(mut tcp: BufReader<TcpStream>) {
    let drained = async {
        let _ = tcp.shutdown().await;
        let mut unread = [0_u8; 1024];
        let mut left = 64_usize;
        while left > 0 && matches!(tcp.read(&mut unread).await, Ok(n) if n > 0) {
            left -= 1;
        }
    };
    let _ = timeout(HANDSHAKE_TIMEOUT / 8, drained).await;
}

/// What a TLS error means.
fn refused(address: SocketAddr, error: io::Error) -> ConnectionError {
    use rustls::{AlertDescription as Alert, Error};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::AlertReceived(
                Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::CertificateExpired
                | Alert::UnsupportedCertificate
                | Alert::CertificateRequired
                | Alert::DecryptError
                | Alert::AccessDenied,
            ),
        ) => ConnectionError::OtherKey { address },
        Some(_) => ConnectionError::NotThorp { address, source: error },
        None => ConnectionError::Broken { address, source: error },
    }
}

async fn say_hello(
    stream: &mut Stream,
    address: SocketAddr,
    endpoint: &Endpoint,
    purpose: Purpose,
) -> Result<(), ConnectionError> {
    let hello = encode(&Hello { protocol: PROTOCOL_VERSION, purpose, ..endpoint.hello.clone() });
    let prefix = FramePrefix { head_bytes: hello.len(), payload_bytes: 0 };
    let mut frame = prefix.encode().to_vec();
    frame.extend_from_slice(&hello);
    stream.write_all(&frame).await.map_err(|error| refused(address, error))?;
    stream.flush().await.map_err(|error| refused(address, error))
}

/// Reads the peer's hello; what came behind it stays in `buffer`.
async fn hear_hello(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    address: SocketAddr,
) -> Result<Hello, ConnectionError> {
    let malformed = |source| ConnectionError::Malformed { address, source };
    loop {
        if let Some(prefix) = buffer.first_chunk::<FRAME_PREFIX_BYTES>() {
            let prefix = FramePrefix::decode(*prefix).map_err(malformed)?;
            let bytes = prefix.head_bytes + prefix.payload_bytes;
            if bytes > HELLO_BYTES_MAX {
                return Err(malformed(DecodeError::TooLong { bytes, limit: HELLO_BYTES_MAX }));
            }
            if buffer.len() >= FRAME_PREFIX_BYTES + bytes {
                buffer.advance(FRAME_PREFIX_BYTES);
                let head = buffer.split_to(bytes);
                // The version is the first byte, so it can be read from a hello of any version.
                return match head.first() {
                    Some(&version) if !speaks(version) => {
                        Err(ConnectionError::OtherVersion { address, version })
                    }
                    _ => decode(&head).map_err(malformed),
                };
            }
        }
        let read = stream.read_buf(buffer).await.map_err(|error| refused(address, error))?;
        if read == 0 {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(ConnectionError::Broken { address, source });
        }
    }
}

/// Our version, and the one before.
fn speaks(version: u8) -> bool {
    version != 0 && (version == PROTOCOL_VERSION || version == PROTOCOL_VERSION - 1)
}

fn prove(
    stream: &Stream,
    address: SocketAddr,
    endpoint: &Endpoint,
    hello: &Hello,
) -> Result<NodeId, ConnectionError> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    match (endpoint.peer_node_id)(certificates) {
        Some(proved) if proved == hello.node => Ok(proved),
        Some(proved) => Err(ConnectionError::WrongNode { address, expected: hello.node, found: proved }),
        None => Err(ConnectionError::OtherKey { address }),
    }
}

#[cfg(test)]
mod tests;
