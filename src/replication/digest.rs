//! What catalogs are compared by: a [`Digest`] of each dot, name, version and context.
//!
//! Sets are digested as the wrapping sum of their members' digests, so that a member comes or goes
//! in constant time and order does not matter.

use crate::limits::SYNC_BUCKETS;
use crate::types::{Digest, Dot, FileName, InstanceId, Version};

/// What is hashed starts with its kind, so that a dot and a prefix never look alike. 6 and 7 are letters'.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Dot = 1,
    Prefix = 2,
    Name = 3,
    Version = 4,
    Catalog = 5,
}

fn hash(kind: Kind) -> Digest {
    Digest::new(kind as u8)
}

fn with_dot(hash: Digest, dot: Dot) -> Digest {
    hash.number(dot.instance.0).number(dot.counter)
}

/// Hash of one dot beyond a prefix.
pub(super) fn of_dot(dot: Dot) -> u64 {
    with_dot(hash(Kind::Dot), dot).finish()
}

/// Hash of all dots of `instance` up to `counter`; 0 for none.
pub(super) fn of_prefix(instance: InstanceId, counter: u64) -> u64 {
    if counter == 0 { 0 } else { hash(Kind::Prefix).number(instance.0).number(counter).finish() }
}

/// Hash of a name.
pub(super) fn of_name(name: &FileName) -> u64 {
    hash(Kind::Name).bytes(name.as_str().as_bytes()).finish()
}

/// The bucket of a name with this hash.
pub(super) fn bucket_of(name_hash: u64) -> u16 {
    u16::try_from(name_hash % SYNC_BUCKETS as u64).unwrap_or(0)
}

/// Hash of a name's versions. It covers their dots and those of their settings and nothing else:
/// the rest follows from the dots, and a difference that no merge resolves must not show.
pub(super) fn of_versions(name_hash: u64, versions: &[Version]) -> u64 {
    versions.iter().fold(0, |sum: u64, version| {
        let mut hash = with_dot(hash(Kind::Version).number(name_hash), version.dot);
        for (dot, _) in version.wanted.later.iter().flat_map(|settings| settings.iter()) {
            hash = with_dot(hash, *dot);
        }
        sum.wrapping_add(hash.finish())
    })
}

/// Hash of a whole catalog from those of its context and of its names.
pub(super) fn of_catalog(context: u64, names: u64) -> u64 {
    hash(Kind::Catalog).number(context).number(names).finish()
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
