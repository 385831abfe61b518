//! What must be refused, and at what cost.

use crate::examples::{self, Example};
use crate::run;
use crate::samples::{self, A, RUN, X};
use thorp::limits::{
    DATAGRAM_BYTES_MAX, FRAME_HEAD_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, LABEL_BYTES_MAX, LINEAGE_MAX,
    OFFER_WINDOW_CHUNKS, SYMLINK_BYTES_MAX, SYNC_BUCKETS,
};
use thorp::types::{ContentId, FileName, Lineage, Presence, Version};
use thorp::wire::channel::{ChannelAsk, ChannelReply};
use thorp::wire::datagram::{Datagram, Tags, encode_datagram, open_datagram};
use thorp::wire::frame::FramePrefix;
use thorp::wire::message::{Context, Hello, Message, Reply, Request, check_presence};
use thorp::wire::record::{ContentRecord, decode_record};
use thorp::wire::run::RunFrame;
use thorp::wire::transfer::TransferFrame;
use thorp::wire::{Decode, DecodeError, Encode, decode, encode};

fn readable() -> impl Iterator<Item = (Example, Vec<u8>)> {
    examples::all().into_iter().filter(|example| example.read.is_some()).map(|example| {
        let bytes = example.bytes();
        (example, bytes)
    })
}

fn read(example: &Example, bytes: &[u8]) -> Result<bool, DecodeError> {
    example.read.as_ref().expect("readable")(bytes)
}

// ---- every example ----

#[test]
fn every_example_is_refused_when_cut_short_anywhere() {
    for (example, bytes) in readable() {
        for keep in 0..bytes.len() {
            assert!(read(&example, &bytes[..keep]).is_err(), "{} cut to {keep} bytes", example.name);
        }
    }
}

#[test]
fn every_example_is_refused_with_a_byte_too_many() {
    for (example, bytes) in readable() {
        for more in [0x00, 0x01, 0xff] {
            let bytes = [bytes.as_slice(), &[more]].concat();
            assert!(read(&example, &bytes).is_err(), "{} and {more:#04x}", example.name);
        }
    }
}

#[test]
fn no_changed_byte_of_an_example_does_harm() {
    for (example, bytes) in readable() {
        for at in 0..bytes.len() {
            for changed in [0x00, 0xff, 0xfb, 0xfd, !bytes[at], bytes[at] ^ 0x80, bytes[at].wrapping_add(1)] {
                let mut bytes = bytes.clone();
                bytes[at] = changed;
                // Refused or another value: never a panic, never the same value unless unchanged.
                // Bytes outside a datagram's body and a varint's length marker are the exceptions.
                let _ = read(&example, &bytes);
            }
        }
    }
}

// ---- lengths ----

/// Says whether bytes are read as a value of one type.
type Reads = fn(&[u8]) -> bool;

fn reads<T: Decode<()>>(bytes: &[u8]) -> bool {
    decode::<T>(bytes).is_ok()
}

