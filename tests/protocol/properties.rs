//! Any value comes back as it was sent; any bytes are survived.

use crate::channels;
use crate::examples;
use crate::folders;
use crate::generators;
use crate::run;
use proptest::prelude::*;
use thorp::limits::DATAGRAM_BYTES_MAX;
use thorp::types::Version;
use thorp::wire::channel::{ChannelAsk, ChannelReply};
use thorp::wire::datagram::{Datagram, Tags, encode_datagram, open_datagram};
use thorp::wire::frame::{FRAME_PREFIX_BYTES, FramePrefix};
use thorp::wire::mail::{MailKey, MailRow};
use thorp::wire::message::{Hello, Message, Reply, Request, check_presence};
use thorp::wire::record::{ContentRecord, decode_record, encode_record};
use thorp::wire::run::RunFrame;
use thorp::wire::transfer::TransferFrame;
use thorp::wire::{Decode, Encode, decode, encode};

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn comes_back<T: Encode + Decode<()> + PartialEq + std::fmt::Debug>(value: &T) -> Result<(), TestCaseError> {
    let bytes = encode(value);
    match decode::<T>(&bytes) {
        Ok(read) => prop_assert_eq!(&read, value),
        Err(error) => prop_assert!(false, "{}", error),
    }
    let more = [bytes.as_slice(), &[0]].concat();
    prop_assert!(decode::<T>(&more).is_err(), "a byte too many");
    prop_assert!(decode::<T>(&bytes[..bytes.len() - 1]).is_err(), "a byte too few");
    Ok(())
}

/// Whatever is read can be written, and is then read as the same.
fn survives<T: Encode + Decode<()> + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(value) = decode::<T>(bytes) {
        let again = encode(&value);
        prop_assert!(again.len() <= bytes.len(), "the shortest form is longer");
        prop_assert_eq!(&decode::<T>(&again).ok(), &Some(value));
    }
    Ok(())
}

fn everything_survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    survives::<Hello>(bytes)?;
    survives::<Message>(bytes)?;
    survives::<Request>(bytes)?;
    survives::<Reply>(bytes)?;
    survives::<TransferFrame>(bytes)?;
    survives::<Vec<Version>>(bytes)?;
    survives::<ContentRecord>(bytes)?;
    survives::<MailRow>(bytes)?;
    survives::<MailKey>(bytes)?;
    survives::<ChannelAsk>(bytes)?;
    survives::<ChannelReply>(bytes)?;
    survives::<RunFrame>(bytes)?;
    let _ = decode_record::<Vec<Version>>(bytes);
    let _ = decode_record::<ContentRecord>(bytes);
    if let Ok(sealed) = open_datagram(bytes) {
        prop_assert_eq!(sealed.sealed_bytes().len(), bytes.len());
        if let Ok(Datagram::Beacon(presence)) = sealed.datagram() {
            prop_assert!(check_presence(&presence).is_ok());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_presence_comes_back(presence in generators::presence()) {
        prop_assert!(check_presence(&presence).is_ok());
        comes_back(&presence)?;
    }

    #[test]
    fn any_datagram_comes_back(
        datagram in generators::datagram(),
        name in any::<[u8; 8]>(),
        key in any::<[u8; 8]>(),
        seal in any::<[u8; 16]>(),
    ) {
        let tags = Tags { name, key };
        let bytes = encode_datagram(&datagram, tags, |_| seal);
        prop_assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
        let sealed = open_datagram(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!((sealed.tags, sealed.seal), (tags, seal));
        prop_assert_eq!(sealed.datagram().ok(), Some(datagram));
    }

    #[test]
    fn any_hello_comes_back(hello in generators::hello()) {
        comes_back(&hello)?;
    }

    #[test]
    fn any_message_comes_back(message in generators::message()) {
        comes_back(&message)?;
    }

    #[test]
    fn any_request_comes_back(request in generators::request()) {
        comes_back(&request)?;
    }

    #[test]
    fn any_frame_of_a_sync_comes_back(frame in folders::any_frame()) {
        comes_back(&frame)?;
    }

    #[test]
    fn any_ask_about_channels_comes_back(ask in channels::any_ask()) {
        comes_back(&ask)?;
    }

    #[test]
    fn any_reply_about_channels_comes_back(reply in channels::any_reply()) {
        comes_back(&reply)?;
    }

    #[test]
    fn any_frame_about_programs_comes_back(frame in run::any_frame()) {
        comes_back(&frame)?;
    }

    #[test]
    fn any_reply_comes_back(reply in generators::reply()) {
        comes_back(&reply)?;
    }

    #[test]
    fn any_transfer_frame_comes_back(frame in generators::transfer_frame()) {
        comes_back(&frame)?;
    }

    #[test]
    fn any_record_comes_back(
        versions in prop::collection::vec(generators::version(), 0..4),
        content in generators::content_record(),
    ) {
        prop_assert_eq!(decode_record(&encode_record(&versions)).ok(), Some(versions));
        prop_assert_eq!(decode_record(&encode_record(&content)).ok(), Some(content));
    }
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn any_prefix_keeps_its_promise(bytes in any::<[u8; FRAME_PREFIX_BYTES]>()) {
        if let Ok(prefix) = FramePrefix::decode(bytes) {
            prop_assert!((1..=1 << 20).contains(&prefix.head_bytes) && prefix.payload_bytes <= 4 << 20);
            prop_assert_eq!(prefix.encode(), bytes);
        }
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        everything_survives(&bytes)?;
    }

    /// Small bytes are lengths, tags and flags that are valid: decoding gets further with them.
    #[test]
    fn small_bytes_are_survived(bytes in prop::collection::vec(0..20_u8, 0..300)) {
        everything_survives(&bytes)?;
    }

    #[test]
    fn random_bodies_of_datagrams_are_survived(
        kind in 0..5_u8,
        body in prop::collection::vec(prop_oneof![0..20_u8, any::<u8>()], 0..300),
    ) {
        let mut bytes = b"THRP\x01".to_vec();
        bytes.push(kind);
        bytes.extend([0; 32]);
        bytes.extend(body);
        everything_survives(&bytes)?;
    }
}

#[test]
fn damaged_examples_are_survived() {
    let whole: Vec<Vec<u8>> = examples::all().iter().map(examples::Example::bytes).collect();
    let damage = (
        prop::sample::select(whole),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        any::<prop::sample::Index>(),
        prop::collection::vec(any::<u8>(), 0..3),
    );
    proptest!(cases(10_000), |((mut bytes, changes, at, inserted) in damage)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let at = at.index(bytes.len());
        bytes.splice(at..at, inserted);
        everything_survives(&bytes)?;
    });
}
