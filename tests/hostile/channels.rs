//! Channels under attack: tables filled to the brim, readers that take nothing, posts that are none.

use crate::attacker::{Insider, attack, lineage_of};
use crate::node::{Lan, is_well, victim};
use thorp::types::{ChannelKey, ClientId, ClientToken};
use thorp::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply, ClientSays};
use thorp::wire::message::{Message, Purpose};

fn key(number: usize) -> ChannelKey {
    ChannelKey::parse(&format!("channel-{number}")).expect("a key")
}

fn post(channel: ChannelKey, body: &str) -> ChannelAsk {
    let (body, says) = (body.into(), ClientSays::default());
    ChannelAsk::Post {
        channel,
        body,
        says,
        expiry_ms: Some(3_600_000),
        drawn: ClientToken::from_random([1; 16]),
    }
}

/// Asks, each after the answer to the one before; gives the last answer.
async fn ask_all(insider: &Insider, node: &crate::node::Node, asks: &[ChannelAsk]) -> Option<ChannelReply> {
    let (mut reader, mut writer) = insider.dial(node, Purpose::Channels).await.split();
    let mut last = None;
    for ask in asks {
        writer.write(ask, &[]).await.ok()?;
        writer.flush().await.ok()?;
        last = reader.read::<ChannelReply>().await.ok()?.map(|(reply, _)| reply);
    }
    last
}

#[test]
fn posts_that_are_none_are_refused_one_by_one() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(10_000), close.repeat(10_000));
        format!(r#"{{"client_id":"a","x":{open}1{close}}}"#)
    };
    let bodies = [
        String::new(),
        "x".repeat(900_000),
        "[".repeat(60_000),
        deep("[", "]"),
        deep(r#"{"x":"#, "}"),
        r#"{"client_id":"a","x":1e999}"#.to_owned(),
        r#"{"client_id":"a","client_id":"b"}"#.to_owned(),
        r#"{"client_id":"\ud800"}"#.to_owned(),
        format!(r#"{{"client_id":"{}"}}"#, "a".repeat(10_000)),
    ];
    attack(async {
        for body in &bodies {
            let reply = ask_all(&insider, &node, &[post(key(0), body)]).await;
            assert!(matches!(reply, Some(ChannelReply::Refused { .. })), "{reply:?} to {body:.60}");
        }
        let client = ClientId::parse("nobody").expect("an id");
        let token = Some(ClientToken::from_random([7; 16]));
        let odd = [
            ChannelAsk::Leave { channel: key(0), client, token },
            ChannelAsk::Get {
                channel: key(0),
                says: ClientSays { token, ..ClientSays::default() },
                known: None,
            },
            ChannelAsk::List,
        ];
        assert!(ask_all(&insider, &node, &odd).await.is_some());
    });
    is_well(&lan, &mut node, &good);
}

/// The table is filled; then readers ask for all of it again and again and take nothing, others
/// follow and take nothing, while everything changes.
#[test]
fn a_full_table_and_readers_that_take_nothing_are_bounded() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let fat = |client: usize, what: usize| {
        format!(r#"{{"client_id":"c{client}","x":"{}{what}"}}"#, "x".repeat(65_000))
    };
    attack(async {
        let (mut reader, mut writer) = insider.dial(&node, Purpose::Channels).await.split();
        let mut full = 0;
        for number in 0..1_500_usize {
            let ask = match number {
                0..300 => post(key(number / 16), &fat(number % 16, 0)),
                _ => post(key(number), r#"{"client_id":"a","x":0}"#),
            };
            writer.write(&ask, &[]).await.expect("taken");
            writer.flush().await.expect("taken");
            let reply = reader.read::<ChannelReply>().await.expect("an answer").expect("an answer").0;
            full += usize::from(reply == ChannelReply::Refused { refusal: ChannelRefusal::Full });
        }
        assert!(full > 100, "{full} posts were refused");
        let mut held = Vec::new();
        for number in 0..120 {
            let mut connection = insider.dial(&node, Purpose::Channels).await.split();
            let channel = key(number % 12);
            let get = ChannelAsk::Get { channel: channel.clone(), says: ClientSays::default(), known: None };
            let follow = ChannelAsk::Follow { channel };
            for _ in 0..20 {
                let ask = if number % 2 == 0 { &get } else { &follow };
                drop(connection.1.write(ask, &[]).await);
            }
            drop(connection.1.flush().await);
            held.push(connection);
        }
        // One who does read: what it was told, the others had the time to be told as well.
        let follow = ChannelAsk::Follow { channel: key(300) };
        let (mut told, mut follower) = insider.dial(&node, Purpose::Channels).await.split();
        follower.write(&follow, &[]).await.expect("taken");
        follower.flush().await.expect("taken");
        for what in 1..10 {
            for client in 0..16 {
                writer.write(&post(key(what), &fat(client, what)), &[]).await.expect("taken");
                writer.flush().await.expect("taken");
                drop(reader.read::<ChannelReply>().await.expect("an answer"));
            }
            let said = format!(r#"{{"client_id":"a","x":{what}}}"#);
            writer.write(&post(key(300), &said), &[]).await.expect("taken");
            writer.flush().await.expect("taken");
            drop(reader.read::<ChannelReply>().await.expect("an answer"));
            while !matches!(told.read::<ChannelReply>().await, Ok(Some((ChannelReply::Update { body, .. }, _))) if *body == *said)
            {
            }
        }
        is_well(&lan, &mut node, &good);
    });
    is_well(&lan, &mut node, &good);
}

/// A member that says nonsense of channels, which a successor would take over.
#[test]
fn what_is_heard_of_channels_cannot_stop_a_successor() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let mut writer = insider.join(&node).await;
        let lies = [(u64::MAX, u64::MAX), (0, 0), (u64::MAX, 0), (0, u64::MAX)];
        let lies = lies
            .map(|(server_time_ms, expiry_ms_max)| Message::ChannelsHeard { server_time_ms, expiry_ms_max });
        assert!(crate::attacker::tell(&mut writer, lies).await);
    });
    is_well(&lan, &mut node, &good);
}
