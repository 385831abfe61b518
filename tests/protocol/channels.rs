//! Channels: one value of everything that has bytes, any value, and what must be refused.

use crate::document::Part;
use crate::generators::{number, text};
use crate::samples::{Sample, route_sample, sample};
use proptest::option;
use proptest::prelude::*;
use thorp::limits::{CHANNEL_KEY_BYTES_MAX, CLIENT_ID_BYTES_MAX};
use thorp::types::{ChannelKey, ClientId, ClientTime, ClientToken};
use thorp::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply, ChannelState, ClientSays};
use thorp::wire::message::Message;
use thorp::wire::{decode, encode};

const BODY: &str = r#"{"client_id":"ada","x":1}"#;
const STATE: ChannelState = ChannelState { epoch: 0x0123_4567_89ab_cdef, version: 7 };

fn key() -> ChannelKey {
    ChannelKey::parse("game").expect("a key")
}

fn client() -> ClientId {
    ClientId::parse("ada").expect("an id")
}

fn token() -> ClientToken {
    ClientToken::from_random([0x5c; 16])
}

// ---- samples ----

pub fn says() -> Sample<ClientSays> {
    sample!(ClientSays { id: Some(client()), time: ClientTime::new(12.5), token: Some(token()) })
}

pub fn heard() -> Sample<Message> {
    sample!(Message::ChannelsHeard { server_time_ms: 61_007_u64, expiry_ms_max: 1_000_u64 })
}

pub fn asks() -> Vec<Sample<ChannelAsk>> {
    vec![
        sample!(ChannelAsk::Post {
            channel: key(),
            body: Box::<str>::from(BODY),
            says: says().value,
            expiry_ms: Some(5_000_u64),
            drawn: ClientToken::from_random([0xd0; 16]),
        }),
        sample!(ChannelAsk::Get { channel: key(), says: ClientSays::default(), known: Some(STATE) }),
        sample!(ChannelAsk::List {}),
        sample!(ChannelAsk::Leave { channel: key(), client: client(), token: Some(token()) }),
        sample!(ChannelAsk::Follow { channel: key() }),
    ]
}

pub fn replies() -> Vec<Sample<ChannelReply>> {
    vec![
        sample!(ChannelReply::Bodies { state: STATE, server_time_ms: 61_007_u64, token: Some(token()) }),
        sample!(ChannelReply::Unchanged { state: STATE, server_time_ms: 61_007_u64 }),
        sample!(ChannelReply::NoUpdate { late: false, token: None::<ClientToken> }),
        sample!(ChannelReply::Channels { channels: vec![key()] }),
        sample!(ChannelReply::Left {}),
        sample!(ChannelReply::NotProxy { proxy: Some(route_sample().value) }),
        sample!(ChannelReply::Refused { refusal: ChannelRefusal::WrongToken }),
        sample!(ChannelReply::Reset {}),
        sample!(ChannelReply::Update { client: client(), body: Box::<str>::from(BODY) }),
        sample!(ChannelReply::Gone { client: client() }),
        sample!(ChannelReply::Complete {}),
        sample!(ChannelReply::Wait {}),
    ]
}

pub const REFUSALS: [ChannelRefusal; 12] = [
    ChannelRefusal::Body,
    ChannelRefusal::ClientId,
    ChannelRefusal::ClientIdTwice,
    ChannelRefusal::OtherClient,
    ChannelRefusal::TooLarge,
    ChannelRefusal::Expiry,
    ChannelRefusal::TokenNeeded,
    ChannelRefusal::WrongToken,
    ChannelRefusal::NoClient,
    ChannelRefusal::TooFast,
    ChannelRefusal::Full,
    ChannelRefusal::Busy,
];

// ---- generators ----

fn any_key() -> impl Strategy<Value = ChannelKey> {
    "[^/\\p{Cc}]{1,30}".prop_map(|text| ChannelKey::parse(&text).expect("a key"))
}

