//! Letters: one value of everything that has bytes, any value, and what must be refused.

use crate::document::Part;
use crate::generators::{instance, label, name, node, number, text};
use crate::samples::{A, B, C, RUN, Sample, around, file_name, sample};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeSet;
use thorp::limits::{
    LABEL_BYTES_MAX, LETTER_ATTACHMENTS_MAX, LETTER_PAYLOAD_BYTES_MAX, LETTER_TYPE_BYTES_MAX, LETTERS_MAX,
    PAGE_BYTES_TARGET, ROSTER_MAX, STREAM_SPANS_MAX,
};
use thorp::types::{Letter, LetterId, LetterPlace, LetterType, NewLetter, NodeId, Priority, StreamId};
use thorp::wire::mail::{Addressee, MailKey, MailRow, PostedLetter, RosterRow, StreamState, StreamSummary};
use thorp::wire::message::{Message, Reply, Request};
use thorp::wire::record::{decode_record, encode_record};
use thorp::wire::{Encode, decode, encode};

// ---- samples ----

const ID: LetterId = LetterId([0x4d; 16]);
const STREAM: StreamId = StreamId { sender: A, instance: RUN, priority: Priority::Normal };
const PLACE: LetterPlace = LetterPlace { stream: STREAM, number: 3 };

fn kind() -> LetterType {
    LetterType::parse("backup.done").expect("a type")
}

pub fn letter() -> Sample<Letter> {
    sample!(Letter {
        id: ID,
        kind: kind(),
        source: Box::<str>::from("attic"),
        target: Some(Box::<str>::from("cellar")),
        created_us: 1_750_000_000_000_000,
        expires_ms: 1_750_604_800_000,
        payload: Box::<str>::from("{\"files\":3}"),
        attachments: vec![file_name("photos/sea.jpg")],
        addressees: vec![B],
    })
}

fn state() -> StreamState {
    StreamState { until_ms: 1_750_604_800_000, done: vec![(1, 2), (5, 5)], cursors: vec![(B, 2), (C, 5)] }
}

fn roster_row() -> Sample<RosterRow> {
    sample!(RosterRow { node: B, name: Box::<str>::from("cellar"), day: 20_254 })
}

pub fn messages() -> Vec<Sample<Message>> {
    let summary = StreamSummary { stream: STREAM, state: state(), held: vec![(3, 4)] };
    vec![
        sample!(Message::Letters { letters: vec![(PLACE, letter().value)], ack: Some(9) }),
        sample!(Message::LettersStored { ack: 9 }),
        sample!(Message::Cursors { cursors: vec![(STREAM, 3)] }),
        sample!(Message::MailDigest { digest: 0x0123_4567_89ab_cdef }),
        sample!(Message::MailSummary {
            after: None,
            streams: vec![summary],
            last: true,
            roster: vec![roster_row().value],
            reply: true,
        }),
    ]
}

pub fn post() -> Sample<Request> {
    let new = NewLetter {
        id: ID,
        kind: kind(),
        target: Some("cellar".into()),
        priority: Priority::Normal,
        lives_ms: 604_800_000,
        payload: "{\"files\":3}".into(),
        attachments: vec![file_name("photos/sea.jpg")],
    };
    sample!(Request::Post {
        sender: A,
        source: Box::<str>::from("attic"),
        letters: vec![new],
        wait_ms: 5_000
    })
}

pub fn posted() -> Sample<Reply> {
    let addressee = Addressee { node: B, name: "cellar".into(), up: true, delivered: false };
    sample!(Reply::Posted { letters: vec![PostedLetter { id: ID, addressees: vec![addressee] }] })
}

pub fn keys() -> Vec<Sample<MailKey>> {
    let one = |name: &str, value: MailKey, label: &str, bytes: Vec<u8>| {
        let fields: Vec<Part> = vec![(label.to_owned(), bytes)];
        Sample::new(name, value, fields)
    };
    vec![
        one("Letter", MailKey::Letter(PLACE), "place", encode(&PLACE)),
        one("Stream", MailKey::Stream(STREAM), "stream", encode(&STREAM)),
        one("Seen", MailKey::Seen(ID), "id", encode(&ID)),
        one("Roster", MailKey::Roster(B), "node", encode(&B)),
    ]
}

