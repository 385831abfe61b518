//! Hostile connections: strangers that hold or waste them, and peers that send what is no frame.

use crate::attacker::{Insider, ask, attack, frame, frame_of, is_closed, lineage_of, ms, prefix, tls};
use crate::node::{Lan, Node, is_well, noise, victim};
use std::sync::Arc;
use thorp::limits::{FRAME_HEAD_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
use thorp::types::{InstanceId, NodeId};
use thorp::wire::message::{Hello, Message, Purpose, Request};
use thorp::wire::{PROTOCOL_VERSION, encode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn connect(node: &Node) -> TcpStream {
    TcpStream::connect(node.tcp).await.expect("connected")
}

/// More silent connections than there are places, and new ones all the time.
#[test]
fn strangers_that_say_nothing_keep_nobody_out() {
    let lan = Lan::keyed();
    let (mut node, good) = victim(&lan);
    attack(async {
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(connect(&node).await);
        }
        is_well(&lan, &mut node, &good);
        drop(silent);
    });
    is_well(&lan, &mut node, &good);
}

#[test]
fn strangers_that_say_a_byte_at_a_time_keep_nobody_out() {
    let lan = Lan::keyed();
    let (mut node, good) = victim(&lan);
    attack(async {
        let mut slow = Vec::new();
        for _ in 0..40 {
            slow.push(connect(&node).await);
        }
        // The start of a TLS record that announces 16 KiB.
        for byte in [0x16, 3, 1, 0x3f, 0xff, 1] {
            for stream in &mut slow {
                drop(stream.write_all(&[byte]).await);
            }
            tokio::time::sleep(ms(300)).await;
        }
        is_well(&lan, &mut node, &good);
    });
}

#[test]
fn noise_and_other_protocols_are_turned_away() {
    let lan = Lan::keyed();
    let (mut node, good) = victim(&lan);
    let banners: [&[u8]; 6] = [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0\0\0\x85\xffSMBr\0\0\0\0\x18S\xc8",
        // A hello of TLS 1.2 alone, and records that end too soon.
        b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x40\x01",
    ];
    attack(async {
        for seed in 0..150 {
            let mut stream = connect(&node).await;
            let noise = noise(seed, 2_000);
            let bytes = banners.get(seed as usize).copied().unwrap_or(&noise);
            drop(stream.write_all(bytes).await);
            if seed % 3 == 0 {
                drop(stream.shutdown().await);
            }
        }
        is_well(&lan, &mut node, &good);
    });
}

/// No certificate, one of another key, one that another authority signed: no message of ours goes
/// out, and the log is not theirs to fill.
#[test]
fn certificates_of_others_are_refused_quietly() {
    let lan = Lan::keyed();
    let (mut node, good) = victim(&lan);
    let open = Insider::with_secret(&lan.cluster, &thorp::identity::ClusterSecret::Open, Default::default());
    let ours = Insider::new(&lan, Default::default());
    let roots = {
        // The cluster's own authority is not secret to a test: only the proof of membership is left out.
        let config = (*ours.identity.tls.client).clone();
        let mut config = config;
        config.client_auth_cert_resolver =
            Arc::clone(&rustls_without_certificate().client_auth_cert_resolver);
        Arc::new(config)
    };
    attack(async {
        for number in 0..400 {
            let config =
                if number % 2 == 0 { Arc::clone(&roots) } else { Arc::clone(&open.identity.tls.client) };
            if let Ok(mut stream) = tls(node.tcp, config).await {
                let hello = frame(&ours.hello(Purpose::Command), &[]);
                drop(stream.write_all(&hello).await);
                drop(stream.flush().await);
                assert!(is_closed(&mut stream, ms(5_000)).await, "who proves nothing is not heard");
            }
        }
    });
    is_well(&lan, &mut node, &good);
    assert!(node.log().lines().count() < 60, "{} lines of log", node.log().lines().count());
}

fn rustls_without_certificate() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

#[test]
fn a_hello_that_lies_ends_the_connection() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let right = || insider.hello(Purpose::Command);
    let hellos: Vec<Vec<u8>> = vec![
        frame(&Hello { node: NodeId([7; 16]), ..right() }, &[]),
        frame(&Hello { node: node.id, ..right() }, &[]),
        frame(&Hello { protocol: 0, ..right() }, &[]),
        frame(&Hello { protocol: 255, ..right() }, &[]),
        frame(&Hello { lineage: vec![Default::default(); 10_000], ..right() }, &[]),
        frame(&right(), &[0; 4_097]),
        frame(&right(), &[0; 1]),
        frame(&Request::Status, &[]),
        frame(&Message::Goodbye, &[]),
        prefix(0, 0),
        prefix(u32::MAX, 0),
        prefix(1, u32::MAX),
        prefix(i32::MIN as u32, i32::MIN as u32),
        frame_of(&[PROTOCOL_VERSION], &[]),
        frame_of(&[[PROTOCOL_VERSION].as_slice(), &[0xff; 30]].concat(), &[]),
        frame_of(&[encode(&right()), vec![0]].concat(), &[]),
    ];
    attack(async {
        for (number, hello) in hellos.iter().enumerate() {
            let mut stream = insider.tls(&node).await;
            drop(stream.write_all(hello).await);
            drop(stream.flush().await);
            assert!(is_closed(&mut stream, ms(5_000)).await, "hello {number} was let in");
        }
    });
    is_well(&lan, &mut node, &good);
}