fn any_client() -> impl Strategy<Value = ClientId> {
    ".{1,30}".prop_map(|text| ClientId::parse(&text).expect("an id"))
}

fn any_token() -> impl Strategy<Value = ClientToken> {
    any::<[u8; 16]>().prop_map(ClientToken::from_random)
}

fn any_says() -> impl Strategy<Value = ClientSays> {
    let time = (0.0..f64::MAX).prop_map(|seconds| ClientTime::new(seconds).expect("a time"));
    (option::of(any_client()), option::of(time), option::of(any_token()))
        .prop_map(|(id, time, token)| ClientSays { id, time, token })
}

fn any_state() -> impl Strategy<Value = ChannelState> {
    (number(), number()).prop_map(|(epoch, version)| ChannelState { epoch, version })
}

pub fn any_heard() -> impl Strategy<Value = Message> {
    (number(), number())
        .prop_map(|(server_time_ms, expiry_ms_max)| Message::ChannelsHeard { server_time_ms, expiry_ms_max })
}

pub fn any_ask() -> impl Strategy<Value = ChannelAsk> {
    prop_oneof![
        (any_key(), text(), any_says(), option::of(number()), any_token()).prop_map(
            |(channel, body, says, expiry_ms, drawn)| ChannelAsk::Post {
                channel,
                body,
                says,
                expiry_ms,
                drawn
            }
        ),
        (any_key(), any_says(), option::of(any_state())).prop_map(|(channel, says, known)| ChannelAsk::Get {
            channel,
            says,
            known
        }),
        Just(ChannelAsk::List),
        (any_key(), any_client(), option::of(any_token()))
            .prop_map(|(channel, client, token)| ChannelAsk::Leave { channel, client, token }),
        any_key().prop_map(|channel| ChannelAsk::Follow { channel }),
    ]
}

pub fn any_reply() -> impl Strategy<Value = ChannelReply> {
    prop_oneof![
        (any_state(), number(), option::of(any_token())).prop_map(|(state, server_time_ms, token)| {
            ChannelReply::Bodies { state, server_time_ms, token }
        }),
        (any_state(), number())
            .prop_map(|(state, server_time_ms)| ChannelReply::Unchanged { state, server_time_ms }),
        (any::<bool>(), option::of(any_token()))
            .prop_map(|(late, token)| ChannelReply::NoUpdate { late, token }),
        proptest::collection::vec(any_key(), 0..4).prop_map(|channels| ChannelReply::Channels { channels }),
        prop::sample::select(REFUSALS.to_vec()).prop_map(|refusal| ChannelReply::Refused { refusal }),
        (any_client(), text()).prop_map(|(client, body)| ChannelReply::Update { client, body }),
        any_client().prop_map(|client| ChannelReply::Gone { client }),
    ]
}

// ---- what must be refused ----

#[test]
fn keys_ids_and_times_keep_their_rules() {
    let follow = |key: &str| decode::<ChannelAsk>(&[vec![4], encode(&key)].concat()).is_ok();
    assert!(follow("game") && follow(&"k".repeat(CHANNEL_KEY_BYTES_MAX)));
    for key in ["", "a/b", "a\nb", "\u{85}", &"k".repeat(CHANNEL_KEY_BYTES_MAX + 1)] {
        assert!(!follow(key), "{key:?}");
    }
    let gone = |id: &str| decode::<ChannelReply>(&[vec![9], encode(&id)].concat()).is_ok();
    assert!(gone("a/b\n") && gone(&"k".repeat(CLIENT_ID_BYTES_MAX)));
    assert!(!gone("") && !gone(&"k".repeat(CLIENT_ID_BYTES_MAX + 1)));
    let says = |time: f64| {
        decode::<ClientSays>(&encode(&(None::<ClientId>, Some(time), None::<ClientToken>))).is_ok()
    };
    assert!(says(0.0) && says(12.5) && says(f64::MAX));
    for time in [-0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(!says(time), "{time}");
    }
}
