//! What the document says in words, computed a second time from those words: keys, content ids,
//! cuts and digests. Only the tests compare them with what the crate does.

use crate::document::Document;
use crate::samples;
use ring::hmac;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use thorp::clock::Rng;
use thorp::identity::{ClusterKeys, ClusterSecret, node_id_of};
use thorp::replication::Catalog;
use thorp::transfer::chunking::Chunker;
use thorp::transfer::manifest::{ManifestBuilder, chunk_hash};
use thorp::types::ChunkRef;
use thorp::wire::datagram::Tags;
use thorp::wire::message::Delta;

/// The keys of a cluster.
pub struct Keys {
    name_tag: [u8; 8],
    key_tag: [u8; 8],
    beacon: [u8; 32],
    authority_seed: [u8; 32],
}

impl Keys {
    pub fn tags(&self) -> Tags {
        Tags { name: self.name_tag, key: self.key_tag }
    }

    /// The first half of HMAC-SHA256 with the beacon key.
    pub fn seal(&self, bytes: &[u8]) -> [u8; 16] {
        first(&mac(&self.beacon, bytes))
    }
}

/// The keys of the cluster `name` when no key is set.
pub fn open_keys(name: &str) -> Keys {
    expand(name, &sha256(&[b"thorp open key 1", name.as_bytes()]))
}

fn keys_of(name: &str, secret: &str) -> Keys {
    let salt: [u8; 16] = first(&sha256(&[b"thorp cluster key 1", name.as_bytes()]));
    let params = argon2::Params::new(19 * 1024, 2, 1, Some(32)).expect("valid");
    let mut stretched = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(secret.as_bytes(), &salt, &mut stretched)
        .expect("stretched");
    expand(name, &stretched)
}

/// HKDF-SHA256 (RFC 5869); no output is longer than one block.
fn expand(name: &str, stretched: &[u8; 32]) -> Keys {
    let root = mac(b"thorp 1", stretched);
    let purpose = |purpose: &[u8]| mac(&root, &[purpose, &[1]].concat());
    Keys {
        name_tag: first(&sha256(&[b"thorp cluster name 1", name.as_bytes()])),
        key_tag: first(&purpose(b"thorp 1 key tag")),
        beacon: purpose(b"thorp 1 beacon"),
        authority_seed: purpose(b"thorp 1 certificate authority"),
    }
}

fn mac(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    first(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref())
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("long enough")
}

fn content_id(size: u64, root: &[u8]) -> Vec<u8> {
    sha256(&[b"thorp content 1\0", &size.to_le_bytes(), root]).to_vec()
}

/// The cluster's authority, as the document's table has it; the library only writes it down.
fn authority(seed: &[u8; 32]) -> Vec<u8> {
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose};
    // RFC 8410, section 7, around the seed.
    let header = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let pkcs8 = [header.as_slice(), seed].concat();
    let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519).expect("a key");
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2999, 12, 31);
    params.serial_number = Some(rcgen::SerialNumber::from(1_u64));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "thorp cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.self_signed(&key).expect("signed").der().to_vec()
}

/// The computed examples of the document.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let (open, closed) = (open_keys("default"), keys_of("default", "key"));
    let public = [0x42; 32];
    let content = b"hello, thorp\n";
    let page = [sha256(&[content]).as_slice(), &13_u32.to_le_bytes()].concat();
    let root = sha256(&[&page]);
    vec![
        ("keys-name-tag", open.name_tag.to_vec()),
        ("keys-open-tag", open.key_tag.to_vec()),
        ("keys-open-beacon", open.beacon.to_vec()),
        ("keys-open-authority-seed", open.authority_seed.to_vec()),
        ("keys-open-seal", open.seal(b"thorp").to_vec()),
        ("keys-open-authority", authority(&open.authority_seed)),
        ("keys-secret-tag", closed.key_tag.to_vec()),
        ("keys-secret-beacon", closed.beacon.to_vec()),
        ("keys-secret-authority-seed", closed.authority_seed.to_vec()),
        ("keys-secret-seal", closed.seal(b"thorp").to_vec()),
        ("node-id", first::<16>(&sha256(&[&public])).to_vec()),
        ("content-empty", content_id(0, &[])),
        ("content-hello-page", page),
        ("content-hello-root", root.to_vec()),
        ("content-hello", content_id(13, &root)),
    ]
}