/// Each lies about how much is to come; without a limit it asks for more memory than there is.
fn bombs() -> Vec<(&'static str, Reads, Vec<u8>)> {
    let of = |parts: &[&[u8]]| parts.concat();
    let (term, context) = (encode(&samples::TERM), encode(&Context::default()));
    // Fits the limit of a frame, taken alone; nested it would not.
    let frame = encode(&((1_u64 << 20) - 64));
    let lengths = [encode(&(1_u64 << 60)), encode(&(1_u64 << 32)), encode(&u64::MAX), frame.clone()];
    let mut bombs: Vec<(&'static str, Reads, Vec<u8>)> = Vec::new();
    for length in &lengths {
        bombs.extend::<[(_, Reads, _); 30]>([
            ("hello: a label", reads::<Hello>, of(&[&[1], &A.0, &[1], length])),
            ("hello: lineage", reads::<Hello>, of(&[&[1], &A.0, &[1, 1, b'm', 0], length])),
            ("gossip: routes", reads::<Message>, of(&[&[2], length])),
            ("gossip: a route's name", reads::<Message>, of(&[&[2, 1], &A.0, length])),
            ("gossip: addresses", reads::<Message>, of(&[&[2, 1], &A.0, &[1, b'n', 1, b'm'], length])),
            ("delta: dots", reads::<Message>, of(&[&[3], &term, length])),
            ("delta: names", reads::<Message>, of(&[&[3], &term, &[0], length])),
            ("delta: versions", reads::<Message>, of(&[&[3], &term, &[0, 1, 1, b'a'], length])),
            (
                "delta: settings",
                reads::<Message>,
                of(&[&[3], &term, &[0, 1, 1, b'a', 1, 1, 1, 2, 0, 0, 1, 1], length]),
            ),
            ("sync: prefixes", reads::<Message>, of(&[&[5, 1], length])),
            ("sync: buckets", reads::<Message>, of(&[&[5, 1], &context, length])),
            ("inventory: contents", reads::<Message>, of(&[&[7], &term, &[0; 16], &[0], length])),
            ("put: names", reads::<Request>, of(&[&[0], length])),
            ("put: a name", reads::<Request>, of(&[&[0, 1], length])),
            ("committed: holders", reads::<Reply>, of(&[&[2], length])),
            ("committed: holders of holders", reads::<Reply>, of(&[&[2], &frame, length, &frame, length])),
            ("offer: chunks", reads::<TransferFrame>, of(&[&[2, 0, 0], length])),
            ("need: flags", reads::<TransferFrame>, of(&[&[3, 0, 0], length])),
            ("failed: text", reads::<TransferFrame>, of(&[&[7, 0], length])),
            ("letters", reads::<Message>, of(&[&[18], length])),
            ("letters: a type", reads::<Message>, of(&[&[18, 1], &A.0, &[1, 1, 1], &[7; 16], length])),
            ("letters: spans", reads::<Message>, of(&[&[22, 0, 1], &A.0, &[1, 1, 1], length])),
            ("letters: cursors", reads::<Message>, of(&[&[22, 0, 1], &A.0, &[1, 1, 1, 0], length])),
            ("letters: held", reads::<Message>, of(&[&[22, 0, 1], &A.0, &[1, 1, 1, 0, 0], length])),
            ("letters: machines", reads::<Message>, of(&[&[22, 0, 0, 1], length])),
            ("cursors", reads::<Message>, of(&[&[20], length])),
            ("post: letters", reads::<Request>, of(&[&[11], &A.0, &[1, b'a'], length])),
            (
                "post: a payload",
                reads::<Request>,
                of(&[&[11], &A.0, &[1, b'a', 1], &[7; 16], &[1, b'n', 0, 1, 5], length]),
            ),
            ("record: versions", reads::<Vec<Version>>, length.clone()),
            ("twelve bytes", reads::<Vec<u8>>, of(&[length, &[0; 3]])),
        ]);
        for (name, head) in run::heads() {
            bombs.push((name, reads::<RunFrame>, of(&[&head, length])));
        }
    }
    bombs
}

#[test]
fn lengths_that_lie_are_refused() {
    for (name, reads, bytes) in bombs() {
        assert!(!reads(&bytes), "{name}: {bytes:02x?}");
    }
    // And the same places take an honest length.
    let empty = |head: &[u8], tail: &[u8]| [head, &[0], tail].concat();
    let term = encode(&samples::TERM);
    assert!(reads::<Message>(&empty(&[2], &[])));
    assert!(reads::<Message>(&empty(&[&[3], term.as_slice(), &[0, 1, 1, b'a']].concat(), &[0, 0])));
    assert!(reads::<TransferFrame>(&empty(&[2, 0, 0], &[0])));
}

/// The lies again, in a process that may not have much memory: who believes one is killed.
#[test]
#[cfg(target_os = "linux")]
fn lengths_that_lie_cost_no_memory() {
    const CHILD: &str = "THORP_PROTOCOL_BOMBS";
    /// Address space of the child in KiB: what the program itself takes, and some.
    const ROOM_KIB: usize = 192 << 10;
    if std::env::var_os(CHILD).is_none() {
        let child = std::process::Command::new("sh")
            .args(["-c", &format!("ulimit -v {ROOM_KIB} && exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().expect("known"))
            .args(["--exact", "hostile::lengths_that_lie_cost_no_memory", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .expect("started");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        let stdout = String::from_utf8_lossy(&child.stdout);
        assert!(stdout.contains("1 passed"), "the child ran something else: {stdout}");
        return;
    }
    let peak_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("readable");
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("there");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    assert!(Vec::<u8>::new().try_reserve_exact(ROOM_KIB << 10).is_err(), "the room is limited");
    let before = peak_kib();
    for (name, reads, bytes) in bombs() {
        assert!(!reads(&bytes), "{name}");
    }
    assert!(peak_kib() < before + (8 << 10), "{} KiB more", peak_kib() - before);
}

#[test]
fn more_bytes_than_a_head_may_have_are_not_looked_at() {
    let bytes = vec![0; FRAME_HEAD_BYTES_MAX + 1];
    assert!(matches!(decode::<Message>(&bytes), Err(DecodeError::TooLong { .. })));
    assert!(matches!(decode::<Vec<u8>>(&bytes), Err(DecodeError::TooLong { .. })));
}

/// The largest that is ever sent must pass the limits that keep out lies.
#[test]
fn the_largest_pages_fit() {
    let contents = vec![X; 8_192];
    let inventory =
        Message::Inventory { term: samples::TERM, disk: samples::DISK, page: 0, contents, last: true };
    let offer = TransferFrame::Offer {
        content_no: u32::MAX,
        first: u32::MAX,
        chunks: vec![samples::CHUNK; OFFER_WINDOW_CHUNKS],
        end: None,
    };
    let ask = Message::SyncAsk {
        session: u64::MAX,
        context: Context { prefixes: vec![(RUN, u64::MAX); 1_000], extra: vec![samples::DOT; 10_000] },
        buckets: vec![u64::MAX; SYNC_BUCKETS],
    };
    let name: FileName = samples::file_name(&format!("{0}/{0}/{0}/{0}", "n".repeat(255)));
    let rows = vec![(name, vec![samples::version_sample().value]); 256];
    let page = Message::SyncPage {
        session: 1,
        page: 0,
        context: Some(Context::default()),
        buckets: (0..1024).collect(),
        names: rows,
        last: true,
    };
    for message in [inventory, ask, page] {
        assert_eq!(decode::<Message>(&encode(&message)).expect("fits"), message);
    }
    assert_eq!(decode::<TransferFrame>(&encode(&offer)).expect("fits"), offer);
}

/// A list counts by the memory its items take, not by their bytes: see the document, Lists.
#[test]
fn a_list_may_take_a_frames_worth_of_memory() {
    let context = |dots: usize| Context { prefixes: vec![], extra: vec![samples::DOT; dots] };
    assert!(decode::<Context>(&encode(&context(65_000))).is_ok());
    assert!(decode::<Context>(&encode(&context(65_537))).is_err());
}

// ---- tags, flags, varints ----

#[test]
fn unknown_tags_are_refused() {
    let refused = |what: &str, error: Option<DecodeError>| {
        assert!(matches!(error, Some(DecodeError::Malformed(_))), "{what}: {error:?}");
    };
    let tail = [0; 200];
    let frame = |tag: u8| [&[tag], tail.as_slice()].concat();
    // 251 to 253 start a longer number.
    for tag in (24..=250_u8).chain([254, 255]) {
        refused("a message", decode::<Message>(&frame(tag)).err());
        refused("a request", decode::<Request>(&frame(tag)).err());
        refused("a reply", decode::<Reply>(&frame(tag)).err());
        refused("a transfer", decode::<TransferFrame>(&frame(tag)).err());
        refused("about a channel", decode::<ChannelAsk>(&frame(tag)).err());
        refused("of a channel", decode::<ChannelReply>(&frame(tag)).err());
    }
    for (name, at) in [
        ("request-list", 1),      // selector
        ("transfer-failed", 1),   // error code
        ("transfer-fetch", 34),   // part of a content
        ("version", 10),          // body
        ("node-route", 34),       // address family
        ("record-content", 6),    // flag
        ("value-bool-true", 0),   // flag
        ("value-option-some", 0), // option
    ] {
        let (example, mut bytes) = readable().find(|(example, _)| example.name == name).expect(name);
        bytes[at] = 10;
        assert!(read(&example, &bytes).is_err(), "{name}: byte {at}");
    }
}

#[test]
fn flags_and_options_are_nought_or_one() {
    for byte in 2..=255_u8 {
        assert!(decode::<bool>(&[byte]).is_err());
        assert!(decode::<Option<bool>>(&[byte, 1]).is_err());
    }
}

#[test]
fn overlong_varints_have_one_meaning_and_are_never_written() {
    // The document allows a longer form of a number where its type has room for it.
    assert_eq!(decode::<u64>(&[0xfb, 5, 0]).ok(), Some(5));
    assert_eq!(decode::<u64>(&[0xfd, 5, 0, 0, 0, 0, 0, 0, 0]).ok(), Some(5));
    assert_eq!(encode(&5_u64), [5]);
    assert_eq!(decode::<Message>(&[0xfb, 1, 0]).ok(), Some(Message::Goodbye));
    // And refuses markers of longer types, and reserved ones.
    for marker in [0xfc, 0xfd, 0xfe, 0xff] {
        assert!(decode::<u16>(&[&[marker], [0; 16].as_slice()].concat()).is_err(), "{marker:#x}");
    }
    for marker in [0xfd, 0xfe, 0xff] {
        assert!(decode::<u32>(&[&[marker], [0; 16].as_slice()].concat()).is_err(), "{marker:#x}");
    }
    for marker in [0xfe, 0xff] {
        let long = [&[marker], [0; 16].as_slice()].concat();
        assert!(decode::<u64>(&long).is_err() && decode::<i64>(&long).is_err(), "{marker:#x}");
    }
    // Eleven bytes as other programs write varints: one number and what is left over.
    assert!(matches!(decode::<u64>(&[0x80; 11]), Err(DecodeError::Trailing(10))));
}

#[test]
fn a_full_frame_of_one_byte_is_survived() {
    for byte in 0..=255_u8 {
        let bytes = vec![byte; FRAME_HEAD_BYTES_MAX];
        for reads in [
            reads::<Hello> as Reads,
            reads::<Message>,
            reads::<Request>,
            reads::<Reply>,
            reads::<TransferFrame>,
            reads::<Vec<Version>>,
            reads::<Vec<Vec<u64>>>,
        ] {
            reads(&bytes);
        }
    }
}

// ---- names, labels, links inside frames ----

/// A request for the row of one name, whatever the name.
fn list_bytes(name: &[u8]) -> Vec<u8> {
    [&[3, 0], encode(&(name.len() as u64)).as_slice(), name, &[0]].concat()
}

#[test]
fn invalid_names_do_not_get_through() {
    let good = decode::<Request>(&list_bytes("a/ü".as_bytes()));
    assert!(matches!(good, Ok(Request::List { .. })), "the frame itself is right: {good:?}");
    for name in ["...", "-rf", "--output=x", "~root", "C:", "\u{200b}", "<img src=x onerror=1>"] {
        assert!(decode::<Request>(&list_bytes(name.as_bytes())).is_ok(), "{name:?}");
    }
    let long_part = "a".repeat(256);
    let long = "a/".repeat(600) + "a";
    for name in [
        "",
        ".",
        "..",
        "../../.ssh/authorized_keys",
        "/etc/passwd",
        "..\\..\\x",
        "C:\\x",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "a\0b",
        "a\nb",
        "x\r\nSet-Cookie: y",
        "\u{1b}[2J",
        "\u{1b}]52;c;x\u{7}",
        "a\u{85}b",
        "a\u{2028}b",
        &long_part,
        &long,
    ] {
        let refused = decode::<Request>(&list_bytes(name.as_bytes()));
        assert!(matches!(refused, Err(DecodeError::Malformed(_))), "{name:?}: {refused:?}");
    }
    for name in [&[0xff][..], &[0xc0, 0xaf], &[0xed, 0xa0, 0x80], &[0xf4, 0x90, 0x80, 0x80], &[b'a', 0xc3]] {
        assert!(decode::<Request>(&list_bytes(name)).is_err(), "not UTF-8: {name:02x?}");
    }
}

#[test]
fn invalid_names_do_not_get_through_in_lists_either() {
    let remove = |name: &str| encode(&(5_u32, vec!["ok".to_owned(), name.to_owned()], false));
    assert!(decode::<Request>(&remove("fine")).is_ok());
    assert!(decode::<Request>(&remove("../x")).is_err());
    let delta = |name: &str| {
        let names = vec![(name.to_owned(), Vec::<Version>::new())];
        encode(&(3_u32, samples::TERM, Vec::<u8>::new(), names, None::<u64>, Vec::<ContentId>::new()))
    };
    assert!(decode::<Message>(&delta("fine")).is_ok());
    assert!(decode::<Message>(&delta("/etc/passwd")).is_err());
}

#[test]
fn invalid_labels_do_not_get_through() {
    let hello = |machine: &str| encode(&(1_u8, A, RUN, machine, 0_u32, Vec::<Lineage>::new(), 1_u16));
    assert!(decode::<Hello>(&hello("machine")).is_ok());
    for machine in ["", "a\nb", "\u{1b}[2J", &"m".repeat(LABEL_BYTES_MAX + 1)] {
        assert!(decode::<Hello>(&hello(machine)).is_err(), "{machine:?}");
    }
}

#[test]
fn invalid_links_do_not_get_through() {
    let version = |target: &str| {
        encode(&vec![(samples::DOT, (1_u8, target), 0o777_u16, 0_i64, (1_u8, None::<u8>), 0_u8)])
    };
    assert!(decode::<Vec<Version>>(&version("../../anything is only text")).is_ok());
    assert!(decode::<Vec<Version>>(&version(&"x".repeat(SYMLINK_BYTES_MAX))).is_ok());
    for target in ["", "a\0b", &"x".repeat(SYMLINK_BYTES_MAX + 1)] {
        assert!(decode::<Vec<Version>>(&version(target)).is_err(), "{} bytes", target.len());
    }
}

#[test]
fn a_presence_keeps_its_rules() {
    let good = samples::presence_sample().value;
    assert!(check_presence(&good).is_ok());
    let long: Box<str> = "x".repeat(LABEL_BYTES_MAX + 1).into();
    let bad = [
        Presence { name: "".into(), ..good.clone() },
        Presence { name: long.clone(), ..good.clone() },
        Presence { name: "a\u{1b}b".into(), ..good.clone() },
        Presence { version: long, ..good.clone() },
        Presence { version: "\n".into(), ..good.clone() },
        Presence { lineage: vec![], ..good.clone() },
        Presence { lineage: vec![samples::CLUSTER; LINEAGE_MAX + 1], ..good.clone() },
        Presence { tcp_port: 0, ..good.clone() },
    ];
    for presence in bad {
        assert!(check_presence(&presence).is_err(), "{presence:?}");
        let bytes = encode_datagram(&Datagram::Beacon(Box::new(presence)), TAGS, toy_seal);
        assert!(open_datagram(&bytes).expect("ours").datagram().is_err());
    }
}

// ---- prefixes of frames ----

#[test]
fn prefixes_are_held_to_their_limits() {
    let of = |head: u32, payload: u32| {
        let bytes: Vec<u8> = [head.to_le_bytes(), payload.to_le_bytes()].concat();
        FramePrefix::decode(*bytes.first_chunk().expect("eight bytes"))
    };
    let (head, payload) = (FRAME_HEAD_BYTES_MAX as u32, FRAME_PAYLOAD_BYTES_MAX as u32);
    for (good_head, good_payload) in [(1, 0), (1, payload), (head, 0), (head, payload)] {
        let prefix = of(good_head, good_payload).expect("within the limits");
        assert_eq!((prefix.head_bytes, prefix.payload_bytes), (good_head as usize, good_payload as usize));
    }
    assert!(matches!(of(0, 0), Err(DecodeError::Malformed(_))));
    assert!(matches!(of(0, payload), Err(DecodeError::Malformed(_))));
    // -1 and the least number, for those who read them as signed.
    for bad in [u32::MAX, 0x8000_0000, 0x7fff_ffff, head + 1, payload + 1] {
        assert!(matches!(of(bad, 0), Err(DecodeError::TooLong { .. })), "{bad}");
        if bad > payload {
            assert!(matches!(of(1, bad), Err(DecodeError::TooLong { .. })), "{bad}");
        }
    }
}

// ---- datagrams ----

const TAGS: Tags = Tags { name: [1; 8], key: [2; 8] };

/// Depends on every bit and on its place; no MAC, but it shows what is covered.
fn toy_seal(bytes: &[u8]) -> [u8; 16] {
    let mut seal = [0x5a_u8; 16];
    for (at, byte) in bytes.iter().enumerate() {
        let place = at % 16;
        seal[place] = seal[place].rotate_left(3) ^ byte.wrapping_add(u8::try_from(at / 16).unwrap_or(0));
    }
    seal
}

fn is_right(bytes: &[u8]) -> bool {
    open_datagram(bytes).is_ok_and(|sealed| toy_seal(&sealed.sealed_bytes()) == sealed.seal)
}

fn beacon() -> Vec<u8> {
    let presence = samples::presence_sample().value;
    encode_datagram(&Datagram::Beacon(Box::new(presence)), TAGS, toy_seal)
}

#[test]
fn what_is_no_datagram_of_ours_is_refused() {
    let good = beacon();
    assert!(is_right(&good));
    assert!(matches!(open_datagram(&[]), Err(DecodeError::Foreign)));
    assert!(matches!(open_datagram(b"T"), Err(DecodeError::Foreign)));
    assert!(matches!(open_datagram(&good[..37]), Err(DecodeError::Foreign)));
    for length in [DATAGRAM_BYTES_MAX + 1, 65_507] {
        let mut long = good.clone();
        long.resize(length, 0);
        assert!(matches!(open_datagram(&long), Err(DecodeError::TooLong { .. })), "{length}");
    }
    for at in 0..4 {
        let mut other = good.clone();
        other[at] ^= 0x20;
        assert!(matches!(open_datagram(&other), Err(DecodeError::Foreign)));
    }
    for version in [0, 2, 255] {
        let mut other = good.clone();
        other[4] = version;
        assert!(matches!(open_datagram(&other), Err(DecodeError::Version(found)) if found == version));
    }
    for kind in [0, 4, 255] {
        let mut other = good.clone();
        other[5] = kind;
        assert!(open_datagram(&other).expect("readable").datagram().is_err(), "kind {kind}");
    }
    // A body of another kind is none of this one.
    for kind in [2, 3] {
        let mut other = good.clone();
        other[5] = kind;
        assert!(open_datagram(&other).expect("readable").datagram().is_err(), "kind {kind}");
    }
}

#[test]
fn a_padded_or_shortened_datagram_is_refused() {
    let mut padded = beacon();
    padded.push(0);
    assert!(!is_right(&padded), "the seal covers the length");
    assert!(matches!(open_datagram(&padded).expect("readable").datagram(), Err(DecodeError::Trailing(1))));
    let whole = beacon();
    for keep in 38..whole.len() {
        let sealed = open_datagram(&whole[..keep]).expect("readable");
        assert!(sealed.datagram().is_err(), "{keep} bytes");
    }
}

#[test]
fn every_bit_of_the_seal_counts() {
    for bit in 0..128 {
        let mut bytes = beacon();
        bytes[22 + bit / 8] ^= 1 << (bit % 8);
        assert!(!is_right(&bytes), "bit {bit}");
    }
    let mut none = beacon();
    none[22..38].fill(0);
    assert!(!is_right(&none), "no seal");
}

#[test]
fn every_other_bit_is_sealed() {
    let good = beacon();
    for bit in (0..good.len() * 8).filter(|bit| !(22 * 8..38 * 8).contains(bit)) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_right(&bytes), "bit {bit}");
    }
}

#[test]
fn the_largest_beacon_is_one_datagram() {
    let small = samples::presence_sample().value;
    let label: Box<str> = "x".repeat(LABEL_BYTES_MAX).into();
    let largest = Presence {
        instance: thorp::types::InstanceId(u64::MAX),
        generation: u64::MAX,
        sequence: u64::MAX,
        machine: samples::machine_id(&label),
        name: label.clone(),
        tcp_port: u16::MAX,
        http_port: u16::MAX,
        term: thorp::types::Term { number: u64::MAX, proxy: A },
        proxy: Some(A),
        capacity_bytes: u64::MAX,
        used_bytes: u64::MAX,
        free_bytes: u64::MAX,
        contents: u64::MAX,
        inventory_digest: u64::MAX,
        catalog_digest: u64::MAX,
        lineage: vec![samples::CLUSTER; LINEAGE_MAX],
        wall_ms: u64::MAX,
        version: label,
        ..small
    };
    let bytes = encode_datagram(&Datagram::Beacon(Box::new(largest.clone())), TAGS, toy_seal);
    assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "{} bytes", bytes.len());
    let read = open_datagram(&bytes).expect("ours").datagram().expect("valid");
    assert_eq!(read, Datagram::Beacon(Box::new(largest)));
}

#[test]
fn records_of_another_version_are_refused() {
    let (_, mut bytes) = readable().find(|(example, _)| example.name == "record-content").expect("there");
    assert!(decode_record::<ContentRecord>(&bytes).is_ok());
    for version in [0, 2, 255] {
        bytes[0] = version;
        let refused = decode_record::<ContentRecord>(&bytes);
        assert!(matches!(refused, Err(DecodeError::Version(found)) if found == version));
    }
    assert!(decode_record::<ContentRecord>(&[]).is_err());
    assert!(decode_record::<ContentRecord>(&[1]).is_err());
}

/// A frame of one purpose on a connection for another is no way in.
#[test]
fn an_encoded_value_is_of_its_own_type() {
    fn is_reply<T: Encode>(value: &T) -> bool {
        decode::<Hello>(&encode(value)).is_ok()
    }
    assert!(!samples::messages().iter().any(|sample| is_reply(&sample.value)));
    assert!(!samples::requests().iter().any(|sample| is_reply(&sample.value)));
    assert!(!samples::replies().iter().any(|sample| is_reply(&sample.value)));
    assert!(!samples::transfer_frames().iter().any(|sample| is_reply(&sample.value)));
}