pub fn rows() -> Vec<Sample<MailRow>> {
    vec![
        sample!(MailRow::Letter { place: PLACE, letter: letter().value }),
        sample!(MailRow::Stream { stream: STREAM, state: state() }),
        sample!(MailRow::Seen { id: ID, until_ms: 1_750_691_200_000 }),
        around("Roster", roster_row(), MailRow::Roster),
    ]
}

// ---- generators ----

fn letter_id() -> impl Strategy<Value = LetterId> {
    any::<[u8; 16]>().prop_map(LetterId)
}

fn letter_type() -> impl Strategy<Value = LetterType> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}".prop_map(|text| LetterType::parse(&text).expect("a type"))
}

fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.to_vec())
}

fn stream() -> impl Strategy<Value = StreamId> {
    (node(), instance(), priority()).prop_map(|(sender, instance, priority)| StreamId {
        sender,
        instance,
        priority,
    })
}

fn place() -> impl Strategy<Value = LetterPlace> {
    (stream(), number()).prop_map(|(stream, number)| LetterPlace { stream, number })
}

fn addressees() -> impl Strategy<Value = Vec<NodeId>> {
    vec(node(), 0..4).prop_map(|nodes| nodes.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
}

fn any_letter() -> impl Strategy<Value = Letter> {
    let what = (letter_id(), letter_type(), text(), vec(name(), 0..3));
    (what, label(), option::of(label()), number(), number(), addressees()).prop_map(
        |((id, kind, payload, attachments), source, target, created_us, expires_ms, addressees)| Letter {
            id,
            kind,
            source,
            target,
            created_us,
            expires_ms,
            payload,
            attachments,
            addressees,
        },
    )
}

fn new_letter() -> impl Strategy<Value = NewLetter> {
    (letter_id(), letter_type(), option::of(label()), priority(), number(), text(), vec(name(), 0..3))
        .prop_map(|(id, kind, target, priority, lives_ms, payload, attachments)| NewLetter {
            id,
            kind,
            target,
            priority,
            lives_ms,
            payload,
            attachments,
        })
}

fn spans() -> impl Strategy<Value = Vec<(u64, u64)>> {
    vec((number(), number()), 0..4)
}

fn any_state() -> impl Strategy<Value = StreamState> {
    (number(), spans(), vec((node(), number()), 0..4)).prop_map(|(until_ms, done, cursors)| StreamState {
        until_ms,
        done,
        cursors,
    })
}

fn summary() -> impl Strategy<Value = StreamSummary> {
    (stream(), any_state(), spans()).prop_map(|(stream, state, held)| StreamSummary { stream, state, held })
}

fn any_roster_row() -> impl Strategy<Value = RosterRow> {
    (node(), text(), any::<u32>()).prop_map(|(node, name, day)| RosterRow { node, name, day })
}

pub fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (vec((place(), any_letter()), 0..3), option::of(number()))
            .prop_map(|(letters, ack)| Message::Letters { letters, ack }),
        number().prop_map(|ack| Message::LettersStored { ack }),
        vec((stream(), number()), 0..4).prop_map(|cursors| Message::Cursors { cursors }),
        number().prop_map(|digest| Message::MailDigest { digest }),
        (
            option::of(stream()),
            vec(summary(), 0..3),
            any::<bool>(),
            vec(any_roster_row(), 0..3),
            any::<bool>()
        )
            .prop_map(|(after, streams, last, roster, reply)| Message::MailSummary {
                after,
                streams,
                last,
                roster,
                reply
            }),
    ]
}

