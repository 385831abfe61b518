//! The document's examples: what the code writes, and what it reads.

use crate::channels;
use crate::document::{Document, Part};
use crate::folders;
use crate::letters;
use crate::run;
use crate::samples::{self, Sample};
use crate::vectors;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use thorp::wire::datagram::{Datagram, encode_datagram, open_datagram};
use thorp::wire::frame::FramePrefix;
use thorp::wire::record::{RECORD_VERSION, decode_record, encode_record};
use thorp::wire::transfer::TransferFrame;
use thorp::wire::{Decode, DecodeError, Encode, decode, encode};

/// Reads bytes; says whether they are the example's value.
type Reader = Box<dyn Fn(&[u8]) -> Result<bool, DecodeError>>;

/// An example of the document.
pub struct Example {
    pub name: String,
    pub parts: Vec<Part>,
    /// `None` for what is only computed: keys, hashes.
    pub read: Option<Reader>,
}

impl Example {
    pub fn bytes(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    fn of<T>(name: impl Into<String>, sample: Sample<T>) -> Example
    where
        T: Encode + Decode<()> + PartialEq + 'static,
    {
        let Sample { value, parts } = sample;
        let mut example = Example { name: name.into(), parts, read: None };
        assert_eq!(example.bytes(), encode(&value), "{}", example.name);
        example.read = Some(Box::new(move |bytes| decode::<T>(bytes).map(|read| read == value)));
        example
    }

    fn plain<T>(name: &str, label: &str, value: T) -> Example
    where
        T: Encode + Decode<()> + PartialEq + 'static,
    {
        let parts = vec![(label.to_owned(), encode(&value))];
        Example::of(name, Sample { value, parts })
    }

    fn record<T>(name: &str, sample: Sample<T>) -> Example
    where
        T: Encode + Decode<()> + PartialEq + 'static,
    {
        let Sample { value, mut parts } = sample;
        parts.insert(0, ("record version".into(), vec![RECORD_VERSION]));
        let mut example = Example { name: name.into(), parts, read: None };
        assert_eq!(example.bytes(), encode_record(&value), "{name}");
        example.read = Some(Box::new(move |bytes| decode_record::<T>(bytes).map(|read| read == value)));
        example
    }

    /// Sealed with the keys of the open cluster `default`.
    fn datagram(sample: Sample<Datagram>) -> Example {
        let keys = vectors::open_keys("default");
        let tags = keys.tags();
        let bytes = encode_datagram(&sample.value, tags, |bytes| keys.seal(bytes));
        let (head, body) = bytes.split_at(38);
        let mut parts = vec![
            ("magic `THRP`".to_owned(), head[..4].to_vec()),
            ("protocol version".into(), head[4..5].to_vec()),
            ("kind".into(), head[5..6].to_vec()),
            ("name tag".into(), head[6..14].to_vec()),
            ("key tag".into(), head[14..22].to_vec()),
            ("seal".into(), head[22..].to_vec()),
        ];
        let written: Vec<u8> = sample.parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(written, body);
        parts.extend(sample.parts);
        let name = match &sample.value {
            Datagram::Beacon(_) => "datagram-beacon",
            Datagram::Query { .. } => "datagram-query",
            Datagram::Goodbye { .. } => "datagram-goodbye",
        };
        let value = sample.value;
        let read = move |bytes: &[u8]| open_datagram(bytes)?.datagram().map(|read| read == value);
        Example { name: name.into(), parts, read: Some(Box::new(read)) }
    }

    fn computed((name, bytes): (&str, Vec<u8>)) -> Example {
        Example { name: name.into(), parts: vec![(String::new(), bytes)], read: None }
    }
}

/// `PutOpen` → `put-open`.
pub fn kebab(variant: &str) -> String {
    let mut name = String::new();
    for (at, letter) in variant.char_indices() {
        if letter.is_uppercase() && at > 0 {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// Examples of all variants of an enum, named by their tag's label.
fn variants<T>(prefix: &str, samples: Vec<Sample<T>>) -> impl Iterator<Item = Example>
where
    T: Encode + Decode<()> + PartialEq + 'static,
{
    samples.into_iter().map(move |sample| {
        let label = sample.parts[0].0.strip_prefix("tag: ").expect("a variant starts with its tag");
        let name = format!("{prefix}-{}", kebab(label));
        Example::of(name, sample)
    })
}

fn basics() -> Vec<Example> {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    vec![
        Example::plain("value-u64-250", "250", 250_u64),
        Example::plain("value-u64-251", "251", 251_u64),
        Example::plain("value-u64-65536", "65,536", 65_536_u64),
        Example::plain("value-u64-max", "2^64 - 1", u64::MAX),
        Example::plain("value-u8-255", "255", 255_u8),
        Example::plain("value-i64-minus-1", "-1", -1_i64),
        Example::plain("value-i64-plus-1", "1", 1_i64),
        Example::plain("value-i64-min", "-2^63", i64::MIN),
        Example::plain("value-bool-true", "true", true),
        Example::plain("value-option-none", "none", None::<u64>),
        Example::plain("value-option-some", "some 300", Some(300_u64)),
        Example::plain("value-vec", "1, 2, 300", vec![1_u16, 2, 300]),
        Example::plain("value-string", "`né`", "né".to_owned()),
        Example::plain("value-node-id", "no length, no varints", samples::A),
        Example::plain("value-ipv4", "192.168.1.20:7667", address("192.168.1.20:7667")),
        Example::plain("value-ipv6", "[fe80::1]:7667", address("[fe80::1]:7667")),
    ]
}

/// Every example that the document must have.
pub fn all() -> Vec<Example> {
    let mut all = basics();
    all.extend(samples::datagrams().into_iter().map(Example::datagram));
    all.push(chunk_frame());
    all.push(Example::of("hello", samples::hello_sample()));
    all.push(Example::of("node-route", samples::route_sample()));
    all.push(Example::of("version", samples::version_sample()));
    all.push(Example::of("version-changed", samples::version_changed_sample()));
    all.push(Example::of("context", samples::context_sample()));
    all.push(Example::of("delta", samples::delta_sample()));
    all.push(Example::of("new-file", samples::new_file_sample()));
    all.push(Example::of("row", samples::row_sample()));
    all.extend(variants("body", samples::bodies()));
    all.extend(variants("selector", samples::selectors()));
    all.extend(variants("fetch-part", samples::fetch_parts()));
    all.extend(variants("message", samples::messages()));
    all.extend(variants("request", samples::requests()));
    all.extend(variants("reply", samples::replies()));
    all.extend(variants("transfer", samples::transfer_frames()));
    let versions = vec![samples::version_sample().value];
    let mut parts = vec![("number of versions".to_owned(), vec![1])];
    parts.extend(samples::version_sample().parts);
    all.push(Example::record("record-name", Sample { value: versions, parts }));
    all.push(Example::record("record-content", samples::content_record_sample()));
    all.push(Example::record("record-content-single", samples::content_record_single_sample()));
    all.push(Example::of("letter", letters::letter()));
    all.extend(variants("mail-key", letters::keys()));
    let rows = ["letter", "stream", "seen", "roster"].into_iter().zip(letters::rows());
    all.extend(rows.map(|(name, row)| Example::record(&format!("record-mail-{name}"), row)));
    all.push(Example::of("client-says", channels::says()));
    all.extend(variants("channel-ask", channels::asks()));
    all.extend(variants("channel-reply", channels::replies()));
    all.push(Example::of("tree-entry", folders::entry()));
    all.extend(variants("tree-item", folders::items()));
    all.extend(variants("sync", folders::frames()));
    all.extend(variants("index", folders::index_records()));
    all.push(Example::of("terminal-size", run::terminal_size()));
    all.push(Example::of("job-row", run::row()));
    all.extend(variants("job-end", run::ends()));
    all.extend(variants("run", run::frames()));
    all.push(run::output_record());
    all.push(Example::record("record-term", samples::term_sample()));
    all.extend(vectors::all().into_iter().map(Example::computed));
    all
}

/// A whole frame with a payload.
fn chunk_frame() -> Example {
    let head = encode(&TransferFrame::Chunk { content_no: 0, index: 300 });
    let payload = b"sea";
    let prefix = FramePrefix { head_bytes: head.len(), payload_bytes: payload.len() };
    let written = prefix.encode();
    let parts = vec![
        ("head length".to_owned(), written[..4].to_vec()),
        ("payload length".into(), written[4..].to_vec()),
        ("head".into(), head.clone()),
        ("payload".into(), payload.to_vec()),
    ];
    let read = move |bytes: &[u8]| {
        let short = || DecodeError::Malformed("short".into());
        let (first, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let read = FramePrefix::decode(*first)?;
        if rest.len() != read.head_bytes + read.payload_bytes {
            return Err(short());
        }
        let (head, rest) = rest.split_at(read.head_bytes);
        let frame: TransferFrame = decode(head)?;
        Ok(frame == TransferFrame::Chunk { content_no: 0, index: 300 } && rest == payload)
    };
    Example { name: "frame-chunk".into(), parts, read: Some(Box::new(read)) }
}

#[test]
fn the_document_has_exactly_the_bytes_that_the_code_writes() {
    let document = Document::read();
    let right: BTreeMap<String, Vec<Part>> =
        all().into_iter().map(|example| (example.name, example.parts)).collect();
    if std::env::var_os("THORP_PROTOCOL_BLESS").is_some_and(|value| value == "1") {
        document.bless(&right);
        return;
    }
    let is = document.examples();
    let mut wrong = Vec::new();
    for (name, parts) in &right {
        let bytes: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        match is.get(name) {
            None => wrong.push(format!("{name} is missing")),
            Some(written) if *written != bytes => {
                wrong.push(format!("{name} is\n  {written:02x?}\nand should be\n  {bytes:02x?}"));
            }
            Some(_) => {}
        }
    }
    wrong
        .extend(is.keys().filter(|name| !right.contains_key(*name)).map(|name| format!("{name} is unknown")));
    assert!(wrong.is_empty(), "docs/protocol.md: {}", wrong.join("\n"));
}

#[test]
fn the_documents_bytes_are_read_as_the_value_they_stand_for() {
    let is = Document::read().examples();
    for example in all() {
        let Some(read) = example.read else { continue };
        let bytes = is.get(&example.name).unwrap_or_else(|| panic!("no example {}", example.name));
        match read(bytes) {
            Ok(same) => assert!(same, "{} is read as another value", example.name),
            Err(error) => panic!("{} is refused: {error}", example.name),
        }
    }
}
