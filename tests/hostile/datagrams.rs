//! Hostile datagrams: from strangers, and with a right seal (an open cluster's seal is anybody's).

use crate::attacker::{Insider, attack, lineage_of, ms, send_all, udp};
use crate::node::{Lan, is_well, noise, pause, s, victim, wait_until};
use std::net::SocketAddr;
use thorp::clock::Rng;
use thorp::types::{InstanceId, Lineage, NodeId, Pin, Presence, Term};
use thorp::wire::datagram::Datagram;

#[test]
fn what_is_no_sealed_datagram_is_ignored() {
    let lan = Lan::keyed();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let right = insider.beacon(insider.presence(1));
    let mut datagrams: Vec<Vec<u8>> =
        vec![vec![], vec![b'T'], noise(1, 1199), noise(2, 1200), noise(3, 1201), noise(4, 65_507)];
    datagrams.extend((0..right.len()).map(|length| right[..length].to_vec()));
    for bit in 0..right.len() * 8 {
        let mut flipped = right.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        datagrams.push(flipped);
    }
    for version in [0, 2, 255] {
        let mut other = right.clone();
        other[4] = version;
        datagrams.push(other);
    }
    let mut longer = right.clone();
    longer.push(0);
    datagrams.push(longer);
    // Another key's, and those of no key: sealed, but not with ours.
    let other = Insider::with_secret(&lan.cluster, &thorp::identity::ClusterSecret::Open, insider.lineage);
    datagrams.extend((0..300).map(|sequence| other.beacon(other.presence(sequence))));
    attack(async {
        let socket = udp(&lan).await;
        send_all(&socket, datagrams).await;
    });
    is_well(&lan, &mut node, &good);
    let status = lan.ok(&["status", "--json"]).stdout;
    assert!(!status.contains("insider"), "an unsealed beacon was believed: {status}");
}

#[test]
fn a_right_seal_over_nonsense_is_ignored() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let body_at = 38;
    let sealed = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[22..body_at].fill(0);
        let seal = insider.identity.keys.seal(&bytes);
        bytes[22..body_at].copy_from_slice(&seal);
        bytes
    };
    let right = insider.beacon(insider.presence(1));
    let mut datagrams = Vec::new();
    for kind in 0..=255 {
        let mut other = right.clone();
        other[5] = kind;
        datagrams.push(sealed(&other));
    }
    datagrams.extend((body_at..right.len()).map(|length| sealed(&right[..length])));
    for seed in 0..2_000 {
        let mut body = right[..body_at].to_vec();
        body.extend(noise(seed, (seed % 1_100) as usize));
        datagrams.push(sealed(&body));
        let mut flipped = right.clone();
        let at = body_at + seed as usize % (right.len() - body_at);
        flipped[at] = noise(seed, 1)[0];
        datagrams.push(sealed(&flipped));
    }
    attack(async { send_all(&udp(&lan).await, datagrams).await });
    is_well(&lan, &mut node, &good);
}

#[test]
fn a_flood_of_noise_and_of_replays_costs_nothing_but_itself() {
    let lan = Lan::keyed();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let replay = insider.beacon(insider.presence(1));
    let query = insider.seal(&Datagram::Query { nonce: 7 });
    let goodbye =
        insider.seal(&Datagram::Goodbye { node: node.id, instance: InstanceId(1), sequence: u64::MAX });
    attack(async {
        let socket = udp(&lan).await;
        for round in 0..5_000_u64 {
            let packets =
                [noise(round, 60 + round as usize % 1_100), replay.clone(), query.clone(), goodbye.clone()];
            send_all(&socket, packets).await;
        }
        // Nothing is ever answered to a sender.
        let mut buffer = [0; 2_000];
        let heard = tokio::time::timeout(ms(500), socket.recv(&mut buffer)).await;
        assert!(heard.is_err(), "a datagram was answered: {heard:?}");
    });
    is_well(&lan, &mut node, &good);
}

/// A presence of a node that does not exist.
fn made_up(insider: &Insider, rng: &mut Rng) -> Presence {
    let mut id = [0; 16];
    rng.fill(&mut id);
    Presence { node: NodeId(id), instance: InstanceId(rng.next_u64()), ..insider.presence(1) }
}

#[test]
fn a_hundred_thousand_nodes_that_do_not_exist() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let mut rng = Rng::seeded(1);
    let mut peak = 0;
    attack(async {
        let socket = udp(&lan).await;
        for _ in 0..100 {
            let beacons: Vec<_> = (0..1_000).map(|_| insider.beacon(made_up(&insider, &mut rng))).collect();
            send_all(&socket, beacons).await;
            peak = peak.max(node.descriptors());
        }
    });
    assert!(peak < 700, "{peak} descriptors while it was told of nodes");
    is_well(&lan, &mut node, &good);
}