pub fn any_post() -> impl Strategy<Value = Request> {
    (node(), text(), vec(new_letter(), 0..3), number())
        .prop_map(|(sender, source, letters, wait_ms)| Request::Post { sender, source, letters, wait_ms })
}

pub fn any_posted() -> impl Strategy<Value = Reply> {
    let addressee = (node(), text(), any::<bool>(), any::<bool>())
        .prop_map(|(node, name, up, delivered)| Addressee { node, name, up, delivered });
    let posted =
        (letter_id(), vec(addressee, 0..3)).prop_map(|(id, addressees)| PostedLetter { id, addressees });
    vec(posted, 0..3).prop_map(|letters| Reply::Posted { letters })
}

pub fn any_row() -> impl Strategy<Value = MailRow> {
    prop_oneof![
        (place(), any_letter()).prop_map(|(place, letter)| MailRow::Letter { place, letter }),
        (stream(), any_state()).prop_map(|(stream, state)| MailRow::Stream { stream, state }),
        (letter_id(), number()).prop_map(|(id, until_ms)| MailRow::Seen { id, until_ms }),
        any_roster_row().prop_map(MailRow::Roster),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_row_and_its_key_come_back(row in any_row()) {
        prop_assert_eq!(decode_record(&encode_record(&row)).ok(), Some(row.clone()));
        prop_assert_eq!(decode(&encode(&row.key())).ok(), Some(row.key()));
    }
}

// ---- what must be refused ----

/// A letter that breaks a rule, as all three that carry one: heard, given, stored.
fn is_read(letter: &Letter) -> [bool; 2] {
    let row = MailRow::Letter { place: PLACE, letter: letter.clone() };
    let heard = Message::Letters { letters: vec![(PLACE, letter.clone())], ack: None };
    [decode::<Message>(&encode(&heard)).is_ok(), decode_record::<MailRow>(&encode_record(&row)).is_ok()]
}

fn is_taken(new: &NewLetter) -> bool {
    let post = Request::Post { sender: A, source: "attic".into(), letters: vec![new.clone()], wait_ms: 0 };
    decode::<Request>(&encode(&post)).is_ok()
}

fn nodes(count: usize) -> Vec<NodeId> {
    let id = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId(id)
    };
    (0..count).map(id).collect()
}

fn long(bytes: usize) -> Box<str> {
    "x".repeat(bytes).into()
}

#[test]
fn a_letter_keeps_its_rules() {
    let good = letter().value;
    let allowed = [
        good.clone(),
        Letter { payload: long(LETTER_PAYLOAD_BYTES_MAX), ..good.clone() },
        Letter { attachments: vec![file_name("a"); LETTER_ATTACHMENTS_MAX], ..good.clone() },
        Letter { addressees: nodes(ROSTER_MAX), ..good.clone() },
        Letter { addressees: vec![], target: None, payload: "".into(), ..good.clone() },
        Letter { source: long(LABEL_BYTES_MAX), ..good.clone() },
    ];
    for letter in &allowed {
        assert_eq!(is_read(letter), [true; 2], "{letter:?}");
    }
    let mut refused = vec![
        Letter { payload: long(LETTER_PAYLOAD_BYTES_MAX + 1), ..good.clone() },
        Letter { attachments: vec![file_name("a"); LETTER_ATTACHMENTS_MAX + 1], ..good.clone() },
        Letter { addressees: nodes(ROSTER_MAX + 1), ..good.clone() },
        Letter { addressees: vec![B, A], ..good.clone() },
        Letter { addressees: vec![B, B], ..good.clone() },
    ];
    let labels = ["".into(), "a\nb".into(), "\u{1b}[2J".into(), "a\u{85}".into(), long(LABEL_BYTES_MAX + 1)];
    for label in labels {
        refused.push(Letter { source: label.clone(), ..good.clone() });
        refused.push(Letter { target: Some(label), ..good.clone() });
    }
    for letter in &refused {
        assert_eq!(is_read(letter), [false; 2], "{letter:?}");
    }
}

