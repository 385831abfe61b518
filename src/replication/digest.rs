//! The hash under which catalogs are compared: 64-bit FNV-1a, its result spread by the finaliser of
//! SplitMix64.
//!
//! It is our own and frozen, because two programs of different versions compare its values on the
//! wire. Sets are digested as the wrapping sum of their members' hashes, so that a member comes or
//! goes in constant time and order does not matter. It is no defence against a forger: members of
//! a cluster trust one another with the catalog anyway.

use crate::limits::SYNC_BUCKETS;
use crate::types::{Dot, FileName, InstanceId, Version};

/// What is hashed starts with its kind, so that a dot and a prefix never look alike.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Dot = 1,
    Prefix = 2,
    Name = 3,
    Version = 4,
    Catalog = 5,
}

struct Fnv(u64);

impl Fnv {
    fn new(kind: Kind) -> Fnv {
        Fnv(0xCBF2_9CE4_8422_2325).bytes(&[kind as u8])
    }

    fn bytes(mut self, bytes: &[u8]) -> Fnv {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self
    }

    fn number(self, number: u64) -> Fnv {
        self.bytes(&number.to_le_bytes())
    }

    fn dot(self, dot: Dot) -> Fnv {
        self.number(dot.instance.0).number(dot.counter)
    }

    fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Hash of one dot beyond a prefix.
pub(super) fn of_dot(dot: Dot) -> u64 {
    Fnv::new(Kind::Dot).dot(dot).finish()
}

/// Hash of all dots of `instance` up to `counter`; 0 for none.
pub(super) fn of_prefix(instance: InstanceId, counter: u64) -> u64 {
    if counter == 0 { 0 } else { Fnv::new(Kind::Prefix).number(instance.0).number(counter).finish() }
}

/// Hash of a name.
pub(super) fn of_name(name: &FileName) -> u64 {
    Fnv::new(Kind::Name).bytes(name.as_str().as_bytes()).finish()
}

/// The bucket of a name with this hash.
pub(super) fn bucket_of(name_hash: u64) -> u16 {
    u16::try_from(name_hash % SYNC_BUCKETS as u64).unwrap_or(0)
}

/// Hash of a name's versions. It covers their dots and those of their settings and nothing else:
/// the rest follows from the dots, and a difference that no merge resolves must not show.
pub(super) fn of_versions(name_hash: u64, versions: &[Version]) -> u64 {
    versions.iter().fold(0, |sum: u64, version| {
        let mut hash = Fnv::new(Kind::Version).number(name_hash).dot(version.dot);
        for (dot, _) in version.wanted.later.iter().flat_map(|settings| settings.iter()) {
            hash = hash.dot(*dot);
        }
        sum.wrapping_add(hash.finish())
    })
}

/// Hash of a whole catalog from those of its context and of its names.
pub(super) fn of_catalog(context: u64, names: u64) -> u64 {
    Fnv::new(Kind::Catalog).number(context).number(names).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_frozen_because_they_are_compared_on_the_wire() {
        let name = FileName::parse("photos/2024/sea.jpg").expect("valid");
        let dot = Dot { counter: 17, instance: InstanceId(0x1F2E_3D4C) };
        assert_eq!(
            [of_name(&name), of_dot(dot), of_prefix(dot.instance, 17), of_catalog(1, 2)],
            [0x5124_488F_A867_D4E0, 0xB5A6_91F2_DEC8_518B, 0x5FCB_1B48_9887_2CAF, 0xB717_EF88_7E84_4017]
        );
        assert_eq!(of_prefix(dot.instance, 0), 0);
        assert_ne!(of_dot(dot), of_prefix(dot.instance, dot.counter));
    }

    #[test]
    fn names_spread_over_all_buckets() {
        let mut filled = vec![0_u32; SYNC_BUCKETS];
        for n in 0..20 * SYNC_BUCKETS {
            let name = FileName::parse(&format!("a/{n}")).expect("valid");
            filled[usize::from(bucket_of(of_name(&name)))] += 1;
        }
        assert!(filled.iter().all(|count| (1..60).contains(count)), "{filled:?}");
    }
}