#[test]
fn clusters_that_do_not_exist_take_no_memory() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, Lineage::default());
    let mut rng = Rng::seeded(2);
    let before = node.memory_kib();
    attack(async {
        let socket = udp(&lan).await;
        for _ in 0..60 {
            let beacons: Vec<_> = (0..1_000)
                .map(|_| {
                    let mut lineage = [0xff; 16];
                    rng.fill(&mut lineage);
                    let presence = Presence { lineage: vec![Lineage(lineage)], ..insider.presence(1) };
                    insider.beacon(presence)
                })
                .collect();
            send_all(&socket, beacons).await;
        }
    });
    let grown = node.memory_kib().saturating_sub(before);
    assert!(grown < 5 << 10, "{grown} KiB more for clusters that were only spoken of");
    is_well(&lan, &mut node, &good);
}

/// Uuids that somebody adds do not crowd out the cluster's own.
#[test]
fn a_cluster_keeps_its_own_uuid() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let own = lineage_of(&lan, &node);
    let insider = Insider::new(&lan, own);
    attack(async {
        let socket = udp(&lan).await;
        let low = |from: u8| (from..from + 7).map(|n| Lineage([n; 16]));
        let first = Presence { lineage: low(8).chain([own]).collect(), ..insider.presence(1) };
        let second = Presence { lineage: low(1).chain([Lineage([8; 16])]).collect(), ..insider.presence(2) };
        send_all(&socket, [insider.beacon(first), insider.beacon(second)]).await;
    });
    pause(ms(500));
    // A machine that was off meanwhile knows only the old uuid, and must find the cluster again.
    let beacon = Insider::new(&lan, own);
    attack(async {
        let presence = Presence { name: "was-off".into(), ..beacon.presence(1) };
        send_all(&udp(&lan).await, [beacon.beacon(presence)]).await;
    });
    wait_until(s(3), "who has the old uuid is a member", || {
        let status = lan.ok(&["status", "--json"]).stdout;
        if status.contains("was-off") { Ok(()) } else { Err(status) }
    });
    is_well(&lan, &mut node, &good);
}

#[test]
fn a_clone_is_named_once_and_not_dialled() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let clone = |sequence| Presence {
            node: node.id,
            generation: u64::MAX,
            tcp_port: node.tcp.port(),
            ..insider.presence(sequence)
        };
        send_all(&udp(&lan).await, (0..2_000).map(|sequence| insider.beacon(clone(sequence)))).await;
    });
    is_well(&lan, &mut node, &good);
    assert_eq!(node.log().matches("another machine uses this node's identity").count(), 1);
}

#[test]
fn extreme_numbers_in_a_presence_do_no_harm() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let lineage = lineage_of(&lan, &node);
    attack(async {
        let socket = udp(&lan).await;
        for number in [0, 1, u64::MAX - 1, u64::MAX] {
            let insider = Insider::new(&lan, lineage);
            let presence = |sequence| Presence {
                generation: number,
                capacity_bytes: number,
                used_bytes: number,
                free_bytes: number,
                contents: number,
                inventory_digest: number,
                catalog_digest: number,
                wall_ms: number,
                tcp_port: 22,
                ..insider.presence(sequence)
            };
            let sequences = [number, u64::MAX, 0, number];
            send_all(&socket, sequences.map(|sequence| insider.beacon(presence(sequence)))).await;
        }
    });
    is_well(&lan, &mut node, &good);
}

/// One beacon of a leader with the greatest term, and never another: the cluster must find a
/// leader again, and must still after a restart.
#[test]
fn a_term_at_the_end_of_all_terms_does_not_end_elections() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let leader = NodeId([0xff; 16]);
    attack(async {
        let presence = Presence {
            node: leader,
            pin: Pin::Proxy,
            term: Term { number: u64::MAX, proxy: leader },
            proxy: Some(leader),
            ..insider.presence(1)
        };
        send_all(&udp(&lan).await, [insider.beacon(presence)]).await;
    });
    pause(s(4));
    is_well(&lan, &mut node, &good);
    node.kill();
    let mut again = lan.node("victim");
    is_well(&lan, &mut again, &good);
}

/// A node with nothing in it joins what it hears of; it must not be driven from cluster to cluster
/// as fast as somebody can send.
#[test]
fn an_empty_node_is_not_driven_about() {
    let lan = Lan::open();
    let mut node = lan.node("victim");
    let insider = Insider::new(&lan, Lineage::default());
    let mut rng = Rng::seeded(3);
    attack(async {
        let socket = udp(&lan).await;
        let beacons: Vec<_> = (0..3_000)
            .map(|_| {
                let mut lineage = [0; 16];
                rng.fill(&mut lineage);
                insider.beacon(Presence { lineage: vec![Lineage(lineage)], ..insider.presence(1) })
            })
            .collect();
        send_all(&socket, beacons).await;
    });
    wait_until(s(8), "it leads again", || {
        let ended = lan.run(&["status", "--json", "--timeout", "2s"]);
        if ended.code == 0 { Ok(()) } else { Err(ended.stderr) }
    });
    is_well(&lan, &mut node, &[]);
}

/// The address is that of the socket; this is what `tcp` must be for the tests to mean anything.
#[test]
fn the_victim_is_on_loopback_alone() {
    let lan = Lan::open();
    let node = lan.node("victim");
    assert!(matches!(node.tcp, SocketAddr::V4(address) if address.ip().is_loopback()));
}