#[test]
fn a_new_letter_keeps_its_rules() {
    let Request::Post { letters, .. } = post().value else { panic!("a post") };
    let good = letters[0].clone();
    assert!(is_taken(&good));
    assert!(is_taken(&NewLetter { payload: long(LETTER_PAYLOAD_BYTES_MAX), ..good.clone() }));
    assert!(!is_taken(&NewLetter { payload: long(LETTER_PAYLOAD_BYTES_MAX + 1), ..good.clone() }));
    let attachments = vec![file_name("a"); LETTER_ATTACHMENTS_MAX + 1];
    assert!(!is_taken(&NewLetter { attachments, ..good.clone() }));
    for label in ["", "a\0b", "\n"] {
        assert!(!is_taken(&NewLetter { target: Some(label.into()), ..good.clone() }), "{label:?}");
    }
}

#[test]
fn types_and_priorities_are_none_but_those_that_there_are() {
    let of = |kind: &str| {
        let letter = letter().value;
        let (head, tail) =
            ((letter.id, kind, &letter.source, &letter.target), (1_u8, 2_u8, "{}", 0_u8, 0_u8));
        decode::<Letter>(&[encode(&head), encode(&tail)].concat()).is_ok()
    };
    let most = "a".repeat(LETTER_TYPE_BYTES_MAX);
    for good in ["a", "backup.done", "9-x_Y", "thorp.node.lost", &most] {
        assert!(of(good), "{good:?}");
    }
    let long = format!("{most}a");
    for bad in ["", ".", "..", "../../bin/sh", "a/b", "a\\b", "-rf", "a b", "a\0", "a\n", "é", &long] {
        assert!(!of(bad), "{bad:?}");
    }
    for (tag, right) in (0..=255_u8).map(|tag| (tag, tag < 3)) {
        assert_eq!(decode::<Priority>(&[tag]).is_ok(), right, "{tag}");
        let stream = [encode(&A), encode(&RUN), vec![tag]].concat();
        assert_eq!(decode::<StreamId>(&stream).is_ok(), right, "{tag}");
    }
}

#[test]
fn names_of_attachments_are_names() {
    let of = |name: &str| {
        let new = (ID.0, "note", 0_u8, 1_u8, 5_u8, "{}", vec![name.to_owned()]);
        decode::<NewLetter>(&encode(&new)).is_ok()
    };
    assert!(of("photos/sea.jpg"));
    for bad in ["", "..", "/etc/passwd", "../x", "a\nb"] {
        assert!(!of(bad), "{bad:?}");
    }
}

/// The largest that is ever sent must pass the limits that keep out lies.
#[test]
fn the_largest_pages_of_letters_fit() {
    fn fits<T: Encode + thorp::wire::Decode<()> + PartialEq>(value: &T) -> bool {
        decode::<T>(&encode(value)).is_ok_and(|read| read == *value)
    }
    let far = u64::MAX / 2;
    let spans = |count: usize| (0..count as u64).map(|n| (far + 2 * n, far + 2 * n)).collect::<Vec<_>>();
    let cursors = nodes(ROSTER_MAX).into_iter().map(|node| (node, u64::MAX - 1)).collect();
    let state = StreamState { until_ms: u64::MAX, done: spans(STREAM_SPANS_MAX), cursors };
    let summary = StreamSummary { stream: STREAM, state, held: spans(LETTERS_MAX) };
    let roster = nodes(ROSTER_MAX).into_iter();
    let roster = roster.map(|node| RosterRow { node, name: long(LABEL_BYTES_MAX), day: u32::MAX }).collect();
    let streams = vec![summary];
    assert!(fits(&Message::MailSummary { after: Some(STREAM), streams, last: true, roster, reply: true }));
    let small = Letter { payload: "1".into(), attachments: vec![], ..letter().value };
    let letters = vec![(PLACE, small); PAGE_BYTES_TARGET / 256];
    assert!(fits(&Message::Letters { letters, ack: Some(u64::MAX) }));
}
