//! Tests of connections: who is let in, and what a frame may do.

use super::*;
use crate::limits::FRAME_PAYLOAD_BYTES_MAX;
use crate::transfer::fixture::{KEY, endpoint};
use crate::wire::transfer::TransferFrame;
use std::time::Duration;
use tokio::net::TcpListener;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Both ends of a connection, or how it failed at each.
async fn meet(
    dialler: &Endpoint,
    listener: &Endpoint,
    expect: Option<NodeId>,
) -> (Result<Connection, ConnectionError>, Result<Connection, ConnectionError>) {
    let (socket, address) = listen().await;
    let accepting = async {
        let (tcp, _) = socket.accept().await.expect("accepts");
        Connection::accept(tcp, listener).await
    };
    tokio::join!(Connection::dial(address, dialler, Purpose::Transfer, expect), accepting)
}

#[tokio::test]
async fn both_ends_prove_themselves_and_frames_pass() {
    let (a, b) = (endpoint(KEY), endpoint(KEY));
    let (dialled, accepted) = meet(&a, &b, Some(b.hello.node)).await;
    let (dialled, accepted) = (dialled.expect("dialled"), accepted.expect("accepted"));
    assert_eq!(dialled.peer().node, b.hello.node);
    assert_eq!(accepted.peer().node, a.hello.node);
    assert_eq!(accepted.peer().purpose, Purpose::Transfer);
    let (_, mut writer) = dialled.split();
    let (mut reader, _keep) = accepted.split();
    let payloads: Vec<Vec<u8>> =
        [0, 1, 20_000, 100_000, 4 << 20, 3].iter().map(|len| vec![7_u8; *len]).collect();
    let sent = payloads.clone();
    let writing = async move {
        for (tag, payload) in (0..).zip(&sent) {
            writer.write(&TransferFrame::Data { tag }, payload).await.expect("written");
        }
        writer.close().await.expect("closed");
    };
    let reading = async {
        for (tag, payload) in (0..).zip(&payloads) {
            let (frame, bytes) = reader.read::<TransferFrame>().await.expect("read").expect("there");
            assert_eq!(frame, TransferFrame::Data { tag });
            assert_eq!(bytes, payload);
        }
        assert!(reader.read::<TransferFrame>().await.expect("an end").is_none());
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn another_cluster_key_is_named_as_the_cause_at_both_ends() {
    let (dialled, accepted) = meet(&endpoint(KEY), &endpoint("another key of a house"), None).await;
    assert!(matches!(dialled, Err(ConnectionError::OtherKey { .. })), "{:?}", dialled.err());
    assert!(matches!(accepted, Err(ConnectionError::OtherKey { .. })), "{:?}", accepted.err());
}

#[tokio::test]
async fn only_the_expected_node_will_do() {
    let (a, b) = (endpoint(KEY), endpoint(KEY));
    let (dialled, _) = meet(&a, &b, Some(a.hello.node)).await;
    match dialled {
        Err(ConnectionError::WrongNode { expected, found, .. }) => {
            assert_eq!((expected, found), (a.hello.node, b.hello.node));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn a_hello_with_anothers_node_id_is_refused() {
    let (liar, b) = (endpoint(KEY), endpoint(KEY));
    let hello = Hello { node: b.hello.node, ..liar.hello.clone() };
    let liar = Endpoint {
        client: Arc::clone(&liar.client),
        server: Arc::clone(&liar.server),
        hello,
        peer_node_id: liar.peer_node_id,
    };
    let (_, accepted) = meet(&liar, &b, None).await;
    assert!(matches!(accepted, Err(ConnectionError::WrongNode { .. })), "{:?}", accepted.err());
}

/// A TLS connection on which nothing was said yet, as a program of another version would have it.
async fn bare_tls(address: SocketAddr, endpoint: &Endpoint) -> Stream {
    let tcp = TcpStream::connect(address).await.expect("connects");
    let name = ServerName::try_from("thorp").expect("valid");
    let stream = TlsConnector::from(Arc::clone(&endpoint.client))
        .connect(name, BufReader::new(tcp))
        .await
        .expect("handshake");
    TlsStream::from(stream)
}

#[tokio::test]
async fn another_protocol_version_is_named() {
    let (a, b) = (endpoint(KEY), endpoint(KEY));
    let (socket, address) = listen().await;
    let later = async {
        let mut stream = bare_tls(address, &a).await;
        // What follows the version may be anything.
        stream.write_all(&[4, 0, 0, 0, 0, 0, 0, 0, 99, 255, 255, 255]).await.expect("written");
        stream.flush().await.expect("flushed");
        let mut buffer = BytesMut::new();
        hear_hello(&mut stream, &mut buffer, address).await
    };
    let accepting = async {
        let (tcp, _) = socket.accept().await.expect("accepts");
        Connection::accept(tcp, &b).await
    };
    let (heard, accepted) = tokio::join!(later, accepting);
    assert!(
        matches!(accepted, Err(ConnectionError::OtherVersion { version: 99, .. })),
        "{:?}",
        accepted.err()
    );
    assert_eq!(heard.expect("our hello came all the same").protocol, PROTOCOL_VERSION);
}

#[tokio::test]
async fn lengths_over_the_limit_are_refused_before_anything_is_allocated() {
    for prefix in [
        FramePrefix { head_bytes: 1 << 30, payload_bytes: 0 },
        FramePrefix { head_bytes: 10, payload_bytes: FRAME_PAYLOAD_BYTES_MAX + 1 },
        FramePrefix { head_bytes: 0, payload_bytes: 5 },
    ] {
        let (a, b) = (endpoint(KEY), endpoint(KEY));
        let (dialled, accepted) = meet(&a, &b, None).await;
        let (_keep, mut writer) = dialled.expect("dialled").split();
        let (mut reader, _) = accepted.expect("accepted").split();
        writer.send(&prefix.encode()).await.expect("sent");
        writer.flush().await.expect("sent");
        let read = reader.read::<TransferFrame>().await;
        assert!(matches!(read, Err(ConnectionError::Malformed { .. })), "{prefix:?}");
        assert!(reader.buffer.capacity() <= 2 * READ_BUFFER_BYTES);
    }
}

#[tokio::test]
async fn a_large_frame_that_is_only_announced_takes_no_memory() {
    let (dialled, accepted) = meet(&endpoint(KEY), &endpoint(KEY), None).await;
    let (_keep, mut writer) = dialled.expect("dialled").split();
    let (mut reader, _) = accepted.expect("accepted").split();
    let prefix = FramePrefix { head_bytes: 10, payload_bytes: FRAME_PAYLOAD_BYTES_MAX };
    writer.send(&prefix.encode()).await.expect("sent");
    writer.flush().await.expect("sent");
    reader.set_timeout(Some(Duration::from_millis(50)));
    let read = reader.read::<TransferFrame>().await;
    assert!(matches!(read, Err(ConnectionError::Timeout { .. })));
    assert!(reader.buffer.capacity() <= 2 * READ_BUFFER_BYTES);
}

#[tokio::test]
async fn a_frame_goes_on_where_a_timeout_cut_it() {
    let (dialled, accepted) = meet(&endpoint(KEY), &endpoint(KEY), None).await;
    let (_keep, mut writer) = dialled.expect("dialled").split();
    let (mut reader, _) = accepted.expect("accepted").split();
    let head = encode(&TransferFrame::Data { tag: 5 });
    let prefix = FramePrefix { head_bytes: head.len(), payload_bytes: 3 };
    writer.send(&prefix.encode()).await.expect("sent");
    writer.flush().await.expect("sent");
    reader.set_timeout(Some(Duration::from_millis(50)));
    assert!(reader.read::<TransferFrame>().await.is_err());
    writer.send(&head).await.expect("sent");
    writer.send(b"abc").await.expect("sent");
    writer.flush().await.expect("sent");
    reader.set_timeout(None);
    let (frame, payload) = reader.read::<TransferFrame>().await.expect("read").expect("there");
    assert_eq!((frame, &payload[..]), (TransferFrame::Data { tag: 5 }, &b"abc"[..]));
}

#[tokio::test]
async fn an_end_within_a_frame_is_an_error() {
    let (dialled, accepted) = meet(&endpoint(KEY), &endpoint(KEY), None).await;
    let (_keep, mut writer) = dialled.expect("dialled").split();
    let (mut reader, _) = accepted.expect("accepted").split();
    writer.send(&[3, 0, 0]).await.expect("sent");
    writer.close().await.expect("closed");
    assert!(matches!(reader.read::<TransferFrame>().await, Err(ConnectionError::Broken { .. })));
}

#[tokio::test]
async fn what_is_not_tls_is_refused_at_once() {
    let (socket, address) = listen().await;
    let endpoint = endpoint(KEY);
    let mut stranger = TcpStream::connect(address).await.expect("connects");
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: thorp\r\n\r\n").await.expect("written");
    let (tcp, _) = socket.accept().await.expect("accepts");
    let result =
        timeout(HANDSHAKE_TIMEOUT - Duration::from_secs(1), Connection::accept(tcp, &endpoint)).await;
    assert!(matches!(result, Ok(Err(ConnectionError::NotThorp { .. }))));
}

#[tokio::test]
async fn a_peer_that_says_nothing_does_not_hold_the_acceptor() {
    let (socket, address) = listen().await;
    let endpoint = endpoint(KEY);
    let _silent = TcpStream::connect(address).await.expect("connects");
    let (tcp, _) = socket.accept().await.expect("accepts");
    let accepted =
        timeout(HANDSHAKE_TIMEOUT + Duration::from_secs(2), Connection::accept(tcp, &endpoint)).await;
    assert!(matches!(accepted, Ok(Err(ConnectionError::Timeout { .. }))));
}

#[tokio::test]
async fn of_several_addresses_the_one_that_proves_itself_wins() {
    let (a, b) = (endpoint(KEY), endpoint(KEY));
    let (_silent, silent) = listen().await;
    let (socket, address) = listen().await;
    let refused = listen().await.1;
    let accepting = async {
        let (tcp, _) = socket.accept().await.expect("accepts");
        Connection::accept(tcp, &b).await
    };
    let addresses = [silent, refused, address];
    let (dialled, _) =
        tokio::join!(dial_any(&addresses, &a, Purpose::Transfer, Some(b.hello.node)), accepting);
    assert_eq!(dialled.expect("dialled").address(), address);
    let nobody = dial_any(&[refused], &a, Purpose::Member, None).await;
    assert!(matches!(nobody, Err(ConnectionError::Unreachable { .. })));
    let none = dial_any(&[], &a, Purpose::Member, Some(b.hello.node)).await;
    assert!(matches!(none, Err(ConnectionError::NoAddress { .. })));
}
