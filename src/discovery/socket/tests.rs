//! Tests of the socket of discovery, on loopback only.

use super::*;
use std::time::Duration;

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn interface(address: [u8; 4], prefix: u8) -> Interface {
    let address = Ipv4Addr::from(address);
    Interface { name: "x0".into(), address, prefix, broadcast: None, loopback: address.is_loopback() }
}

async fn hear(socket: &DiscoverySocket, bytes: &[u8]) -> SocketAddrV4 {
    let wait = async {
        loop {
            let (heard, source) = socket.recv().await;
            if heard == bytes {
                return source;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("heard in time")
}

#[test]
fn neighbours_are_let_in_and_others_not() {
    let ours = [interface([192, 168, 1, 7], 24), interface([10, 0, 0, 1], 8), interface([127, 0, 0, 1], 8)];
    let let_in = |source: [u8; 4]| on_link(Ipv4Addr::from(source), &ours);
    for source in [[192, 168, 1, 200], [192, 168, 1, 7], [10, 9, 9, 9], [127, 0, 0, 1], [127, 9, 0, 1]] {
        assert!(let_in(source), "{source:?}");
    }
    for source in
        [[192, 168, 2, 1], [11, 0, 0, 1], [8, 8, 8, 8], [0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1]]
    {
        assert!(!let_in(source), "{source:?}");
    }
    assert!(!on_link(LOCALHOST, &ours[..2]), "bound to the LAN: not from this machine by loopback");
    assert!(!on_link(Ipv4Addr::new(8, 8, 8, 8), &[]));
}

#[test]
fn a_netmask_of_nothing_or_everything_has_no_neighbours() {
    assert!(!interface([10, 0, 0, 1], 0).contains(Ipv4Addr::new(8, 8, 8, 8)));
    assert!(interface([10, 0, 0, 1], 32).contains(Ipv4Addr::new(10, 0, 0, 1)));
    assert!(!interface([10, 0, 0, 1], 32).contains(Ipv4Addr::new(10, 0, 0, 0)));
    assert!(interface([10, 0, 0, 0], 31).contains(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn interfaces_are_described_with_their_broadcast_address() {
    let listed = |ip: [u8; 4], prefixlen, broadcast: Option<[u8; 4]>, is_p2p| if_addrs::Interface {
        name: "x0".into(),
        addr: if_addrs::IfAddr::V4(if_addrs::Ifv4Addr {
            ip: ip.into(),
            netmask: Ipv4Addr::UNSPECIFIED,
            prefixlen,
            broadcast: broadcast.map(Ipv4Addr::from),
        }),
        index: None,
        oper_status: if_addrs::IfOperStatus::Up,
        is_p2p,
    };
    let broadcast = |listed| describe(listed).and_then(|interface| interface.broadcast);
    assert_eq!(broadcast(listed([10, 1, 2, 3], 16, None, false)), Some(Ipv4Addr::new(10, 1, 255, 255)));
    let odd = Some([10, 1, 2, 9]);
    assert_eq!(broadcast(listed([10, 1, 2, 3], 24, odd, false)), odd.map(Ipv4Addr::from));
    assert_eq!(broadcast(listed([127, 0, 0, 1], 8, None, false)), Some(LOOPBACK_BROADCAST));
    assert_eq!(broadcast(listed([10, 1, 2, 3], 24, None, true)), None);
    for wrong in [[10, 1, 2, 3], [0, 0, 0, 0], [10, 1, 3, 255]] {
        let told = broadcast(listed([10, 1, 2, 3], 24, Some(wrong), false));
        assert_eq!(told, Some(Ipv4Addr::new(10, 1, 2, 255)), "listed with {wrong:?}");
    }
    for prefix in [0, 31, 32] {
        assert_eq!(broadcast(listed([10, 1, 2, 3], prefix, odd, false)), None, "/{prefix}");
    }
}

#[test]
fn the_interfaces_of_this_machine_have_loopback_among_them() {
    assert!(interfaces().iter().any(|interface| interface.loopback && interface.contains(LOCALHOST)));
}

#[tokio::test]
async fn two_nodes_on_one_port_both_hear_a_third() {
    let one = DiscoverySocket::open(None, 0).expect("open");
    let two = DiscoverySocket::open(None, one.port()).expect("shared");
    let three = DiscoverySocket::open(Some(LOCALHOST), one.port()).expect("shared");
    assert_eq!(one.port(), two.port());
    assert!(three.send(b"hello") >= 1);
    for socket in [&one, &two, &three] {
        assert!(hear(socket, b"hello").await.ip().is_loopback());
    }
}

#[tokio::test]
async fn a_node_bound_to_loopback_is_reached_by_one_that_is_not() {
    let open = DiscoverySocket::open(None, 0).expect("open");
    let bound = DiscoverySocket::open(Some(Ipv4Addr::new(127, 0, 0, 2)), open.port()).expect("open");
    assert!(open.send(b"hello") >= 1);
    assert_eq!(*hear(&bound, b"hello").await.ip(), LOCALHOST);
    assert_eq!(bound.send(b"back"), 1, "to loopback and nowhere else");
    assert_eq!(*hear(&open, b"back").await.ip(), Ipv4Addr::new(127, 0, 0, 2));
}

#[tokio::test]
async fn what_is_too_long_can_be_told() {
    let socket = DiscoverySocket::open(Some(LOCALHOST), 0).expect("open");
    socket.send(&[7; DATAGRAM_BYTES_MAX + 100]);
    hear(&socket, &[7; DATAGRAM_BYTES_MAX + 1]).await;
    socket.send(&[]);
    hear(&socket, &[]).await;
}

#[tokio::test]
async fn an_address_of_another_machine_is_refused_with_the_ones_there_are() {
    // A documentation address: nobody's.
    let error = DiscoverySocket::open(Some(Ipv4Addr::new(203, 0, 113, 77)), 0).expect_err("not ours");
    assert!(matches!(error, SocketError::NoInterface { .. }), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("127.0.0.1")));
}

#[tokio::test]
async fn a_port_that_is_not_shared_is_told() {
    let selfish = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("free");
    let port = selfish.local_addr().expect("bound").port();
    for bind in [None, Some(LOCALHOST)] {
        let error = DiscoverySocket::open(bind, port).expect_err("taken");
        assert!(matches!(error, SocketError::InUse { port: told, .. } if told == port), "{error:?}");
    }
}

#[tokio::test]
async fn a_path_that_fails_is_left_alone_and_tried_again_after_a_listing() {
    let socket = DiscoverySocket::open(Some(LOCALHOST), 0).expect("open");
    let gone = Ipv4Addr::new(203, 0, 113, 77);
    {
        let mut paths = socket.paths();
        paths.interfaces.push(Interface {
            address: gone,
            broadcast: Some(gone),
            ..interface([1, 1, 1, 1], 24)
        });
    }
    assert_eq!(socket.send(b"x"), 1, "the other path still works");
    socket.paths().senders.clear();
    assert_eq!(socket.send(b"x"), 0);
    socket.paths().listed = None;
    assert_eq!(socket.send(b"x"), 1);
    assert!(!socket.interfaces().iter().any(|interface| interface.address == gone));
}