/// What no other version of the program may change: these stood in the first one.
#[test]
fn keys_and_content_ids_are_frozen() {
    let all: BTreeMap<&str, Vec<u8>> = all().into_iter().collect();
    for (name, right) in [
        ("keys-name-tag", "96f613c11d312099"),
        ("keys-open-tag", "2a038b78ba3838d5"),
        ("keys-open-seal", "1f6bbd4a1d87b61ae6f43aa672ec1cf6"),
        ("keys-secret-tag", "753bc439ea77d85f"),
        ("keys-secret-seal", "3eade038e35ee79706e1222913023ff6"),
        ("content-empty", "679fce3e8ad23694e9158259cf02774f07eefb4119089b5c7d4a447a2fcadc75"),
        ("content-hello", "14a1cd02af1fa505cf725de43f4208c179d9c775cf262ff632ee054408a1c3a3"),
    ] {
        let is: String = all[name].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(is, right, "{name}");
    }
}

/// The hash that the program's own test has, too.
#[test]
fn the_authority_is_frozen() {
    let hash = sha256(&[&authority(&open_keys("default").authority_seed)]);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "5f6e3a22267cfdd04443847824395bd2db956097812e549a3b7eee3677843abe");
}

#[test]
fn keys_and_ids_are_those_of_the_program() {
    let secret = ClusterSecret::from_text("key", "a test").expect("valid");
    for (ours, secret) in
        [(open_keys("default"), ClusterSecret::Open), (keys_of("default", "key"), secret.clone())]
    {
        let keys = ClusterKeys::derive(None, "default", &secret).expect("derived");
        assert_eq!(keys.tags, ours.tags());
        assert_eq!(keys.seal(b"thorp"), ours.seal(b"thorp"));
    }
    let all: BTreeMap<&str, Vec<u8>> = all().into_iter().collect();
    assert_eq!(node_id_of(&[0x42; 32]).0.to_vec(), all["node-id"]);
    assert_eq!(ManifestBuilder::new().finish().content.0.to_vec(), all["content-empty"]);
    let mut builder = ManifestBuilder::new();
    assert_eq!(builder.push(ChunkRef { hash: chunk_hash(b"hello, thorp\n"), bytes: 13 }), None);
    assert_eq!(builder.open_page(), all["content-hello-page"]);
    let manifest = builder.finish();
    assert_eq!(
        (&manifest.root, manifest.content.0.to_vec()),
        (&all["content-hello-root"], all["content-hello"].clone())
    );
}

/// The document's rule for the next cut, byte by byte.
fn cut(rest: &[u8], offset: usize, at_end: bool, gear: &[u64]) -> usize {
    let fine = offset < 4 << 20;
    let (least, mean, most, strict, relaxed) = if fine {
        (16 << 10, 64 << 10, 256 << 10, 0x0000_d907_0353_7000, 0x0000_d90f_0353_0000)
    } else {
        (256 << 10, 1 << 20, 4 << 20, 0x0000_d917_6753_7000_u64, 0x0000_d917_0753_7000_u64)
    };
    if at_end && offset == 0 && rest.len() <= 32 << 10 {
        return rest.len();
    }
    let window = rest.len().min(most);
    if window <= least {
        return window;
    }
    let mut hash = 0_u64;
    for (at, byte) in rest.iter().enumerate().take(window & !1).skip(least) {
        hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
        if hash & (if at < mean { strict } else { relaxed }) == 0 {
            return at;
        }
    }
    window
}