/// What may follow a hello: for each purpose every way not to be a frame.
#[test]
fn what_is_no_frame_ends_the_connection() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let huge = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let bomb = |tag: u8| [[tag].as_slice(), &huge, &huge, &huge].concat();
    let mut bytes: Vec<Vec<u8>> = vec![
        prefix(0, 0),
        prefix(FRAME_HEAD_BYTES_MAX as u32 + 1, 0),
        prefix(1, FRAME_PAYLOAD_BYTES_MAX as u32 + 1),
        prefix(u32::MAX, u32::MAX),
        frame_of(&[250], &[]),
        frame_of(&[251, 255, 255], &[]),
        frame_of(&[0xff; 64], &[]),
        frame_of(&[encode(&Request::Status), vec![1]].concat(), &[]),
        frame_of(&[encode(&Message::Goodbye), vec![1]].concat(), &[]),
        frame(&insider.hello(Purpose::Command), &[]),
        frame(&insider.hello(Purpose::Member), &[0; 100_000]),
    ];
    bytes.extend((0..24).map(|tag| frame_of(&bomb(tag), &[])));
    bytes.extend((0..40).map(|seed| frame_of(&noise(seed, 200), &[])));
    attack(async {
        for purpose in [Purpose::Member, Purpose::Command, Purpose::Transfer, Purpose::Channels] {
            for bytes in &bytes {
                let mut stream = insider.raw(&node, purpose).await;
                drop(stream.write_all(bytes).await);
                drop(stream.shutdown().await);
            }
            // Lengths that are right, and then too little; and then nothing for as long as we look.
            let mut stream = insider.raw(&node, purpose).await;
            drop(
                stream.write_all(&prefix(FRAME_HEAD_BYTES_MAX as u32, FRAME_PAYLOAD_BYTES_MAX as u32)).await,
            );
            drop(stream.write_all(&vec![0; 500_000]).await);
        }
    });
    is_well(&lan, &mut node, &good);
}

/// Connections that are proven and do nothing: however many, a command gets in.
#[test]
fn proven_connections_that_do_nothing_keep_nobody_out() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let mut idle = Vec::new();
        for _ in 0..420 {
            idle.extend(insider.try_dial(&node, Purpose::Command).await);
        }
        node.is_alive();
        let fresh = lan.run(&["status", "--json", "--timeout", "4s"]);
        assert!(fresh.code == 0, "no place for a command beside {} idle ones: {}", idle.len(), fresh.stderr);
        drop(idle);
    });
    is_well(&lan, &mut node, &good);
}

/// Frames of which all but the last byte came, on as many connections as there may be.
#[test]
fn frames_that_never_end_are_bounded_together() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let mut held = Vec::new();
        for number in 0..60 {
            let purpose = if number % 2 == 0 { Purpose::Member } else { Purpose::Command };
            let mut stream = insider.raw(&node, purpose).await;
            let mut bytes = prefix(100, FRAME_PAYLOAD_BYTES_MAX as u32);
            bytes.resize(FRAME_PAYLOAD_BYTES_MAX / 2, 0);
            drop(tokio::time::timeout(ms(2_000), stream.write_all(&bytes)).await);
            held.push(stream);
        }
        is_well(&lan, &mut node, &good);
    });
}

#[test]
fn a_member_that_answers_with_another_instance_is_not_heard() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let (mut reader, mut writer) = insider.dial(&node, Purpose::Command).await.split();
        assert!(ask(&mut reader, &mut writer, &Request::Status).await.is_some());
        for presence in [
            thorp::types::Presence { node: node.id, ..insider.presence(1) },
            thorp::types::Presence { node: NodeId([9; 16]), ..insider.presence(1) },
            thorp::types::Presence { instance: InstanceId(1), ..insider.presence(1) },
            thorp::types::Presence { lineage: Vec::new(), ..insider.presence(1) },
            thorp::types::Presence { name: "\u{1b}[2J".into(), ..insider.presence(1) },
            thorp::types::Presence { name: "x".repeat(65).into(), ..insider.presence(1) },
        ] {
            let mut stream = insider.raw(&node, Purpose::Member).await;
            drop(stream.write_all(&frame(&Message::Announce(Box::new(presence)), &[])).await);
            drop(stream.flush().await);
            assert!(is_closed(&mut stream, ms(5_000)).await, "who announces another is not heard");
        }
    });
    is_well(&lan, &mut node, &good);
}