#[test]
fn the_rule_for_cuts_gives_the_lengths_in_the_document() {
    let (gear, _) = fastcdc::v2020::get_gear_with_seed(0);
    let mut content = vec![0; 12 << 20];
    Rng::seeded(1).fill(&mut content);
    let (mut offset, mut lengths) = (0, Vec::new());
    while offset < content.len() {
        let length = cut(&content[offset..], offset, true, &gear);
        lengths.push(length);
        offset += length;
    }
    let written: Vec<(usize, usize)> = Document::read()
        .table("cuts")
        .iter()
        .map(|row| {
            let number = |cell: &String| cell.replace(',', "").parse().expect("a number");
            (number(&row[0]), number(&row[1]))
        })
        .collect();
    assert_eq!(written.len(), 14);
    for (index, length) in &written {
        assert_eq!(lengths[*index], *length, "chunk {index}");
    }
    assert_eq!(written.last().expect("a row").0 + 1, lengths.len());
}

#[test]
fn the_rule_for_cuts_is_the_programs() {
    let (gear, _) = fastcdc::v2020::get_gear_with_seed(0);
    for bytes in [0, 1, 32 << 10, (32 << 10) + 1, (200 << 10) + 1, (3 << 20) + 777, 9 << 20] {
        let mut content = vec![0; bytes];
        Rng::seeded(bytes as u64).fill(&mut content);
        let (mut chunker, mut offset) = (Chunker::new(), 0);
        while let Some(length) = chunker.cut(&content[offset..], true) {
            assert_eq!(cut(&content[offset..], offset, true, &gear), length, "at {offset} of {bytes}");
            offset += length;
        }
        assert_eq!(offset, bytes);
    }
}

/// 64-bit FNV-1a, spread by the finaliser of SplitMix64.
fn digest(kind: u8, parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in [kind].iter().chain(parts.iter().copied().flatten()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[test]
fn digests_are_those_of_the_document() {
    let number = |number: u64| number.to_le_bytes();
    let instance = number(0x1f2e_3d4c);
    let name = digest(3, &[b"photos/2024/sea.jpg"]);
    let right = BTreeMap::from([
        ("name", name),
        ("bucket", name % 1024),
        ("dot", digest(1, &[&instance, &number(17)])),
        ("prefix", digest(2, &[&instance, &number(17)])),
        ("version", digest(4, &[&number(name), &instance, &number(17)])),
        ("catalog", digest(5, &[&number(1), &number(2)])),
    ]);
    let rows = Document::read().table("digests");
    let written: BTreeMap<&str, u64> = rows
        .iter()
        .map(|row| (&*row[0], u64::from_str_radix(row[2].trim_start_matches("0x"), 16).expect("a number")))
        .collect();
    let show = |map: &BTreeMap<&str, u64>| {
        map.iter().map(|(name, value)| format!("{name} 0x{value:016x}")).collect::<Vec<_>>()
    };
    assert_eq!(show(&written), show(&right));
}

#[test]
fn digests_are_those_of_the_program() {
    let mut catalog = Catalog::default();
    let version = samples::version_changed_sample().value;
    let (name, dot) = (samples::file_name("a"), version.dot);
    let later = samples::LATER;
    catalog.merge_delta(&Delta { context: vec![dot, later], names: vec![(name.clone(), vec![version])] });
    let number = |number: u64| number.to_le_bytes();
    let parts = |dot: thorp::types::Dot| [number(dot.instance.0), number(dot.counter)].concat();
    let name = digest(3, &[name.as_str().as_bytes()]);
    let names = digest(4, &[&number(name), &parts(dot), &parts(later)]);
    // Neither dot is within a prefix: the first of the instance was never seen.
    let context = digest(1, &[&parts(dot)]).wrapping_add(digest(1, &[&parts(later)]));
    assert_eq!(catalog.digest(), digest(5, &[&number(context), &number(names)]));
    let buckets = catalog.buckets();
    let bucket = usize::try_from(name % 1024).expect("small");
    assert_eq!(buckets[bucket], names);
    assert_eq!(buckets.iter().filter(|digest| **digest != 0).count(), 1);
}
